"""What a screen reader is told of the pages, where the theme, Sphinx and pandas say it wrongly."""

from __future__ import annotations

import re
from pathlib import Path

_MENDED = [
    # the empty corner of a table is no header
    (re.compile(r"<th\b([^>]*)>((?:\s|&nbsp;|<p></p>)*)</th>"), r"<td\1>\2</td>"),
    # what a list of references has in it
    (re.compile(r'(<div class="citation"[^>]*) role="doc-biblioentry"'), r'\1 role="listitem"'),
    # the sidebar is a landmark as a whole, with the title and the search in it
    (
        re.compile(r'<div id="pst-primary-sidebar"(?! role)'),
        r'<div id="pst-primary-sidebar" role="navigation" aria-label="Book"',
    ),
]


def mend_roles(site: Path) -> None:
    """Mends the pages of the built site, each in its place."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf8")
        mended = with_roles(text)
        if mended != text:
            page.write_text(mended, encoding="utf8")


def with_roles(page: str) -> str:
    """The page as it should have been written.

    with_roles("<tr><th></th><th>edges</th></tr>") -> "<tr><td></td><th>edges</th></tr>"
    """
    for wrong, right in _MENDED:
        page = wrong.sub(right, page)
    return page
