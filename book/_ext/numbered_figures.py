"""Gives every figure of a chapter a number, a caption and an anchor, so that prose can refer to it.

A figure is an output that is an image with an alt text, or an interactive view with a label
(``<img alt="...">`` or ``<div role="group" aria-label="...">``). Notebooks stay as they are, and
read well where this extension is not:

- The paragraph right after the figure is its caption if it begins in italics; it moves into the
  figure. Else the alt text is the caption, with its first letter in upper case.
- The tag ``figure:NAME`` on the cell gives the label ``fig-NAME``, for ``{numref}`fig-NAME` `` on
  any page. The second figure of a cell is ``fig-NAME-2``. Without a tag the anchor is made of the
  page's name and a count.

An image without an alt text is a warning, which fails the build.
"""

import html
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

SHOWN = re.compile(r"""\s*(<img\b[^>]*>|<div\b[^>]*\brole="group"[^>]*>)""", re.DOTALL)
TEXT = re.compile(r"""\b(?:alt|aria-label)="([^"]*)\"""", re.DOTALL)
TAG = "tag_figure:"  # as a class of the cell
logger = logging.getLogger(__name__)


class NumberFigures(SphinxTransform):
    """Puts every figure of a page into a numbered `figure` with its caption."""

    default_priority = 830  # after what parses the page, before Sphinx collects labels (880)

    def apply(self) -> None:
        page, count = self.env.docname.rpartition("/")[2], 0
        for cell in self.document.findall(_is_cell):
            names = [tag[len(TAG) :] for tag in cell["classes"] if tag.startswith(TAG)]
            for place, (output, text) in enumerate(_figures(cell), 1):
                count += 1
                if not names:
                    label = f"fig-{page}-{count}"
                elif place == 1:
                    label = f"fig-{names[0]}"
                else:
                    label = f"fig-{names[0]}-{place}"
                if not text.strip():
                    logger.warning(
                        "figure %d of this page has no alt text",
                        count,
                        location=(self.env.docname, cell.line),
                    )
                self._number(cell, output, text, label)

    def _number(self, cell: nodes.Element, output: nodes.Element, text: str, label: str) -> None:
        figure, caption = nodes.figure(classes=["numbered"]), nodes.caption()
        written = _caption_after(output, cell)
        if written is not None:
            caption.extend(written.children)
            _remove(written, until=cell)
        else:
            caption += nodes.Text(text[:1].upper() + text[1:])
        output.replace_self(figure)
        figure.extend([output, caption])
        figure.source, figure.line = cell.source, cell.line
        name = nodes.fully_normalize_name(label)
        figure["names"].append(name)
        self.document.note_explicit_target(figure)


def _is_cell(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and "cell" in node["classes"]


def _is_output(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "mime_bundle"


def _figures(cell: nodes.Element) -> list[tuple[nodes.Element, str]]:
    """The outputs of a cell that are figures, each with its text."""
    figures = []
    for output in cell.findall(_is_output):
        for part in output.findall(nodes.raw):
            shown = SHOWN.match(part.astext()) if "html" in part.get("format", "") else None
            if shown:
                text = TEXT.search(shown[1])
                figures.append((output, html.unescape(text[1]) if text else ""))
                break
    return figures


def _caption_after(output: nodes.Node, cell: nodes.Element) -> nodes.Element | None:
    """The paragraph that follows the output, in its cell or after it, if it begins in italics."""
    node = output
    while True:
        after = node.next_node(descend=False, siblings=True)
        if after is not None or node is cell:
            break
        node = node.parent
    while isinstance(after, nodes.container) and after.children:  # the Markdown that a cell shows
        after = after[0]
    starts = (
        isinstance(after, nodes.paragraph)
        and after.children
        and isinstance(after[0], nodes.emphasis)
    )
    return after if starts else None


def _remove(paragraph: nodes.Element, *, until: nodes.Element) -> None:
    """Takes the paragraph away, and the output it was all of: not only its Markdown, also its plain
    text."""
    gone = paragraph
    while gone.parent is not until and isinstance(gone.parent, nodes.container):
        alone = len(gone.parent.children) == 1
        if not alone and (gone is paragraph or not _is_output(gone.parent)):
            break
        gone = gone.parent
    gone.parent.remove(gone)


def setup(app: Sphinx) -> dict[str, object]:
    app.add_transform(NumberFigures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
