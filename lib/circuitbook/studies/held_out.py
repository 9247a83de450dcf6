"""Circuits on prompts that they were not found on.

A circuit found on n prompts is evaluated on the next n of the same draw. No prompt is in both, and
each n is balanced over what the task varies (`tasks.balance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from transformers import PreTrainedTokenizerBase

from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.evaluation import evaluate_circuit
from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.heads.path_patching import baselines
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.stats import bootstrap_draws, interval
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.measurement import at_places
from circuitbook.suites import Suite
from circuitbook.tasks import PromptPairs, Task, get_task

COLUMNS = ["model", "step", "tokens_seen", "task", "edges", "share", "found_on"]
COLUMNS += ["held_out", "low", "high", "prompts"]


def next_prompts(
    task: Task, tokenizer: PreTrainedTokenizerBase, n: int, seed: int, **options: Any
) -> PromptPairs | None:
    """The `n` prompts after the first `n` of a draw, without any that are among those; balanced
    as the first are. `options` are the task's.

    None where none is left: Gendered Pronoun has a fixed number of items.
    """
    both = task.prompts(tokenizer, n=2 * n, seed=seed, **options)
    seen = set(both.table["clean"][:n])
    fresh = [i for i in range(n, len(both)) if both.table["clean"][i] not in seen]
    return both.subset(fresh) if fresh else None


def on_next_prompts(
    model: Model, *, task: Task, prompts: int, seed: int, mask: Bool[np.ndarray, "src dst"]
) -> dict[str, torch.Tensor]:
    """The metric [prompt] of a circuit, and of the model on clean and on corrupted prompts.

    On `next_prompts`; nothing where there are none.
    """
    pairs = next_prompts(task, model.tokenizer, prompts, seed)
    if pairs is None:
        return {}
    circuit = evaluate_circuit(model, pairs, Circuit(graph_of(model), mask))
    clean, corrupted = baselines(model, pairs)
    return {"circuit": circuit.cpu(), "clean": clean, "corrupted": corrupted}


def measure_held_out(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """A row for each circuit that was found, in its recipe's form of faithfulness.

    Columns: model, step, tokens_seen, task, edges, share (of all edges), found_on (the faithfulness
    on the prompts that it was found on), held_out with low and high (95% over prompts), prompts
    (how many held-out ones; 0 where none is left, and nan before it).
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    found = [result for result in circuits if result.circuit.found]
    places = [(result.model, result.step) for result in found]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    rows = []
    for result, here in zip(
        found, at_places(suite, places, store, what="held-out prompts", **where), strict=True
    ):
        metrics = here.arrays(
            "held-out",
            on_next_prompts,
            task=get_task(result.task),
            prompts=recipe.prompts[result.task],
            seed=recipe.seed,
            mask=result.circuit.mask,
        )
        place = (result.model, result.step, result.tokens_seen, result.task)
        about = (*place, result.circuit.n_edges)
        rows.append((*about, result.row["share"], *_faithful(result, metrics, recipe.form)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _faithful(
    result: CircuitResult, metrics: dict[str, np.ndarray], form: str
) -> tuple[float, float, float, float, int]:
    """found_on, held_out, low, high, prompts"""
    found_on = float(result.row["faithfulness"])
    if not metrics:
        return found_on, np.nan, np.nan, np.nan, 0
    circuit, clean, corrupted = (
        metrics[name].astype(float) for name in ("circuit", "clean", "corrupted")
    )
    draws = bootstrap_draws(len(circuit))
    samples = faithfulness(draws @ circuit, draws @ clean, draws @ corrupted, form)
    low, high = interval(np.asarray(samples))
    held_out = faithfulness(circuit.mean(), clean.mean(), corrupted.mean(), form)
    return found_on, float(held_out), float(low), float(high), len(circuit)
