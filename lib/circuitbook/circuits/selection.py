"""From edge scores to edges in order: the greedy growth of the paper, and plain top-n (Tigges et
al. 2024, section 2).

An order serves all sizes: the circuit of n edges is its first n, less the dead ones (`Graph.live`).
"""

from __future__ import annotations

import heapq

import numpy as np

from circuitbook.model.graph import Graph

SELECTIONS = ("greedy", "top")


def edge_order(
    scores, graph: Graph, selection: str = "greedy", absolute: bool = True, limit: int | None = None
) -> np.ndarray:
    """Edges from the most to the least wanted, int64 [edge, 2] of (src, dst); the first `limit` if
    given.

    scores: [src, dst]. "top": by score. "greedy": starting from `logits`, again and again the best
    edge into any node that is already in; when its source joins, the edges into that become
    candidates. `absolute`: by absolute score (the authors), else by signed score. Ties go to the
    earlier source, then to the earlier destination.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"unknown selection {selection!r}; there are: {', '.join(SELECTIONS)}")
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != graph.mask.shape:
        raise ValueError(
            f"scores are {list(values.shape)}, but this graph has {list(graph.mask.shape)} [src, dst]"
        )
    if not np.isfinite(values[graph.mask]).all():
        raise ValueError("some scores are not finite; no order of edges follows from them")
    wish = np.abs(values) if absolute else values
    limit = graph.n_edges if limit is None else min(limit, graph.n_edges)
    if selection == "top":
        return graph.edges[np.argsort(-wish[graph.mask], kind="stable")[:limit]]
    return _greedy(wish, graph, limit)


def _greedy(wish: np.ndarray, graph: Graph, limit: int) -> np.ndarray:
    columns = dict(graph.columns_of_nodes)
    joined = np.zeros(graph.n_src, bool)
    heap: list[
        tuple[float, int, int, int, np.ndarray]
    ] = []  # best edge left of each node: -wish, src, dst, place, all

    def offer(node: int) -> None:
        dst = np.asarray(columns.get(node, []), dtype=int)
        if len(dst):  # `input` reads nothing
            src, dst = (
                np.repeat(np.arange(graph.reach[dst[0]]), len(dst)),
                np.tile(dst, graph.reach[dst[0]]),
            )
            best = np.argsort(
                -wish[src, dst], kind="stable"
            )  # stable: ties by source, then destination
            push(np.stack([src[best], dst[best]], 1), 0)

    def push(edges: np.ndarray, place: int) -> None:
        if place < len(edges):
            src, dst = map(int, edges[place])
            heapq.heappush(heap, (-wish[src, dst], src, dst, place, edges))

    offer(graph.n_src)
    order = []
    while heap and len(order) < limit:
        _, src, dst, place, edges = heapq.heappop(heap)
        order.append((src, dst))
        push(edges, place + 1)
        if not joined[src]:
            joined[src] = True
            offer(src)
    return np.array(order, dtype=np.int64).reshape(-1, 2)


def first_edges(order: np.ndarray, graph: Graph, n: int, prune: bool = True) -> np.ndarray:
    """The circuit of the first n edges of an order, bool [src, dst]; without its dead edges unless
    told otherwise."""
    mask = np.zeros(graph.mask.shape, bool)
    mask[tuple(order[:n].T)] = True
    return graph.live(mask) if prune else mask
