"""What the checkout's origin does to the site: buttons and addresses where it is on GitHub, nothing
where it is not."""

import shutil
import subprocess

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


@needs_git
def test_a_sitemap_only_where_the_address_is_known(tmp_path):
    config = "title: A\nsphinx: {extra_extensions: [sphinx_exercise], config: {numfig: true}}\n"
    root = checkout(tmp_path, config=config)
    assert configuration(root) == config
    own = config + "html: {baseurl: 'https://example.org/b'}\n"
    (root / "_config.yml").write_text(own)
    sphinx = yaml.safe_load(configuration(root))["sphinx"]
    assert sphinx["extra_extensions"] == ["sphinx_exercise", "sphinx_sitemap"]
    assert sphinx["config"]["site_url"] == "https://example.org/b/"
    assert sphinx["config"]["notfound_urls_prefix"] == "/b/" and sphinx["config"]["numfig"] is True


def test_the_front_door_has_a_title_and_robots_are_told_the_sitemap(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book/index.html").write_text("<p>")
    index = tmp_path / "index.html"
    index.write_text('<meta http-equiv="Refresh" content="0; url=book/index.html" />')
    finish(tmp_path, "title: Cats & Dogs\n")
    assert "<title>Cats &amp; Dogs</title>" in index.read_text() and check_site(tmp_path) == []
    assert not (tmp_path / "robots.txt").exists()
    finish(tmp_path, "title: A\nhtml: {baseurl: 'https://me.github.io/book'}\n")
    robots = (tmp_path / "robots.txt").read_text()
    assert "Sitemap: https://me.github.io/book/sitemap.xml" in robots
    (tmp_path / "book/index.html").unlink()
    assert [fault for fault in check_site(tmp_path) if fault.startswith("index.html")]
