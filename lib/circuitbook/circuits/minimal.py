"""Minimal circuits: each keeps the threshold, and would not without any one of its edges.

There may be many: where two edges can stand in for each other, either may go, and then the other
must stay. Which ones are left depends on the order in which edges are tried, so random orders
sample them. Not every minimal circuit is as likely as every other, and sampling says how different
they can be, never that there are no others.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int64

from circuitbook.circuits.corrupted import TOGETHER
from circuitbook.circuits.pruning import MetricOfCircuits
from circuitbook.model.graph import Graph

Mask = Bool[np.ndarray, "src dst"]
LONGEST = 64  # edges that may go at once
USED = 1e-6  # a score so small that an edge is tried before all that no circuit has


def minimal_circuit(
    metric: MetricOfCircuits,
    start: Mask,
    threshold: float,
    rng: np.random.Generator,
    scores: Float[np.ndarray, "src dst"] | None = None,
    spread: float = 1.0,
) -> Mask:
    """The minimal circuit that is left of `start` when its edges are tried in a random order.

    Runs of edges of the order go together, the longest run without which the normalised
    faithfulness is at least `threshold`; where not even the next edge alone may go, it stays.
    Passes in new orders follow until none goes: what had to stay may go later, since faithfulness
    need not fall with every edge. scores: then small ones go first, by |score| times exp(spread *
    normal). ValueError if `start` does not keep the threshold.
    """
    kept = float(metric.kept([start])[0])
    if kept < threshold:
        raise ValueError(
            f"the {int(start.sum())} edges to start from keep {kept:.3f}, less than {threshold}: "
            "no circuit among them can be asked for; start from more"
        )
    mask = metric.graph.live(start)
    while len(edges := rng.permutation(np.argwhere(mask))):
        if scores is not None:
            noisy = np.abs(scores[tuple(edges.T)]) * np.exp(spread * rng.normal(size=len(edges)))
            edges = edges[np.argsort(noisy, kind="stable")]
        mask = _one_pass(metric, mask, edges, threshold)
        left = np.argwhere(mask)
        if not may_go(metric, mask, left, threshold).any():
            break
    return mask


def _one_pass(
    metric: MetricOfCircuits, mask: Mask, edges: Int64[np.ndarray, "edge 2"], threshold: float
) -> Mask:
    """Every edge is tried once; dead ones go untried."""
    longest = LONGEST
    while True:
        edges = edges[mask[tuple(edges.T)]]
        if not len(edges):
            return mask
        runs = [2**i for i in range(longest.bit_length()) if 2**i <= len(edges)]
        without = [_without(metric.graph, mask, edges[:run]) for run in runs]
        passing = np.flatnonzero(metric.kept(without) >= threshold)
        if len(passing):
            mask, gone = without[passing[-1]], runs[passing[-1]]
            longest = min(LONGEST, 4 * gone)
        else:
            # one that must stay is followed by others, as a rule
            alone = may_go(metric, mask, edges[: TOGETHER // 2], threshold)
            gone = int(alone.argmax()) if alone.any() else len(alone)
            longest = 1
        edges = edges[gone:]


def may_go(
    metric: MetricOfCircuits, mask: Mask, edges: Int64[np.ndarray, "edge 2"], threshold: float
) -> Bool[np.ndarray, " edge"]:
    """Of each of these edges, whether the circuit keeps the threshold without it alone."""
    without = [_without(metric.graph, mask, edge[None]) for edge in edges]
    return metric.kept(without) >= threshold


def _without(graph: Graph, mask: Mask, edges: Int64[np.ndarray, "edge 2"]) -> Mask:
    mask = mask.copy()
    mask[tuple(edges.T)] = False
    return graph.live(mask)


def sample_minimal(
    metric: MetricOfCircuits, threshold: float, draws: int, away: int, seed: int
) -> Iterator[Mask]:
    """Minimal circuits of the whole graph: `draws` from random orders, then `away` from others.

    Of the others each is meant to share little with all circuits before: their edges go first, as
    far as they may. The same circuit may come twice.
    """
    rng, graph = np.random.default_rng(seed), metric.graph
    before = np.zeros(graph.mask.shape, bool)
    for i in range(draws + away):
        last = None if i < draws else np.where(before, USED, 1.0)
        mask = minimal_circuit(metric, graph.mask, threshold, rng, last)
        before |= mask
        yield mask
