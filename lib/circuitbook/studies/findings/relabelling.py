"""Whether another seed's circuit is the same one under other numbers of heads, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.stats import Verdict
from circuitbook.studies.relabelling import CIRCUIT, OTHER_TASK, REWIRED, Relabelled
from circuitbook.studies.seed_gaps import CHOSEN, Gap
from circuitbook.wording import TASK_SHORT, counted, in_markdown, percent

NO_SEEDS = "There are no two seeds of one size with circuits of the same task."
STANDS = {
    Verdict.HOLDS: "stands",
    Verdict.FAILS: "does not stand",
    Verdict.OPEN: "can't tell",
}
TESTS = {
    "most": "More than half of the gap closes",
    REWIRED: "More is kept than of rewired circuits",
    OTHER_TASK: "More is kept than of other tasks' circuits",
}


def same_circuit(found: Sequence[Gap]) -> str:
    """The finding in a sentence: for which tasks it stands, for which not, with the shares."""
    if not found:
        return NO_SEEDS
    parts = []
    for verdict, word in STANDS.items():
        of_verdict = [
            f"{TASK_SHORT.get(gap.task, gap.task)} ({gap.closed['roles']}, at best "
            f"{gap.closed['best']})"
            for gap in found
            if gap.verdict is verdict
        ]
        if of_verdict:
            parts.append(f"**{word}**: {'; '.join(of_verdict)}")
    return (
        "*Another seed's circuit is the same circuit under other numbers of heads.* "
        + ". ".join(parts)
        + ". In brackets: the share of the gap to the target's own circuit that closes if heads "
        "are matched by their measured roles, and under the best numbers that a search finds; 95 % "
        "over pairs of seeds and prompts."
    )


def why(found: Sequence[Gap]) -> list[str]:
    """For each task, what the three tests say of the numbers by roles and of the best ones."""
    return [f"**{TASK_SHORT.get(gap.task, gap.task)}.** {_tests(gap)}." for gap in found]


def _tests(gap: Gap) -> str:
    by_roles, best = (gap.tests(numbers) for numbers in CHOSEN)
    said = []
    for test, title in TESTS.items():
        if test == REWIRED and not gap.rewirable:
            said.append("No circuit has another wiring with the same degrees to compare with")
            continue
        found = (
            [str(gap.closed[numbers]) for numbers in CHOSEN]
            if test == "most"
            else [gap.over[test, numbers].points for numbers in CHOSEN]
        )
        of_moves = f" ({gap.rewirable} of {gap.moves} moves)" if test == REWIRED else ""
        said.append(
            f"{title}{of_moves}: {by_roles[test]} by roles, {found[0]}; "
            f"{best[test]} at best, {found[1]}"
        )
    return ". ".join(said)


def few_pairs(found: Sequence[Gap]) -> str:
    """On how many pairs all this rests."""
    most = max((gap.pairs for gap in found), default=0)
    return (
        f"All this rests on {counted(most, 'pair')} of seeds, so that an interval reaches about "
        "from the lowest pair to the highest."
    )


def everywhere(found: Sequence[Gap], task: str) -> str:
    """What the search closes of a task's gap over all pairs, on prompts it has not seen."""
    of_task = [gap for gap in found if gap.task == task]
    if not of_task:
        return NO_SEEDS
    closed = of_task[0].closed["best"]
    return (
        f"Over all pairs of seeds ({of_task[0].pairs}), in both directions and on prompts that the "
        f"search has not seen, the best order closes {closed} of the gap."
    )


def directions(results: Sequence[Relabelled]) -> str:
    """The pair of circuits whose two directions differ most under the best numbers."""
    kept = {
        (one.task, one.source, one.target): (float(one.kept("best")[0]), one.edges)
        for one in results
        if one.what == CIRCUIT
    }
    both = [(move, (move[0], move[2], move[1])) for move in kept]
    both = [(there, back) for there, back in both if back in kept and kept[there] > kept[back]]
    if not both:
        return ""
    there, back = max(both, key=lambda two: kept[two[0]][0] - kept[two[1]][0])
    task, source, target = there
    (kept_there, edges_there), (kept_back, edges_back) = kept[there], kept[back]
    a, b = in_markdown(source), in_markdown(target)
    return (
        f"The directions of a pair can differ. Most they do in {TASK_SHORT.get(task, task)}: the "
        f"circuit of {a} ({edges_there} edges) keeps {percent(kept_there)} in {b} under its best "
        f"numbers, that of {b} ({edges_back} edges) {percent(kept_back)} in {a}."
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
                "task": TASK_SHORT.get(gap.task, gap.task),
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
