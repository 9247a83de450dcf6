"""How much of a circuit turns over, how much of that is noise, and whether circuits grow with the
model.

Tigges et al. 2024, section 4.3 and Figure 5: Jaccard similarity of the circuits at neighbouring
checkpoints, smoothed by an exponentially weighted moving average; and the correlation of circuit
size with model size. Three things are put beside it:

    ceiling     the similarity of circuits at one checkpoint from other prompts: more cannot be expected of two checkpoints
    floor       that of random circuits: of the same number of edges, grown as the circuit was, or with the same degrees
    spacing     pairs of checkpoints at an equal ratio of tokens, since neighbours that are further apart differ more

Works on what `over_training.measure_circuits` has measured; a similarity is 1 for equal circuits
and 0 for disjoint ones.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.circuits.random_circuits import random_circuit, rewired_circuit
from circuitbook.circuits.similarity import jaccard, node_jaccard, weighted_jaccard
from circuitbook.model.graph import Graph
from circuitbook.studies.circuit_tables import grouped
from circuitbook.studies.circuits import CircuitResult

ALPHA = 0.5  # of the moving average (the authors')


def ewma(values: Sequence[float], alpha: float = ALPHA, start: float | None = None) -> np.ndarray:
    """s_0 = x_0, s_t = alpha x_t + (1 - alpha) s_{t-1}; from `start` if given (the authors' change
    rate starts from 0).
    """
    series = pd.Series([*([] if start is None else [start]), *values], dtype=float)
    return series.ewm(alpha=alpha, adjust=False).mean().to_numpy()[0 if start is None else 1 :]


# ------------------------------------------------------------------ over training


def checkpoint_pairs(
    found: Sequence[CircuitResult], ratio: float | None = None, tolerance: float = 0.1
) -> list[tuple[CircuitResult, CircuitResult]]:
    """Checkpoints to compare, of one model and task in order: neighbours (the paper's), or for each
    one the earlier one whose tokens are fewer by `ratio`, to within `tolerance` of it (none if
    there is none).
    """
    there = [one for one in found if one.circuit.found]
    if ratio is None:
        return list(zip(there, there[1:]))
    out = []
    for after in there:
        before = [one for one in there if 0 < one.tokens_seen < after.tokens_seen]
        if before:
            best = min(
                before, key=lambda one: abs(np.log(after.tokens_seen / one.tokens_seen / ratio))
            )
            if abs(after.tokens_seen / best.tokens_seen / ratio - 1) <= tolerance:
                out.append((best, after))
    return out


def turnover(
    found: Sequence[CircuitResult],
    ratio: float | None = None,
    tolerance: float = 0.1,
    draws: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """How similar the circuits of pairs of checkpoints are (see `pairs`), one row each.

    Columns: model, task, step and step_before, tokens_seen and tokens_before; edges and nodes
    (Jaccard), weighted, and `edges_ewma`, `nodes_ewma`, `weighted_ewma` along the curve; for edges
    and nodes the `_ceiling` (mean over both checkpoints of the similarity of two circuits from
    resampled prompts; nan where none were kept), the `_floor` (random circuits grown to the same
    numbers of edges) and the `_degree` floor (both circuits rewired). Of either, `draws` (with 0,
    nan). `left`: what the similarity of edges is between `edges_floor` (0) and ceiling (1). A small
    circuit has few others of its degrees, so that its degree floor says that, and little else.
    """
    rows, noise, random = [], {}, {}

    def measures(graph: Graph, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array([jaccard(a, b), node_jaccard(a, b, graph)])

    def ceiling(one: CircuitResult) -> np.ndarray:
        key = (one.model, one.task, one.step)
        if key not in noise:
            masks = one.resampled
            values = [
                measures(one.circuit.graph, a, b) for a, b in itertools.combinations(masks, 2)
            ]
            noise[key] = np.mean(values, axis=0) if values else np.full(2, np.nan)
        return noise[key]

    def nulls(one: CircuitResult) -> tuple[list, list]:
        key = (one.model, one.task, one.step)
        if key not in random:
            rng, graph = (
                np.random.default_rng([seed, zlib.crc32(repr(key).encode())]),
                one.circuit.graph,
            )
            random[key] = (
                [random_circuit(graph, one.circuit.n_edges, rng) for _ in range(draws)],
                [rewired_circuit(one.circuit.mask, graph, rng) for _ in range(draws)],
            )
        return random[key]

    for (model, task), group in grouped(found).items():
        mine = []
        for before, after in checkpoint_pairs(group, ratio, tolerance):
            a, b, graph = before.circuit, after.circuit, after.circuit.graph
            row = {
                "model": model,
                "task": task,
                "step": after.step,
                "step_before": before.step,
                "tokens_seen": after.tokens_seen,
                "tokens_before": before.tokens_seen,
            }
            same, top = measures(graph, a.mask, b.mask), (ceiling(before) + ceiling(after)) / 2
            low, degree = (
                (
                    np.mean([measures(graph, x, y) for x, y in zip(*both)], axis=0)
                    for both in zip(nulls(before), nulls(after))
                )
                if draws
                else [np.full(2, np.nan)] * 2
            )
            for i, what in enumerate(("edges", "nodes")):
                row |= {
                    what: same[i],
                    f"{what}_ceiling": top[i],
                    f"{what}_floor": low[i],
                    f"{what}_degree": degree[i],
                }
            scores = [np.where(c.mask, 1.0 if c.scores is None else c.scores, 0.0) for c in (a, b)]
            row["weighted"] = weighted_jaccard(*scores)
            row["left"] = (row["edges"] - row["edges_floor"]) / (
                row["edges_ceiling"] - row["edges_floor"]
            )
            mine.append(row)
        if mine:
            frame = pd.DataFrame(mine)
            rows.append(
                frame.assign(
                    **{f"{what}_ewma": ewma(frame[what]) for what in ("edges", "nodes", "weighted")}
                )
            )
    return (
        pd.concat(rows, ignore_index=True)
        if rows
        else pd.DataFrame(columns=_TURNOVER).astype(dict.fromkeys(_TURNOVER[2:], float))
    )


_TURNOVER = [
    "model",
    "task",
    "step",
    "step_before",
    "tokens_seen",
    "tokens_before",
    "edges",
    "edges_ceiling",
    "edges_floor",
    "edges_degree",
    "nodes",
    "nodes_ceiling",
    "nodes_floor",
    "nodes_degree",
    "weighted",
    "left",
    "edges_ewma",
    "nodes_ewma",
    "weighted_ewma",
]


def by_ratio(found: Sequence[CircuitResult]) -> pd.DataFrame:
    """Every two checkpoints of a model and task that have circuits: model, task, ratio (of their
    tokens), edges (Jaccard).
    """
    rows = []
    for (model, task), group in grouped(found).items():
        for before, after in itertools.combinations([one for one in group if one.tokens_seen], 2):
            rows.append(
                {
                    "model": model,
                    "task": task,
                    "ratio": after.tokens_seen / before.tokens_seen,
                    "edges": jaccard(before.circuit.mask, after.circuit.mask),
                }
            )
    return pd.DataFrame(rows, columns=["model", "task", "ratio", "edges"])


def to_reference(found: Sequence[CircuitResult], step: int | None = None) -> pd.DataFrame:
    """Similarity of every circuit to that of one checkpoint (None: the last that has one): a row
    each, with model, task, step, tokens_seen, reference (step), edges, nodes, weighted. Models
    without a circuit at `step` are left out.
    """
    rows = []
    for (model, task), group in grouped(found).items():
        reference = (
            group[-1] if step is None else next((one for one in group if one.step == step), None)
        )
        if reference is None:
            continue
        graph, scored = (
            reference.circuit.graph,
            lambda one: np.where(one.circuit.mask, one.circuit.scores, 0.0),
        )
        for one in group:
            rows.append(
                {
                    "model": model,
                    "task": task,
                    "step": one.step,
                    "tokens_seen": one.tokens_seen,
                    "reference": reference.step,
                    "edges": jaccard(one.circuit.mask, reference.circuit.mask),
                    "nodes": node_jaccard(one.circuit.mask, reference.circuit.mask, graph),
                    "weighted": weighted_jaccard(scored(one), scored(reference)),
                }
            )
    return pd.DataFrame(
        rows,
        columns=["model", "task", "step", "tokens_seen", "reference", "edges", "nodes", "weighted"],
    )


def two_draws(found: Sequence[CircuitResult], again: Sequence[CircuitResult]) -> pd.DataFrame:
    """The same searches on two draws of prompts: model, task, step, edges (Jaccard), nodes, size
    and size_again, and `expected`, the similarity of edges that resampling the prompts of the first
    draw predicts at a held size.
    """
    other = {(one.model, one.task, one.step): one for one in again}
    rows = []
    for one in found:
        two = other.get((one.model, one.task, one.step))
        if two is None or not (one.circuit.found and two.circuit.found):
            continue
        a, b = one.circuit.mask, two.circuit.mask
        expected = [jaccard(x, y) for x, y in itertools.combinations(one.resampled, 2)]
        rows.append(
            {
                "model": one.model,
                "task": one.task,
                "step": one.step,
                "edges": jaccard(a, b),
                "nodes": node_jaccard(a, b, one.circuit.graph),
                "size": int(a.sum()),
                "size_again": int(b.sum()),
                "expected": np.mean(expected) if expected else np.nan,
            }
        )
    return pd.DataFrame(
        rows, columns=["model", "task", "step", "edges", "nodes", "size", "size_again", "expected"]
    )
