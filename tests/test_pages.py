"""Every page of the built site, in a browser: it asks nobody else, complains of nothing, fits, and
can be read in the dark.

They look at _build/html as it is; where there is none, or no browser, they are skipped and say so.
"""

from pathlib import Path

import browsing
import pytest

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browsing.missing() is not None, reason=str(browsing.missing())),
]
PAGES = browsing.pages() if browsing.missing() is None else ["(no page)"]
every_page = pytest.mark.parametrize("page", PAGES)


def script(name: str) -> str:
    """What `browser.run` takes: calls the function that pages/<name>.js exports."""
    text = (Path(__file__).parent / "pages" / f"{name}.js").read_text()
    comment, _, function = text.partition("export default ")
    return f"{comment}return ({function})()"


FRONT = "book/index.html"
UNFOLD = "document.querySelectorAll('details.answer').forEach(answer => answer.open = true)"
STICKS_OUT, HARD_TO_READ = script("sticksOut"), script("hardToRead")
INVISIBLE, UNREACHABLE = script("invisible"), script("unreachable")


@pytest.fixture(scope="module")
def top():
    with browsing.served(browsing.SITE) as address:
        yield address


@every_page
def test_it_loads_alone_without_complaint_and_shows_its_figures(browser, top, page):
    browser.open(f"{top}/{page}")
    asked, failed = browser.requests()
    assert asked and not failed
    assert [url for url in asked if not url.startswith((f"{top}/", "data:", "blob:"))] == []
    browser.run(UNFOLD)
    browser.wait()
    assert browser.complaints() == []
    assert browser.run(INVISIBLE) == []
    assert browser.run(UNREACHABLE) == []
    _, gzipped = browsing.weight(asked, browsing.SITE)
    assert gzipped < (400_000 if page == FRONT else 1_000_000)


@every_page
def test_nothing_is_wider_than_the_page(browser, top, page):
    for width in browsing.WIDTHS:
        browser.open(f"{top}/{page}", width)
        assert browser.run("return innerWidth") == width
        wide = browser.run("return document.documentElement.scrollWidth")
        assert wide <= width and browser.run(STICKS_OUT) == []


@every_page
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(browser, top, page, dark):
    browser.open(f"{top}/{page}", dark=dark)
    theme = browser.run("return document.documentElement.dataset.theme")
    assert theme == ("dark" if dark else "light")
    assert browser.run(HARD_TO_READ) == []


@every_page
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_fault(browser, faults, top, page, width):
    browser.open(f"{top}/{page}", width)
    browser.run(UNFOLD)
    browser.wait()
    assert faults(impacts=("minor", "moderate", "serious", "critical")) == []


def test_views_draw_themselves_from_a_file_too(browser):
    """No server: as when the folder is opened from a disk."""
    with_views = [
        page
        for page in PAGES
        if 'role="group"' in (browsing.SITE / page).read_text(encoding="utf8")
    ]
    assert with_views
    for page in with_views:
        browser.open((browsing.SITE / page).as_uri())
        browser.run(UNFOLD)
        browser.wait()
        assert browser.run(INVISIBLE) == []
        assert browser.complaints() == []


def test_the_checks_see_what_they_are_for(browser, tmp_path):
    """A page with one of each fault."""
    (tmp_path / "bad.html").write_text(
        '<!DOCTYPE html><body style="background: #fff"><main><article>'
        '<div style="width: 2000px">wide</div><p style="color: #aaa">pale</p>'
        '<figure class="numbered" id="f"><img alt="x" src="gone.png"></figure>'
        '<select></select><a href="#" tabindex="-1">x</a>'
        '<img alt="" src="http://elsewhere.example/x.png">'
        '<script>console.error("oh")</script></article></main>'
    )
    with browsing.served(tmp_path) as address:
        browser.open(f"{address}/bad.html", width=390)
        asked, failed = browser.requests()
        assert "http://elsewhere.example/x.png" in asked
        assert any("gone.png: 404" in line for line in failed) and any(
            "elsewhere" in line for line in failed
        )
        assert any("oh" in line for line in browser.complaints())
        assert (
            browser.run("return document.documentElement.scrollWidth") > 1900
            and "<div" in browser.run(STICKS_OUT)[0]
        )
        assert len(browser.run(UNREACHABLE)) == 2 and browser.run(INVISIBLE)[0][0] == "f"
        assert [line for line in browser.run(HARD_TO_READ) if line.startswith("2.32 <p")]
