"""The PDF: clear errors without a browser or a book, an old file kept when printing fails, and a
real one where there is a browser."""

import shutil
import stat

import pytest
from test_build import frozen_package, notebook_of  # noqa: F401 (a fixture)
from test_site import IMAGE, site_of, with_outputs

from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.pdf import BROWSERS, make_pdf


def test_without_a_browser_or_a_book_it_says_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(
        BuildError,
        match=r"there is no no-such-browser here: install one, or name it with --browser",
    ):
        make_pdf(tmp_path, tmp_path / "book.pdf", browser="no-such-browser")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        BuildError, match="printed by a browser, and there is no Chromium or Chrome here"
    ):
        make_pdf(tmp_path, tmp_path / "book.pdf")
    monkeypatch.undo()
    with pytest.raises(BuildError, match="there is no book in .*: build it first"):
        make_pdf(tmp_path, tmp_path / "book.pdf", browser="sh")


@pytest.mark.slow
def test_a_browser_that_prints_nothing_leaves_the_old_file(tmp_path):
    site_of(
        tmp_path / "book",
        one=with_outputs(notebook_of("# % # One", "show()"), c0=[("text/html", IMAGE)]),
    )
    broken, old = tmp_path / "browser", tmp_path / "book.pdf"
    broken.write_text("#!/bin/sh\necho 'cannot start' >&2\nexit 3\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    old.write_text("old")
    with pytest.raises(
        BuildError, match=r"browser printed no PDF \(exit 3\); it said: cannot start"
    ):
        make_pdf(tmp_path / "book/_build/src", old, browser=str(broken))
    assert old.read_text() == "old" and not list(tmp_path.glob("*.part"))
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("there is no Chromium on this machine: nothing was printed")
    made = make_pdf(tmp_path / "book/_build/src", old)
    assert made.read_bytes().startswith(b"%PDF") and made.stat().st_size > 10_000
