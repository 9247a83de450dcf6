"""A table of the page for teachers, made when the site is: what takes how long.

    ```{chapter-times}
    ```

Times are those of the executed copies.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Table(SphinxDirective):
    """A directive in whose place stands the Markdown that `lines` gives."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(__file__)
        return self.parse_text_to_nodes("\n".join(self.lines()))

    def lines(self) -> Iterator[str]:
        raise NotImplementedError


class ChapterTimes(Table):
    """Every executed notebook with exercises or a model to train: its exercises, how long it ran,
    and what it measured."""

    def lines(self) -> Iterator[str]:
        yield from (
            "| notebook | exercises | to wait, if its measurements are shared "
            "| to add the first time |",
            "|---|---|---|---|",
        )
        for path in chapters(Path(self.env.srcdir)):
            notebook = json.loads(path.read_text(encoding="utf8"))
            text = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
            asked = len(re.findall(r"^:::\{exercise\}", text, re.MULTILINE))
            made = notebook["metadata"].get("circuitbook")
            if made and (asked or path.stem == "grow-your-own"):
                uses = made["measurements"]
                anew = short_duration(uses["seconds"]) if uses["used"] else "nothing"
                wait = short_duration(made["seconds"])
                yield f"| {{doc}}`/notebooks/{path.stem}` | {asked or ''} | {wait} | {anew} |"


def chapters(source: Path) -> list[Path]:
    """The notebooks in the order of the table of contents."""
    named = re.findall(r"file: (notebooks/\S+)", (source / "_toc.yml").read_text(encoding="utf8"))
    return [path for name in named if (path := source / f"{name}.ipynb").exists()]


def short_duration(seconds: float) -> str:
    """short_duration(95) -> "2 min" """
    return f"{max(1, round(seconds))} s" if seconds < 60 else f"{round(seconds / 60)} min"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("chapter-times", ChapterTimes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
