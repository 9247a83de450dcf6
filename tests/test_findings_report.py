"""What the replication report shows of its claims and checkpoints."""

import pandas as pd

from circuitbook.stats import Verdict
from circuitbook.studies.claims.report import NEEDS_CHECKPOINTS
from circuitbook.studies.findings import report as findings

CLAIMS = pd.DataFrame(
    [
        ("first", "Figure 1", "/notebooks/abilities", "holds", "1.2"),
        ("second", "Figure 2", "/notebooks/after-formation", "can't tell", "Pythia's own tokens"),
        ("third", "Figure 3", "/notebooks/abilities", "can't tell", "too few sizes"),
        ("fourth", "Figure 4", "/notebooks/abilities", "holds", "Pythia's own heads"),
    ],
    columns=["claim", "source", "chapter", "answer", "measured"],
)


def test_every_answer_has_a_mark_and_a_verb():
    assert set(findings.MARKS) == set(findings.COUNTED) == {str(v) for v in Verdict}
    assert tuple(findings.COUNTED) == tuple(
        str(v) for v in Verdict
    )  # the order in which they are counted


def test_the_summary_counts():
    text = findings.summary(CLAIMS, "mini", "robust", ["a", "b"])
    assert text == (
        "**Suite mini**, recipe robust, models a, b: of 4 claims, 2 hold, 0 do not hold, "
        "2 cannot be told (1 of these are about Pythia's own models)."
    )
    text = findings.summary(CLAIMS.iloc[[0, 2]], "mini", "paper", ["a"])
    assert text.endswith("of 2 claims, 1 hold, 0 do not hold, 1 cannot be told.")
    assert findings.as_html("**A**, b **c**") == "<p><strong>A</strong>, b <strong>c</strong></p>"


def test_the_table_has_marks_and_links():
    table = findings.claims_table(CLAIMS)
    assert list(table) == ["claim", "here", "measured", "tested in", "in the paper"]
    assert table.loc[1].tolist() == [
        "second",
        "? can't tell",
        "Pythia's own tokens",
        '<a href="after-formation.html">after formation</a>',
        "Figure 2",
    ]


def test_another_model_has_a_column_of_its_own():
    real = CLAIMS.assign(measured=["71 %", NEEDS_CHECKPOINTS, NEEDS_CHECKPOINTS, "3 heads"])
    real["answer"] = ["does not hold", "can't tell", "can't tell", "holds"]
    table = findings.claims_table(CLAIMS, real, "another")
    assert list(table) == ["claim", "here", "measured", "another", "tested in", "in the paper"]
    assert table["another"].tolist() == [
        "✗ does not hold: 71 %",
        NEEDS_CHECKPOINTS,
        NEEDS_CHECKPOINTS,
        "✓ holds: 3 heads",
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
