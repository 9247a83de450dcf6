"""Circuits of nodes: some heads and MLPs, and every edge between those.

`input` and `logits` are always in. A node that is left out writes what it does on the corrupted
prompt, wherever it is read; so this is what patching activations, not paths, can tell.

Every reader v of a node u adds what u writes, a_u, to its input x_v as it is. The loss therefore
depends on a_u through the inputs of these readers alone, and by the chain rule

    dL/da_u = sum over v of dL/dx_v

so that the scores of the edges out of u add up to the score of u itself,

    sum over v of score(u->v) = 1/m sum_k sum_pos (a_u(corrupted) - a_u(clean)) . dL/da_u at z_k

Attribution of nodes costs nothing beside that of edges (`circuits.attribution`). Edges that cancel
make a node's score small, though a circuit of edges could keep those that help.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import ArrayLike

from circuitbook.circuits.attribution import Scores
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.corrupted import CorruptedRuns
from circuitbook.circuits.faithfulness import MIB_SHARES, Curve, check_settings, mib_areas
from circuitbook.circuits.search import smallest_that_passes, task_not_done
from circuitbook.model.graph import Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.tasks.base import PromptPairs

NODE_SCORES = ("sum", "absolute")


def node_scores(scores: Scores, how: str = "sum") -> Float64[np.ndarray, " src"]:
    """Scores of the sources from those of the edges out of them.

    how: "sum", the attribution of the node itself, see above; "absolute", the sum of the absolute
    scores, in which nothing cancels. ValueError for another.
    """
    if how not in NODE_SCORES:
        raise ValueError(f"unknown score of a node {how!r}; there are: {', '.join(NODE_SCORES)}")
    values = scores.values.double().numpy()
    return (values if how == "sum" else np.abs(values)).sum(1)


def mask_of_nodes(graph: Graph, nodes: Iterable[int]) -> Bool[np.ndarray, "src dst"]:
    """All edges between these sources, out of `input`, and into `logits`.

    >>> int(mask_of_nodes(Graph(2, 4), [6]).sum())  # a1.h0: from input to q, k, v; both to logits
    5
    """
    inside = np.zeros(graph.n_src + 1, bool)
    inside[[0, *nodes, graph.n_src]] = True
    return graph.mask & inside[:-1, None] & inside[graph.node_of][None]


def node_order(
    values: ArrayLike, graph: Graph, absolute: bool = True
) -> Int64[np.ndarray, " node"]:
    """Heads and MLPs from the most to the least wanted, as their rows among the sources.

    values: [src]. Every node reads `input` and is read by `logits`, so that the best one left can
    always join: growing greedily, as edges do, is to go by score. `absolute`: by absolute score.
    Ties go to the earlier node. ValueError for values of another shape, or that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (graph.n_src,):
        raise ValueError(f"scores are {list(values.shape)}, but there are {graph.n_src} sources")
    if not np.isfinite(values[1:]).all():
        raise ValueError("some scores are not finite; no order of nodes follows from them")
    wanted = np.abs(values[1:]) if absolute else values[1:]
    return 1 + np.argsort(-wanted, kind="stable")


def edges_by_node(
    order: Sequence[int] | Int64[np.ndarray, " node"], graph: Graph
) -> tuple[Int64[np.ndarray, "edge 2"], Int64[np.ndarray, " size"]]:
    """Edges (src, dst) in the order in which both their ends are in, and how many these are with
    the first 0, 1, 2, ... nodes."""
    joins = np.full(graph.n_src + 1, graph.n_src)  # what is not in the order never joins
    joins[[0, *order, graph.n_src]] = [0, *range(1, 1 + len(order)), 0]
    src, dst = graph.edges.T
    when = np.maximum(joins[src], joins[graph.node_of[dst]])
    sizes = np.searchsorted(np.sort(when), np.arange(len(order) + 1), side="right")
    return graph.edges[np.argsort(when, kind="stable")], sizes


def find_node_circuit(
    model: Model,
    pairs: PromptPairs,
    values: ArrayLike,
    *,
    threshold: float = 0.8,
    absolute: bool = True,
    form: str = "ratio",
    max_share: float = 1.0,
    min_edges: int = 0,
    min_metric: float = 0.0,
    memory: int | None = None,
    progress: bool = False,
) -> Circuit:
    """The circuit of the fewest nodes with faithfulness >= `threshold`, among the first n of
    `node_order`, n = 0, 1, 2, ..., each of which is evaluated.

    values: [src], of `node_scores` or of `patch_each(model, pairs, "nodes")`. The arguments and
    what is returned are those of `search.find_circuit`; sizes there are numbers of edges, up to
    `max_share` of all. `nodes` count `input` and `logits`, which are always in.
    """
    check_settings(threshold, "every", form, max_share)
    graph, runs = graph_of(model), CorruptedRuns(model, pairs, memory)
    order, sizes = edges_by_node(node_order(values, graph, absolute), graph)
    if none := task_not_done(model, pairs, min_metric=min_metric, runs=runs):
        return none
    limit = min(graph.n_edges, max(int(max_share * graph.n_edges), min_edges, 1))
    curve = Curve(model=model, pairs=pairs, runs=runs, order=order, form=form, progress=progress)
    curve.evaluate([0, *sizes[sizes <= limit].tolist()])
    how = {"search": "every", "selection": "nodes", "absolute": absolute}
    settings = {"threshold": threshold, "form": form, "limit": limit} | how
    return smallest_that_passes(model, pairs, curve, settings)


def mib_metrics_of_nodes(
    model: Model,
    pairs: PromptPairs,
    values: ArrayLike,
    *,
    absolute: bool = True,
    memory: int | None = None,
) -> dict[str, float]:
    """`faithfulness.mib_metrics` of circuits of nodes, at equal numbers of edges.

    At each share of the edges stands the circuit of the most nodes, in their order, with no more
    edges than that. values, absolute: as in `find_node_circuit`.
    """
    graph, runs = graph_of(model), CorruptedRuns(model, pairs, memory)
    order, sizes = edges_by_node(node_order(values, graph, absolute), graph)
    curve = Curve(model=model, pairs=pairs, runs=runs, order=order, form="normalised")
    sizes = np.append(0, sizes)  # without a single edge there is the empty circuit
    most = [int(share * graph.n_edges) for share in MIB_SHARES]
    at = [int(sizes[sizes <= edges].max()) for edges in most]
    curve.evaluate(sorted(set(at)))
    return mib_areas(np.array([curve.faithfulness(n) for n in at]))
