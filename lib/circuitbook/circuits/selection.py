"""From edge scores to edges in order: the paper's greedy growth, and plain top-n.

An order serves all sizes: the circuit of n edges is its first n, less the dead ones (`Graph.live`).
See Tigges et al. 2024, section 2.
"""

from __future__ import annotations

import heapq

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import ArrayLike

from circuitbook.model.graph import Graph

SELECTIONS = ("greedy", "top")


def edge_order(
    scores: ArrayLike,
    graph: Graph,
    selection: str = "greedy",
    absolute: bool = True,
    limit: int | None = None,
    first: Bool[np.ndarray, "src dst"] | None = None,
) -> Int64[np.ndarray, "edge 2"]:
    """Edges (src, dst) from the most to the least wanted; the first `limit` if given.

    scores: [src, dst]. "top": by score. "greedy": starting from `logits`, again and again the best
    edge into any node that is already in; when its source joins, the edges into that become
    candidates. `absolute`: by absolute score (the authors), else by signed score. Ties go to the
    earlier source, then to the earlier destination. first: edges that are wanted more than all
    others, whatever their scores, as those with stable signs (`circuits.stable_signs`). ValueError
    for an unknown selection, scores of another shape, or scores that are not finite.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"unknown selection {selection!r}; there are: {', '.join(SELECTIONS)}")
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != graph.mask.shape:
        raise ValueError(
            f"scores are {list(values.shape)}, but this graph has "
            f"{list(graph.mask.shape)} [src, dst]"
        )
    if not np.isfinite(values[graph.mask]).all():
        raise ValueError("some scores are not finite; no order of edges follows from them")
    priority = np.abs(values) if absolute else values
    if first is not None:
        levels, rank = np.unique(priority, return_inverse=True)
        priority = rank.reshape(values.shape) + np.where(first, 0.0, -float(len(levels)))
    limit = graph.n_edges if limit is None else min(limit, graph.n_edges)
    if selection == "top":
        return graph.edges[np.argsort(-priority[graph.mask], kind="stable")[:limit]]
    return _greedy(priority, graph, limit)


def _greedy(
    priority: Float64[np.ndarray, "src dst"], graph: Graph, limit: int
) -> Int64[np.ndarray, "edge 2"]:
    columns = dict(graph.columns_of_nodes)
    joined = np.zeros(graph.n_src, bool)
    # Of each node that is in, the best edge left: (-priority, src, dst, its place, all in order)
    heap: list[tuple[float, int, int, int, np.ndarray]] = []

    def offer(node: int) -> None:
        """Makes the edges into a node candidates."""
        dst = np.asarray(columns.get(node, []), dtype=int)
        if not len(dst):  # `input` reads nothing
            return
        n_sources = graph.reach[dst[0]]
        src, dst = np.repeat(np.arange(n_sources), len(dst)), np.tile(dst, n_sources)
        best = np.argsort(-priority[src, dst], kind="stable")  # ties: by source, then destination
        push(np.stack([src[best], dst[best]], 1), 0)

    def push(edges: np.ndarray, place: int) -> None:
        if place < len(edges):
            src, dst = map(int, edges[place])
            heapq.heappush(heap, (-priority[src, dst], src, dst, place, edges))

    offer(graph.n_src)
    order: list[tuple[int, int]] = []
    while heap and len(order) < limit:
        _, src, dst, place, edges = heapq.heappop(heap)
        order.append((src, dst))
        push(edges, place + 1)
        if not joined[src]:
            joined[src] = True
            offer(src)
    return np.array(order, dtype=np.int64).reshape(-1, 2)


def first_edges(
    order: Int64[np.ndarray, "edge 2"], graph: Graph, n: int, prune: bool = True
) -> Bool[np.ndarray, "src dst"]:
    """The circuit of the first n edges of an order, without its dead edges if `prune`."""
    mask = np.zeros(graph.mask.shape, bool)
    mask[tuple(order[:n].T)] = True
    return graph.live(mask) if prune else mask
