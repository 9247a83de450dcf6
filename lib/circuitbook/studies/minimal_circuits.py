"""How different can two circuits be that keep as much? Minimal circuits from random orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float

from circuitbook.circuits.minimal import sample_minimal
from circuitbook.circuits.pruning import MetricOfCircuits
from circuitbook.circuits.random_circuits import random_circuit
from circuitbook.circuits.similarity import jaccard
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.enough import at_last, last_circuits
from circuitbook.studies.held_out import next_prompts
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task

KINDS = ("found", "minimal", "away", "random")
Mask = Bool[np.ndarray, "src dst"]
FEW = 16  # prompts on which minimal circuits are found; each edge costs evaluations of all of them
DRAWS, AWAY = 4, 1


@dataclass(frozen=True, eq=False, kw_only=True)
class MinimalCircuits:
    """The minimal circuits of one model and task, and what they are compared with.

    A faithfulness is normalised. `kept` is on the prompts that the minimal circuits were found on,
    `fresh` on prompts that nothing was found on, empty where none is left.
    """

    model: str
    step: int
    task: str
    found: Mask
    """The circuit that the book's search found by its scores."""
    masks: Bool[np.ndarray, "draw src dst"]
    """Minimal circuits, from random orders over the whole graph."""
    away: Bool[np.ndarray, "away src dst"]
    """Others, each of which was to share little with all before."""
    random: Bool[np.ndarray, "draw src dst"]
    """Of each of them, a random circuit with as many edges, or a few more."""
    kept: dict[str, Float[np.ndarray, " circuit"]]
    """Of "found", "minimal", "away" and "random"."""
    fresh: dict[str, Float[np.ndarray, " circuit"]]

    @property
    def pairs(self) -> Float[np.ndarray, " pair"]:
        """The Jaccard similarity of every two minimal circuits."""
        return _between(self.masks)

    @property
    def away_pairs(self) -> Float[np.ndarray, " pair"]:
        """That of every circuit of `away` with every other one, of both kinds."""
        every = [*self.masks, *self.away]
        first = len(self.masks)
        return np.array(
            [jaccard(every[i], a) for j, a in enumerate(self.away) for i in range(first + j)]
        )

    @property
    def furthest(self) -> float:
        """The smallest of all, with those that were to share little."""
        return float(_between(np.concatenate([self.masks, self.away])).min())

    @property
    def by_chance(self) -> Float[np.ndarray, " pair"]:
        """That of every two of the random circuits."""
        return _between(self.random)

    @property
    def with_found(self) -> Float[np.ndarray, " draw"]:
        """That of every minimal circuit and the one that the search found."""
        return np.array([jaccard(mask, self.found) for mask in self.masks])

    @property
    def different(self) -> int:
        """How many of the minimal circuits are not the same as one before."""
        return len(np.unique(self.masks, axis=0))

    @property
    def core(self) -> Mask:
        """The edges that all minimal circuits share."""
        return np.asarray(self.masks.all(0))

    @property
    def some(self) -> Mask:
        """The edges that any of them has."""
        return np.asarray(self.masks.any(0))

    @property
    def edges(self) -> np.ndarray:
        """How many edges each of them has, [draw]."""
        return np.asarray(self.masks.sum((1, 2)))


def _between(masks: np.ndarray) -> np.ndarray:
    return np.array([jaccard(a, b) for a, b in combinations(masks, 2)])


