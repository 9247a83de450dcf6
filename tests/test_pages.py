"""Every page of the built site, in a browser: it asks nobody else, complains of nothing, fits, and
can be read in the dark.

They look at _build/html as it is; where there is none, or no browser, they are skipped and say so.
"""

import browsing
import pytest

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browsing.missing() is not None, reason=str(browsing.missing())),
]
PAGES = browsing.pages() if browsing.missing() is None else ["(no page)"]
every_page = pytest.mark.parametrize("page", PAGES)

# Elements that stick out to the right of the page, or that a box cuts off which does not scroll.
STICKS_OUT = """
const cut = e => { const right = e.getBoundingClientRect().right; if (right > innerWidth + 1) for (let p = e.parentElement; p; p = p.parentElement) {
  if (["auto", "scroll"].includes(getComputedStyle(p).overflowX) && p.matches("main article *")) return false;
  if (getComputedStyle(p).position === "fixed") return false; } return right > innerWidth + 1; };
return [...document.querySelectorAll("main article *")].filter(e => e.checkVisibility() && !e.closest("svg, mjx-assistive-mml, .visually-hidden") && cut(e))
  .map(e => `<${e.tagName.toLowerCase()} class="${e.className}"> ${e.textContent.slice(0, 40)}`).slice(0, 5)"""

# Text whose contrast with what lies behind it is below WCAG's AA: 4.5, or 3 if large.
HARD_TO_READ = """
const numbers = c => { const canvas = numbers.canvas ||= document.createElement("canvas"), pen = canvas.getContext("2d", {willReadFrequently: true});
  canvas.width = canvas.height = 1; pen.fillStyle = c; pen.fillRect(0, 0, 1, 1); const d = pen.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
const light = rgb => { const [r, g, b] = rgb.map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
const behind = e => { if (!e) return [255, 255, 255]; const c = numbers(getComputedStyle(e).backgroundColor); return c[3] === 1 ? c.slice(0, 3) : over(c, behind(e.parentElement)); };
const found = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
  if (!text || e.closest("script, style, noscript, svg, mjx-assistive-mml, option, dialog:not([open])") || !e.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
  const style = getComputedStyle(e), size = parseFloat(style.fontSize), box = e.getBoundingClientRect();
  if (box.width < 2 || box.height < 2) continue;
  const back = behind(e), fore = over(numbers(style.color), back), [a, b] = [light(fore), light(back)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
  const enough = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5;
  if (ratio < enough - .01) found.add(`${ratio.toFixed(2)} <${e.tagName.toLowerCase()} class="${e.className}"> ${text.slice(0, 30)}`);
}
return [...found].slice(0, 8)"""

# Figures that are not there to be seen: [text, width, height].
INVISIBLE = """
return [...document.querySelectorAll("figure.numbered")].map(figure => {
  const shown = [...figure.querySelectorAll("img, svg, canvas")].map(e => e.getBoundingClientRect());
  const whole = [...figure.querySelectorAll("img")].every(e => e.complete && e.naturalWidth);
  return [figure.id, Math.max(0, ...shown.map(b => b.width)), Math.max(0, ...shown.map(b => b.height)), whole]; })
  .filter(([id, width, height, whole]) => width < 60 || height < 40 || !whole)"""

# Controls in the text that the keyboard does not reach, or that have no name. In a drawing that has
# one stop for Tab, arrow keys lead to the others.
UNREACHABLE = """
return [...document.querySelectorAll("main :is(a[href], button, input, select, textarea, summary, [role=button], [onclick])")]
  .filter(e => e.checkVisibility({visibilityProperty: true}) && e.tabIndex < 0 && !e.closest("svg")?.querySelector("[tabindex='0']") && !e.disabled && e.getAttribute("aria-hidden") !== "true"
    || e.matches("select, input, textarea, button") && e.checkVisibility()
      && !(e.labels?.length || e.getAttribute("aria-label") || e.title || e.placeholder || e.textContent.trim()))
  .map(e => e.outerHTML.slice(0, 120))"""


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
    assert browser.complaints() == []
    assert browser.run(INVISIBLE) == []
    assert browser.run(UNREACHABLE) == []


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
    if page != "404.html":  # which has the system's colours
        assert browser.run("return document.documentElement.dataset.theme") == (
            "dark" if dark else "light"
        )
    assert browser.run(HARD_TO_READ) == []


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
        assert browser.run(INVISIBLE) == []
        assert browser.complaints() == []


def test_the_checks_see_what_they_are_for(browser, tmp_path):
    """A page with one of each fault."""
    (tmp_path / "bad.html").write_text(
        '<!DOCTYPE html><body style="background: #fff"><main><article><div style="width: 2000px">wide</div><p style="color: #aaa">pale</p>'
        '<figure class="numbered" id="f"><img alt="x" src="gone.png"></figure><select></select><a href="#" tabindex="-1">x</a>'
        '<img alt="" src="http://elsewhere.example/x.png"><script>console.error("oh")</script></article></main>'
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
