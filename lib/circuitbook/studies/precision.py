"""What a narrow dtype does to the results: the same measurements again, beside those in float32.

low = measure_in(torch.bfloat16, suite, models, tasks, store, steps=steps)
against(found, low)                     # a row per checkpoint and task: scores, circuits
heads_against(heads, low_heads)         # a row per score of heads
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.similarity import jaccard
from circuitbook.store.disk import Store
from circuitbook.studies.circuit_tables import grouped
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.head_scores import SCORE_KINDS, HeadScores
from circuitbook.suites.suite import Suite


def measure_in(
    dtype: torch.dtype,
    suite: Suite,
    models: Sequence[str],
    tasks: Sequence[str],
    store: Store,
    recipe: str = "robust",
    steps: Mapping[str, Sequence[int]] | None = None,
    device: str = "cpu",
) -> tuple[list[CircuitResult], list[str]]:
    """The circuits in a dtype, and what could not be measured in it: sentences that name checkpoint, prompt and layer."""
    found, failed = [], []
    for name in models:
        for step in (steps or {}).get(name, suite.steps(name)):
            for task in tasks:
                try:
                    found += measure_circuits(
                        suite,
                        [name],
                        [task],
                        store,
                        recipe,
                        {name: (step,)},
                        device=device,
                        dtype=dtype,
                        progress=False,
                    )
                except FloatingPointError as error:
                    failed.append(str(error))
    return found, failed


def against(reference: Sequence[CircuitResult], found: Sequence[CircuitResult]) -> pd.DataFrame:
    """Each circuit of `found` beside the reference's of the same checkpoint and task, where both have one.

    Columns model, step, task; `correlation` of the scores of all edges; `largest` difference of a score, over the largest score;
    `edges`, the Jaccard similarity of the two circuits; `ratio` of their sizes; `before` and `before_reference`, each one's Jaccard
    similarity with its own circuit at the checkpoint before (nan at the first).
    """
    rows, chains = [], grouped(reference)
    for place, low in grouped(found).items():
        fine = {one.step: one for one in chains.get(place, ()) if one.circuit.found}
        low = [one for one in low if one.circuit.found and one.step in fine]
        for i, one in enumerate(low):
            mask, own = one.circuit.graph.mask, fine[one.step]
            a, b = (np.asarray(each.circuit.scores, dtype=float)[mask] for each in (own, one))
            last = low[i - 1] if i else None
            rows.append(
                {
                    "model": one.model,
                    "step": one.step,
                    "task": one.task,
                    "correlation": float(np.corrcoef(a, b)[0, 1]),
                    "largest": float(np.abs(a - b).max() / np.abs(a).max()),
                    "edges": jaccard(own.circuit.mask, one.circuit.mask),
                    "ratio": one.circuit.n_edges / own.circuit.n_edges,
                    "before": jaccard(last.circuit.mask, one.circuit.mask)
                    if last
                    else float("nan"),
                    "before_reference": jaccard(fine[last.step].circuit.mask, own.circuit.mask)
                    if last
                    else float("nan"),
                }
            )
    return pd.DataFrame(
        rows,
        columns=[
            "model",
            "step",
            "task",
            "correlation",
            "largest",
            "edges",
            "ratio",
            "before",
            "before_reference",
        ],
    )


def decided_alike(
    reference: Sequence[CircuitResult], found: Sequence[CircuitResult]
) -> tuple[int, int]:
    """(checkpoints and tasks where both have a circuit or both have none, all that both have looked at)."""
    theirs = {(one.model, one.step, one.task): one.circuit.found for one in reference}
    both = [
        theirs[key] == one.circuit.found
        for one in found
        if (key := (one.model, one.step, one.task)) in theirs
    ]
    return sum(both), len(both)


def heads_against(reference: Sequence[HeadScores], found: Sequence[HeadScores]) -> pd.DataFrame:
    """A row per kind of score: `largest` difference of a head's score at any checkpoint, the `mean` difference, and the `range` of
    the reference's scores."""
    rows = []
    theirs = {(one.model, one.step): one for one in reference}
    for kind in (*SCORE_KINDS, "direct"):
        pairs = [
            (theirs[key].score(kind), one.score(kind))
            for one in found
            if (key := (one.model, one.step)) in theirs
        ]
        if kind == "direct":  # a share of an effect that is there only where the task is done
            pairs = [
                pair for pair, one in zip(pairs, found) if theirs[one.model, one.step].does_ioi
            ]
        if (
            pairs
            and np.isfinite(values := np.concatenate([np.stack(pair) for pair in pairs], 1)).all()
        ):
            difference = np.abs(values[0] - values[1])
            rows.append(
                {
                    "score": kind,
                    "largest": difference.max(),
                    "mean": difference.mean(),
                    "range": np.ptp(values[0]),
                }
            )
    return pd.DataFrame(rows, columns=["score", "largest", "mean", "range"])
