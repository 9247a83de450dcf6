"""How similar two circuits are: Jaccard similarities, 1 for equal circuits, 0 for disjoint ones."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment

from circuitbook.model.graph import HEAD_INPUTS, Graph

Mask = Bool[np.ndarray, "src dst"]


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Shared edges over edges in either, of two masks; 0 if both are empty (as the authors).

    >>> jaccard(np.array([True, True, False]), np.array([False, True, True]))
    0.3333333333333333
    """
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 0.0


def node_jaccard(a: Mask, b: Mask, graph: Graph) -> float:
    """Shared nodes over nodes in either, `input` and `logits` among them (as the authors count)."""
    return jaccard(graph.nodes_of(a), graph.nodes_of(b))


def weighted_jaccard(a: Float[np.ndarray, "src dst"], b: Float[np.ndarray, "src dst"]) -> float:
    """Sum of minima over sum of maxima of two circuits' scores (the authors' appendix).

    The scores are 0 off their circuit; absolute ones count, each circuit's made to sum to 1. 0 if
    either is all zero.

    >>> weighted_jaccard(np.array([1.0, -3.0]), np.array([2.0, 2.0]))
    0.6
    """
    shares = []
    for scores in (a, b):
        absolute = np.abs(np.asarray(scores, dtype=float))
        if not absolute.any():
            return 0.0
        shares.append(absolute / absolute.sum())
    return float(np.minimum(*shares).sum() / np.maximum(*shares).sum())


def relabelled_jaccard(a: Mask, b: Mask, graph: Graph, tries: int = 8, seed: int = 0) -> float:
    """The largest Jaccard similarity of edges when heads of a layer of `b` may change places.

    Two seeds have no reason to give a job to heads of the same number; this forgives that, and
    nothing else. Layers are matched in turn (Hungarian method) until nothing improves, from several
    starting points: a lower bound, mostly the optimum.
    """
    rng, best = np.random.default_rng(seed), jaccard(a, b)
    same_places = np.arange(graph.n_heads)
    for attempt in range(tries):
        orders = [
            rng.permutation(graph.n_heads) if attempt else same_places
            for _ in range(graph.n_layers)
        ]
        moved, similarity = graph.relabel(b, orders), -1.0
        while (now := jaccard(a, moved)) > similarity:
            similarity = now
            for layer in range(graph.n_layers):
                orders = [same_places] * graph.n_layers
                orders[layer] = _best_places(a, moved, graph, layer)
                moved = graph.relabel(moved, orders)
        best = max(best, similarity)
    return best


def _best_places(a: Mask, b: Mask, graph: Graph, layer: int) -> np.ndarray:
    """For each head of a layer of `a`, the head of `b` in its place, for the most shared edges."""
    heads = graph.heads(layer)
    shared = np.zeros((graph.n_heads, graph.n_heads))  # [place, head that may take it]
    shared += a[heads].astype(float) @ b[heads].T
    for kind in HEAD_INPUTS:
        columns = graph.readers(layer, kind)
        shared += a[:, columns].T.astype(float) @ b[:, columns]
    return linear_sum_assignment(-shared)[1]
