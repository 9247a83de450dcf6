"""Methods that score edges, compared: which one should you take?

All are put to the same question, by the measures of MIB (Mueller et al. 2025, arXiv:2504.13151) and
by the size of the circuit that they lead to: at the last checkpoint of a model, on prompts on which
nothing was found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from circuitbook.circuits.attribution import Scores, attribute
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.faithfulness import faithfulness, mib_metrics
from circuitbook.circuits.search import find_circuit
from circuitbook.heads.edge_patching import patch_edges
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.enough import FEWEST, at_last, last_circuits
from circuitbook.studies.held_out import next_prompts
from circuitbook.suites import Suite
from circuitbook.tasks import PromptPairs, Task, get_task

METHODS = (
    "patching",
    "eap",
    "eap-qk",
    "atp*",
    "relp",
    "gim",
    "clean-corrupted",
    "eap-ig",
    "stable",
    "eap-ig-activations",
    "random",
)
"""Every edge patched by itself, which the others estimate; by gradients at the clean prompt, or at
both ends; with integrated gradients, as the recipe has them, by themselves, with those edges first
that have stable signs, and on activations; random numbers, which any method must beat."""
LEVEL_OF_SIGNS = 0.95  # of the interval that tells whether a sign is stable
COLUMNS = ["model", "step", "task", "method", "gradients", "cpr", "cmd", "edges", "fresh", "rank"]


def compare_methods(
    model: Model,
    *,
    task: Task,
    prompts: int,
    seed: int,
    attribution: dict,
    search: dict,
) -> dict[str, np.ndarray]:
    """Of each of `METHODS`: {"gradients", "cpr", "cmd", "edges", "fresh", "rank"}, [method] each.

    gradients: how many backward passes a prompt takes (patching: 0, but a forward pass an edge);
    cpr, cmd: see `mib_metrics`, with the recipe's selection ("stable": with edges of stable signs
    first); edges: of the smallest circuit that
    keeps the threshold where it was searched, nan without one; fresh: its faithfulness, normalised;
    rank: Spearman's correlation of the absolute scores with those of patching, over all edges. cpr,
    cmd and fresh are on the next prompts of the draw. Nothing where fewer than `FEWEST` are left.
    """
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    fresh = next_prompts(task, model.tokenizer, prompts, seed)
    if fresh is None or len(fresh) < FEWEST:
        return {}
    graph, patched = graph_of(model), patch_edges(model, pairs)
    none, full = (metric.double().mean() for metric in _ends(model, fresh))
    scored, rows = _scores(model, pairs, attribution, patched), []
    for method in METHODS:
        scores = scored[method]
        row: dict[str, float] = {
            "gradients": scores.points if method not in ("patching", "random") else 0
        }
        stable = LEVEL_OF_SIGNS if method == "stable" else None
        how = {name: search[name] for name in ("selection", "absolute")}
        row |= mib_metrics(model, fresh, scores, stable=stable, **how)
        circuit = find_circuit(model, pairs, scores, stable=stable, **search)
        row |= {"edges": np.nan, "fresh": np.nan}
        if circuit.found:
            metric = evaluate_masks(model, fresh, [circuit.mask])[0].double().mean()
            kept = float(faithfulness(metric, full, none, "normalised"))
            row |= {"edges": circuit.n_edges, "fresh": kept}
        alive = np.abs(np.asarray(scores.values, float)[graph.mask])
        row["rank"] = float(spearmanr(alive, np.abs(patched[graph.mask])).statistic)
        rows.append(row)
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}


def _ends(model: Model, pairs: PromptPairs) -> torch.Tensor:
    """[empty and full circuit, n]"""
    graph = graph_of(model)
    return evaluate_masks(model, pairs, [np.zeros_like(graph.mask), graph.mask])


def _scores(
    model: Model, pairs: PromptPairs, attribution: dict, patched: np.ndarray
) -> dict[str, Scores]:
    """Of each of `METHODS`."""
    at_points = {name: attribution[name] for name in ("rule", "points")}
    how = {
        "eap-ig": attribution | {"per_prompt": True},
        "eap-ig-activations": {"method": "eap-ig-activations"} | at_points,
    }
    given = ("patching", "stable", "random")
    scores = {
        method: attribute(model, pairs, **how.get(method, {"method": method}))
        for method in METHODS
        if method not in given
    }
    random = np.random.default_rng(0).random(patched.shape)
    return scores | {
        "patching": _with_values(scores["eap"], patched),
        "stable": scores["eap-ig"],
        "random": _with_values(scores["eap"], random),
    }


def _with_values(scores: Scores, values: np.ndarray) -> Scores:
    return Scores(
        values=torch.as_tensor(values * scores.graph.mask, dtype=scores.values.dtype),
        graph=scores.graph,
        method="given",
        rule=scores.rule,
        points=0,
        change=scores.change,
        from_input=scores.from_input,
    )


def measure_methods(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """`compare_methods` at the last checkpoint of each model and task with a circuit.

    Columns: `COLUMNS`, a row per model, task and method.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    rows = []
    last = last_circuits(circuits)
    for result, here in at_last(suite, last, store, device, dtype, progress, "methods"):
        arrays = here.arrays(
            "methods",
            compare_methods,
            task=get_task(result.task),
            prompts=recipe.prompts[result.task],
            seed=recipe.seed,
            attribution=recipe.attribution,
            search=recipe.circuit(result.task),
        )
        for i, method in enumerate(METHODS if arrays else ()):
            about = {"model": result.model, "step": result.step, "task": result.task}
            rows.append(
                about | {"method": method} | {name: float(arrays[name][i]) for name in arrays}
            )
    return pd.DataFrame(rows, columns=COLUMNS)
