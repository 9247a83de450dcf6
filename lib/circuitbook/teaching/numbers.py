"""The numbers of exercises: those of the book, wherever an exercise is shown.

The book counts chapters through its numbered parts, and exercises from 1 in each chapter, so that
the second one of chapter 3 is exercise 3.2. Only `_toc.yml` and the chapters say so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from nbformat import NotebookNode


def chapter_numbers(root: Path) -> dict[str, int]:
    """{page: its number in the book}, of the pages of numbered parts: {"notebooks/abilities": 1}"""
    from sphinx_external_toc.parsing import parse_toc_yaml

    site, numbers, last = parse_toc_yaml(root / "_toc.yml"), {}, 0
    for part in site.root.subtrees:
        if not part.numbered or "numerical" not in part.style:
            continue
        last = 0 if part.restart_numbering else last
        for page in part.files():
            last += 1
            numbers[str(PurePosixPath(page)).removesuffix(".ipynb").removesuffix(".md")] = last
    return numbers


def exercise_numbers(root: Path, chapters: Mapping[str, NotebookNode]) -> dict[str, str]:
    """{label: "3.2"} of the exercises of these chapters, {"notebooks/abilities": notebook}, in the
    book's order."""
    of_chapter, count = chapter_numbers(root), Counter[int | None]()
    numbers = {}
    for chapter, notebook in chapters.items():
        here = of_chapter.get(chapter)  # pages without a number share one count
        for label in labels_of(notebook):
            count[here] += 1
            numbers[label] = ".".join(str(n) for n in (here, count[here]) if n is not None)
    return numbers


def labels_of(notebook: NotebookNode) -> list[str]:
    """The labels of its exercises, in order."""
    return labels_in(markdown_of(notebook))


def labels_in(text: str) -> list[str]:
    """The labels of the exercises in some Markdown, in order."""
    return re.findall(r"^:::\{exercise\}.*\n:label: (\S+)", text, re.MULTILINE)


def markdown_of(notebook: NotebookNode) -> str:
    """All its text."""
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
