"""Leaves out of every page the scripts that it has no use for.

That of sphinx-thebe, which jupyter-book always loads: the book runs no code in the page; the script
would only name a server of others and complain in the console. And MathJax on a page without a
formula: Sphinx loads it where a page below it in the table of contents has one.
"""

from docutils import nodes
from sphinx.application import Sphinx


def leave_out(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Takes such scripts, and what sets them up, out of the page's scripts."""
    formulas = doctree and any(doctree.findall(_is_formula))
    unused = ["thebe", *([] if formulas else ["mathjax"])]
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if not any(
            name in f"{script.filename} {script.attributes.get('body')}".casefold()
            for name in unused
        )
    ]


def _is_formula(node: nodes.Node) -> bool:
    return isinstance(node, (nodes.math, nodes.math_block))


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("html-page-context", leave_out, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
