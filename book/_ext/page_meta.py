"""Says in each page's head what the page is about, for search engines and for previews of shared
links.

The description is the page's first paragraph that is long enough to say something. Addresses are
absolute, so those of the page and of a picture are there only where the site's own address is known
(html_baseurl).
"""

import html
import posixpath
import textwrap
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

PICTURE = "preview.png"  # in a folder of html_static_path


def description(doctree: nodes.document, *, least: int = 80, most: int = 200) -> str:
    """The first paragraph of `least` characters or more, shortened to `most`; "" where there is
    none."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) >= least:
            return textwrap.shorten(text, most, placeholder=" ...")
    return ""


def add(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Adds the tags to the page's head."""
    if doctree is None:  # search, index: nothing to say
        return
    base = app.config.html_baseurl
    title = next(iter(doctree.findall(nodes.title)), nodes.title()).astext()
    about = description(doctree) or app.config.html_title or title
    tags = {
        "og:title": title,
        "og:type": "article",
        "og:site_name": app.config.html_title,
        "og:description": about,
    }
    if base:
        tags["og:url"] = posixpath.join(base, app.builder.get_target_uri(pagename))
        if any(
            Path(app.srcdir, folder, PICTURE).is_file() for folder in app.config.html_static_path
        ):
            tags["og:image"] = posixpath.join(base, "_static", PICTURE)
    lines = [f'<meta name="description" content="{html.escape(about)}">']
    lines += [
        f'<meta property="{name}" content="{html.escape(value)}">'
        for name, value in tags.items()
        if value
    ]
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("html-page-context", add)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
