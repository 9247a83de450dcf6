"""The same circuit under other numbers: its heads in other places of their layers, by search.

Heads of a layer have numbers but no order, so a circuit of one seed can be put to another under any
numbers. Layers have an order: an edge goes from an earlier layer to a later one, and with heads
moved from layer to layer some edges of the circuit would not be in the graph. So heads change
places within their layer alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from circuitbook.model.graph import HEAD_INPUTS, Graph

Mask = Bool[np.ndarray, "src dst"]
Orders = list[np.ndarray]  # of each layer, as `Graph.relabel` takes them

ALL = 64  # up to so many relabellings of a circuit are all tried
ALL_IN_LAYER = 24  # and in a search layer by layer up to so many of one layer
LIMIT = 512  # a search ends with the layer in which it has tried so many circuits


@dataclass(frozen=True, eq=False)
class Relabelling:
    """What a search gave: the orders (see `Graph.relabel`), what is kept under them, how many
    circuits were tried, and whether these were all there are.
    """

    orders: Orders
    kept: float
    tried: int
    all_tried: bool


def same_numbers(graph: Graph) -> Orders:
    """The orders that change nothing."""
    return [np.arange(graph.n_heads) for _ in range(graph.n_layers)]


def random_numbers(graph: Graph, rng: np.random.Generator) -> Orders:
    """Orders at random."""
    return [rng.permutation(graph.n_heads) for _ in range(graph.n_layers)]


def heads_in(mask: Mask, graph: Graph, layer: int) -> np.ndarray:
    """Numbers of the layer's heads that have an edge in the circuit."""
    parts = [mask[graph.heads(layer)].any(1)]
    parts += [mask[:, graph.readers(layer, kind)].any(0) for kind in HEAD_INPUTS]
    return np.any(parts, axis=0).nonzero()[0]


def relabellings(mask: Mask, graph: Graph) -> int:
    """How many ways there are to give the circuit's heads places in their layers: the product over
    layers of H (H - 1) ... (H - k + 1) with k heads in the circuit.
    """
    used = [len(heads_in(mask, graph, layer)) for layer in range(graph.n_layers)]
    return math.prod(math.perm(graph.n_heads, k) for k in used)


def places(mask: Mask, graph: Graph, layer: int) -> list[np.ndarray]:
    """All orders of a layer that put the circuit's heads somewhere else, and the one that does not;
    heads that are not in the circuit fill up what is left.
    """
    used = heads_in(mask, graph, layer)
    others = np.setdiff1d(np.arange(graph.n_heads), used)
    orders = []
    for taken in itertools.permutations(range(graph.n_heads), len(used)):
        order = np.full(graph.n_heads, -1)
        order[list(taken)] = used
        order[order < 0] = others
        orders.append(order)
    return orders


def swaps(mask: Mask, graph: Graph, layer: int) -> list[np.ndarray]:
    """The orders of a layer in which one of the circuit's heads changes places with another one."""
    used = set(heads_in(mask, graph, layer).tolist())
    orders = []
    for a, b in itertools.combinations(range(graph.n_heads), 2):
        if a in used or b in used:
            order = np.arange(graph.n_heads)
            order[[a, b]] = b, a
            orders.append(order)
    return orders


def best_relabelling(
    mask: Mask,
    graph: Graph,
    keeps: Callable[[Sequence[Mask]], np.ndarray],
    starts: Iterable[Orders] = (),
) -> Relabelling:
    """The numbers under which a circuit keeps most: all are tried where there are at most `ALL`.

    Otherwise the search goes from the given numbers and from each of `starts`, the best of them
    first, layer by layer, as long as something improves: each time all places of the circuit's
    heads in a layer are tried, or where those are more than `ALL_IN_LAYER`, all swaps of two heads.
    That finds numbers at least as good as all of these, mostly the best. keeps: what circuits keep,
    [circuit]; asked once of each.
    """
    known: dict[bytes, float] = {}

    def kept(masks: Sequence[Mask]) -> np.ndarray:
        new = {one.tobytes(): one for one in masks if one.tobytes() not in known}
        if new:
            known.update(zip(new, map(float, keeps(list(new.values()))), strict=True))
        return np.array([known[one.tobytes()] for one in masks])

    def relabelled(all_orders: Iterable[Orders]) -> list[Mask]:
        return [graph.relabel(mask, orders) for orders in all_orders]

    if relabellings(mask, graph) <= ALL:
        layers = [places(mask, graph, layer) for layer in range(graph.n_layers)]
        everything = [list(orders) for orders in itertools.product(*layers)]
        values = kept(relabelled(everything))
        best = int(values.argmax())
        return Relabelling(everything[best], float(values[best]), len(known), True)

    begin = [same_numbers(graph), *starts]
    values = kept(relabelled(begin))
    found = []
    for i in np.argsort(-values, kind="stable"):
        orders, value = list(begin[i]), float(values[i])
        improves = True
        while improves and len(known) < LIMIT:
            improves = False
            for layer in range(graph.n_layers):
                others = _others(graph.relabel(mask, orders), graph, layer, orders)
                there = kept(relabelled(others))
                if len(others) and there.max() > value:
                    orders, value = others[int(there.argmax())], float(there.max())
                    improves = True
                if len(known) >= LIMIT:
                    break
        found.append((value, orders))
    value, orders = max(found, key=lambda one: one[0])
    return Relabelling(orders, value, len(known), False)


def _others(now: Mask, graph: Graph, layer: int, orders: Orders) -> list[Orders]:
    """`orders`, which make a circuit `now`, with one layer's heads moved on."""
    n = math.perm(graph.n_heads, len(heads_in(now, graph, layer)))
    moves = (places if n <= ALL_IN_LAYER else swaps)(now, graph, layer)
    return [[*orders[:layer], orders[layer][move], *orders[layer + 1 :]] for move in moves]
