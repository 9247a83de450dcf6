"""The report's claims in a browser: chosen by verdict, by mouse and by keyboard."""

import browsing
import pandas as pd
import pytest

from circuitbook.figures.verdicts import verdict_tables
from circuitbook.stats import Verdict

SHOWN = """return [...document.querySelectorAll("tr[data-verdict]")]
  .filter(row => row.checkVisibility()).map(row => row.querySelector("strong").textContent)"""
PRESSED = """return [...document.querySelectorAll(".filter [aria-pressed=true]")]
  .map(button => button.textContent)"""


@pytest.fixture
def address(tmp_path):
    claims = pd.DataFrame({"claim": [f"claim {number}" for number in range(12)]})
    claims["verdict"] = [str(Verdict.HOLDS), *[str(Verdict.OPEN)] * 11]
    claims["group"] = [*["one"] * 4, *["two"] * 8]
    claims = claims.assign(asked=True, sure="Sure.", chapter="a", figure="fig-a")
    claims["details"] = [{"Its bound": "2"}] * 12
    page = f"<!DOCTYPE html><body>{verdict_tables(claims).data}"
    (tmp_path / "page.html").write_text(page, encoding="utf8")
    few = f"<!DOCTYPE html><body>{verdict_tables(claims[:3]).data}"
    (tmp_path / "few.html").write_text(few, encoding="utf8")
    with browsing.served(tmp_path) as top:
        yield top


@pytest.mark.browser
def test_claims_are_chosen_by_their_verdict(browser, address):
    browser.open(f"{address}/page.html")
    assert len(browser.run(SHOWN)) == 12 and browser.run(PRESSED) == ["all (12)"]
    browser.click(".filter button:nth-child(2)")
    assert browser.run(SHOWN) == ["claim 0"] and browser.run(PRESSED) == ["holds (1)"]
    captions = "return [...document.querySelectorAll('caption')].map(c => c.checkVisibility())"
    assert browser.run(captions) == [True, False]  # a group without a claim is not there
    browser.press(".filter button:nth-child(3)", "ENTER")
    assert browser.run(SHOWN) == [f"claim {number}" for number in range(1, 12)]
    browser.click(".filter button:nth-child(1)")
    assert len(browser.run(SHOWN)) == 12 and browser.complaints() == []


@pytest.mark.browser
def test_a_few_claims_need_no_choice(browser, address):
    browser.open(f"{address}/few.html")
    assert len(browser.run(SHOWN)) == 3
    assert browser.run("return document.querySelectorAll('.filter').length") == 0
