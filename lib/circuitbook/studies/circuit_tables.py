"""What stays of a circuit over training: tables of sizes, survival and edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.circuits.similarity import jaccard
from circuitbook.studies.circuits import CircuitResult

SURVIVAL_COLUMNS = [
    *("model", "task", "step", "tokens_seen", "before", "kept", "jaccard"),
    *("of_last", "jaccard_last"),
]


def table(circuits: Sequence[CircuitResult]) -> pd.DataFrame:
    """One row per model, checkpoint and task: see `CircuitResult.row`. Sizes are nan where there is
    no circuit.
    """
    return pd.DataFrame([result.row for result in circuits])


def grouped(circuits: Sequence[CircuitResult]) -> dict[tuple[str, str], list[CircuitResult]]:
    """The results with a circuit, by model and task, in the order of training."""
    groups: dict[tuple[str, str], list[CircuitResult]] = {}
    for result in circuits:
        if result.circuit.found:
            groups.setdefault((result.model, result.task), []).append(result)
    return groups


def survival(circuits: Sequence[CircuitResult]) -> pd.DataFrame:
    """How circuits of one model and task hang together over training; one row per checkpoint with a
    circuit.

    Columns: model, task, step, tokens_seen, before (tokens of the checkpoint before with a circuit,
    nan at the first), kept (share of its edges that are still there), jaccard with it; of_last and
    jaccard_last: share of the last circuit's edges that are there already, and the Jaccard
    similarity with it.
    """
    rows = []
    for (model, task), group in grouped(circuits).items():
        last = group[-1].circuit
        for before, result in zip([None, *group[:-1]], group, strict=True):
            mask = result.circuit.mask
            row = {"model": model, "task": task, "step": result.step}
            row |= {"tokens_seen": result.tokens_seen, "jaccard_last": jaccard(mask, last.mask)}
            row["of_last"] = (mask & last.mask).sum() / last.n_edges
            if before is not None:
                shared = (mask & before.circuit.mask).sum()
                row |= {"before": before.tokens_seen, "kept": shared / before.circuit.n_edges}
                row["jaccard"] = jaccard(mask, before.circuit.mask)
            rows.append(row)
    return pd.DataFrame(rows, columns=SURVIVAL_COLUMNS)


def edge_history(circuits: Sequence[CircuitResult], model: str, task: str) -> pd.DataFrame:
    """Edges that were ever in the circuit of one model and task: index edge name, columns tokens
    seen, bool.

    In the order in which they come in, then of how long they stay. Checkpoints without a circuit
    are columns of False. ValueError if nothing was measured of them.
    """
    checkpoints = [r for r in circuits if (r.model, r.task) == (model, task)]
    if not checkpoints:
        raise ValueError(f"there is nothing measured of {model} and {task}")
    masks = np.array([result.circuit.mask for result in checkpoints])
    ever = np.argwhere(masks.any(axis=0))
    present = masks[:, ever[:, 0], ever[:, 1]].T  # [edge, checkpoint]
    comes, stays = present.argmax(1), present.sum(1)
    order = np.lexsort((np.arange(len(ever)), -stays, comes))
    graph = checkpoints[0].circuit.graph
    names = [graph.edge_name(*ever[row]) for row in order]
    tokens = [result.tokens_seen for result in checkpoints]
    return pd.DataFrame(present[order], index=names, columns=tokens)
