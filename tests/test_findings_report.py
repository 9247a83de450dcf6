"""What the replication report shows of its claims and checkpoints."""

import html

import pandas as pd
import pytest

from circuitbook.figures.verdicts import MARKS, verdict_tables
from circuitbook.stats import Verdict
from circuitbook.studies.claims.report import NEEDS_CHECKPOINTS
from circuitbook.studies.claims.table import CIRCUITS, FORMATION, PYTHIA
from circuitbook.studies.findings import report as findings

CLAIMS = pd.DataFrame(
    [
        ("first", "abilities", True, "1.2 [1.1, 1.3]", "but 3", "holds", "holds", ""),
        ("second", "cost", False, "", "Pythia's; here 2", "can't tell", "can't tell", ""),
        ("third", "abilities", True, "0.1 [-1, 1]", "", "can't tell", "can't tell", "of a no less"),
        ("<b>fourth", "after-formation", True, "2 [1, 3]", "", "holds", "can't tell", ""),
    ],
    columns="claim chapter asked interval measured verdict corrected doubt".split(),
).assign(statistic="a ratio", bound="2", words="they say", source="Figure 1", null="no ratio")
CLAIMS["about_pythia"] = [False, True, False, True]  # the fourth was asked
CLAIMS["group"] = [FORMATION, PYTHIA, FORMATION, CIRCUITS]
CLAIMS["figure"] = ["abilities", "seconds", "abilities", "head-lines"]


def test_every_answer_has_a_mark_and_a_verb():
    assert tuple(MARKS) == tuple(findings.COUNTED) == tuple(str(v) for v in Verdict)


def test_the_summary_counts_before_and_after_the_correction():
    assert findings.summary(CLAIMS) == (
        "**Of the 4 claims that we test, 2 hold, 0 do not hold, and 2 can't be "
        "decided here.** 1 of the undecided ones are about Pythia's own models."
    )
    assert findings.conditions(CLAIMS, "mini", "robust", ["a", "b"]) == (
        "3 claims have evidence for or against them here. Tested all at once (Holm's correction: "
        "a chance of 5% at most that any verdict is wrong), of these 1 holds, 0 do not hold, and "
        "2 can't be decided. Suite mini, recipe robust; models: a, b."
    )
    text = findings.summary(CLAIMS.iloc[[0, 2]].assign(verdict=["does not hold", "can't tell"]))
    assert text.endswith("0 hold, 1 does not hold, and 1 can't be decided here.**")
    assert findings.as_html("**A**, b **c**") == "<p><strong>A</strong>, b <strong>c</strong></p>"


@pytest.mark.parametrize(
    ("place", "sure"),
    [
        (0, "Sure, even with all 3 tested at once."),
        (1, "Not tested here: Pythia's."),
        (2, "Not sure: of a no less."),
        (3, "Sure alone, not with all 3 tested at once."),
    ],
)
def test_how_sure_we_are_goes_by_both_verdicts(place, sure):
    assert findings.how_sure(CLAIMS.iloc[place], 3) == sure
    if place == 0:
        assert findings.how_sure(CLAIMS.iloc[place], 1) == "Sure."


def test_a_claim_is_listed_with_its_figure_and_all_its_numbers():
    listed = findings.listed_claims(CLAIMS)
    assert listed["claim"].tolist() == ["first", "third", "<b>fourth", "second"]
    assert listed["figure"][0] == "fig-abilities" and listed["figure"][3] == "fig-head-lines"
    assert listed["details"][0] == {
        "The paper": "they say (Figure 1)",
        "The number": "a ratio",
        "Its bound": "2",
        "To be excluded": "no ratio",
        "Measured, with 95% intervals": "1.2 [1.1, 1.3]",
        "Besides": "but 3",
        "With all claims tested at once": "holds",
    }
    second = listed["details"][1]
    assert second["Measured, with 95% intervals"] == "Pythia's; here 2"
    assert not {"Besides", "With all claims tested at once"} & set(second)


def test_the_page_groups_claims_marks_them_and_links_them():
    page = verdict_tables(findings.listed_claims(CLAIMS)).data
    tables = page.split("<table>")[1:]
    assert [table.split("</caption>")[0] for table in tables] == [
        f"<caption>{html.escape(group)}" for group in (FORMATION, CIRCUITS, PYTHIA)
    ]
    assert tables[0].count("<tr data-verdict=") == 2 and "✓ holds</span>" in tables[0]
    assert '<a href="after-formation.html#fig-head-lines"' in tables[1]
    assert "&lt;b&gt;fourth" in page and "<b>" not in page
    folded = page.split('<details class="group">')
    assert len(folded) == 2 and folded[1].startswith(
        "<summary>Pythia&#x27;s own numbers: 1 claim, not tested here"
    )
    assert page.count("<details>") == 4  # each has its numbers, script or none


def test_another_model_answers_what_needs_no_training():
    real = CLAIMS.assign(
        measured=["so", NEEDS_CHECKPOINTS, NEEDS_CHECKPOINTS, ""], interval=["71%", "", "", "3"]
    )
    real["verdict"] = ["does not hold", "can't tell", "can't tell", "holds"]
    answers = findings.answers_of_one_checkpoint(real)
    assert answers["claim"].tolist() == ["first", "<b>fourth"]
    assert set(answers["chapter"] + answers["figure"]) == {"real-modelreal-shares"}
    assert findings.real_summary(real, "another") == (
        "One checkpoint of another can answer 2 of these claims: "
        "1 holds, 1 does not hold, and 0 can't be decided. The others need checkpoints along "
        "training."
    )
    assert "nothing was measured" in findings.real_summary(None, "another")


def test_doubles_come_from_the_check_and_from_the_parameters():
    checked = pd.DataFrame(
        {
            "model": ["b", "b", "a"],
            "step": [1, 2, 1],
            "tensors": ["x", "x", "y"],
            "same_as": [2, -1, -1],
        }
    )
    doubles = findings.doubles(checked, {"a": {5: 9, 4: 9}})
    assert doubles.to_numpy().tolist() == [["a", 4, 9], ["a", 5, 9], ["b", 1, 2]]
    assert not len(findings.doubles(checked[checked["same_as"] < 0], {}))
    assert findings.all_are_different(checked, "mini") == (
        "None: the 3 checkpoints of suite mini have 2 different sets of weights."
    )
