"""Icons of the site: of Font Awesome, which the theme brings whole, only what pages show.

The theme has each icon as a letter of a font and again as a drawing in a script of 1.5 MB. The
letters do: those that are used go into the style sheet, all else goes.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

from circuitbook.publishing.errors import BuildError

SHEET = "styles/pydata-sphinx-theme.css"
FONTS = "vendor/fontawesome"
SCRIPT = "scripts/fontawesome.js"

_LETTER = re.compile(r'((?:\.fa-[\w-]+::?before,?)+)\{content:"([^"]*)"\}')
_FACE = re.compile(
    r"@font-face\{[^{}]*url\(\.\./vendor/fontawesome/(webfonts/[\w-]+)\.woff2\)[^{}]*\}"
)
_SOURCES = re.compile(r"src:[^;}]*")
_SCRIPT_TAG = re.compile(rf"\s*<script[^>]*{re.escape(SCRIPT)}[^>]*></script>")


def keep_used_icons(site: Path) -> None:
    """Leaves of Font Awesome what the pages of the built site show. BuildError where the theme
    keeps it in another way."""
    static = site / "_static"
    if not (static / FONTS).is_dir():  # a theme without it, or done already
        return
    sheet = (static / SHEET).read_text(encoding="utf8")
    pages = {page: page.read_text(encoding="utf8") for page in site.rglob("*.html")}
    scripts = [file.read_text(encoding="utf8") for file in static.glob("scripts/*theme.js")]
    named = set(re.findall(r"\bfa-[\w-]+", "".join([*pages.values(), *scripts])))
    sheet = _LETTER.sub(lambda rule: _of_used(rule, named), sheet)
    others = [file for file in static.rglob("*.css") if file != static / SHEET]
    letters = icon_letters("".join([sheet, *(file.read_text(encoding="utf8") for file in others)]))
    sheet, faces = _FACE.subn(lambda face: _with_letters(face, static / FONTS, letters), sheet)
    if not faces:
        raise BuildError(f"{SHEET} of the theme names no font in {FONTS}: see publishing/icons.py")
    (static / SHEET).write_text(sheet, encoding="utf8")
    for page, text in pages.items():
        if SCRIPT in text:
            page.write_text(_SCRIPT_TAG.sub("", text), encoding="utf8")
    shutil.rmtree(static / FONTS)
    for file in static.glob(f"{SCRIPT}*"):
        file.unlink()


def icon_letters(sheets: str) -> set[int]:
    """Code points of the private area that style sheets show, as letters or escaped.

    icon_letters('a:before{content:"\\\\f303"}') -> {0xF303}
    """
    escaped = re.findall(r'content:\s*"\\([0-9a-f]{4})"', sheets)
    return {int(code, 16) for code in escaped} | {
        ord(letter) for letter in re.findall("[\ue000-\uf8ff]", sheets)
    }


def _of_used(rule: re.Match[str], named: set[str]) -> str:
    """The rule for the icons of these names; "" where there are none."""
    used = [one for one in rule[1].split(",") if one and one[1:].partition(":")[0] in named]
    return f'{",".join(used)}{{content:"{rule[2]}"}}' if used else ""


def _with_letters(face: re.Match[str], fonts: Path, letters: set[int]) -> str:
    """The face with these letters of its font in it; "" where the font has none of them."""
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    font = TTFont(fonts / f"{face[1]}.ttf")
    present = letters & set(font.getBestCmap())
    if not present:
        return ""
    subsetter = Subsetter(Options(layout_features=[], notdef_outline=True, hinting=False))
    subsetter.populate(unicodes=present)
    subsetter.subset(font)
    font.flavor = "woff"
    made = io.BytesIO()
    font.save(made)
    data = base64.b64encode(made.getvalue()).decode()
    return _SOURCES.sub(f'src:url(data:font/woff;base64,{data}) format("woff")', face[0])
