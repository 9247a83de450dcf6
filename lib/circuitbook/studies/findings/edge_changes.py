"""Which edges make two circuits differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.model.graph import Graph
from circuitbook.studies.circuit_tables import grouped
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.turnover import checkpoint_pairs
from circuitbook.wording import TASK_SHORT, in_markdown, short_number

NO_NEIGHBOURS = "There are no two neighbouring checkpoints with circuits."


def all_neighbours(circuits: Sequence[CircuitResult]) -> list[tuple[CircuitResult, CircuitResult]]:
    """Every two neighbouring checkpoints with circuits, of all models and tasks, in order."""
    return [pair for run in grouped(circuits).values() for pair in checkpoint_pairs(run)]


def largest_differences(
    before: np.ndarray, after: np.ndarray, graph: Graph, n: int = 5
) -> pd.DataFrame:
    """The `n` edges whose shares [src, dst] differ most, with both shares; the largest first."""
    order = np.argsort(-np.abs(before - after), axis=None)[:n]
    edges = np.column_stack(np.unravel_index(order, before.shape))
    rows = [
        {"edge": graph.edge_name(*edge), "before": before[tuple(edge)], "after": after[tuple(edge)]}
        for edge in edges
    ]
    return pd.DataFrame(rows)


def weighted_similarity(before: CircuitResult, after: CircuitResult, similarity: float) -> str:
    """Which two circuits these are, and their weighted similarity, before a table of edges."""
    return (
        f"{TASK_SHORT[after.task]} in {in_markdown(after.model)}, "
        f"{short_number(before.tokens_seen)} and {short_number(after.tokens_seen)} tokens: "
        f"weighted similarity {similarity:.2f}. Shares of the edges that differ most:"
    )
