"""Methods that score edges, compared: which one should you take?

All are put to the same question, by the measures of MIB (Mueller et al. 2025, arXiv:2504.13151) and
by the size of the circuit that they lead to: at the last checkpoint of a model, on prompts on which
nothing was found.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

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
    "ifr",
    "random",
)
"""Every edge patched by itself, which the others estimate; by gradients at the clean prompt, or at
both ends; with integrated gradients, as the recipe has them, by themselves, with those edges first
that have stable signs, and on activations; by shares of what is read, without corrupted prompts;
random numbers, which any method must beat."""
LEVEL_OF_SIGNS = 0.95  # of the interval that tells whether a sign is stable
NUMBERS = ("gradients", "seconds", "cpr", "cmd", "edges", "fresh", "rank")
COLUMNS = ["model", "step", "task", "method", *NUMBERS]


def compare_methods(
    model: Model,
    *,
    task: Task,
    prompts: int,
    seed: int,
    attribution: dict,
    search: dict,
    methods: Sequence[str] = METHODS,
) -> dict[str, np.ndarray]:
    """Of each method, one of `METHODS`: {name of `NUMBERS`: [method]}.

    gradients: how many backward passes a prompt takes (patching: 0, but a forward pass an edge);
    seconds: what scoring all edges took; cpr, cmd: see `mib_metrics`, with the recipe's selection
    ("stable": with edges of stable signs first); edges: of the smallest circuit that keeps the
    threshold where it was searched, 0 without one; fresh: its faithfulness, normalised, 0 without
    one; rank: Spearman's correlation of the absolute scores with those of patching, over all edges,
    left out where that is not among the methods. cpr, cmd and fresh are on the next prompts of the
    draw. Nothing where fewer than `FEWEST` are left.
    """
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    fresh = next_prompts(task, model.tokenizer, prompts, seed)
    if fresh is None or len(fresh) < FEWEST:
        return {}
    graph = graph_of(model)
    rows: dict[str, dict[str, float]] = {}
    none, full = (metric.double().mean() for metric in ends(model, fresh))
    patched: np.ndarray | None = None
    for method in sorted(methods, key=lambda name: name != "patching"):
        begun = time.perf_counter()
        scores = _scores(model, pairs, method, attribution)
        row: dict[str, float] = {"gradients": scores.points, "seconds": time.perf_counter() - begun}
        patched = scores.values.numpy() if method == "patching" else patched
        stable = LEVEL_OF_SIGNS if method == "stable" else None
        how = {name: search[name] for name in ("selection", "absolute")}
        row |= mib_metrics(model, fresh, scores, stable=stable, **how)
        circuit = find_circuit(model, pairs, scores, stable=stable, **search)
        row |= {"edges": 0, "fresh": 0}
        if circuit.found:
            metric = evaluate_masks(model, fresh, [circuit.mask])[0].double().mean()
            kept = float(faithfulness(metric, full, none, "normalised"))
            row |= {"edges": circuit.n_edges, "fresh": kept}
        if patched is not None:
            own, exact = (np.abs(part[graph.mask]) for part in (scores.values.numpy(), patched))
            row["rank"] = float(spearmanr(own, exact).statistic)
        rows[method] = row
    return {name: np.array([rows[m][name] for m in methods], float) for name in rows[methods[0]]}


def method_rows(
    about: Mapping[str, object], methods: Sequence[str], arrays: Mapping[str, np.ndarray]
) -> list[dict[str, object]]:
    """Rows of the table, one per method, from `compare_methods`: what is absent is nan."""
    rows = []
    for i, method in enumerate(methods if arrays else ()):
        numbers = {name: float(arrays[name][i]) if name in arrays else np.nan for name in NUMBERS}
        if not numbers["edges"]:
            numbers |= {"edges": np.nan, "fresh": np.nan}
        rows.append({**about, "method": method, **numbers})
    return rows


def ends(model: Model, pairs: PromptPairs) -> torch.Tensor:
    """[empty and full circuit, n]"""
    graph = graph_of(model)
    return evaluate_masks(model, pairs, [np.zeros_like(graph.mask), graph.mask])


def _scores(model: Model, pairs: PromptPairs, method: str, attribution: dict) -> Scores:
    """By one of `METHODS`."""
    if method in ("eap-ig", "stable"):
        return attribute(model, pairs, **attribution, per_prompt=method == "stable")
    if method == "eap-ig-activations":
        at_points = {name: attribution[name] for name in ("rule", "points")}
        return attribute(model, pairs, method=method, **at_points)
    if method == "patching":
        return _with_values(attribute(model, pairs, method="eap"), patch_edges(model, pairs))
    if method == "random":
        scores = attribute(model, pairs, method="eap")
        return _with_values(scores, np.random.default_rng(0).random(scores.values.shape))
    return attribute(model, pairs, method=method)


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
        about = {"model": result.model, "step": result.step, "task": result.task}
        rows += method_rows(about, METHODS, arrays)
    return pd.DataFrame(rows, columns=COLUMNS)
