"""The rest of a section that is folded, on a small book with the real configuration."""

import re

import browsing
import pytest
from test_build import frozen_package, notebook_of  # noqa: F401 (a fixture)
from test_site import IMAGE, figures_of, site_of, with_outputs

from circuitbook.publishing.errors import BuildError

pytestmark = pytest.mark.slow

PROSE = "# % # One\n\n## Two\n\nThe sentence.\n\n:::{more} Head <b> by head\n:::"
FIGURE = "#| hide-input figure:heads\nshow()"
AFTER = "# % The caption's reader.\n\n## Three\n\nSee {numref}`fig-heads`."
SHOWN = [("text/html", IMAGE)]


def book_with(root, *cells):
    return site_of(root, one=with_outputs(notebook_of(*cells), c0=SHOWN)) / "notebooks/one.html"


def before_its_end(details):
    """What is in the `details` whose inside begins here."""
    depth = 1
    for tag in re.finditer("<(/?)details", details):
        depth += -1 if tag[1] else 1
        if not depth:
            return details[: tag.start()]
    raise AssertionError("it has no end")


def test_the_rest_of_a_section_is_folded_up_to_the_next_heading(tmp_path):
    page = book_with(tmp_path, PROSE, FIGURE, AFTER).read_text()
    before, after = page.split('<details class="folded more">')
    fold = before_its_end(after)
    assert "<summary>Head &lt;b&gt; by head</summary>" in fold and "The caption" in fold
    assert figures_of(fold)[0][0] == "fig-heads" and "Three<" not in fold
    assert "The sentence." in before and "Three<" in after


def test_a_fold_with_nothing_in_it_fails_the_build(tmp_path):
    with pytest.raises(BuildError, match="nothing follows"):
        book_with(tmp_path, PROSE, "# % ## Three", FIGURE)


@pytest.mark.browser
@pytest.mark.skipif(browsing.no_browser() is not None, reason=str(browsing.no_browser()))
def test_a_link_to_a_folded_figure_opens_the_fold(tmp_path, browser):
    page = book_with(tmp_path, PROSE, FIGURE, AFTER)
    seen = "return document.querySelector('#fig-heads img').checkVisibility()"
    with browsing.served(page.parents[1]) as top:
        browser.open(f"{top}/notebooks/one.html")
        assert not browser.run(seen)
        browser.click("a.internal[href='#fig-heads']")
        browser.wait()
        assert browser.run(seen)
