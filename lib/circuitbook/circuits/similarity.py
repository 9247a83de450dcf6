"""How similar two circuits are: Jaccard similarities of edges, nodes and scores; 1 for equal
circuits, 0 for disjoint ones."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from circuitbook.model.graph import HEAD_INPUTS, Graph


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Shared edges over edges in either, of two circuits bool [src, dst]; 0 if both are empty (as
    the authors)."""
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 0.0


# ------------------------------------------------------------------ similarity


def node_jaccard(a: np.ndarray, b: np.ndarray, graph: Graph) -> float:
    """Shared nodes over nodes in either, `input` and `logits` among them (as the authors count)."""
    return jaccard(graph.nodes_of(a), graph.nodes_of(b))


def weighted_jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of minima over sum of maxima of two circuits' absolute scores [src, dst], each made to
    sum to 1 over its circuit; 0 off the circuit. (The authors' appendix.) 0 if either is all
    zero."""
    a, b = (np.abs(np.asarray(part, dtype=float)) for part in (a, b))
    if not a.any() or not b.any():
        return 0.0
    a, b = a / a.sum(), b / b.sum()
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def relabelled_jaccard(
    a: np.ndarray, b: np.ndarray, graph: Graph, tries: int = 8, seed: int = 0
) -> float:
    """The largest Jaccard similarity of edges when the heads of each layer of `b` may change
    places.

    Two seeds have no reason to give a job to heads of the same number; this forgives that, and
    nothing else. Layers are matched in turn (Hungarian method) until nothing improves, from several
    starting points: a lower bound, mostly the optimum.
    """
    rng, best = np.random.default_rng(seed), jaccard(a, b)
    for attempt in range(tries):
        orders = [
            rng.permutation(graph.n_heads) if attempt else np.arange(graph.n_heads)
            for _ in range(graph.n_layers)
        ]
        moved, value = graph.relabel(b, orders), -1.0
        while (now := jaccard(a, moved)) > value:
            value = now
            for layer in range(graph.n_layers):
                gain = np.zeros(
                    (graph.n_heads, graph.n_heads)
                )  # [place, head that may take it], shared edges
                gain += a[graph.heads(layer)].astype(float) @ moved[graph.heads(layer)].T
                for kind in HEAD_INPUTS:
                    columns = graph.readers(layer, kind)
                    gain += a[:, columns].T.astype(float) @ moved[:, columns]
                order = linear_sum_assignment(-gain)[1]
                moved = graph.relabel(
                    moved,
                    [
                        order if at == layer else np.arange(graph.n_heads)
                        for at in range(graph.n_layers)
                    ],
                )
        best = max(best, value)
    return best
