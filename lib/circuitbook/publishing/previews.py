"""What a link within the book leads to, in a few words, for a page to show before it is followed.

Terms of the glossary, references and figures have such words; they are put into each page that
links to them, so that previews.js asks for nothing.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path

from circuitbook.figures.views import script_json

SCRIPT = "previews.js"
LONGEST = 320  # letters

_TARGETS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r'<dt id="(term-[^"]+)">.*?</dt>\s*<dd>\s*<p>(.*?)</p>',
        r'<div class="citation" id="([^"]+)"[^>]*>.*?<p>(.*?)</p>',
        r'<figure class="numbered[^>]*\bid="([^"]+)">.*?<figcaption>(.*?)</figcaption>',
    )
]
_LINK = re.compile(r'<a class="reference internal" href="([^"#]*)#([^"]+)"')
_NUMBER = re.compile(r'(<span class="caption-number">[^<]*?)\s*</span>')
_NOT_TEXT = re.compile(r'<a class="headerlink.*?</a>|<[^>]+>', re.DOTALL)


def add_previews(site: Path) -> None:
    """Puts into every page of the built site what its links to terms, references and figures lead
    to."""
    pages = {
        file.relative_to(site).as_posix(): file.read_text(encoding="utf8")
        for file in site.rglob("*.html")
        if file.relative_to(site).parts[0] != "_static"
    }
    words = {
        f"{name}#{anchor}": said for name, text in pages.items() for anchor, said in told(text)
    }
    for name, text in pages.items():
        shown = {}
        for path, anchor in _LINK.findall(text):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
            if said := words.get(f"{target if path else name}#{html.unescape(anchor)}"):
                shown[html.unescape(f"{path}#{anchor}")] = said
        if shown:
            static = posixpath.relpath("_static", posixpath.dirname(name) or ".")
            added = (
                f'<script type="application/json" id="previews">{script_json(shown)}</script>\n'
                f'<script defer src="{static}/{SCRIPT}"></script>\n</body>'
            )
            (site / name).write_text(text.replace("</body>", added, 1), encoding="utf8")


def told(page: str) -> list[tuple[str, str]]:
    """[(anchor, words)] of what other pages may link to.

    told('<dt id="term-step">step</dt><dd><p>One <em>update</em>. Used in x.</p>')
        ->  [("term-step", "One update.")]
    """
    found = [match for pattern in _TARGETS for match in pattern.findall(page)]
    return [(html.unescape(anchor), said) for anchor, inside in found if (said := _words(inside))]


def _words(inside: str) -> str:
    """Its text: of a term without where it is used, and no more than comes before a formula."""
    text = " ".join(html.unescape(_NOT_TEXT.sub("", _NUMBER.sub(r"\1. ", inside))).split())
    text = text.partition(" Used in ")[0].partition(" URL: ")[0]
    before, formula, _ = text.partition("\\(")
    text = before[: before.rfind(". ") + 1] if formula else text
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rsplit(" ", 1)[0] + " ..."
