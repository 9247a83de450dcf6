"""What the checkout's origin does to the site: buttons and addresses where it is on GitHub, nothing
where it is not."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest
import yaml

from circuitbook.publishing.links import check_site
from circuitbook.publishing.publish import branch, configuration, finish, pages_address, repository

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


def checkout(folder, origin=None, on="main", config="title: A Small Book\n"):
    subprocess.run(["git", "init", "-q", "-b", on, str(folder)], check=True)
    if origin:
        subprocess.run(["git", "-C", str(folder), "remote", "add", "origin", origin], check=True)
    (folder / "_config.yml").write_text(config)
    return folder


@needs_git
@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ("https://github.com/someone/a-book.git", "https://github.com/someone/a-book"),
        ("git@github.com:someone/a.book", "https://github.com/someone/a.book"),
        ("https://user:secret@github.com/someone/book", "https://github.com/someone/book"),
        ("/somewhere/on/disk", None),
        (None, None),
    ],
)
def test_buttons_only_where_the_origin_is_known(tmp_path, origin, url):
    root = checkout(tmp_path, origin, on="next")
    assert repository(root) == url and branch(root) == "next"
    settings = yaml.safe_load(configuration(root))
    assert settings.get("repository") == (
        url and {"url": url, "branch": "next", "path_to_book": ""}
    )
    assert ("launch_buttons" in settings) is ("html" in settings) is (url is not None)
    assert settings["title"] == "A Small Book" and "secret" not in str(settings)


@needs_git
def test_what_the_configuration_says_itself_stays(tmp_path):
    own = (
        "title: A\nhtml: {baseurl: 'https://example.org/b/'}\nlaunch_buttons: {binderhub_url: ''}\n"
    )
    settings = yaml.safe_load(
        configuration(checkout(tmp_path, "https://github.com/Me/book", config=own))
    )
    assert (
        settings["html"]["baseurl"] == "https://example.org/b/"
        and settings["launch_buttons"]["binderhub_url"] == ""
    )
    assert settings["launch_buttons"]["colab_url"].startswith("https://colab")
    own = "title: A\nrepository: {url: 'https://example.org/r'}\n"
    (tmp_path / "_config.yml").write_text(own)
    assert configuration(tmp_path) == own


def test_a_checkout_without_git_has_no_origin(tmp_path):
    (tmp_path / "_config.yml").write_text("title: A\n")
    assert (
        repository(tmp_path) is None
        and branch(tmp_path) == "main"
        and configuration(tmp_path) == "title: A\n"
    )


def test_addresses_of_github_pages():
    assert pages_address("https://github.com/Me/Book") == "https://me.github.io/Book/"
    assert pages_address("https://github.com/Me/me.github.io") == "https://me.github.io/"


@pytest.fixture
def site(tmp_path):
    for name in (
        "book/index.html",
        "notebooks/a b.html",
        "search.html",
        "genindex.html",
        "_static/demo.html",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("<p>")
    (tmp_path / "index.html").write_text(
        '<meta http-equiv="Refresh" content="0; url=book/index.html" />'
    )
    return tmp_path


def test_a_site_with_an_address_has_a_sitemap_and_a_page_for_the_lost(site):
    finish(site, "title: Cats & Dogs\nhtml: {baseurl: 'https://me.github.io/book'}\n")
    places = [
        place.text
        for place in ET.parse(site / "sitemap.xml").iter(
            "{http://www.sitemaps.org/schemas/sitemap/0.9}loc"
        )
    ]
    assert places == [
        "https://me.github.io/book/book/index.html",
        "https://me.github.io/book/notebooks/a%20b.html",
    ]
    assert "Sitemap: https://me.github.io/book/sitemap.xml" in (site / "robots.txt").read_text()
    lost = (site / "404.html").read_text()
    assert (
        '<base href="/book/">' in lost
        and 'href="book/index.html"' in lost
        and "Cats &amp; Dogs" in lost
    )
    assert "<title>Cats &amp; Dogs</title>" in (site / "index.html").read_text()
    assert check_site(site) == []
    (site / "book/index.html").unlink()
    assert [fault for fault in check_site(site) if fault.startswith("404.html")]


def test_a_site_without_an_address_has_none_of_its_own(site):
    finish(site, "title: A Book\n")
    assert not (site / "sitemap.xml").exists() and not (site / "robots.txt").exists()
    assert not re.search(r"<base|https?:", (site / "404.html").read_text())
    assert check_site(site) == []
