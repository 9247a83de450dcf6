"""What a site needs to be found and shared: links to its repository and to Colab, and a sitemap.

All of it comes from the checkout's origin. Where that is not on GitHub, the site has no such links
and is complete without.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import urllib.parse
from pathlib import Path

import yaml

NOT_LISTED = ["404.html", "genindex.html", "index.html", "search.html"]  # in the sitemap


def configuration(root: Path) -> str:
    """_config.yml; with buttons to the repository, to Colab and to Binder where the checkout's
    origin is on GitHub, and with a sitemap where the site's address is known.

    The buttons of a chapter lead to its notebook on the branch that is checked out. The site's own
    address, for sitemap and canonical links, is that of GitHub Pages unless _config.yml says
    another (html: baseurl).
    """
    text = (root / "_config.yml").read_text(encoding="utf8")
    settings = yaml.safe_load(text)
    url = repository(root)
    if url and "repository" not in settings:
        named = urllib.parse.quote(branch(root))  # the theme puts it into addresses as it is
        settings["repository"] = {"url": url, "branch": named, "path_to_book": ""}
        settings["launch_buttons"] = {
            "colab_url": "https://colab.research.google.com",
            "binderhub_url": "https://mybinder.org",
            "notebook_interface": "jupyterlab",
        } | settings.get("launch_buttons", {})
        page = settings.setdefault("html", {})
        page["use_repository_button"] = True
        page.setdefault("baseurl", pages_address(url))
    address = (settings.get("html") or {}).get("baseurl")
    if address:
        _add_sitemap(settings, address.rstrip("/") + "/")
    if settings == yaml.safe_load(text):
        return text
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _add_sitemap(settings: dict, address: str) -> None:
    """Adds sphinx-sitemap to the settings, and for sphinx-notfound-page the site's path on its
    host."""
    sphinx = settings.setdefault("sphinx", {})
    sphinx["extra_extensions"] = [*sphinx.get("extra_extensions", []), "sphinx_sitemap"]
    sphinx["config"] = sphinx.get("config", {}) | {
        "site_url": address,
        "sitemap_url_scheme": "{link}",
        "sitemap_excludes": NOT_LISTED,
        "notfound_urls_prefix": urllib.parse.urlsplit(address).path,
    }


def repository(root: Path) -> str | None:
    """The address of the origin of this checkout, without user and password; None where it is not
    on GitHub."""
    origin = _git(root, "remote", "get-url", "origin")
    named = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(\.git)?/?$", origin)
    return f"https://github.com/{named[1]}" if named else None


def branch(root: Path) -> str:
    """The branch that is checked out; "main" where none is."""
    return _git(root, "symbolic-ref", "--quiet", "--short", "HEAD") or "main"


def pages_address(url: str) -> str:
    """pages_address("https://github.com/Me/book") -> "https://me.github.io/book/" """
    owner, name = url.rstrip("/").split("/")[-2:]
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def finish(site: Path, config: str) -> None:
    """Adds what Sphinx does not make: a title for the front door, and robots.txt where the site's
    address is known."""
    settings = yaml.safe_load(config)
    _name_front_door(site / "index.html", settings["title"])
    if address := (settings.get("html") or {}).get("baseurl"):
        place = f"{address.rstrip('/')}/sitemap.xml"
        (site / "robots.txt").write_text(f"User-agent: *\nAllow: /\nSitemap: {place}\n")


def _name_front_door(index: Path, title: str) -> None:
    """Gives the redirect that jupyter-book writes a title and a link, for who is not led on by
    itself."""
    target = re.search(r"url=([^\"]+)\"", index.read_text(encoding="utf8"))
    if target is None:  # no redirect, but the front page itself
        return
    title = html.escape(title)
    index.write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n"
        f'<meta http-equiv="refresh" content="0; url={target[1]}">\n'
        f'<link rel="canonical" href="{target[1]}">\n'
        f'</head>\n<body><a href="{target[1]}">{title}</a></body>\n</html>\n',
        encoding="utf8",
    )


def _git(root: Path, *arguments: str) -> str:
    if not (root / ".git").exists() or not shutil.which("git"):
        return ""
    return subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True
    ).stdout.strip()
