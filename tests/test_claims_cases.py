"""Every claim of the table, on evidence where its verdict must be yes, no, and can't tell."""

from pathlib import Path

import nbformat
import pytest
from claims_by_hand import CASES

from circuitbook.stats import Verdict
from circuitbook.studies.claims.table import CLAIMS, GROUPS, PYTHIA

ROOT = Path(__file__).resolve().parents[1]

EXPECTED = {"yes": Verdict.HOLDS, "no": Verdict.FAILS, "open": Verdict.OPEN}


@pytest.mark.parametrize("answer", EXPECTED)
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_a_claim_can_hold_and_fail_and_be_open(claim, answer):
    found = claim.test(CASES[claim.key](answer))
    assert found.parts, found.measured  # there is something to decide, in each of the three
    assert found.verdict is EXPECTED[answer], found.shown


def test_every_claim_is_recorded_once_and_wholly():
    keys = [claim.key for claim in CLAIMS]
    assert len(set(keys)) == len(keys) and set(CASES) == set(keys)
    for claim in CLAIMS:
        told = (claim.claim, claim.words, claim.source, claim.statistic, claim.null, claim.bound)
        assert all(told), claim.key
        assert claim.group in GROUPS and (claim.group == PYTHIA) == claim.about_pythia


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_the_figure_that_tests_a_claim_is_in_its_chapter(claim):
    notebook = nbformat.read(ROOT / "notebooks" / f"{claim.chapter}.ipynb", as_version=4)
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    assert f"figure:{claim.figure}" in tags
