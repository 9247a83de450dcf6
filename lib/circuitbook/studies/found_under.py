"""Circuits of other searches: by other corrupted prompts, and by the divergence from the model.

How like this book's circuits they are, and what they are enough for (see `studies.enough`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.ablations import ABLATIONS, has_partners, resampled
from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.divergence import divergence_pairs
from circuitbook.circuits.search import find_circuit
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.circuits.similarity import jaccard
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.enough import (
    COLUMNS,
    FEWEST,
    about_circuit,
    at_last,
    last_circuits,
    measured,
    prompts_of,
    rows_of,
)
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task

UNDER = ("swap", "resample", "kl", "both")
"""How circuits are found: as the chapter's own; with other prompts; by the divergence; by both."""
BOTH = ("ioi",)  # tasks in which a search by both is made, which costs as much as any other

FOUND_COLUMNS = ["model", "step", "task", "under", "edges", "own_edges", "queries", "keys"]
FOUND_COLUMNS += ["jaccard", "ceiling", "at_size", "shared"]
ABSENT = ("edges", "queries", "keys", "jaccard", "at_size", "shared")  # nan where none was found


def circuit_under(
    model: Model,
    *,
    task: Task,
    prompts: int,
    seed: int,
    attribution: dict,
    search: dict,
    under: str,
    size: int,
) -> dict[str, np.ndarray]:
    """{"mask", "at_size"}, bool [src, dst]: the circuit of another search; no edges if none passes.

    under: "resample", with the corrupted prompts of that ablation; "kl", with the task's own, but
    KL(model || circuit) as the loss, of which the circuit leaves 1 - threshold of what full
    corruption makes; "both". at_size: the first `size` edges in the new order.
    """
    found_on, _, reference, _ = prompts_of(task, model.tokenizer, prompts, seed)
    pairs = found_on
    if under != "kl":
        pairs = found_on.subset(has_partners(found_on, reference))
        if len(pairs) < FEWEST:
            none = np.zeros_like(graph_of(model).mask)
            return {"mask": none, "at_size": none}
        pairs = resampled(pairs, reference, seed)
    if under != "resample":
        pairs = divergence_pairs(model, pairs)
        search = search | {"form": "normalised", "min_metric": -np.inf}
    scores = attribute(model, pairs, **attribution)
    circuit = find_circuit(model, pairs, scores, **search)
    if not circuit.found:
        return {"mask": circuit.mask, "at_size": circuit.mask}
    order = edge_order(scores.values, scores.graph, search["selection"], search["absolute"], size)
    return {"mask": circuit.mask, "at_size": first_edges(order, scores.graph, size)}


def measure_found_under(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Circuits of other searches at the last checkpoints: (how alike, how they do).

    First a row for each model, task and other search of `UNDER`: edges, own_edges (of the chapter's
    circuit), queries, keys, jaccard (with that circuit), ceiling (of two circuits from resampled
    prompts, as alike as one search makes them), at_size (the Jaccard of as many edges), shared (the
    share of the own circuit's edges that are in it); nan where there is none. Then the rows of
    `measure_enough` of these circuits, for "swap" and "resample".
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    last, ablations = last_circuits(circuits), ABLATIONS[:2]
    alike, rows = [], []
    for result, here in at_last(suite, last, store, device, dtype, progress, "other searches"):
        masks: dict[str, np.ndarray] = {}
        for under in UNDER[1:] if result.task in BOTH else UNDER[1:3]:
            found = here.arrays(
                "found-under",
                circuit_under,
                task=get_task(result.task),
                prompts=recipe.prompts[result.task],
                seed=recipe.seed,
                attribution=recipe.attribution,
                search=recipe.circuit(result.task),
                under=under,
                size=int(result.circuit.about["size"]),
            )
            masks[under] = found["mask"].astype(bool)
            alike.append(_alike(result, under, masks[under], found["at_size"].astype(bool)))
        passing = {under: mask for under, mask in masks.items() if mask.any()}
        if not passing:
            continue
        arrays = measured(here, result, recipe, np.array(list(passing.values())), ablations)
        for place, (under, mask) in enumerate(passing.items(), 1):
            rows += rows_of(result, under, mask, place, arrays, ablations)
    return pd.DataFrame(alike, columns=FOUND_COLUMNS), pd.DataFrame(rows, columns=COLUMNS)


def _alike(
    result: CircuitResult, under: str, mask: np.ndarray, at_size: np.ndarray
) -> dict[str, Any]:
    own = result.circuit.mask
    others = result.resampled
    ceilings = [jaccard(a, b) for i, a in enumerate(others) for b in others[:i]]
    row = about_circuit(result, under, mask) | {"own_edges": int(own.sum())}
    row |= {"ceiling": float(np.mean(ceilings)) if ceilings else np.nan}
    if not mask.any():
        return row | dict.fromkeys(ABSENT, np.nan)
    shared = float((own & mask).sum() / own.sum())
    return row | {"jaccard": jaccard(own, mask), "at_size": jaccard(own, at_size), "shared": shared}
