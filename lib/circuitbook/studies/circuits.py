"""Circuits at every checkpoint: the smallest faithful one of each model and task, and what stays of
it.

A checkpoint is loaded once for all tasks, and only if something about it has not been measured yet.
What is kept is one entry per checkpoint and task: the scores of all edges, the circuit and its
curve, and the circuits that other prompts would have given.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.search import find_circuit, task_not_done
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.model.graph import Graph
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.stats import bootstrap_draws
from circuitbook.store import Store
from circuitbook.studies.measurement import Steps, at_checkpoints
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task

# of a Circuit, beside its arrays
KEPT = ("faithfulness", "low", "high", "clean", "corrupted", "reason", "about")
CURVE_COLUMNS = ("size", "edges", "nodes", "metric", "ratio", "normalised", "low", "high")


@dataclass(frozen=True, eq=False)
class CircuitResult:
    """What a search gave at one checkpoint for one task. `circuit.found` says whether there is a
    circuit.
    """

    model: str
    step: int
    tokens_seen: int
    task: str
    circuit: Circuit
    relative_gap: float  # completeness gap of the scores; nan where none were needed
    edges_resampled: tuple[np.ndarray, ...] = ()  # see `resampled`, as indices into the flat mask

    @property
    def resampled(self) -> list[np.ndarray]:
        """Circuits of as many edges from scores over resampled prompts, bool [src, dst] each: the
        noise of the measurement.
        """
        masks = [np.zeros(self.circuit.mask.size, bool) for _ in self.edges_resampled]
        for mask, edges in zip(masks, self.edges_resampled, strict=True):
            mask[edges] = True
        return [mask.reshape(self.circuit.mask.shape) for mask in masks]

    @property
    def row(self) -> dict:
        """The result's numbers, for a table; nan where there is no circuit."""
        circuit = self.circuit
        numbers = {
            "edges": circuit.n_edges,
            "nodes": circuit.n_nodes,
            "faithfulness": circuit.faithfulness,
            "low": circuit.low,
            "high": circuit.high,
            "share": circuit.n_edges / circuit.graph.n_edges,
            "stays_from": circuit.about.get("stays_from"),
        }
        if not circuit.found:
            numbers = dict.fromkeys(numbers, np.nan)
        about = {"model": self.model, "step": self.step, "tokens_seen": self.tokens_seen}
        about |= {"task": self.task, "found": circuit.found}
        baselines = {"clean": circuit.clean, "corrupted": circuit.corrupted}
        return about | numbers | baselines | {"gap": self.relative_gap}


def _settings(task: str, recipe: Recipe, seed: int | None) -> dict:
    """What of a recipe determines a circuit: the arguments of `search_circuit`."""
    return {
        "task": get_task(task),
        "prompts": recipe.prompts[task],
        "seed": recipe.seed if seed is None else seed,
        "attribution": recipe.attribution,
        "search": recipe.circuit(task),
        "resamples": recipe.resamples,
    }


def search_circuit(
    model: Model,
    *,
    task: Task,
    prompts: int,
    seed: int,
    attribution: dict,
    search: dict,
    resamples: int,
) -> tuple[Circuit, float | None, list[np.ndarray]]:
    """(circuit, relative completeness gap, resampled circuits) of one model and task.

    Where the task is not done there are no scores, so no gap (None) and nothing resampled.
    `attribution` and `search`: the arguments of `attribute` and `find_circuit`; `resamples`: how
    many circuits from resampled prompts.
    """
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    if none := task_not_done(model, pairs, min_metric=search["min_metric"]):
        return none, None, []
    scores = attribute(model, pairs, **attribution, per_prompt=resamples > 0)
    circuit = find_circuit(model, pairs, scores, **search)
    others: list[np.ndarray] = []
    if circuit.found and resamples:
        assert scores.per_prompt is not None
        others = resampled_circuits(
            scores.per_prompt,
            scores.graph,
            circuit.about["size"],
            selection=search["selection"],
            absolute=search["absolute"],
            draws=resamples,
        )
    return circuit, scores.relative_gap, others


