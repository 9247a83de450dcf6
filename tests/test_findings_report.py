"""What the replication report shows of its claims and checkpoints."""

import pandas as pd

from circuitbook.stats import Verdict
from circuitbook.studies.claims.report import NEEDS_CHECKPOINTS
from circuitbook.studies.findings import report as findings

CLAIMS = pd.DataFrame(
    [
        ("first", "abilities", True, "1.2 [1.1, 1.3]", "but 3", "holds", "holds"),
        ("second", "after-formation", False, "", "Pythia's tokens", "can't tell", "can't tell"),
        ("third", "abilities", True, "0.1 [-1, 1]", "", "can't tell", "can't tell"),
        ("fourth", "abilities", True, "2 [1, 3]", "", "holds", "can't tell"),
    ],
    columns=["claim", "chapter", "asked", "interval", "measured", "verdict", "corrected"],
).assign(statistic="a ratio", bound="2", words="they say", source="Figure 1", null="no ratio")
CLAIMS["chapter"] = "/notebooks/" + CLAIMS["chapter"]
CLAIMS["about_pythia"] = [False, True, False, True]  # the fourth was asked


def test_every_answer_has_a_mark_and_a_verb():
    assert set(findings.MARKS) == set(findings.COUNTED) == {str(v) for v in Verdict}
    assert tuple(findings.COUNTED) == tuple(
        str(v) for v in Verdict
    )  # the order in which they are counted


def test_the_summary_counts_before_and_after_the_correction():
    text = findings.summary(CLAIMS, "mini", "robust", ["a", "b"])
    assert text == (
        "**Suite mini**, recipe robust, models a, b: of 4 claims, 2 hold, 0 do not hold, "
        "2 cannot be told (1 of these are about Pythia's own models). 3 claims have evidence for "
        "or against them here. Asked all at once (Holm's correction, 5 % for one wrong verdict or "
        "more), of these 1 hold, 0 do not hold, 2 cannot be told."
    )
    text = findings.summary(CLAIMS.iloc[[0, 2]], "mini", "paper", ["a"])
    assert "of 2 claims, 1 hold, 0 do not hold, 1 cannot be told. 2 claims" in text
    assert findings.as_html("**A**, b **c**") == "<p><strong>A</strong>, b <strong>c</strong></p>"


def test_the_table_has_marks_and_links():
    table = findings.claims_table(CLAIMS)
    measured = "measured [95 %]"
    assert list(table) == [
        *("claim", "statistic", measured, "bound", "here", "asked with all", "tested in")
    ]
    assert table.loc[1].tolist() == [
        *("second", "a ratio", "Pythia's tokens", "2", "? can't tell", ""),
        '<a href="after-formation.html">after formation</a>',
    ]
    assert table[measured][0] == "1.2 [1.1, 1.3]"
    assert table["asked with all"][3] == "? can't tell"
    words = findings.words_table(CLAIMS)
    assert words.loc[0].tolist() == ["first", "they say (Figure 1)", "no ratio", "but 3"]
    assert words.loc[1, "measured besides"] == ""  # it stands in the first table


def test_another_model_has_a_table_of_its_own():
    real = CLAIMS.assign(
        measured=["so", NEEDS_CHECKPOINTS, NEEDS_CHECKPOINTS, ""], interval=["71 %", "", "", "3"]
    )
    real["verdict"] = ["does not hold", "can't tell", "can't tell", "holds"]
    table = findings.real_table(real)
    assert table.to_numpy().tolist() == [
        ["first", "71 %. so", "2", "✗ does not hold"],
        ["fourth", "3", "2", "✓ holds"],
    ]
    assert findings.real_summary(real, "another") == (
        "One checkpoint of another can answer 2 of these claims: "
        "1 hold, 1 do not hold, 0 cannot be told. The others need checkpoints along training."
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
