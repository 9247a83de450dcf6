"""Where to look: which checkpoints to measure, so that few of them tell what all would.

A run of training may have 154 checkpoints, and a circuit costs minutes in a large model. Between
two checkpoints with much the same circuit there is little to be found. So: measure the ends, then
again and again the middle of the stretch over which the circuit changed most.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np
import pandas as pd

from circuitbook.circuits.similarity import jaccard
from circuitbook.studies.circuits import CircuitResult

Change = Callable[[int, int], float]
"""Of two steps that are both measured: how far the circuits are apart, from 0 to 1."""


def next_steps(steps: Sequence[int], measured: Iterable[int], change: Change, n: int) -> list[int]:
    """The n steps to measure next, the most telling first; fewer where no more are left.

    steps: all that there are, ascending; measured: those of them that are. The stretch between
    neighbours that are measured counts the change over it, shared out over the steps within; each
    choice halves a stretch, by the number of steps in it. Without two measured steps, the ends come
    first. ValueError if something is measured that is no step.
    """
    known = sorted(set(measured))
    if strange := [step for step in known if step not in set(steps)]:
        raise ValueError(f"step {strange[0]} is measured, but it is none of the steps given")
    chosen = [step for step in dict.fromkeys((steps[-1], steps[0])) if step not in known][:n]
    stretches = [
        (change(a, b), a, b) for a, b in itertools.pairwise(known) if not chosen
    ]  # with an end missing there is nothing to halve yet
    while len(chosen) < n:
        open_ones = [(size, a, b) for size, a, b in stretches if _between(steps, a, b)]
        if not open_ones:
            break
        size, a, b = max(open_ones, key=lambda one: one[0] * len(_between(steps, one[1], one[2])))
        inside = _between(steps, a, b)
        middle = inside[(len(inside) - 1) // 2]
        chosen.append(middle)
        stretches.remove((size, a, b))
        stretches += [(size / 2, a, middle), (size / 2, middle, b)]
    return chosen


def bisected(steps: Sequence[int], change: Change, n: int) -> list[int]:
    """The n steps that a run of `next_steps`, one at a time, measures; ascending."""
    measured: list[int] = []
    while len(measured) < n and (chosen := next_steps(steps, measured, change, 1)):
        measured += chosen
    return sorted(measured)


def evenly(steps: Sequence[int], n: int) -> list[int]:
    """n of the steps, evenly spread over their order, the ends among them; ascending."""
    places = np.linspace(0, len(steps) - 1, min(n, len(steps))).round().astype(int)
    return [steps[place] for place in sorted(set(places.tolist()))]


def _between(steps: Sequence[int], a: int, b: int) -> list[int]:
    return [step for step in steps if a < step < b]


# ------------------------------------------------------------------ what is missed


def circuit_change(circuits: Sequence[CircuitResult]) -> Change:
    """Between two steps of one model: 1 - Jaccard of the circuits' edges, mean over the tasks.

    0 where neither step has a circuit of a task, 1 where one has.
    """
    masks: dict[int, dict[str, np.ndarray | None]] = {}
    for result in circuits:
        found = result.circuit.mask if result.circuit.found else None
        masks.setdefault(result.step, {})[result.task] = found

    @cache
    def change(a: int, b: int) -> float:
        apart = []
        for task in masks[a].keys() & masks[b].keys():
            one, other = masks[a][task], masks[b][task]
            if one is None or other is None:
                apart.append(float(one is not other))
            else:
                apart.append(1 - jaccard(one, other))
        return float(np.mean(apart))

    return change


def missed(steps: Sequence[int], measured: Sequence[int], change: Change) -> float:
    """How far the circuit at a step is from that at the nearest measured one before it, mean over
    all steps (those that are measured count 0); before the first, from the first.
    """
    total = 0.0
    for step in steps:
        before = [one for one in measured if one <= step]
        total += change(before[-1] if before else measured[0], step)
    return total / len(steps)


def compared(circuits: Sequence[CircuitResult], n: int) -> pd.DataFrame:
    """What n checkpoints miss of the full sweep, a row per model that was measured at more.

    Columns: model, checkpoints; bisection, even: `missed` with steps chosen so; best: with those
    that one would choose who knew all; chosen: the steps of the bisection.
    """
    rows = []
    for model in dict.fromkeys(result.model for result in circuits):
        own = [result for result in circuits if result.model == model]
        steps = sorted({result.step for result in own})
        if len(steps) <= n:
            continue
        change = circuit_change(own)
        chosen = bisected(steps, change, n)
        rows.append(
            {
                "model": model,
                "checkpoints": len(steps),
                "bisection": missed(steps, chosen, change),
                "even": missed(steps, evenly(steps, n), change),
                "best": min(missed(steps, s, change) for s in itertools.combinations(steps, n)),
                "chosen": chosen,
            }
        )
    return pd.DataFrame(
        rows, columns=["model", "checkpoints", "bisection", "even", "best", "chosen"]
    )