def find_minimal(
    model: Model,
    *,
    task: Task,
    prompts: int,
    few: int,
    seed: int,
    found: Mask,
    threshold: float,
    draws: int,
    away: int,
) -> dict[str, np.ndarray]:
    """{"masks", "random"} [draw, src, dst], {"away"} [away, src, dst], {"kept", "fresh"} [circuit]:
    found, masks, away, random.

    Minimal circuits keep `threshold` on the first `few` of the prompts on which the circuit was
    found; fresh are the prompts after all of these.
    """
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    on_few = MetricOfCircuits(model, pairs.subset(slice(few)))
    every = list(sample_minimal(on_few, threshold, draws, away, seed))
    masks, others = every[:draws], every[draws:]
    rng, graph = np.random.default_rng(seed), graph_of(model)
    random = [random_circuit(graph, int(mask.sum()), rng) for mask in masks]
    everyone = [found, *every, *random]
    shape = (-1, *graph.mask.shape)
    arrays = {"masks": np.array(masks), "random": np.array(random)}
    arrays["away"] = np.array(others, bool).reshape(shape)
    arrays |= {"kept": on_few.kept(everyone), "fresh": np.zeros(0)}
    fresh = next_prompts(task, model.tokenizer, prompts, seed)
    if fresh is not None:
        arrays["fresh"] = MetricOfCircuits(model, fresh).kept(everyone)
    return arrays


def measure_minimal(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    draws: int = DRAWS,
    away: int = AWAY,
    few: int = FEW,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> list[MinimalCircuits]:
    """`find_minimal` at the last checkpoint of each model and task with a circuit.

    ValueError for fewer than two draws: there would be no pair to compare.
    """
    if draws < 2:
        raise ValueError(f"{draws} draws make no pair of circuits to compare; give 2 or more")
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    measured = []
    last = last_circuits(circuits)
    for result, here in at_last(suite, last, store, device, dtype, progress, "minimal circuits"):
        arrays = here.arrays(
            "minimal-circuits",
            find_minimal,
            task=get_task(result.task),
            prompts=recipe.prompts[result.task],
            few=few,
            seed=recipe.seed,
            found=result.circuit.mask,
            threshold=recipe.threshold,
            draws=draws,
            away=away,
        )
        measured.append(
            MinimalCircuits(
                model=result.model,
                step=result.step,
                task=result.task,
                found=result.circuit.mask,
                masks=arrays["masks"].astype(bool),
                away=arrays["away"].astype(bool),
                random=arrays["random"].astype(bool),
                kept=_by_kind(arrays["kept"], draws, away),
                fresh=_by_kind(arrays["fresh"], draws, away),
            )
        )
    return measured


def _by_kind(values: np.ndarray, draws: int, away: int) -> dict[str, np.ndarray]:
    """{"found": [1], "minimal": [draw], "away": [away], "random": [draw]}; nothing of nothing."""
    if not len(values):
        return {}
    parts = np.split(values, [1, 1 + draws, 1 + draws + away])
    return dict(zip(KINDS, parts, strict=True))


def minimal_table(measured: Sequence[MinimalCircuits]) -> pd.DataFrame:
    """A row per model and task. Columns: model, task; draws, different; edges (median), least and
    most of them; core, some (edges in all and in any of them); iou (mean of `pairs`), furthest
    (the smallest, with those made to share little), chance (mean of `by_chance`), found (mean of
    `with_found`); fresh, fresh_found, fresh_random (medians), nan without fresh prompts. All but
    `furthest` are of the circuits from random orders.
    """
    rows = []
    for one in measured:
        row: dict[str, object] = {"model": one.model, "task": one.task, "draws": len(one.masks)}
        row |= {"different": one.different, "edges": float(np.median(one.edges))}
        row |= {"least": int(one.edges.min()), "most": int(one.edges.max())}
        row |= {"core": int(one.core.sum()), "some": int(one.some.sum())}
        row |= {"iou": float(one.pairs.mean()), "furthest": one.furthest}
        row |= {"chance": float(one.by_chance.mean()), "found": float(one.with_found.mean())}
        fresh = one.fresh or dict.fromkeys(KINDS, np.array([np.nan]))
        row |= {"fresh": float(np.median(fresh["minimal"]))}
        row |= {"fresh_found": float(fresh["found"][0])}
        row |= {"fresh_random": float(np.median(fresh["random"]))}
        rows.append(row)
    return pd.DataFrame(rows)
