"""The rest of a section behind a line to click: for figures that back up a sentence before them.

    The sentence.

    :::{more} Head by head
    :::

What follows it, up to the next heading or the next ``{more}``, is folded under its title. Without
scripts it can be unfolded, too; on paper and in Jupyter it is there like any other text.
"""

import html

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


class more(nodes.General, nodes.Element):
    """What is folded, and its `title`."""


class More(SphinxDirective):
    """Where the fold begins."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        fold = more(title=self.arguments[0])
        self.set_source_info(fold)
        return [fold]


class FoldTheRest(SphinxTransform):
    """Moves into each fold what follows it in its section."""

    default_priority = 836  # after figures have their captions, and answers their folds

    def apply(self) -> None:
        for fold in list(self.document.findall(more)):
            section = fold.parent
            after = section.children[section.index(fold) + 1 :]
            for node in after:
                if isinstance(node, nodes.section | more):
                    break
                section.remove(node)
                fold += node
            if not fold.children:
                logger.warning(
                    "nothing follows %r, which folds the rest of its section",
                    fold["title"],
                    location=fold,
                )


def open_details(self: HTML5Translator, node: more) -> None:
    title = html.escape(node["title"])
    self.body.append(f'<details class="folded more"><summary>{title}</summary>\n')


def close_details(self: HTML5Translator, node: more) -> None:
    self.body.append("</details>\n")


def unfolded(self: nodes.NodeVisitor, node: more) -> None:
    """As where there is no HTML: text like any other."""


def setup(app: Sphinx) -> dict[str, object]:
    app.add_node(more, html=(open_details, close_details), latex=(unfolded, unfolded))
    app.add_directive("more", More)
    app.add_transform(FoldTheRest)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
