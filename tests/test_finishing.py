"""What is done to a site after Sphinx: icons, roles, previews. On small books."""

import json
import re
from pathlib import Path

import browsing
import pytest
from test_build import frozen_package, notebook_of  # noqa: F401 (a fixture)
from test_site import IMAGE, site_of, with_outputs

from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.icons import icon_letters, keep_used_icons
from circuitbook.publishing.previews import add_previews, told
from circuitbook.publishing.roles import with_roles

SHEET = "_static/styles/pydata-sphinx-theme.css"
TEXT = """# % # One

```{glossary}
step
  One *update*. It is $x^2$ long. Used in {doc}`one`.
```

A {term}`step`, {cite:t}`tigges2024llm`, {numref}`fig-curve`.

:::{note}
See.
:::
"""


def book(root):
    one = with_outputs(
        notebook_of(TEXT, "#| figure:curve\nshow()", "# % *It rises.*"), c0=[("text/html", IMAGE)]
    )
    front = "# A Small Book\n\n{term}`step`\n\n```{bibliography}\n```\n"
    return site_of(root, front, one=one)


@pytest.mark.slow
def test_a_site_has_the_icons_it_shows_and_words_for_its_links(tmp_path):
    site = book(tmp_path)
    page = (site / "notebooks/one.html").read_text()
    sheet = (site / SHEET).read_text()
    assert "fontawesome.js" not in page and not (site / "_static/vendor/fontawesome").exists()
    faces = re.findall(r"@font-face\{[^}]*\}", sheet)
    assert faces and all("url(data:font/woff;base64," in face for face in faces)
    assert len(sheet) < 340_000 and ".fa-bars:before" in sheet and ".fa-tasks-alt" not in sheet
    words = json.loads(re.search(r'id="previews">(.*?)</script>', page)[1])
    assert words.pop("#fig-curve") == "Figure 1.1. It rises."
    (reference,) = (said for link, said in words.items() if link.startswith("../book/index.html#"))
    assert "Curt Tigges" in reference and "http" not in reference
    assert words["#term-step"] == "One update."  # what a formula begins is left out
    front = (site / "book/index.html").read_text()
    assert "One update." in front and '="../_static/previews.js"' in front
    assert "tex-chtml" in page and "tex-chtml" not in front
    assert "tex-chtml" not in (site / "search.html").read_text()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(browsing.no_browser() is not None, reason=str(browsing.no_browser()))
def test_the_words_are_shown_to_the_mouse_and_to_the_keyboard(tmp_path, browser):
    from selenium.webdriver.common.action_chains import ActionChains

    shown = "const box = document.getElementById('preview'); return box.hidden ? '' : box.innerText"
    link = 'a[href="#fig-curve"]'
    with browsing.served(book(tmp_path)) as top:
        browser.open(f"{top}/notebooks/one.html")
        assert browser.run(shown) == ""
        mouse = ActionChains(browser.driver)
        mouse.move_to_element(browser.driver.find_element("css selector", link)).pause(0.5)
        mouse.perform()
        assert browser.run(shown) == "Figure 1.1. It rises."
        browser.press(link, "ESCAPE")
        assert browser.run(shown) == ""
        term = 'a.reference[href="#term-step"]'
        browser.run("document.querySelector(arguments[0]).focus({focusVisible: true})", term)
        assert browser.run(shown) == "One update."
        assert browser.run(f"return document.querySelector('{term}').ariaDescribedByElements[0].id")
        asked, failed = browser.requests()
        assert not failed and all(url.startswith((top, "data:")) for url in asked)
        icon = "return document.fonts.check('900 16px \"Font Awesome 6 Free\"', '\\uf0c9')"
        assert browser.run(icon)


def test_letters_of_icons_are_found_as_they_are_and_escaped():
    assert icon_letters('a:before{content:"\\f303"}:root{--x:"\uf0f3"}b{content:"x"}') == {
        0xF303,
        0xF0F3,
    }


def test_a_theme_that_keeps_its_icons_elsewhere_is_refused(tmp_path):
    for folder in ("vendor/fontawesome/webfonts", "styles"):
        (tmp_path / "_static" / folder).mkdir(parents=True)
    (tmp_path / SHEET).write_text('.fa-bars:before{content:"\\f0c9"}')
    with pytest.raises(BuildError, match="names no font in vendor/fontawesome"):
        keep_used_icons(tmp_path)
    assert (tmp_path / "_static/vendor/fontawesome").is_dir()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ('<th class="blank">&nbsp;</th><th>a</th>', '<td class="blank">&nbsp;</td><th>a</th>'),
        ('<th class="head"><p></p></th>', '<td class="head"><p></p></td>'),
        ("<thead><tr></tr></thead>", "<thead><tr></tr></thead>"),
        (
            '<div class="citation" id="a" role="doc-biblioentry">',
            '<div class="citation" id="a" role="listitem">',
        ),
    ],
)
def test_roles_are_mended(wrong, right):
    assert with_roles(wrong) == right and with_roles(right) == right


def test_words_end_before_a_formula_and_where_they_are_too_long(tmp_path: Path):
    term = '<dt id="term-x">x<a class="headerlink" href="#">#</a></dt><dd><p>{}</p></dd>'
    assert told(term.format("A &amp; b. It is <span>\\(y\\)</span>.")) == [("term-x", "A & b.")]
    assert told(term.format("<span>\\(y\\)</span> is it.")) == []
    ((_, cut),) = told(term.format("word " * 100))
    assert cut.endswith("word ...") and len(cut) < 330
    (tmp_path / "a.html").write_text(
        '<a class="reference internal" href="#term-x">x</a></body>' + term.format("A <b>.")
    )
    add_previews(tmp_path)
    assert '{"#term-x":"A ."}' in (tmp_path / "a.html").read_text()
