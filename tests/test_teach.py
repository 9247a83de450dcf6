"""Student and instructor versions: nothing leaks, both are valid, and an unsolved student version
runs."""

import re
from pathlib import Path

import nbformat
import pytest

from circuitbook.__main__ import main
from circuitbook.publishing.execute import execute_notebook
from circuitbook.teaching import exercises
from circuitbook.teaching.checking import Feedback
from circuitbook.teaching.course import (
    LEFT_OUT,
    labels_of,
    make_versions,
    tags_of,
    version_of,
)
from circuitbook.teaching.plain_markdown import plain_markdown

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = (
    "abilities",
    "circuits",
    "circuits-over-training",
    "components",
    "after-formation",
    "algorithm",
    "real-model",
    "stability",
)


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    out = tmp_path_factory.mktemp("teach")
    return out, make_versions(ROOT, out)


def source_of(name):
    return nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)


def test_every_chapter_has_both_versions_valid_and_without_outputs(versions):
    out, written = versions
    assert {(path.parent.name, path.stem) for path in written} >= {
        (v, c) for v in ("student", "instructor") for c in CHAPTERS
    }
    for path in written:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert not any(
            cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells
        )


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_line_of_a_solution_or_note_is_in_the_student_version(versions, name):
    source, secret = source_of(name), []
    for cell in source.cells:
        if {"solution", "instructor"} & set(tags_of(cell)):
            secret += [line.strip() for line in cell.source.splitlines()]
    student = (versions[0] / "student" / f"{name}.ipynb").read_text()
    open_lines = {
        line.strip()
        for cell in source.cells
        if not {"solution", "instructor"} & set(tags_of(cell))
        for line in cell.source.splitlines()
    }
    telling = [line for line in secret if len(line) > 15 and line not in open_lines]
    assert len(telling) > 10
    shown = "\n".join(cell.source for cell in nbformat.reads(student, as_version=4).cells)
    assert not [line for line in telling if line in shown]
    assert "For instructors" not in student and "olution" not in re.sub(
        "Solution to|resolution", "", shown
    )
    full = "\n".join(
        cell.source
        for cell in nbformat.read(versions[0] / "instructor" / f"{name}.ipynb", as_version=4).cells
    )
    assert "For instructors" in full and all(
        line in full for line in telling if not re.search(r"[{`$:]", line)
    )


@pytest.mark.parametrize("name", [name for name in CHAPTERS if name != "real-model"])  # no checks
def test_unsolved_stubs_say_so_and_raise_nothing(name):
    stubs = [
        cell.source
        for cell in version_of(source_of(name), ("solution", "instructor")).cells
        if "exercise" in tags_of(cell)
    ]
    assert stubs
    for stub in stubs:
        *lines, call = stub.splitlines()
        space = {"exercises": exercises}
        exec("\n".join(lines), space)
        verdict = eval(call, space)
        assert (
            isinstance(verdict, Feedback)
            and verdict.right is None
            and repr(verdict).startswith("Not solved yet: ")
        )


@pytest.mark.slow
def test_a_student_version_runs_from_top_to_bottom(versions, tmp_path):
    few = {
        "MODELS": ["mini-xs"],
        "STEPS": [0, 3906],
        "PROMPTS": 20,
        "STORE": str(tmp_path / "store"),
    }
    done = execute_notebook(
        versions[0] / "student" / "abilities.ipynb", tmp_path / "done.ipynb", few, root=ROOT
    )
    said = [
        output.data["text/plain"]
        for cell in done.cells
        if "exercise" in tags_of(cell)
        for output in cell.outputs
    ]
    assert len(said) == 2 and all(text.startswith("Not solved yet") for text in said)


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_sources_tags_say_what_is_what(name):
    """Each exercise is answered; what opens a solution closes it; notes are hidden from the book
    twice over."""
    cells = source_of(name).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    asked = re.findall(r":::\{exercise\}.*\n:label: (\S+)", text)
    answered = re.findall(r":::\{solution(?:-start)?\} (\S+)", text)
    assert 2 <= len(asked) == len(set(asked)) and asked == answered
    assert text.count("{solution-start}") == text.count("{solution-end}")
    inside = False
    for cell in cells:
        inside = inside or "{solution-start}" in cell.source or "{solution}" in cell.source
        assert ("solution" in tags_of(cell)) == inside, cell.source[:80]
        inside = inside and "{solution-end}" not in cell.source and "{solution}" not in cell.source
        if "instructor" in tags_of(cell):
            assert cell.cell_type == "markdown" and "remove-cell" in tags_of(cell)


