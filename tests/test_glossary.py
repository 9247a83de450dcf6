"""The glossary and the chapters point at each other."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    f"/{folder}/{path.stem}": path
    for folder, ending in (("notebooks", "ipynb"), ("book", "md"))
    for path in (ROOT / folder).glob(f"*.{ending}")
}
FINDINGS = (
    "abilities",
    "circuits",
    "circuits-over-training",
    "components",
    "after-formation",
    "algorithm",
    "stability",
)


def text_of(page: str) -> str:
    path = PAGES[page]
    if path.suffix == ".md":
        return path.read_text()
    return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


def definitions() -> dict[str, str]:
    found = {}
    for block in re.findall(
        r"^```\{glossary\}\n(.*?)^```",
        (ROOT / "book/glossary.md").read_text(),
        re.MULTILINE | re.DOTALL,
    ):
        for entry in block.strip().split("\n\n"):
            term, *lines = entry.split("\n")
            found[term] = " ".join(line.strip() for line in lines)
    return found


def terms_in(text: str) -> list[str]:
    return [
        target or shown
        for shown, target in re.findall(r"\{term\}`([^`<]+?)(?:\s*<([^`>]+)>)?`", text)
    ]


TERMS = definitions()


@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_defined_in_a_few_sentences_and_used_where_it_says(term):
    definition = TERMS[term]
    pages = re.findall(r"Used in (?:.* and )?\{doc\}`([^`]+)`", definition)
    assert (
        pages
        and len(re.findall(r"[.:?](?= [A-Z$]|$)", definition.split("Used in")[0].strip())) <= 4
    )
    for page in pages:
        assert re.search(rf"\b{re.escape(term)}", text_of(page), re.IGNORECASE), (
            f"{page} does not speak of {term}"
        )


def test_every_term_role_resolves():
    used = [(page, term) for page in PAGES for term in terms_in(text_of(page))]
    assert len(used) > 40
    known = {term.lower() for term in TERMS}
    assert not [(page, term) for page, term in used if term.lower() not in known]


@pytest.mark.parametrize("chapter", FINDINGS)
def test_a_chapter_links_to_the_glossary_once_for_each_term(chapter):
    terms = terms_in(text_of(f"/notebooks/{chapter}"))
    assert len(terms) >= 3 and len(terms) == len(set(terms))


@pytest.mark.parametrize("chapter", FINDINGS)
def test_a_chapter_has_its_frame(chapter):
    notebook = json.loads(PAGES[f"/notebooks/{chapter}"].read_text())
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    tags = [cell["metadata"].get("tags", []) for cell in notebook["cells"]]
    text = "\n".join(source for kind, source in cells if kind == "markdown")
    for part in ("**What you need to know.**", "## What would change our mind", "## Exercises"):
        assert text.count(part) == 1, part
    assert re.search(r"\*\*The (question|claims?)\.\*\*", cells[0][1])
    assert re.search(r"## What's next|\*\*Next:\*\*", cells[-1][1])
    # a prediction, and what answers it folded behind it
    predictions = [i for i, (_, source) in enumerate(cells) if ":::{prediction}" in source]
    answers = [
        i
        for i, (_, source) in enumerate(cells)
        if ":::{answer}" in source or any(tag.split(":")[0] == "answer" for tag in tags[i])
    ]
    assert predictions and answers and predictions[0] < answers[0]
