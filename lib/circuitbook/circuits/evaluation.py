"""How well a model does with only a circuit's edges (Tigges et al. 2024, section 2).

To evaluate a circuit, every edge outside it carries what its source does on the corrupted prompt. A
node outside the circuit then has corrupted inputs only, so its output is the corrupted one, which
is known. So we start from the corrupted run and recompute the circuit's own nodes, in order:

    x_v = x_v(corrupted) + sum over the circuit's edges u -> v of (a_u now - a_u(corrupted))

Nothing is computed before the first token that differs, or behind END. That is exact: it equals
running the model with every absent edge patched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.corrupted import TOGETHER, CorruptedRuns
from circuitbook.circuits.not_finite import refuse_not_finite
from circuitbook.circuits.recompute import metric_of_circuits
from circuitbook.circuits.spans import SpanCircuit, each_position
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.tasks.base import PromptPairs


def evaluate_circuit(
    model: Model, pairs: PromptPairs, circuit: Circuit, *, memory: int | None = None
) -> Float[Tensor, " n"]:
    """The task's metric of each prompt with only the circuit's edges left clean.

    With all edges this is the clean metric, with none the corrupted one. float32, or float64 of a
    float64 model. `memory` as in `attribute`. For many circuits on the same prompts
    `evaluate_masks` is faster. ValueError if the circuit is of another graph than the model's.
    """
    if circuit.graph != graph_of(model):
        raise ValueError(
            f"the circuit is of {circuit.graph}, but {model.checkpoint.model} is {graph_of(model)}"
        )
    return evaluate_masks(model, pairs, [circuit.mask], memory=memory)[0]


def evaluate_masks(
    model: Model,
    pairs: PromptPairs,
    masks: Sequence[np.ndarray | SpanCircuit],
    *,
    memory: int | None = None,
    runs: CorruptedRuns | None = None,
) -> Float[Tensor, "circuit n"]:
    """`evaluate_circuit` of several circuits, bool [src, dst] each; or, where a circuit has edges
    of its own at each position, [pos, src, dst], or at each span a `SpanCircuit` (see
    `circuits.positions`).

    runs: what was computed before, of the same model and prompts. ValueError for a mask that is not
    of the model's graph; FloatingPointError where the metric is not finite.
    """
    masks = _checked(model, pairs, masks)
    runs = runs or CorruptedRuns(model, pairs, memory)
    metric = torch.zeros(len(masks), len(pairs), dtype=sums_dtype(model.dtype))
    if not len(masks):
        return metric
    for corrupted in runs:
        n_batches = -(-len(masks) // runs.together(corrupted, masks))
        for batch in np.array_split(np.arange(len(masks)), n_batches):
            metric[batch[:, None], corrupted.rows] = metric_of_circuits(
                runs.network, runs.graph, corrupted, [masks[i] for i in batch]
            ).to(metric)
    refuse_not_finite(model, pairs, metric, "when it is patched")
    return metric


def _checked(
    model: Model, pairs: PromptPairs, masks: Sequence[np.ndarray | SpanCircuit]
) -> list[np.ndarray | SpanCircuit]:
    """The masks, those with positions with these as spans."""
    shape, n_pos = graph_of(model).mask.shape, pairs.clean.shape[1]
    checked: list[np.ndarray | SpanCircuit] = []
    for i, mask in enumerate(masks):
        if isinstance(mask, SpanCircuit):
            mask.check(pairs, shape, f"circuit {i}")
        elif np.shape(mask) not in (shape, (n_pos, *shape)):
            raise ValueError(
                f"mask {i} is {list(np.shape(mask))}, but the graph of {model.checkpoint.model} "
                f"has {list(shape)} [src, dst], and the prompts {n_pos} positions"
            )
        elif np.ndim(mask) == 3:
            check_aligned(pairs)
            mask = SpanCircuit(edges=mask, spans=each_position(pairs))
        checked.append(mask)
    return checked


def check_aligned(pairs: PromptPairs) -> None:
    """ValueError unless all prompts end at the same position."""
    if len(pairs.end.unique()) > 1:
        ends = ", ".join(map(str, pairs.end.unique().tolist()))
        raise ValueError(
            f"{pairs.task}: a circuit with positions needs prompts whose positions match, and "
            f"these end at {ends}; take those of one template, pairs.subset(...), or spans, "
            "spans_of(pairs)"
        )


def patch_each(
    model: Model,
    pairs: PromptPairs,
    what: Literal["edges", "nodes"] = "edges",
    *,
    memory: int | None = None,
) -> np.ndarray:
    """What patching one thing alone does to the loss: mean metric(clean) - metric(patched).

    "edges": every edge by itself carries its source's corrupted output: float64 [src, dst], 0 off
    the graph. This is what the scores of `attribute` estimate. "nodes": all edges out of a node at
    once, float64 [src] (activation patching). Costs one evaluation of the whole graph for each edge
    or node; sign as in `attribute`: positive helps.
    """
    if what not in ("edges", "nodes"):
        raise ValueError(f"cannot patch each of {what!r}; there are: edges, nodes")
    runs = CorruptedRuns(model, pairs, memory)
    graph, clean = runs.graph, runs.baselines()[0].double().mean()
    places: list[Any] = list(range(graph.n_src))
    if what == "edges":
        places = [tuple(edge) for edge in graph.edges]
    effect = np.zeros(graph.mask.shape if what == "edges" else graph.n_src)
    for start in range(0, len(places), TOGETHER):
        patched = places[start : start + TOGETHER]
        masks = [_without(graph, place) for place in patched]
        metric = evaluate_masks(model, pairs, masks, runs=runs).double().mean(1)
        for place, value in zip(patched, metric, strict=True):
            effect[place] = float(clean - value)
    return effect


def _without(graph: Graph, place: tuple[int, int] | int) -> np.ndarray:
    """All edges but one, (src, dst), or but all those out of one source."""
    mask = graph.mask.copy()
    mask[place] = False
    return mask
