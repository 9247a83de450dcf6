"""Whether another seed's circuit is the same one under other numbers of heads, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.stats import Verdict
from circuitbook.studies.relabelling import OTHER_TASK, REWIRED
from circuitbook.studies.seed_gaps import CHOSEN, Gap
from circuitbook.wording import TASK_SHORT, capitalised, counted, percent

NO_SEEDS = "There are no two seeds of one size with circuits of the same task."
STANDS = {
    Verdict.HOLDS: "stands",
    Verdict.FAILS: "does not stand",
    Verdict.OPEN: "can't tell",
}
TESTS = {
    "most": "more than half of the gap closes",
    REWIRED: "more is kept than of rewired circuits",
    OTHER_TASK: "more is kept than of other tasks' circuits",
}


def same_circuit(found: Sequence[Gap]) -> str:
    """The finding in a sentence: for which tasks it stands, for which it does not."""
    if not found:
        return NO_SEEDS
    words = {Verdict.HOLDS: "yes for", Verdict.FAILS: "no for", Verdict.OPEN: "we can't tell for"}
    parts = []
    for verdict, word in words.items():
        tasks = [TASK_SHORT[gap.task] for gap in found if gap.verdict is verdict]
        if tasks:
            parts.append(f"{word} {' and '.join(tasks)}")
    said = "; ".join(parts)
    return (
        "**Is another seed's circuit the same one under other numbers? "
        f"{capitalised(said)}.** {closed_most(found)}"
    )


def closed_most(found: Sequence[Gap]) -> str:
    """For which task the roles of heads close most of the gap, and how much."""
    measured = [gap for gap in found if not np.isnan(gap.closed["roles"].value)]
    if not measured:
        return ""
    most = max(measured, key=lambda gap: gap.closed["roles"].value)
    return (
        f"Matching heads by their roles closes most in {TASK_SHORT[most.task]}, "
        f"{most.closed['roles']} of the gap (95% over pairs of seeds and prompts)."
    )


def three_tests(found: Sequence[Gap]) -> pd.DataFrame:
    """A row for each task and test, in words: what the numbers by roles and the best ones give."""
    rows = []
    for gap in found:
        verdicts = {numbers: gap.tests(numbers) for numbers in CHOSEN}
        for test, title in TESTS.items():
            row = {"task": TASK_SHORT[gap.task], "test": title}
            for numbers in CHOSEN:
                if test == "most":
                    size = str(gap.closed[numbers])
                elif test == REWIRED and not gap.rewirable:
                    row[numbers] = "no circuit can be rewired"
                    continue
                else:
                    size = gap.over[test, numbers].points
                row[numbers] = f"{verdicts[numbers][test]}, {size}"
            if test == REWIRED and 0 < gap.rewirable < gap.moves:
                row["test"] += f" ({gap.rewirable} of {gap.moves} moves)"
            rows.append(row)
    return pd.DataFrame(rows).rename(columns={"roles": "by roles"})


def few_pairs(found: Sequence[Gap]) -> str:
    """On how many pairs all this rests."""
    most = max((gap.pairs for gap in found), default=0)
    return (
        f"All this rests on {counted(most, 'pair')} of seeds: an interval reaches about from the "
        "lowest pair to the highest."
    )


def everywhere(found: Sequence[Gap], task: str) -> str:
    """What the search closes of a task's gap over all pairs, on prompts it has not seen."""
    of_task = [gap for gap in found if gap.task == task]
    if not of_task:
        return NO_SEEDS
    closed = of_task[0].closed["best"]
    return (
        f"Over all pairs of seeds ({of_task[0].pairs}), in both directions and on prompts that the "
        f"search has not seen, the best numbers close {closed} of the gap."
    )


def gap_table(found: Sequence[Gap]) -> pd.DataFrame:
    """A row for each task, in words: what circuits keep in another seed under which numbers."""
    rows = []
    for gap in found:
        kept = {name: percent(value) for name, value in gap.kept.items()}
        nulls = {
            what: "–" if np.isnan(gap.null[what, "best"]) else percent(gap.null[what, "best"])
            for what in (REWIRED, OTHER_TASK)
        }
        rows.append(
            {
                "task": TASK_SHORT[gap.task],
                "old numbers": kept["old"],
                "random": kept["random"],
                "by roles": kept["roles"],
                "best": kept["best"],
                "target's own": kept["own"],
                "rewired, best": nulls[REWIRED],
                "other tasks, best": nulls[OTHER_TASK],
                "same circuit": STANDS[gap.verdict],
            }
        )
    return pd.DataFrame(rows)