def _circuit_arrays(model: Model, **settings: Any) -> dict[str, np.ndarray]:
    """`search_circuit` as the store keeps it."""
    return _to_arrays(*search_circuit(model, **settings))


def resampled_circuits(
    per_prompt: torch.Tensor,
    graph: Graph,
    size: int,
    *,
    selection: str,
    absolute: bool,
    draws: int,
    seed: int = 0,
) -> list[np.ndarray]:
    """Circuits of the first `size` edges by the mean scores over prompts drawn with replacement;
    bool [src, dst] each.

    per_prompt: scores [n, src, dst], see `attribute`. The size is held, so that what differs is
    which edges come first.
    """
    out = []
    for weights in bootstrap_draws(len(per_prompt), draws, seed):
        values = torch.einsum(
            "n,nuv->uv", torch.tensor(weights, dtype=per_prompt.dtype), per_prompt
        )
        out.append(first_edges(edge_order(values, graph, selection, absolute, size), graph, size))
    return out


def measure_circuits(
    suite: Suite,
    models: Sequence[str],
    tasks: Sequence[str],
    store: Store,
    recipe: Recipe | str = "robust",
    steps: Steps | None = None,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
    seed: int | None = None,
) -> list[CircuitResult]:
    """The smallest faithful circuit of every model, checkpoint and task, in that order.

    `steps`: {model: steps}, default all of the suite. `seed`: of the prompts, if not the recipe's.
    Ctrl-C loses at most the circuit in hand.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    results = []
    for here in at_checkpoints(suite, models, store, what="circuits", steps=steps, **where):
        checkpoint = here.checkpoint
        for task in tasks:
            kept = here.arrays("circuits", _circuit_arrays, **_settings(task, recipe, seed))
            circuit, gap, resampled = _from_arrays(kept)
            result = CircuitResult(
                model=checkpoint.model,
                step=checkpoint.step,
                tokens_seen=cast(int, checkpoint.tokens_seen),  # None if the suite does not say
                task=task,
                circuit=circuit,
                relative_gap=gap,
                edges_resampled=resampled,
            )
            results.append(result)
    return results


def _to_arrays(
    circuit: Circuit, gap: float | None, resampled: Sequence[np.ndarray] = ()
) -> dict[str, np.ndarray]:
    known = {name: getattr(circuit, name) for name in KEPT}
    known |= {"gap": gap, "graph": dataclasses.asdict(circuit.graph)}
    known = {
        name: float(value) if isinstance(value, np.floating) else value
        for name, value in known.items()
    }
    text = json.dumps(known, allow_nan=False).encode()
    arrays = {"mask": circuit.mask, "known": np.frombuffer(text, dtype=np.uint8)}
    if circuit.scores is not None:
        arrays["scores"] = np.asarray(circuit.scores)
    edges = [mask.ravel().nonzero()[0] for mask in resampled]
    arrays["resampled"] = np.concatenate([*edges, np.zeros(0, int)])
    arrays["resampled_sizes"] = np.array([len(some) for some in edges], dtype=int)
    if circuit.curve is not None:
        columns = {f"curve.{name}": column.to_numpy() for name, column in circuit.curve.items()}
        arrays |= {name: column for name, column in columns.items() if not np.isnan(column).all()}
    return arrays


def _from_arrays(arrays: dict[str, np.ndarray]) -> tuple[Circuit, float, tuple[np.ndarray, ...]]:
    known = json.loads(arrays["known"].tobytes())
    gap, graph = known.pop("gap"), Graph(**known.pop("graph"))
    curve = {
        name.removeprefix("curve."): array
        for name, array in arrays.items()
        if name.startswith("curve.")
    }
    table = pd.DataFrame(curve).reindex(columns=list(CURVE_COLUMNS)) if curve else None
    circuit = Circuit(
        graph, arrays["mask"].astype(bool), arrays.get("scores"), curve=table, **known
    )
    sizes = arrays["resampled_sizes"]
    resampled = tuple(np.split(arrays["resampled"], np.cumsum(sizes)[:-1])) if len(sizes) else ()
    return circuit, np.nan if gap is None else gap, resampled
