"""The field's tests of circuits, on prompts that they were not found on.

A circuit that keeps the behaviour may still be too small, too large or one of many. Of each circuit
C of a model M, F being the task's metric:

    completeness   without any set K of nodes, is C like M?  |F(C less K) - F(M less K)|
                   (Wang et al. 2023, section 4)
    minimality     does every edge e matter? The change from F(C less K) to F(C less K and e), for
                   the K that shows it best, which is chosen on the prompts that C was found on
    equivalence, independence, minimality    as hypothesis tests (Shi et al. 2024): see
                   `circuits.hypotheses`
    floors         what circuits at random keep, what C keeps with some edges replaced, and what M
                   keeps without any edge of C: its complement
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64

from circuitbook.circuits.node_sets import class_sets, node_sets, without_nodes
from circuitbook.circuits.pruning import MetricOfCircuits
from circuitbook.circuits.random_circuits import (
    inflated,
    partly_replaced,
    random_circuit,
    rewired_circuit,
)
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.held_out import next_prompts
from circuitbook.studies.masks import measure_masks
from circuitbook.studies.measurement import Measurer, at_places
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task

Mask = Bool[np.ndarray, "src dst"]
PerPrompt = Float64[np.ndarray, "*axes n"]
REPLACED = (0.1, 0.25, 0.5)  # shares of the edges
SMALLER = 3  # random sets K beside none, of which the best shows what an edge does
LEFT_OUT = 0.25  # share of the other edges in such a K


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """One circuit with parts taken out of it, put into it or exchanged, on held-out prompts.

    All arrays are the task's metric of each prompt; without held-out prompts n = 0, and the lists
    are empty.
    """

    result: CircuitResult
    clean: PerPrompt
    corrupted: PerPrompt
    circuit: PerPrompt
    complement: PerPrompt
    floors: dict[str, PerPrompt]
    """{kind: [draw, n]}: "random edges", "same degrees", "10% replaced", ..."""
    removed: dict[str, PerPrompt]
    """{what K is: [2, n]}: the circuit, and the model, without K."""
    single: PerPrompt
    """[edge, n]: the circuit without this edge, in the order of `edges`."""
    at_best: PerPrompt
    """[edge, 2, n]: the circuit without the K that shows the edge best; and without both."""
    random_edges: PerPrompt
    """[draw, 2, n]: the circuit with a random path; and without one edge of what that added."""

    @property
    def n(self) -> int:
        """How many held-out prompts."""
        return len(self.clean)

    @property
    def edges(self) -> list[str]:
        return list(self.result.circuit.edges)

    @property
    def whole(self) -> float:
        """The behaviour that circuits keep a share of: mean clean - corrupted."""
        return float(self.clean.mean() - self.corrupted.mean())

    def kept(self, metric: PerPrompt) -> Float64[np.ndarray, "*axes"]:
        """Normalised faithfulness, the mean over prompts."""
        return (metric.mean(-1) - self.corrupted.mean()) / self.whole


# ------------------------------------------------------------------ what is taken out


def smaller_circuits(mask: Mask, rng: np.random.Generator) -> list[Mask]:
    """The circuit, and `SMALLER` times the circuit less a random `LEFT_OUT` of its edges."""
    draws = (np.asarray(rng.random(mask.shape)) for _ in range(SMALLER))
    return [mask, *(mask & (draw >= LEFT_OUT) for draw in draws)]


# ------------------------------------------------------------------ measurement


def metric_held_out(
    model: Model, *, task: Task, masks: np.ndarray, prompts: int, seed: int
) -> dict[str, np.ndarray]:
    """{"metric": float64 [2 + mask, n]} on `next_prompts`: of the model on clean and on corrupted
    prompts, and of circuits, bool [mask, src, dst]; nothing where no prompt is left.
    """
    pairs = next_prompts(task, model.tokenizer, prompts, seed)
    if pairs is None:
        return {}
    metric = MetricOfCircuits(model, pairs)
    rows = [metric.clean[None], metric.corrupted[None]]
    return {"metric": np.concatenate([*rows, metric(list(masks))] if len(masks) else rows)}


def measure_held_out_masks(
    here: Measurer, task: str, masks: Sequence[Mask], *, prompts: int, seed: int
) -> PerPrompt:
    """`metric_held_out` from the store if it is there; [2 + mask, 0] where no prompt is left."""
    what: dict[str, Any] = {"task": get_task(task), "prompts": prompts, "seed": seed}
    stacked = np.array(masks, dtype=bool)
    kept = here.arrays("held-out-masks", metric_held_out, masks=stacked, **what)
    return kept.get("metric", np.empty((2 + len(masks), 0)))


def measure_trials(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    classes: Mapping[tuple[str, int], Mapping[str, Sequence[tuple[int, int]]]] | None = None,
    *,
    draws: int = 8,
    inflations: int = 30,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> list[Trial]:
    """Every circuit that was found, tried on held-out prompts; see the module.

    classes: {(model, step): {class: heads}} of IOI. draws: of random circuits of each kind, and of
    sets K; inflations: of random paths.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    found = [result for result in circuits if result.circuit.found]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    places = [(result.model, result.step) for result in found]
    trials = []
    for result, here in zip(
        found, at_places(suite, places, store, what="tests of circuits", **where), strict=True
    ):
        of_place = (classes or {}).get((result.model, result.step), {})
        of_task = of_place if result.task == "ioi" else {}
        trials.append(_trial(here, result, recipe, of_task, draws, inflations))
    return trials


