"""A prediction for the reader to make, and its answer, folded until the reader has made it.

    :::{prediction}
    Does the circuit grow or shrink from here to the end of training?
    - it grows
    - it shrinks
    :::

A list at its end is a choice; without one there is a field to write in. What answers it is Markdown
in ``:::{answer}``, or what a cell with the tag ``answer`` shows, such as a computed sentence. Both
belong to the last prediction before them; to another one by its name: ``:::{prediction} edges``,
``:::{answer} edges``, ``answer:edges``. The script prediction.js keeps the guess and shows it with
the answer. Without scripts, on paper and in Jupyter both are text.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

SCRIPT = "prediction.js"
TAG = "tag_answer"  # as a class of the cell
logger = logging.getLogger(__name__)


class folded(nodes.General, nodes.Element):
    """An answer, and which prediction it is `of` ("": the last one before it)."""


class Prediction(SphinxDirective):
    """What to guess."""

    has_content = True
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        asked = nodes.admonition(classes=["prediction"])
        if self.arguments:
            asked["ids"].append(_anchor(self.arguments[0]))
        asked += nodes.title("", "A prediction to make now")
        asked += self.parse_content_to_nodes()
        self.set_source_info(asked)
        return [asked]


class Answer(SphinxDirective):
    """The answer as Markdown."""

    has_content = True
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        answer = nodes.container(classes=["answer"], of="".join(self.arguments))
        answer += self.parse_content_to_nodes()
        self.set_source_info(answer)
        return [answer]


class FoldAnswers(SphinxTransform):
    """Puts every answer into a `details`, which says whose answer it is."""

    default_priority = 835  # after figures have their captions

    def apply(self) -> None:
        named: set[str] = set()
        any_before = False
        for node in list(self.document.findall(nodes.Element)):
            classes = node.get("classes", [])
            if isinstance(node, nodes.admonition) and "prediction" in classes:
                any_before = True
                named.update(node["ids"])
            elif isinstance(node, nodes.container) and (of := _answers(node)) is not None:
                if not any_before or (of and _anchor(of) not in named):
                    which = f"the prediction {of!r}" if of else "a prediction"
                    logger.warning(
                        "an answer stands before %s, or without it",
                        which,
                        location=(self.env.docname, node.line),
                    )
                for part in _what_is_shown(node):
                    _fold(part, of)


def _answers(node: nodes.Element) -> str | None:
    """The name of the prediction that the node answers, "" for the last one; None if it is no
    answer."""
    if "answer" in node["classes"]:
        return node["of"]
    if "cell" in node["classes"]:
        for tag in node["classes"]:
            if tag == TAG or tag.startswith(f"{TAG}:"):
                return tag[len(TAG) + 1 :]
    return None


def _what_is_shown(node: nodes.Element) -> list[nodes.Element]:
    if "answer" in node["classes"]:
        return [node]
    return [part for part in node.children if "cell_output" in part.get("classes", [])]


def _fold(node: nodes.Element, of: str) -> None:
    fold = folded(of=_anchor(of) if of else "")
    node.parent.replace(node, fold)
    fold += node


def open_details(self: HTML5Translator, node: nodes.Element) -> None:
    place = f' data-of="{node["of"]}"' if node["of"] else ""
    self.body.append(f'<details class="answer"{place}><summary>I have made my guess</summary>\n')


def close_details(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</details>\n")


def unfolded(self: nodes.NodeVisitor, node: nodes.Element) -> None:
    """As where there is no HTML: an answer is text like any other."""


def _anchor(name: str) -> str:
    """_anchor("edges") -> "prediction-edges" """
    return f"prediction-{nodes.make_id(name)}"


def add_script(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Only pages that ask something load the script."""
    if doctree and any(
        "prediction" in node.get("classes", []) for node in doctree.findall(nodes.admonition)
    ):
        app.add_js_file(SCRIPT, loading_method="defer")


def setup(app: Sphinx) -> dict[str, object]:
    app.add_node(folded, html=(open_details, close_details), latex=(unfolded, unfolded))
    app.add_directive("prediction", Prediction)
    app.add_directive("answer", Answer)
    app.add_transform(FoldAnswers)
    app.connect("html-page-context", add_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
