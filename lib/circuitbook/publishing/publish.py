"""What a site needs to be found and shared: links to its repository and to Colab, a page for lost visitors, a sitemap.

All of it comes from the checkout's origin. Where that is not on GitHub, the site has no such links and is complete without.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import urllib.parse
from pathlib import Path

import yaml

NO_PLACE = ("404.html", "genindex.html", "index.html", "search.html")  # in the sitemap


SITEMAP = """<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
{}</urlset>
"""


def configuration(root: Path) -> str:
    """_config.yml; with buttons to the repository, to Colab and to Binder where the checkout's origin is on GitHub.

    The buttons of a chapter lead to its notebook on the branch that is checked out. The site's own address, for sitemap and
    canonical links, is that of GitHub Pages unless _config.yml says another (html: baseurl).
    """
    text = (root / "_config.yml").read_text(encoding="utf8")
    settings = yaml.safe_load(text)
    url = repository(root)
    if not url or "repository" in settings:
        return text
    settings["repository"] = {"url": url, "branch": branch(root), "path_to_book": ""}
    settings["launch_buttons"] = {
        "colab_url": "https://colab.research.google.com",
        "binderhub_url": "https://mybinder.org",
        "notebook_interface": "jupyterlab",
    } | settings.get("launch_buttons", {})
    page = settings.setdefault("html", {})
    page["use_repository_button"] = True
    page.setdefault("baseurl", pages_address(url))
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def repository(root: Path) -> str | None:
    """The address of the origin of this checkout, without user and password; None where it is not on GitHub."""
    found = re.search(
        r"github\.com[:/]([\w.-]+/[\w.-]+?)(\.git)?/?$", _git(root, "remote", "get-url", "origin")
    )
    return f"https://github.com/{found.group(1)}" if found else None


def branch(root: Path) -> str:
    """The branch that is checked out; "main" where none is."""
    return _git(root, "symbolic-ref", "--quiet", "--short", "HEAD") or "main"


def pages_address(url: str) -> str:
    """pages_address("https://github.com/Me/book") -> "https://me.github.io/book/" """
    owner, name = url.rstrip("/").split("/")[-2:]
    return f"https://{owner.lower()}.github.io/{'' if name.lower() == f'{owner.lower()}.github.io' else f'{name}/'}"


def finish(site: Path, config: str) -> None:
    """Adds what Sphinx does not make: a title for the front door, 404.html, a sitemap if the site's address is known."""
    settings = yaml.safe_load(config)
    title, address = settings["title"], (settings.get("html") or {}).get("baseurl", "")
    front = _front_door(site / "index.html", title)
    (site / "404.html").write_text(
        _not_found(title, front, urllib.parse.urlsplit(address).path), encoding="utf8"
    )
    if address:
        address = address.rstrip("/") + "/"
        pages = [page.relative_to(site).as_posix() for page in sorted(site.rglob("*.html"))]
        listed = [
            address + urllib.parse.quote(page)
            for page in pages
            if not page.startswith("_") and page not in NO_PLACE
        ]
        places = "".join(f"  <url><loc>{html.escape(place)}</loc></url>\n" for place in listed)
        (site / "sitemap.xml").write_text(SITEMAP.format(places), encoding="utf8")
        (site / "robots.txt").write_text(
            f"User-agent: *\nAllow: /\nSitemap: {address}sitemap.xml\n", encoding="utf8"
        )


def _front_door(index: Path, title: str) -> str:
    """Gives the redirect that jupyter-book writes a title and a link; returns the page that it leads to."""
    target = re.search(r"url=([^\"]+)\"", index.read_text(encoding="utf8"))
    if not target:  # the front page itself
        return "index.html"
    title = html.escape(title)
    index.write_text(
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta http-equiv="refresh" content="0; url={target[1]}">\n<link rel="canonical" href="{target[1]}">\n'
        f'</head>\n<body><a href="{target[1]}">{title}</a></body>\n</html>\n',
        encoding="utf8",
    )
    return target[1]


def _not_found(title: str, front: str, path: str) -> str:
    """A page by itself, since it is shown in place of pages at any depth; `path` is that of the site on its host."""
    base = f'<base href="{html.escape(path.rstrip("/") + "/")}">\n' if path else ""
    title = html.escape(title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<title>Page not found: {title}</title>
{base}<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 34rem; margin: 18vh auto 0; padding: 0 1.2rem; font: 1.05rem/1.6 system-ui, sans-serif; }}
</style>
</head>
<body>
<main>
<h1>There is no such page</h1>
<p>It may have moved, or its address was mistyped. <a href="{front}">{title}</a> begins here, and
<a href="search.html">its search</a> knows every page.</p>
</main>
</body>
</html>
"""


def _git(root: Path, *arguments: str) -> str:
    if not (root / ".git").exists() or not shutil.which("git"):
        return ""
    return subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True
    ).stdout.strip()
