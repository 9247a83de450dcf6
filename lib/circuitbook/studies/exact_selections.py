"""Is greedy selection good enough? The exact best edges (`circuits.exact_selection`) beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from circuitbook.circuits.exact_selection import SECONDS, best_edges, greedy_edges
from circuitbook.circuits.pruning import MetricOfCircuits
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.enough import at_last, last_circuits
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task

SELECTIONS = ("exact", "greedy", "top")
LARGEST = 40  # edges
COLUMNS = ["model", "step", "task", "selection", "n", "edges", "total", "gap", "kept"]


def select_exactly(
    model: Model,
    *,
    task: Task,
    prompts: int,
    seed: int,
    scores: Float[np.ndarray, "src dst"],
    absolute: bool,
    largest: int,
    seconds: float,
) -> dict[str, np.ndarray]:
    """Of n = 1 ... `largest` edges at most: {"edges", "total", "kept"} [selection, n], "gap" [n].

    edges: alive ones; total: the sum of their scores; kept: the normalised faithfulness; gap: how
    much better than "exact" another circuit could be, as a share (`Selection.gap`): 0 if proven.
    """
    metric = MetricOfCircuits(model, task.prompts(model.tokenizer, n=prompts, seed=seed))
    graph = graph_of(model)
    sizes = range(1, min(largest, graph.n_edges) + 1)
    exact = [best_edges(scores, graph, n, absolute=absolute, seconds=seconds) for n in sizes]
    rows = [exact]
    for selection in SELECTIONS[1:]:
        by_order = partial(greedy_edges, scores, graph, selection=selection, absolute=absolute)
        rows.append([by_order(n) for n in sizes])
    return {
        "edges": np.array([[int(one.mask.sum()) for one in row] for row in rows]),
        "total": np.array([[one.total for one in row] for row in rows]),
        "kept": np.array([metric.kept([one.mask for one in row]) for row in rows]),
        "gap": np.array([one.gap for one in exact]),
    }


def measure_selections(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """`select_exactly` at the last checkpoint of each model and task with a circuit, by its scores.

    Columns: `COLUMNS`, a row per model, task, selection and n.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    rows = []
    last = last_circuits(circuits)
    for result, here in at_last(suite, last, store, device, dtype, progress, "selections"):
        arrays = here.arrays(
            "exact-selections",
            select_exactly,
            task=get_task(result.task),
            prompts=recipe.prompts[result.task],
            seed=recipe.seed,
            scores=np.asarray(result.circuit.scores),
            absolute=recipe.absolute,
            largest=LARGEST,
            seconds=SECONDS,
        )
        about = {"model": result.model, "step": result.step, "task": result.task}
        for i, selection in enumerate(SELECTIONS):
            for n, gap in enumerate(arrays["gap"].tolist()):
                values = {name: arrays[name][i, n].item() for name in ("edges", "total", "kept")}
                rows.append(about | {"selection": selection, "n": n + 1, "gap": gap} | values)
    return pd.DataFrame(rows, columns=COLUMNS)
