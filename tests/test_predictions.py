"""Predictions and their folded answers, on a small book with the real configuration."""

import re

import browsing
import pytest
from test_build import frozen_package, notebook_of  # noqa: F401 (a fixture)
from test_site import IMAGE, figures_of, site_of, with_outputs

from circuitbook.publishing.errors import BuildError

pytestmark = pytest.mark.slow

CHOICE = "# % # One\n\n:::{prediction} sizes\nWhich comes first?\n- the large one\n- *neither*\n:::"
FIELD = "# % Prose.\n\n:::{prediction}\nHow many edges?\n:::"
COMPUTED = "#| hide-input answer figure:edges\nshow()"
WRITTEN = "# % :::{answer} sizes\nThe large one, see {numref}`fig-edges`.\n:::"
SHOWN = [("text/markdown", "Twelve."), ("text/html", IMAGE)]


def book_with(root, *cells):
    return site_of(root, one=with_outputs(notebook_of(*cells), c0=SHOWN)) / "notebooks/one.html"


def test_answers_are_folded(tmp_path):
    page = book_with(tmp_path, CHOICE, FIELD, COMPUTED, WRITTEN).read_text()
    folded = re.findall(r'<details class="answer"([^>]*)>(.*?)</details>', page, re.DOTALL)
    assert [place for place, _ in folded] == ["", ' data-of="prediction-sizes"']
    assert "Twelve." in folded[0][1] and figures_of(folded[0][1])[0][0] == "fig-edges"
    assert "The large one, see" in folded[1][1] and page.count("Twelve.") == 1
    assert page.count('id="prediction-sizes"') == 1 and page.count("prediction.js") == 1
    code = page.index('<span class="n">show</span>')  # is not the answer
    assert code < page.index('<details class="answer"')


@pytest.mark.parametrize(
    "cells", [(COMPUTED, FIELD), (FIELD, COMPUTED, WRITTEN)], ids=["before", "of another name"]
)
def test_an_answer_to_nothing_fails_the_build(tmp_path, cells):
    with pytest.raises(BuildError, match=r"an answer stands before (the|a) prediction"):
        book_with(tmp_path, "# % # One", *cells)


@pytest.mark.browser
@pytest.mark.skipif(browsing.no_browser() is not None, reason=str(browsing.no_browser()))
def test_a_guess_is_shown_with_its_answer_and_kept(tmp_path, browser):
    page = book_with(tmp_path, CHOICE, FIELD, COMPUTED, WRITTEN)
    guesses = "return [...document.querySelectorAll('.your-guess')].map(p => p.textContent)"
    with browsing.served(page.parents[1]) as top:
        browser.open(f"{top}/notebooks/one.html")
        assert browser.run(guesses) == ["You have not made a guess yet."] * 2
        browser.click("#prediction-sizes li:nth-child(2) input")
        browser.driver.find_element("css selector", ".guess-field input").send_keys("20 <b>")
        for _ in range(2):
            assert browser.run(guesses) == ["Your guess: 20 <b>", "Your guess: neither"]
            browser.driver.refresh()
            browser.wait()
        assert browser.run("return document.querySelector('.choices :checked').value") == "neither"
        figure = "return document.querySelector('#fig-edges img').checkVisibility()"
        assert not browser.run(figure)
        browser.open(f"{top}/notebooks/one.html#fig-edges")  # a link to it opens the answer
        assert browser.run(figure)
        browser.picture(page.parents[1] / "one.png")