def _trial(
    here: Measurer,
    result: CircuitResult,
    recipe: Recipe,
    classes: Mapping[str, Sequence[tuple[int, int]]],
    draws: int,
    inflations: int,
) -> Trial:
    mask, graph = result.circuit.mask, result.circuit.graph
    rng = np.random.default_rng(recipe.seed)
    of: dict[str, Any] = {"prompts": recipe.prompts[result.task], "seed": recipe.seed}
    floors = {
        "random edges": [random_circuit(graph, int(mask.sum()), rng) for _ in range(draws)],
        "same degrees": _others(mask, [rewired_circuit(mask, graph, rng) for _ in range(draws)]),
    }
    for share in REPLACED:
        some = [partly_replaced(mask, graph, share, rng) for _ in range(draws)]
        floors[f"{share:.0%} replaced"] = some
    sets = class_sets(mask, graph, classes) | node_sets(mask, graph, rng, draws)
    removed = [without_nodes(part, nodes) for nodes in sets.values() for part in (mask, graph.mask)]
    edges = [(int(src), int(dst)) for src, dst in np.argwhere(mask)]
    single = [_less(mask, edge) for edge in edges]
    paths = [
        inflated(mask, graph, rng) for _ in range(inflations if (graph.mask & ~mask).any() else 0)
    ]
    added = [part for more, edge in paths for part in (more, _less(more, edge))]
    smaller = _most_telling(here, result, edges, smaller_circuits(mask, rng), of)
    at_best = [
        part
        for less, edge in zip(smaller, edges, strict=True)
        for part in (less, _less(less, edge))
    ]
    parts = {
        "circuit": [mask],
        "complement": [graph.mask & ~mask],
        **floors,
        "removed": removed,
        "single": single,
        "at_best": at_best,
        "added": added,
    }
    masks = [one for some in parts.values() for one in some]
    metric = measure_held_out_masks(here, result.task, masks, **of)
    ends = np.cumsum([2, *(len(some) for some in parts.values())])
    of_part = {name: metric[a:b] for name, a, b in zip(parts, ends[:-1], ends[1:], strict=True)}
    n = metric.shape[1]
    return Trial(
        result=result,
        clean=metric[0],
        corrupted=metric[1],
        circuit=of_part["circuit"][0],
        complement=of_part["complement"][0],
        floors={name: of_part[name] for name in floors},
        removed=dict(zip(sets, of_part["removed"].reshape(-1, 2, n), strict=True)),
        single=of_part["single"],
        at_best=of_part["at_best"].reshape(-1, 2, n),
        random_edges=of_part["added"].reshape(-1, 2, n),
    )


def _others(mask: Mask, masks: Sequence[Mask]) -> list[Mask]:
    """Those of the masks that are another circuit: a small one may have none of its degrees."""
    return [one for one in masks if (one != mask).any()]


def _less(mask: Mask, edge: tuple[int, int]) -> Mask:
    smaller = mask.copy()
    smaller[edge] = False
    return smaller


def _most_telling(
    here: Measurer,
    result: CircuitResult,
    edges: Sequence[tuple[int, int]],
    smaller: Sequence[Mask],
    of: Mapping[str, Any],
) -> list[Mask]:
    """For each edge the smaller circuit, with the edge, in which it matters most: on the prompts
    that the circuit was found on, so that the choice is no part of what is then measured.
    """
    with_edge = [[less.copy() for less in smaller] for _ in edges]
    for some, edge in zip(with_edge, edges, strict=True):
        for less in some:
            less[edge] = True
    masks = [
        part
        for some, edge in zip(with_edge, edges, strict=True)
        for less in some
        for part in (less, _less(less, edge))
    ]
    graph = result.circuit.graph
    living = {one.tobytes(): one for one in map(graph.live, masks)}
    metric = measure_masks(here, result.task, list(living.values()), **of)[2:].mean(1)
    value = dict(zip(living, metric, strict=True))
    means = np.array([value[graph.live(one).tobytes()] for one in masks])
    lost = np.abs(np.subtract(*means.reshape(len(edges), len(smaller), 2).transpose(2, 0, 1)))
    return [some[best] for some, best in zip(with_edge, lost.argmax(1), strict=True)]
