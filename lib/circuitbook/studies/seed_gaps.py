"""How much of what a circuit loses in another seed is the numbers of heads.

The *gap* at a target is what its own circuit keeps less what the other seed's keeps under its old
numbers; new numbers close a share of it. That the circuits of seeds are the same under other
numbers needs three things: most of the gap closes, and what is kept is more than rewired circuits,
and circuits of other tasks, keep under numbers that were chosen in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from circuitbook.stats import Verdict, all_of, bootstrap_draws, decide, interval
from circuitbook.studies.relabelling import CIRCUIT, NUMBERS, OTHER_TASK, REWIRED, Relabelled
from circuitbook.tasks.registry import TASKS
from circuitbook.wording import percent

MOST = 0.5  # of the gap
CHOSEN = ("roles", "best")  # numbers that are chosen for the target


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval over pairs of seeds and prompts; nan where there are too few
    pairs.
    """

    value: float
    low: float
    high: float

    def above(self, bound: float) -> Verdict:
        return decide(self.low, self.high, bound)

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        between = "" if np.isnan(self.low) else f" [{percent(self.low)}, {percent(self.high)}]"
        return f"{percent(self.value)}{between}"

    @property
    def points(self) -> str:
        """The same as percentage points, with a sign."""
        value, low, high = (100 * number for number in (self.value, self.low, self.high))
        between = "" if np.isnan(low) else f" [{round(low):+d}, {round(high):+d}]"
        return "–" if np.isnan(value) else f"{round(value):+d} points{between}"


NOTHING = Estimate(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Gap:
    """The gap of a task and what closes it, over all pairs of seeds and in both directions.

    kept: mean faithfulness under each of `NUMBERS`, and of the target's "own". closed: of each of
    `CHOSEN`, the share of the gap. over: {(REWIRED or OTHER_TASK, one of CHOSEN): how much more the
    circuit keeps}, where there are such circuits; against the mean of rewired ones, and against the
    best of other tasks. null: what those keep.
    """

    task: str
    pairs: int
    moves: int  # of a circuit to a target: two for each pair
    rewirable: int  # moves of a circuit that can be rewired
    kept: dict[str, float]
    closed: dict[str, Estimate]
    over: dict[tuple[str, str], Estimate]
    null: dict[tuple[str, str], float]

    def tests(self, numbers: str) -> dict[str, Verdict]:
        """What the three tests say of these numbers."""
        beyond = {what: self.over[what, numbers].above(0) for what in (REWIRED, OTHER_TASK)}
        return {"most": self.closed[numbers].above(MOST)} | beyond

    @property
    def verdict(self) -> Verdict:
        """Whether it is the same circuit under other numbers.

        It is where all tests hold of the numbers by roles, which no search has seen; it is not
        where one fails even of the best numbers.
        """
        by_roles, best = (all_of(self.tests(numbers).values()) for numbers in CHOSEN)
        if best is Verdict.FAILS:
            return Verdict.FAILS
        return Verdict.HOLDS if by_roles is Verdict.HOLDS else Verdict.OPEN


def gaps(results: Sequence[Relabelled]) -> list[Gap]:
    """A `Gap` for each task, in the order of `results`."""
    tasks = sorted({one.task for one in results}, key=list(TASKS).index)
    return [_gap(task, [one for one in results if one.task == task]) for task in tasks]


def _gap(task: str, results: Sequence[Relabelled]) -> Gap:
    moves = list(dict.fromkeys((one.source, one.target) for one in results))
    circuit = _Kept(results, moves, CIRCUIT)
    nulls = {what: _Kept(results, moves, what) for what in (REWIRED, OTHER_TASK)}
    old, own = circuit.under("old"), circuit.under("own")
    closed, over, null = {}, {}, {}
    for numbers in CHOSEN:
        kept = circuit.under(numbers)
        closed[numbers] = _over_pairs(moves, kept - old, own - old)
        for what, others in nulls.items():
            there = others.under(numbers)
            over[what, numbers] = _over_pairs(moves, kept - there)
            null[what, numbers] = _mean(there[0])
    return Gap(
        task=task,
        pairs=len({frozenset(move) for move in moves}),
        moves=len(moves),
        rewirable=int(np.isfinite(nulls[REWIRED].under("best")[0]).sum()),
        kept={name: _mean(circuit.under(name)[0]) for name in (*NUMBERS, "own")},
        closed=closed,
        over=over,
        null=null,
    )


def _mean(values: np.ndarray) -> float:
    """The mean of those that there are."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else np.nan


class _Kept:
    """What circuits of a kind keep at each move (source, target), with resampled prompts."""

    def __init__(
        self, results: Sequence[Relabelled], moves: Sequence[tuple[str, str]], what: str
    ) -> None:
        self.what, self.moves = what, moves
        self.of_move: dict[tuple[str, str], list[Relabelled]] = {move: [] for move in moves}
        for one in results:
            if one.what == what:
                self.of_move[one.source, one.target].append(one)

    def under(self, numbers: str) -> np.ndarray:
        """[1 + draw, move], the first row from all prompts alike; nan where there is no circuit.

        Of several circuits the mean, of other tasks the most.
        """
        columns = []
        for of_move in self.of_move.values():
            kept = [_with_draws(one, numbers) for one in of_move]
            if kept:
                columns.append(np.max(kept, 0) if self.what == OTHER_TASK else np.mean(kept, 0))
            else:
                columns.append(np.full(len(bootstrap_draws(2)) + 1, np.nan))
        return np.stack(columns, 1)


def _with_draws(one: Relabelled, numbers: str) -> np.ndarray:
    """What it keeps, and then what it keeps on resampled prompts."""
    draws = bootstrap_draws(len(one.metric[numbers]))
    return np.concatenate([one.kept(numbers), one.kept(numbers, draws)])


def _over_pairs(
    moves: Sequence[tuple[str, str]], values: np.ndarray, per: np.ndarray | None = None
) -> Estimate:
    """The mean of values [1 + draw, move], or the ratio of two means.

    The interval resamples pairs of seeds, both directions together, and with them the prompts.
    Moves without a value are left out; with fewer than two pairs there is no interval, and nothing
    where the second mean is not above zero beyond doubt.
    """
    there = np.isfinite(values[0])
    pair_of = [frozenset(move) for move, known in zip(moves, there, strict=True) if known]
    values = values[:, there]
    per = np.ones_like(values) if per is None else per[:, there]
    pairs = list(dict.fromkeys(pair_of))
    if not pairs or per[0].sum() <= 0:
        return NOTHING
    value = float(values[0].sum() / per[0].sum())
    if len(pairs) < 2:
        return Estimate(value, np.nan, np.nan)
    # another seed than that of the prompts' draws: the two are independent
    drawn = bootstrap_draws(len(pairs), draws=len(values) - 1, seed=1)
    weights = drawn[:, [pairs.index(pair) for pair in pair_of]]
    below = (weights * per[1:]).sum(1)
    if interval(below)[0] <= 0:
        return NOTHING
    low, high = interval((weights * values[1:]).sum(1) / below)
    return Estimate(value, float(low), float(high))
