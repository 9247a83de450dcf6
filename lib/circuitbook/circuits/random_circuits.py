"""Circuits at random, for floors: of the same size, with the same degrees, on other heads."""

from __future__ import annotations

import numpy as np

from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.model.graph import Graph

# ------------------------------------------------------------------ random circuits


def random_circuit(graph: Graph, edges: int, rng: np.random.Generator) -> np.ndarray:
    """A circuit of (at least, as dead edges allow) so many living edges, grown greedily from the
    logits by random scores."""
    wish = rng.random(graph.mask.shape)
    limit = min(graph.n_edges, 8 * edges + 64)
    while True:
        order = edge_order(wish, graph, limit=limit)
        low, high = 1, len(order)  # living edges only become more: halve
        while low < high:
            middle = (low + high) // 2
            low, high = (
                (low, middle)
                if first_edges(order, graph, middle).sum() >= edges
                else (middle + 1, high)
            )
        mask = first_edges(order, graph, low)
        if mask.sum() >= edges or limit == graph.n_edges:
            return mask
        limit = min(graph.n_edges, 4 * limit)


def rewired_circuit(
    mask: np.ndarray, graph: Graph, rng: np.random.Generator, swaps: int = 10
) -> np.ndarray:
    """The circuit with edges swapped at random, `swaps` times each: u->v, x->y become u->y, x->v
    where the graph has these.

    Every source keeps the number of its edges and every input the number of its own (Maslov and
    Sneppen 2002), so all edges stay alive.
    """
    mask = mask.copy()
    edges = np.argwhere(mask)
    for i, j in rng.integers(len(edges), size=(swaps * len(edges), 2)):
        (u, v), (x, y) = edges[i], edges[j]
        if (
            u != x
            and v != y
            and graph.mask[u, y]
            and graph.mask[x, v]
            and not mask[u, y]
            and not mask[x, v]
        ):
            mask[u, v] = mask[x, y] = False
            mask[u, y] = mask[x, v] = True
            edges[i], edges[j] = (u, y), (x, v)
    return mask


def shuffled_heads(mask: np.ndarray, graph: Graph, rng: np.random.Generator) -> np.ndarray:
    """A circuit of the same shape on other heads: the heads of each layer change places, edges and
    all."""
    return graph.relabel(mask, [rng.permutation(graph.n_heads) for _ in range(graph.n_layers)])
