"""Reads the book's prose for what makes a reader stumble: proselint, and a list of our own.

    .venv/bin/python tests/prose.py

`make lint` does so. Prose is Markdown (pages, README, notebooks' cells) without code and formulas,
and the strings that computed sentences are made of, with "..." for what is put in.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "book/*.md")
SENTENCES = ("wording.py", "studies/findings/*.py", "studies/claims/*.py", "figures/*.py")

STUMBLES = {  # what to write instead
    r"\d %": "the sign without a space",
    r"\bhang(s|ing)? (up)?on\b": "depends on",
    r"\bhow far it hangs\b": "how much it depends",
    r"\b(come|comes|came|coming) (to be|about)\b": "form, arise",
    r"\b(cannot|can't|can not) be told\b": "can't be decided",
    r"\b(is|are|was|were|be) asked of\b": "is tested on",
    r"\bof which .{0,20}\bis asked\b": "must be",
    r"(?i)\bwhoever\b": "if you, those who, anyone who",
    r"(?<![Nn]o )\bone (can|cannot|can't|must|needs?|knows?|sees?|has to)\b": "you, we",
    r"\b(thereof|whereof|whereby|hereby|hitherto)\b": "of it, by which",
    r"\bbut for\b": "except for",
    r"\bthe like\b": "and so on",
    r"\bin the like\b": "similarly",
    r"\b(doubtless|beyond question)\b": "certainly",
    r"\bwhat is more\b": "also",
}
OFF = {  # families of proselint's checks that would only be in the way here
    "dates_times",  # takes an H100's for a decade
    "misc",  # a paragraph may begin with "But"
    "restricted",  # a basic vocabulary; off by default, too
    "typography",  # straight quotes and "..." are what Markdown is written in; MyST curls them
    "weasel_words",  # "very" is an adjective, too: this very circuit
}


def markdown_text(source: str) -> str:
    """Markdown without code, formulas, markup and addresses.

    >>> markdown_text("A `b` and {term}`the c <d>` of $e$, [f](g).")
    'A code and the c of math, f.'
    """
    text = re.sub(r"^---\n.*?\n---\n", "", source, flags=re.DOTALL)
    text = re.sub(
        r"^(`{3,}|~{3,})(?!\{(admonition|glossary|note)).*?^\1", "", text, flags=re.M | re.S
    )
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "math", text, flags=re.DOTALL)
    text = re.sub(r"\{[\w:-]+\}`([^`<]*?)\s*(<[^>]*>)?`", r"\1", text)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^\s*:{1,}.*$|^\s*(\(\S+\)=|`{3,}.*)$", "", text, flags=re.MULTILINE)
    return re.sub(r"[*_#]{1,3}", "", text)


def paragraphs() -> Iterator[tuple[str, str]]:
    """(where, a paragraph, row of a table or sentence), of all the prose there is."""
    for file in itertools.chain.from_iterable(sorted(ROOT.glob(page)) for page in PAGES):
        yield from _split(file, file.read_text(encoding="utf8"))
    for file in sorted(ROOT.glob("notebooks/*.ipynb")):
        for cell in json.loads(file.read_text(encoding="utf8"))["cells"]:
            if cell["cell_type"] == "markdown":
                yield from _split(file, "".join(cell["source"]))
    for pattern in SENTENCES:
        for file in sorted((ROOT / "lib/circuitbook").glob(pattern)):
            yield from ((_name(file), text) for text in sentences(file.read_text(encoding="utf8")))


def sentences(source: str) -> Iterator[str]:
    """The strings of a module that are several words, except docstrings.

    >>> list(sentences('x = f"There are {n} of " "them."'))
    ['There are ... of them.']
    """
    tree = ast.parse(source)
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)
        if isinstance(node, ast.JoinedStr):
            skipped.update(part for part in node.values if isinstance(part, ast.Constant))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else "..." for p in node.values]
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and node not in skipped:
            text = str(node.value)
        else:
            continue
        if len(text.split()) > 2 and "<" not in text:
            yield text


def stumbles(text: str) -> Iterator[str]:
    """What of our own list is in a text, and what to write instead."""
    for pattern, rather in STUMBLES.items():
        if found := re.search(pattern, text):
            yield f'"{found[0]}": rather {rather}'


def proselint(text: str) -> Iterator[str]:
    """What proselint says of a text."""
    try:
        from proselint.checks import __register__
    except ImportError:  # there is none for this machine, see requirements.txt
        return
    from proselint.config import DEFAULT
    from proselint.registry import CheckRegistry
    from proselint.tools import LintFile

    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many(__register__)
    checks = {name: on and name not in OFF for name, on in DEFAULT["checks"].items()}
    for found in LintFile("text", text).lint({**DEFAULT, "checks": checks}):
        yield f"{found.check_result.message} ({found.check_result.check_path})"


def findings() -> Iterator[str]:
    for where, text in paragraphs():
        for said in itertools.chain(stumbles(text), proselint(text)):
            yield f"{where}: {said}\n    {text[:160]}"


def _split(file: Path, source: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"\n\s*\n|\n(?=\s*[-|])|\|", markdown_text(source)):
        if text := " ".join(part.split()):
            yield _name(file), text


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


if __name__ == "__main__":
    said = list(findings())
    print(*said, sep="\n")
    sys.exit(f"{len(said)} places in the prose to look at" if said else 0)