def test_plain_markdown_reads_without_the_book():
    titles = {"circuits": "What is a circuit?"}
    text = (
        ":::{exercise} Two ways\n:label: a-b\n\nSee {doc}`/notebooks/circuits`, "
        "{doc}`there </notebooks/circuits>`, {doc}`/book/index`.\n:::"
    )
    assert plain_markdown(text, {"a-b": 3}, titles) == (
        "### Exercise 3: Two ways\n\n"
        "See [What is a circuit?](circuits.ipynb), [there](circuits.ipynb), index."
    )
    assert (
        plain_markdown(":::{solution} a-b\n:class: dropdown\n\nSo.\n:::", {"a-b": 3}, {})
        == "**Solution to exercise 3**\n\nSo."
    )
    assert plain_markdown(
        ":::{prediction} size\nHow many {term}`edges <edge>`?\n- few\n:::\n\nThen.\n\n"
        ":::{answer} size\nFew.\n:::",
        {},
        {},
    ) == (
        "**A prediction to make now.** How many edges?\n- few\n\nThen.\n\n"
        "<details><summary>I have made my guess</summary>\n\nFew.\n\n</details>"
    )
    assert plain_markdown(
        "{term}`heads <head>`, {term}`edge`, {cite:t}`tigges2024llm`, {math}`x_1`", {}, {}
    ) == ("heads, edge, Tigges et al. (2024), $x_1$")
    assert (
        plain_markdown("```{math}\n:label: eap\nx = 1\n```", {}, {}) == "$$\nx = 1 \\tag{eap}\n$$"
    )


def test_plain_markdown_leaves_code_as_it_is_and_reads_directives_in_directives():
    code = "```text\n:::{solution} a\n{doc}`/x`\n:::\n```"
    inside = f"See {{term}}`edge`.\n\n```{{math}}\nx\n```\n\n{code}\n\nEnd."
    plain = f"See edge.\n\n$$\nx\n$$\n\n{code}\n\nEnd."
    assert plain_markdown(inside, {}, {}) == plain
    inside, plain = (
        text.replace(":::{solution} a\n", "").replace(":::\n", "") for text in (inside, plain)
    )
    asked = f":::{{exercise}} A\n:label: a\n\n{inside}\n:::\n\nAfter."
    assert plain_markdown(asked, {"a": 7}, {}) == f"### Exercise 7: A\n\n{plain}\n\n\nAfter."


def test_exercises_have_the_numbers_that_the_book_gives_them(versions):
    """sphinx-exercise counts through the whole book, in the order of its table of contents."""
    expected = 0
    for name in CHAPTERS:
        text = (versions[0] / "student" / f"{name}.ipynb").read_text()
        numbers = list(map(int, re.findall(r"### Exercise (\d+): ", text)))
        assert (
            numbers == list(range(expected + 1, expected + 1 + len(labels_of(source_of(name)))))
            and numbers
        )
        expected = numbers[-1]


def test_nothing_that_only_the_book_understands_is_left(versions):
    for path in versions[1]:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                assert not re.search(r"\{[a-z:-]+\}`|^:::|```\{", cell.source, re.MULTILINE), (
                    f"{path.name}: {cell.source[:200]}"
                )


def test_the_book_never_shows_notes(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A"),
            nbformat.v4.new_code_cell("1 + 1", metadata={"tags": ["solution"]}),
            nbformat.v4.new_markdown_cell(
                "SECRET", metadata={"tags": ["instructor", "remove-cell"]}
            ),
        ]
    )
    nbformat.write(notebook, tmp_path / "a.ipynb")
    execute_notebook(tmp_path / "a.ipynb", tmp_path / "out.ipynb", root=tmp_path)
    assert (
        "SECRET" not in (tmp_path / "out.ipynb").read_text()
        and "1 + 1" in (tmp_path / "out.ipynb").read_text()
    )


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    assert main(["teach", "circuits", "--root", str(ROOT), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "student/circuits.ipynb").exists() and not (
        tmp_path / "student/abilities.ipynb"
    ).exists()
    assert f"{tmp_path / 'student'}: circuits" in capsys.readouterr().out
    with pytest.raises(
        SystemExit,
        match="error: 'circuit' is not a notebook with exercises; there are: abilities, ",
    ):
        main(["teach", "circuit", "--root", str(ROOT), "--out", str(tmp_path)])
    with pytest.raises(
        SystemExit,
        match="error: there are no notebooks in .*notebooks: run this in the book's folder",
    ):
        main(["teach", "--root", str(tmp_path), "--out", str(tmp_path)])
    assert LEFT_OUT["instructor"] == ()
