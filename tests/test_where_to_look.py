"""Which checkpoints to measure: by hand, and where a change has one place."""

import pandas as pd
import pytest
from histories import result

from circuitbook.studies.findings.where_to_look import choice_in_words
from circuitbook.studies.where_to_look import (
    bisected,
    circuit_change,
    compared,
    evenly,
    missed,
    next_steps,
)

A, B, C = "input->m0", "m0->logits", "m1->logits"


def jump(at):
    """A circuit that changes altogether at one step."""
    return lambda a, b: float((a < at) != (b < at))


def test_the_ends_come_first_then_the_stretch_that_changed():
    steps = list(range(0, 90, 10))
    assert next_steps(steps, [], jump(35), 1) == [80]
    assert next_steps(steps, [], jump(35), 5) == [80, 0]
    assert next_steps(steps, [0, 80], jump(35), 1) == [40]
    assert next_steps(steps, [0, 40, 80], jump(35), 1) == [20]
    assert next_steps(steps, [0, 20, 40, 80], jump(35), 1) == [30]
    assert sorted(next_steps(steps, [0, 40, 80], jump(35), 3)) == [10, 20, 30]
    assert next_steps(steps, steps, jump(35), 3) == []
    with pytest.raises(ValueError, match="step 5 is measured"):
        next_steps(steps, [5], jump(35), 1)


def test_one_change_among_many_checkpoints_is_found_by_few():
    steps = list(range(154))
    for at in (3, 60, 151):
        chosen = bisected(steps, jump(at), 12)
        assert {at - 1, at} <= set(chosen) and missed(steps, chosen, jump(at)) == 0
    assert missed(steps, evenly(steps, 12), jump(60)) > 0


def test_what_is_missed_is_what_the_nearest_measured_one_before_tells():
    circuits = [
        result(step, edges) for step, edges in ((0, None), (1, [A]), (2, [A, B]), (4, [B, C]))
    ]
    change = circuit_change(circuits)
    assert (change(0, 1), change(1, 2), change(2, 4), change(1, 4)) == (
        1,
        0.5,
        pytest.approx(2 / 3),
        1,
    )
    assert change(0, 0) == 0
    assert missed([0, 1, 2, 4], [0, 4], change) == pytest.approx((0 + 1 + 1 + 0) / 4)
    assert missed([0, 1, 2, 4], [1, 4], change) == pytest.approx((1 + 0 + 0.5 + 0) / 4)


def test_compared_with_all_the_best_is_never_worse():
    circuits = [
        result(step, edges, model=model)
        for model in ("a", "b")
        for step, edges in enumerate([None, None, [A], [A, B], [A, B], [B], [B, C], [B, C]])
    ] + [result(1, [A], model="short")]
    table = compared(circuits, 4)
    assert table["model"].tolist() == ["a", "b"] and (table["checkpoints"] == 8).all()
    assert (table["best"] <= table[["bisection", "even"]].min(axis=1)).all()
    for row in table.itertuples():
        change = circuit_change([one for one in circuits if one.model == row.model])
        assert len(row.chosen) == 4 and row.bisection == missed(range(8), row.chosen, change)
    assert compared(circuits, 8).empty


@pytest.mark.parametrize(
    ("bisection", "says"),
    [(0.1, "It pays"), (0.3, "It does not pay"), (None, "Here we see no difference")],
)
def test_whether_it_pays_is_asked_of_all_runs(bisection, says):
    even = [0.2, 0.21, 0.19, 0.2]
    mixed = [0.1, 0.3, 0.12, 0.29]
    table = pd.DataFrame(
        {"even": even, "bisection": mixed if bisection is None else [bisection] * 4, "best": 0.05}
    )
    said = choice_in_words(table, 5)
    assert said.startswith(f"**{says}") and "by 0.20; chosen by one" in said
    assert choice_in_words(table.iloc[:0], 5) == ""
    assert choice_in_words(table.iloc[:1], 5).startswith("**Here we see no difference")
