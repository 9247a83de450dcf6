"""The n edges with the largest sum of scores that form a circuit: exactly, as an integer program.

A circuit may only keep edges that lie on a path from `input` to `logits` through kept edges
(`Graph.live`). Without that the best n are the first n. With it a high score may need low ones to
reach it, and the greedy order, which looks one edge ahead, can be wrong. The program, with a number
x of 0 or 1 for each edge and y for each node but `input` and `logits`:

    maximise    sum of score x
    such that   sum of x <= n
                x(u->v) <= y(u), x(u->v) <= y(v)
                y(u) <= sum of x into u,  y(u) <= sum of x out of u

The graph has no circles, so that a node with an edge in and one out lies on a path. The solver is
HiGHS (Huangfu and Hall 2018), by branch and bound, through scipy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.model.graph import Graph

SECONDS = 10.0  # for one program


@dataclass(frozen=True, eq=False, kw_only=True)
class Selection:
    """A circuit of at most n edges, all alive."""

    mask: Bool[np.ndarray, "src dst"]
    total: float
    """The sum of its scores."""
    bound: float
    """No circuit of n edges has more; `total` itself, up to rounding, if it is proven the best."""

    @property
    def gap(self) -> float:
        """How much better another could be at most, as a share of `total`; 0 if none is."""
        return max(0.0, self.bound - self.total) / abs(self.total) if self.total else 0.0


def best_edges(
    scores: ArrayLike,
    graph: Graph,
    n: int,
    *,
    absolute: bool = True,
    seconds: float = SECONDS,
) -> Selection:
    """The circuit of at most n living edges with the largest sum of (absolute) scores.

    scores: [src, dst]. seconds: the time after which the best so far is taken, and `gap` says what
    is not known; whatever the solver has not found, the greedy circuit is there. ValueError for an
    n below 0, and for scores of another shape or not finite.
    """
    if n < 0:
        raise ValueError(f"a circuit of {n} edges cannot be asked for; give 0 or more")
    fallback = greedy_edges(scores, graph, n, absolute=absolute)
    if n == 0:
        return fallback
    values = _values(scores, graph, absolute)
    constraints, n_nodes = _constraints(graph, n)
    n_edges = graph.n_edges
    result = milp(
        np.concatenate([-values, np.zeros(n_nodes)]),
        integrality=1,
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"time_limit": seconds, "mip_rel_gap": 0.0},
    )
    bound = values.sum() if result.mip_dual_bound is None else -float(result.mip_dual_bound)
    if result.x is None:
        return Selection(mask=fallback.mask, total=fallback.total, bound=bound)
    mask = np.zeros(graph.mask.shape, bool)
    mask[graph.mask] = result.x[:n_edges] > 0.5
    mask = graph.live(mask)
    total = float(values[mask[graph.mask]].sum())
    if total < fallback.total:
        mask, total = fallback.mask, fallback.total
    return Selection(mask=mask, total=total, bound=max(bound, total))


def greedy_edges(
    scores: ArrayLike, graph: Graph, n: int, *, selection: str = "greedy", absolute: bool = True
) -> Selection:
    """The largest circuit of at most n living edges in an order of `edge_order`; no bound."""
    order = edge_order(scores, graph, selection, absolute)
    low, high = 0, len(order)  # living edges only become more: halve
    while low < high:
        middle = (low + high + 1) // 2
        if first_edges(order, graph, middle).sum() <= n:
            low = middle
        else:
            high = middle - 1
    mask = first_edges(order, graph, low)
    total = float(_values(scores, graph, absolute)[mask[graph.mask]].sum())
    return Selection(mask=mask, total=total, bound=np.inf)


def _values(scores: ArrayLike, graph: Graph, absolute: bool) -> Float[np.ndarray, " edge"]:
    values = np.asarray(scores, dtype=np.float64)[graph.mask]
    return np.abs(values) if absolute else values


def _constraints(graph: Graph, n: int) -> tuple[LinearConstraint, int]:
    """Rows whose product with (x of the edges, y of the nodes) is at most 0, or n; how many y."""
    src, node = graph.edges[:, 0], graph.node_of[graph.edges[:, 1]]
    n_edges, n_nodes = graph.n_edges, graph.n_src - 1  # y of source i, but for `input`, is i - 1
    rows: list[tuple[np.ndarray, np.ndarray]] = []  # (columns, coefficients)
    for edge in range(n_edges):
        for end in (src[edge], node[edge]):
            if 0 < end < graph.n_src:
                rows.append((np.array([edge, n_edges + end - 1]), np.array([1.0, -1.0])))
    for i in range(1, graph.n_src):
        for edges in (np.flatnonzero(src == i), np.flatnonzero(node == i)):
            columns = np.append(edges, n_edges + i - 1)
            rows.append((columns, np.append(-np.ones(len(edges)), 1.0)))
    rows.append((np.arange(n_edges), np.ones(n_edges)))
    at = np.repeat(np.arange(len(rows)), [len(columns) for columns, _ in rows])
    matrix = csr_array(
        (
            np.concatenate([values for _, values in rows]),
            (at, np.concatenate([columns for columns, _ in rows])),
        ),
        shape=(len(rows), n_edges + n_nodes),
    )
    upper = np.zeros(len(rows))
    upper[-1] = n
    return LinearConstraint(matrix, -np.inf, upper), n_nodes
