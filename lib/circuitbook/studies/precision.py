"""What a narrow dtype does to the results: the same measurements again, beside those in float32.

low, failed = measure_in(torch.bfloat16, suite, models, tasks, store, steps=steps)
against(circuits, low)                  # a row per checkpoint and task: scores, circuits
heads_against(heads, low_heads)         # a row per score of heads
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.similarity import jaccard
from circuitbook.recipes import Recipe
from circuitbook.store import Store
from circuitbook.studies.circuit_tables import grouped
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.head_scores import SCORE_KINDS, HeadScores, measure_heads
from circuitbook.studies.measurement import Steps, places_of
from circuitbook.suites import Suite

AGAINST_COLUMNS = [
    *("model", "step", "task", "correlation", "largest", "edges", "ratio"),
    *("before", "before_reference"),
]
SCORE_COLUMNS = ["score", "largest", "mean", "range"]


def every_second(steps: Steps) -> dict[str, tuple[int, ...]]:
    """Every second step of each model, and the last.

    >>> every_second({"m": (0, 1, 2, 3)})
    {'m': (0, 2, 3)}
    """
    return {model: tuple(sorted({*every[::2], every[-1]})) for model, every in steps.items()}


def measure_in(
    dtype: torch.dtype,
    suite: Suite,
    models: Sequence[str],
    tasks: Sequence[str],
    store: Store,
    recipe: Recipe | str = "robust",
    steps: Steps | None = None,
    *,
    device: str = "cpu",
) -> tuple[list[CircuitResult], list[str]]:
    """The circuits in a dtype, and what could not be measured in it: sentences that name
    checkpoint, prompt and layer.
    """
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": False}
    measured, failures = [], []
    for model, step in places_of(suite, models, steps):
        for task in tasks:
            at = {model: (step,)}
            try:
                measured += measure_circuits(suite, [model], [task], store, recipe, at, **where)
            except FloatingPointError as error:
                failures.append(str(error))
    return measured, failures


def measure_heads_in(
    dtype: torch.dtype,
    suite: Suite,
    models: Sequence[str],
    store: Store,
    recipe: Recipe | str = "robust",
    steps: Steps | None = None,
    *,
    device: str = "cpu",
) -> tuple[list[HeadScores], str]:
    """The scores of heads in a dtype, or none and a sentence that says where they overflowed."""
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": False}
    try:
        return measure_heads(suite, models, store, recipe, steps, **where), ""
    except FloatingPointError as error:
        return [], str(error)


def against(reference: Sequence[CircuitResult], circuits: Sequence[CircuitResult]) -> pd.DataFrame:
    """Each of `circuits` beside the reference's of the same checkpoint and task, where both have
    one.

    Columns model, step, task; `correlation` of the scores of all edges; `largest` difference of a
    score, over the largest score; `edges`, the Jaccard similarity of the two circuits; `ratio` of
    their sizes; `before` and `before_reference`, each one's Jaccard similarity with its own circuit
    at the checkpoint before (nan at the first).
    """
    rows, references = [], grouped(reference)
    for place, group in grouped(circuits).items():
        fine = {result.step: result for result in references.get(place, ())}
        both = [(result, fine[result.step]) for result in group if result.step in fine]
        for before, (result, own) in zip([None, *both], both, strict=False):
            mask = result.circuit.graph.mask
            scores, rough = (
                np.asarray(measured.circuit.scores, dtype=float)[mask] for measured in (own, result)
            )
            row = {"model": result.model, "step": result.step, "task": result.task}
            row["correlation"] = float(np.corrcoef(scores, rough)[0, 1])
            row["largest"] = float(np.abs(scores - rough).max() / np.abs(scores).max())
            row["edges"] = jaccard(own.circuit.mask, result.circuit.mask)
            row["ratio"] = result.circuit.n_edges / own.circuit.n_edges
            if before is not None:
                last, last_own = before
                row["before"] = jaccard(last.circuit.mask, result.circuit.mask)
                row["before_reference"] = jaccard(last_own.circuit.mask, own.circuit.mask)
            rows.append(row)
    return pd.DataFrame(rows, columns=AGAINST_COLUMNS)


def decided_alike(
    reference: Sequence[CircuitResult], circuits: Sequence[CircuitResult]
) -> tuple[int, int]:
    """(checkpoints and tasks where both have a circuit or both have none, all that both have looked
    at).
    """
    found = {(r.model, r.step, r.task): r.circuit.found for r in reference}
    places = [(result.model, result.step, result.task) for result in circuits]
    alike = [
        found[place] == result.circuit.found
        for place, result in zip(places, circuits, strict=True)
        if place in found
    ]
    return sum(alike), len(alike)


def heads_against(
    reference: Sequence[HeadScores], head_scores: Sequence[HeadScores]
) -> pd.DataFrame:
    """A row per kind of score: `largest` difference of a head's score at any checkpoint, the `mean`
    difference, and the `range` of the reference's scores.
    """
    fine = {(at.model, at.step): at for at in reference}
    pairs = [(fine[at.model, at.step], at) for at in head_scores if (at.model, at.step) in fine]
    rows = []
    for kind in (*SCORE_KINDS, "direct"):
        # "direct" is a share of an effect that is there only where the task is done
        compared = [(own, low) for own, low in pairs if kind != "direct" or own.able]
        if not compared:
            continue
        own = np.concatenate([scores.score(kind) for scores, _ in compared])
        low = np.concatenate([scores.score(kind) for _, scores in compared])
        if np.isfinite(own).all() and np.isfinite(low).all():
            difference = np.abs(own - low)
            rows.append((kind, difference.max(), difference.mean(), np.ptp(own)))
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)
