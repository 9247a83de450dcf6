"""What stays of a circuit over training: tables of sizes, survival and edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.circuits.similarity import jaccard
from circuitbook.studies.circuits import CircuitResult

# ------------------------------------------------------------------ what stays


def table(found: Sequence[CircuitResult]) -> pd.DataFrame:
    """One row per model, checkpoint and task: see `Found.row`. Sizes are nan where there is no
    circuit.
    """
    return pd.DataFrame([one.row for one in found])


def survival(found: Sequence[CircuitResult]) -> pd.DataFrame:
    """How circuits of one model and task hang together over training; one row per checkpoint with a
    circuit.

    Columns: model, task, step, tokens_seen, before (tokens of the checkpoint before with a circuit,
    nan at the first), kept (share of its edges that are still there), jaccard with it; of_last and
    jaccard_last: share of the last circuit's edges that are there already, and the Jaccard
    similarity with it.
    """
    rows = []
    for (model, task), group in grouped(found).items():
        last, previous = group[-1], None
        for one in group:
            mask = one.circuit.mask
            row = {
                "model": model,
                "task": task,
                "step": one.step,
                "tokens_seen": one.tokens_seen,
                "before": np.nan,
                "kept": np.nan,
                "jaccard": np.nan,
                "of_last": (mask & last.circuit.mask).sum() / last.circuit.n_edges,
                "jaccard_last": jaccard(mask, last.circuit.mask),
            }
            if previous is not None:
                row |= {
                    "before": previous.tokens_seen,
                    "jaccard": jaccard(mask, previous.circuit.mask),
                    "kept": (mask & previous.circuit.mask).sum() / previous.circuit.n_edges,
                }
            rows.append(row)
            previous = one
    return pd.DataFrame(
        rows,
        columns=[
            "model",
            "task",
            "step",
            "tokens_seen",
            "before",
            "kept",
            "jaccard",
            "of_last",
            "jaccard_last",
        ],
    )


def edge_history(found: Sequence[CircuitResult], model: str, task: str) -> pd.DataFrame:
    """Edges that were ever in the circuit of one model and task: index edge name, columns tokens
    seen, bool.

    In the order in which they come in, then of how long they stay. Checkpoints without a circuit
    are columns of False.
    """
    of = [one for one in found if (one.model, one.task) == (model, task)]
    if not of:
        raise ValueError(f"there is nothing measured of {model} and {task}")
    ever = np.argwhere(np.any([one.circuit.mask for one in of], axis=0))
    present = np.array([one.circuit.mask[tuple(ever.T)] for one in of]).T.reshape(
        len(ever), len(of)
    )
    order = sorted(
        range(len(ever)), key=lambda i: (int(present[i].argmax()), -int(present[i].sum()), i)
    )
    names = [of[0].circuit.graph.edge_name(*ever[i]) for i in order]
    return pd.DataFrame(present[order], index=names, columns=[one.tokens_seen for one in of])


def grouped(found: Sequence[CircuitResult]) -> dict[tuple[str, str], list[CircuitResult]]:
    """What has a circuit, by model and task, in the order of training."""
    groups: dict[tuple[str, str], list[CircuitResult]] = {}
    for one in found:
        if one.circuit.found:
            groups.setdefault((one.model, one.task), []).append(one)
    return groups
