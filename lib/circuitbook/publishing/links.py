"""Checks a built site: every link, anchor, image and script leads somewhere, and every image has a
text.

Without a network: links to other hosts are asked only where `external` says so.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

LINKS = {
    "a": "href",
    "link": "href",
    "img": "src",
    "script": "src",
    "source": "src",
    "iframe": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
    "embed": "src",
}


LOADED = {tag for tag in LINKS if tag != "a"}  # what a browser asks for by itself
STATE_OF_VIEW = re.compile(r"[\w-]+\.[a-z]+=")  # "lab.model=mini-s&...": no anchor, see address.js


@dataclasses.dataclass
class Page:
    """What a page has and asks for: links are (kind of element, address, line)."""

    ids: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    links: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
    faults: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    canonical: str = ""  # the page's own address, where it says that


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given, line = dict(attributes), self.getpos()[0]
        self.page.ids.update(
            filter(None, {given.get("id"), given.get("name") if tag == "a" else None})
        )
        rel = set((given.get("rel") or "").split()) if tag == "link" else set()
        if {"canonical", "alternate"} & rel:  # a browser does not load it
            if "canonical" in rel:
                self.page.canonical = given.get("href") or ""
        elif tag in LINKS and (address := given.get(LINKS[tag])) is not None:
            self.page.links.append((tag, address.strip(), line))
        elif tag == "meta" and (given.get("http-equiv") or "").lower() == "refresh":
            self.page.links.append(("a", (given.get("content") or "").partition("url=")[2], line))
        if tag == "img" and "alt" not in given:
            self.page.faults.append(("an image has no alt text", line))
        for name in (given.get("data-scripts") or "").split():  # what a view fetches
            self.page.links.append(("script", f"/_static/{name}", line))


def read_page(text: str) -> Page:
    """Ids, links and faults of one page."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.page


def top_of(page: Page, name: str) -> str:
    """The path of the site on its host, by the page's canonical address: "/book/" of
    "https://me.github.io/book/a/b.html" for the page a/b.html; "/" where the page has none."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(page.canonical).path)
    return path.removesuffix(name) if path.startswith("/") and path.endswith(f"/{name}") else "/"


def check_site(site: Path, *, external: bool = False) -> list[str]:
    """One line per fault of the site in folder `site`: "page.html:12: ...", in order; empty if all
    is well.

    A fault is a link to a page, file or anchor that is not there (or an anchor that is there
    twice), an image without alt text (alt="" is one: it says that the image tells nothing), or a
    script, style or image from another host. `external`: also ask the hosts of links that lead out;
    that needs a network and takes as long as they take.
    """
    site = site.resolve()
    files = sorted(
        file for file in site.rglob("*.html") if "_static" not in file.relative_to(site).parts
    )
    if not files:
        raise ValueError(f"there is no page in {site}: build the book first (make book)")
    pages = {file: read_page(file.read_text(encoding="utf8")) for file in files}
    faults: list[str] = []
    outside: dict[str, str] = {}
    for file, page in pages.items():
        name = file.relative_to(site).as_posix()
        top = top_of(page, name)
        faults += [f"{name}:{line}: {fault}" for fault, line in page.faults]
        for tag, address, line in page.links:
            parts = urllib.parse.urlsplit(address)
            if parts.netloc or parts.scheme in ("http", "https"):
                if tag in LOADED:
                    faults.append(f"{name}:{line}: loads {address[:120]} from another host")
                else:
                    outside.setdefault(parts._replace(fragment="").geturl(), f"{name}:{line}")
            elif not parts.scheme:  # not data:, mailto:, javascript:
                fault = _inside(site, file, top, parts, pages)
                faults += [f"{name}:{line}: {fault}"] if fault else []
    return faults + (_outside(outside) if external else [])


def _inside(
    site: Path, file: Path, top: str, parts: urllib.parse.SplitResult, pages: dict[Path, Page]
) -> str | None:
    path, anchor = urllib.parse.unquote(parts.path), urllib.parse.unquote(parts.fragment)
    if not path:
        target = file
    elif path.startswith("/"):  # from the top of the site, wherever that is served
        target = site / path.removeprefix(top).lstrip("/")
    else:
        target = file.parent / path
    target = target.resolve()
    if path and not target.is_relative_to(site):
        return f"the link to {path} leads out of the site"
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return f"there is no {path[:120]}"
    if anchor in ("", "top") or target not in pages or STATE_OF_VIEW.match(anchor):
        return None
    count = pages[target].ids[anchor]
    if count == 1:
        return None
    often = f"{count} times" if count else "not"
    return f"#{anchor} is {often} in {target.relative_to(site).as_posix()}"


def _outside(links: dict[str, str], timeout: float = 20) -> list[str]:
    """The faults of links {address: where it stands} that lead to other hosts."""

    def ask(address: str) -> str | None:
        fault = None
        for method in ("HEAD", "GET"):  # some hosts answer GET alone
            request = urllib.request.Request(
                address, method=method, headers={"User-Agent": "Mozilla/5.0 (link check)"}
            )
            try:
                with urllib.request.urlopen(request, timeout=timeout):
                    return None
            except urllib.error.HTTPError as error:
                fault = f"answers {error.code}"
                if error.code in (401, 403, 429):  # there, but not for a program
                    return None
            except (OSError, ValueError) as error:
                fault = f"cannot be reached ({getattr(error, 'reason', error)})"
        return fault

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return [
            f"{links[address]}: {address} {fault}"
            for address, fault in zip(links, pool.map(ask, links), strict=True)
            if fault
        ]


def listed(faults: Iterable[str], *, most: int = 40) -> str:
    """The faults as the lines of a message, no more than `most`."""
    lines = list(faults)
    if len(lines) > most:
        lines[most:] = [f"... and {len(lines) - most} more"]
    return "\n  ".join(lines)


def add_links_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook links`."""
    parser.add_argument(
        "site",
        nargs="?",
        type=Path,
        default=Path("_build/html"),
        help="the built site (%(default)s)",
    )
    parser.add_argument(
        "--external",
        action="store_true",
        help="also ask the hosts of links that lead out of the site",
    )


def links_from_arguments(args: argparse.Namespace) -> None:
    """Checks the site; SystemExit with the list where something is wrong with it."""
    faults = check_site(args.site, external=args.external)
    if faults:
        many = f"{len(faults)} fault{'' if len(faults) == 1 else 's'}"
        raise SystemExit(f"error: {many} in {args.site}:\n  {listed(faults, most=1000)}")
    print(
        f"every link, anchor, image and script of {args.site} is there"
        f"{' (links to other hosts too)' if args.external else ''}"
    )
