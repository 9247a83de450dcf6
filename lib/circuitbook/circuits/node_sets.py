"""Sets of nodes to take out of a circuit and of its model (Wang et al. 2023, section 4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Bool

from circuitbook.model.graph import Graph

Mask = Bool[np.ndarray, "src dst"]


def without_nodes(mask: Mask, nodes: Iterable[int]) -> Mask:
    """A circuit, or the whole graph, less all edges out of these sources."""
    smaller = mask.copy()
    smaller[list(nodes)] = False
    return smaller


def node_sets(
    mask: Mask, graph: Graph, rng: np.random.Generator, draws: int = 8
) -> dict[str, list[int]]:
    """Sets K of a circuit's heads and MLPs, by name: all of them; each alone where there are up to
    `draws` nodes; and sets drawn at random, every node with probability 1/2, `draws` at most.
    """
    nodes = np.flatnonzero(mask.any(1))
    nodes = nodes[nodes > 0].tolist()
    sets: dict[frozenset[int], str] = {}

    def add(members: Sequence[int], name: str | None = None) -> None:
        if members:
            names = ", ".join(graph.source_names[node] for node in sorted(members))
            sets.setdefault(frozenset(members), name or names)

    add(nodes, "all its nodes")
    if len(nodes) <= draws:
        for node in nodes:
            add([node])
    if 2 ** len(nodes) <= 2 * draws:
        for size in range(2, len(nodes)):
            for some in combinations(nodes, size):
                add(some)
    else:
        for _ in range(draws):
            add([node for node in nodes if rng.random() < 0.5])
    return {name: sorted(members) for members, name in sets.items()}


def class_sets(
    mask: Mask, graph: Graph, classes: Mapping[str, Sequence[tuple[int, int]]]
) -> dict[str, list[int]]:
    """The heads of each class that write in the circuit, by the class's name."""
    writes = np.asarray(mask.any(1))
    of_class = {
        name: [graph.source(*head) for head in heads if writes[graph.source(*head)]]
        for name, heads in classes.items()
    }
    return {f"{name} heads": nodes for name, nodes in of_class.items() if nodes}
