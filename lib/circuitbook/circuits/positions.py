"""Position-aware circuits: edges that are in at some positions alone (Haklay et al. 2025, PEAP,
arXiv 2502.04577).

A circuit elsewhere in this book has an edge at all positions or at none. Here an edge is (pos, src,
dst): what src writes at pos, as an input of dst at pos reads it. Scores are those that `attribute`
keeps with per_position=True, a sum over positions otherwise; evaluation is that of
`evaluation.evaluate_masks`, exact. Positions must match: prompts of one template, all of the same
length.

What PEAP has besides:

-   Edges of attention, from a head's key or value at one position to its query at another. Here an
    edge into a key or a value at pos counts for all queries from pos on, and an edge into a query
    for all keys up to pos: which of the pairs it matters to is not told.
-   Spans, which line up prompts of different lengths. Such prompts are refused here.
-   Edges into a head as one. Here queries, keys and values are apart, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from circuitbook.circuits.attribution import Scores
from circuitbook.circuits.corrupted import TOGETHER, CorruptedRuns
from circuitbook.circuits.evaluation import check_aligned, evaluate_masks
from circuitbook.circuits.faithfulness import FORMS, faithfulness
from circuitbook.model.graph import HEAD_INPUTS, Graph
from circuitbook.model.loaded import Model
from circuitbook.tasks.base import PromptPairs


def position_order(
    scores: Scores, *, absolute: bool = True, limit: int | None = None
) -> Int64[np.ndarray, "edge 3"]:
    """Edges (pos, src, dst) from the most to the least wanted, by score; the first `limit`.

    `absolute`: by absolute score. Edges whose score is 0 (where clean and corrupted are the same)
    are left out. ValueError without the scores of each position.
    """
    if scores.per_position is None:
        raise ValueError(
            "a circuit with positions needs the scores of each: attribute(..., per_position=True)"
        )
    values = scores.per_position.double().numpy()
    places = np.argwhere((values != 0) & scores.graph.mask)
    priority = values[tuple(places.T)]
    priority = np.abs(priority) if absolute else priority
    return places[np.argsort(-priority, kind="stable")[:limit]]


def first_positions(
    order: Int64[np.ndarray, "edge 3"], graph: Graph, n: int, n_pos: int, end: int
) -> Bool[np.ndarray, "pos src dst"]:
    """The circuit of the first n edges of an order, without its dead edges."""
    mask = np.zeros((n_pos, *graph.mask.shape), bool)
    mask[tuple(order[:n].T)] = True
    return live_at_positions(mask, graph, end)


def live_at_positions(
    mask: Bool[np.ndarray, "pos src dst"], graph: Graph, end: int
) -> Bool[np.ndarray, "pos src dst"]:
    """The edges on a path from `input`, at any position, to `logits` at END.

    Within a head a path goes from its query to what it writes at the same position, from a key or a
    value to the same or a later one.
    """
    mask = mask & graph.mask
    n_pos = len(mask)
    fed = np.zeros((n_pos, graph.n_src + 1), bool)  # reached from `input`
    fed[:, 0] = True
    read = np.zeros((n_pos, graph.n_src + 1), bool)  # reaches `logits`
    read[end, -1] = True
    inputs = {node: columns for node, columns in graph.columns_of_nodes if columns}
    for node, columns in inputs.items():
        for column in columns:
            into = (mask[:, :, column] & fed[:, :-1]).any(1)
            fed[:, node] |= np.logical_or.accumulate(into) if _later(graph, column) else into
    into_read = np.zeros(mask.shape[::2], bool)  # [pos, dst]: whether what is read there counts
    for node, columns in reversed(inputs.items()):
        for column in columns:
            out = read[:, node]
            if _later(graph, column):
                out = np.logical_or.accumulate(out[::-1])[::-1]
            into_read[:, column] = out
            read[:, :-1] |= mask[:, :, column] & out[:, None]
    return mask & fed[:, :-1, None] & into_read[:, None]


def _later(graph: Graph, column: int) -> bool:
    """Whether a destination is a key or a value, which later positions look at."""
    place = column % (3 * graph.n_heads + 1) // graph.n_heads
    return column < graph.n_dst - 1 and HEAD_INPUTS[place : place + 1] in ("k", "v")


def position_curve(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    sizes: Iterable[int],
    *,
    absolute: bool = True,
    memory: int | None = None,
) -> pd.DataFrame:
    """Faithfulness of the first n edges of `position_order`, for each n of `sizes`.

    A row for each, ascending: size (n), edges (pairs of a position and an edge, dead ones not
    counted), anywhere (edges at any position), metric, ratio, normalised. ValueError for prompts
    that end at different positions.
    """
    check_aligned(pairs)
    runs, end = CorruptedRuns(model, pairs, memory), int(pairs.end[0])
    order, n_pos = position_order(scores, absolute=absolute), pairs.clean.shape[1]
    wanted = sorted({int(n) for n in sizes})
    clean, corrupted = (float(metric.double().mean()) for metric in runs.baselines())
    rows: list[dict[str, float]] = []
    for first in range(0, len(wanted), TOGETHER):
        some = wanted[first : first + TOGETHER]
        masks = [first_positions(order, runs.graph, n, n_pos, end) for n in some]
        metrics = evaluate_masks(model, pairs, masks, runs=runs).double().mean(1).tolist()
        for n, mask, metric in zip(some, masks, metrics, strict=True):
            kept = {form: faithfulness(metric, clean, corrupted, form) for form in FORMS}
            counts = {"size": n, "edges": int(mask.sum()), "anywhere": int(mask.any(0).sum())}
            rows.append(counts | {"metric": metric} | kept)
    return pd.DataFrame(rows)
