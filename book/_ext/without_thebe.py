"""Leaves out of every page the script of sphinx-thebe, which jupyter-book always loads.

The book runs no code in the page; the script would only name a server of others and complain in the
console.
"""

from docutils import nodes
from sphinx.application import Sphinx


def leave_out(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Takes the script, and what sets it up, out of the page's scripts."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in str(script.filename)
        and "THEBE" not in (script.attributes.get("body") or "")
    ]


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("html-page-context", leave_out, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
