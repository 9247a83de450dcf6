"""Automatic circuit discovery (Conmy et al. 2023, algorithm 1), on exact evaluation.

    H <- G
    for v in H, from the logits back:
        for w in the parents of v:
            if D(G, H without w -> v) - D(G, H) < threshold: H <- H without w -> v

D is how far a circuit is from the model. The paper's is the KL divergence of their outputs, and for
some tasks the logit difference; here it is made of the task's own metric m, one of `DISTANCES`:

    "shortfall"  mean m(G) - mean m(H): edges that work against the answer go, as in the paper with
                 its logit difference
    "distance"   mean |m(G) - m(H)| over prompts: 0 for the model alone, as a divergence is

The order decides what is left, where two edges can stand in for each other. The paper only asks
that v comes before what v reads. The authors' code goes through parents from the last layer to the
first, in a layer first through its MLP, then through its heads; these from the last to the first in
its first version, from the first to the last by its later default, which they found better.
`acdc_order` is the order of the first version.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from circuitbook.circuits.pruning import MetricOfCircuits, prune
from circuitbook.model.graph import Graph

DISTANCES = ("shortfall", "distance")


def acdc_order(graph: Graph) -> list[tuple[int, int]]:
    """All edges (src, dst) as they are tried: by destination, from the logits back; the edges of a
    destination from the latest source to the earliest.

    >>> graph = Graph(1, 1)
    >>> [graph.edge_name(*edge) for edge in acdc_order(graph)[:4]]
    ['m0->logits', 'a0.h0->logits', 'input->logits', 'input->m0']
    """
    return [
        (src, dst)
        for dst in range(graph.n_dst - 1, -1, -1)
        for src in range(int(graph.reach[dst]) - 1, -1, -1)
    ]


def acdc(
    metric: MetricOfCircuits,
    threshold: float,
    distance: Literal["shortfall", "distance"] = "distance",
) -> Bool[np.ndarray, "src dst"]:
    """The circuit that the algorithm leaves, without dead edges.

    threshold: how much further from the model the circuit may be by each edge that goes, in units
    of the metric; larger ones leave fewer edges. ValueError for an unknown distance.
    """
    if distance not in DISTANCES:
        raise ValueError(f"unknown distance {distance!r}; there are: {', '.join(DISTANCES)}")
    whole = metric.clean

    def from_model(values: Float64[np.ndarray, " n"]) -> float:
        apart = whole - values
        return float(apart.mean() if distance == "shortfall" else np.abs(apart).mean())

    def may_go(before: Float64[np.ndarray, " n"], after: Float64[np.ndarray, " n"]) -> bool:
        return from_model(after) - from_model(before) < threshold

    graph = metric.graph
    return prune(metric, graph, graph.mask, acdc_order(graph), may_go)


def smallest_acdc(
    metric: MetricOfCircuits,
    share: float = 0.8,
    thresholds: tuple[float, ...] = (0.1, 0.05, 0.025, 0.0125, 0.00625),
    distance: Literal["shortfall", "distance"] = "distance",
) -> tuple[Bool[np.ndarray, "src dst"] | None, float]:
    """(circuit, threshold): of the largest threshold whose circuit keeps `share` of the behaviour.

    thresholds: descending, as shares of clean - corrupted. (None, nan) where no circuit keeps it.
    """
    whole = abs(float((metric.clean - metric.corrupted).mean()))
    for threshold in thresholds:
        mask = acdc(metric, threshold * whole, distance)
        if metric.kept([mask])[0] >= share:
            return mask, threshold
    return None, float("nan")
