"""What edges buy over nodes: circuits of heads and MLPs beside a circuit of edges.

At the last checkpoint of a model and task, to the same share of the behaviour; judged, as methods
that score edges are (`studies.methods`), on prompts on which nothing was found.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.evaluation import evaluate_masks, patch_each
from circuitbook.circuits.faithfulness import faithfulness, mib_metrics
from circuitbook.circuits.node_circuits import (
    NODE_SCORES,
    find_node_circuit,
    mib_metrics_of_nodes,
    node_scores,
)
from circuitbook.circuits.search import find_circuit
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.enough import FEWEST, at_last, last_circuits
from circuitbook.studies.held_out import next_prompts
from circuitbook.studies.methods import ends
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task

KINDS = ("edges", *NODE_SCORES, "patching")
"""Edges in order of their scores; nodes in order of the sums of these, signed or absolute, or of
what patching each node by itself does."""
NUMBERS = ("seconds", "nodes", "edges", "cpr", "cmd", "fresh")
COLUMNS = ["model", "step", "task", "kind", *NUMBERS]


def compare_nodes(
    model: Model, *, task: Task, prompts: int, seed: int, attribution: dict, search: dict
) -> dict[str, np.ndarray]:
    """Of each of `KINDS`: {name of `NUMBERS`: [kind]}.

    seconds: what scoring took; nodes, edges: of the smallest circuit that keeps the threshold where
    it was searched, `input` and `logits` among the nodes, 0 without one; cpr, cmd: of
    `mib_metrics`, at equal numbers of edges; fresh: the circuit's faithfulness, normalised, 0
    without one. cpr, cmd and fresh are on the next prompts of the draw. Nothing where fewer than
    `FEWEST` are left.
    """
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    fresh = next_prompts(task, model.tokenizer, prompts, seed)
    if fresh is None or len(fresh) < FEWEST:
        return {}
    none, full = (metric.double().mean() for metric in ends(model, fresh))
    absolute = search["absolute"]
    of_nodes = {name: search[name] for name in search if name not in ("search", "selection")}
    begun = time.perf_counter()
    scores = attribute(model, pairs, **attribution)
    seconds = dict.fromkeys(KINDS, time.perf_counter() - begun)
    begun = time.perf_counter()
    values = {"patching": patch_each(model, pairs, "nodes")}
    seconds["patching"] = time.perf_counter() - begun
    values |= {how: node_scores(scores, how) for how in NODE_SCORES}
    rows: list[dict[str, float]] = []
    for kind in KINDS:
        if kind == "edges":
            circuit = find_circuit(model, pairs, scores, **search)
            how = {name: search[name] for name in ("selection", "absolute")}
            row = mib_metrics(model, fresh, scores, **how)
        else:
            circuit = find_node_circuit(model, pairs, values[kind], **of_nodes)
            row = mib_metrics_of_nodes(model, fresh, values[kind], absolute=absolute)
        rows.append(row | {"seconds": seconds[kind], "nodes": 0, "edges": 0, "fresh": 0})
        if circuit.found:
            metric = evaluate_masks(model, fresh, [circuit.mask])[0].double().mean()
            kept = float(faithfulness(metric, full, none, "normalised"))
            rows[-1] |= {"nodes": circuit.n_nodes, "edges": circuit.n_edges, "fresh": kept}
    return {name: np.array([row[name] for row in rows], float) for name in NUMBERS}


def measure_nodes(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """`compare_nodes` at the last checkpoint of each model and task with a circuit.

    Columns: `COLUMNS`, a row per model, task and kind; nan where there is no circuit.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    rows = []
    last = last_circuits(circuits)
    for result, here in at_last(suite, last, store, device, dtype, progress, "circuits of nodes"):
        arrays = here.arrays(
            "nodes",
            compare_nodes,
            task=get_task(result.task),
            prompts=recipe.prompts[result.task],
            seed=recipe.seed,
            attribution=recipe.attribution,
            search=recipe.circuit(result.task),
        )
        about = {"model": result.model, "step": result.step, "task": result.task}
        for i, kind in enumerate(KINDS if arrays else ()):
            numbers = {name: float(arrays[name][i]) for name in NUMBERS}
            if not numbers["edges"]:
                numbers |= dict.fromkeys(("nodes", "edges", "fresh"), np.nan)
            rows.append({**about, "kind": kind, **numbers})
    return pd.DataFrame(rows, columns=COLUMNS)
