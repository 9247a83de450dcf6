"""Circuits at random, for floors: of the same size, with the same degrees, on other heads."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.model.graph import Graph

Mask = Bool[np.ndarray, "src dst"]


def random_circuit(graph: Graph, edges: int, rng: np.random.Generator) -> Mask:
    """A circuit of at least so many living edges, and as few more as dead edges allow.

    It is grown greedily from the logits by random scores.
    """
    priority = rng.random(graph.mask.shape)
    limit = min(graph.n_edges, 8 * edges + 64)
    while True:
        order = edge_order(priority, graph, limit=limit)
        mask = first_edges(order, graph, _smallest_size(order, graph, edges))
        if mask.sum() >= edges or limit == graph.n_edges:
            return mask
        limit = min(graph.n_edges, 4 * limit)


def _smallest_size(order: np.ndarray, graph: Graph, edges: int) -> int:
    """The fewest first edges of the order of which so many live; all of them if none are enough."""
    low, high = 1, len(order)  # living edges only become more: halve
    while low < high:
        middle = (low + high) // 2
        if first_edges(order, graph, middle).sum() >= edges:
            high = middle
        else:
            low = middle + 1
    return low


def rewired_circuit(mask: Mask, graph: Graph, rng: np.random.Generator, swaps: int = 10) -> Mask:
    """The circuit with pairs of edges swapped at random, `swaps` times as often as it has edges.

    u->v and x->y become u->y and x->v where the graph has these. Every source keeps the number of
    its edges and every input the number of its own (Maslov and Sneppen 2002), so all edges stay
    alive.
    """
    mask = mask.copy()
    edges = np.argwhere(mask)
    for i, j in rng.integers(len(edges), size=(swaps * len(edges), 2)):
        (u, v), (x, y) = edges[i], edges[j]
        different = u != x and v != y
        possible = graph.mask[u, y] and graph.mask[x, v]
        if different and possible and not (mask[u, y] or mask[x, v]):
            mask[u, v] = mask[x, y] = False
            mask[u, y] = mask[x, v] = True
            edges[i], edges[j] = (u, y), (x, v)
    return mask


def shuffled_heads(mask: Mask, graph: Graph, rng: np.random.Generator) -> Mask:
    """A circuit of the same shape on other heads: the heads of each layer change places."""
    return graph.relabel(mask, [rng.permutation(graph.n_heads) for _ in range(graph.n_layers)])


def partly_replaced(mask: Mask, graph: Graph, share: float, rng: np.random.Generator) -> Mask:
    """The circuit with this share of its edges, rounded and at least one, replaced by others.

    Those that go are drawn at random, those that come from edges between nodes of the circuit where
    there are enough, else from all that the circuit does not have. Dead edges are left in: count
    what lives. ValueError for a share outside 0..1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"{share} of the edges cannot be replaced: give a share from 0 to 1")
    edges = np.argwhere(mask)
    n = min(len(edges), max(1, round(share * len(edges)))) if share else 0
    inside = graph.nodes_of(mask)
    absent = graph.mask & ~mask
    between = np.argwhere(absent & inside[:-1, None] & inside[graph.node_of][None])
    candidates = between if len(between) >= n else np.argwhere(absent)
    n = min(n, len(candidates))
    replaced = mask.copy()
    replaced[tuple(edges[rng.permutation(len(edges))[:n]].T)] = False
    replaced[tuple(candidates[rng.permutation(len(candidates))[:n]].T)] = True
    return replaced


def random_path(graph: Graph, rng: np.random.Generator) -> Mask:
    """One path from `input` to the logits, walked back from these: every next edge is drawn among
    all into the node, whichever of its inputs they go to.
    """
    path = np.zeros(graph.mask.shape, bool)
    columns = dict(graph.columns_of_nodes)
    node = graph.n_src
    while node:
        into = np.asarray(columns[node])
        dst = int(rng.choice(into))
        src = int(rng.integers(graph.reach[dst]))
        path[src, dst] = True
        node = src
    return path


def inflated(mask: Mask, graph: Graph, rng: np.random.Generator) -> tuple[Mask, tuple[int, int]]:
    """The circuit with a random path added, and one edge of what was added (Shi et al. 2024).

    ValueError for a circuit that has every edge: nothing can be added.
    """
    if not (graph.mask & ~mask).any():
        raise ValueError("the circuit has all edges of its graph: no path can be added to it")
    while True:
        path = random_path(graph, rng)
        added = np.argwhere(path & ~mask)
        if len(added):
            src, dst = added[rng.integers(len(added))]
            return mask | path, (int(src), int(dst))
