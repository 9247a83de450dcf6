"""What a narrow dtype, and weighing a short last batch more, do to edge scores and circuits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.circuits.similarity import jaccard
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.measurement import at_places
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task, ioi


def precision_table(
    model: Model,
    *,
    task: Task,
    prompts: int,
    seed: int,
    attribution: dict,
    selection: str,
    absolute: bool,
    size: int,
    scores: np.ndarray,
    mask: np.ndarray,
) -> pd.DataFrame:
    """correlation, largest, edges: the model's own scores against `scores`, and the circuit against
    `mask`.
    """
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    rough = attribute(model, pairs, **attribution).values.float()
    graph, fine = graph_of(model), torch.as_tensor(scores)
    other = first_edges(edge_order(rough, graph, selection, absolute), graph, size)
    a, b = fine[graph.mask], rough[graph.mask]
    row = {
        "correlation": float(torch.corrcoef(torch.stack([a, b]))[0, 1]),
        "largest": float((a - b).abs().max() / a.abs().max()),
        "edges": jaccard(mask, other),
    }
    return pd.DataFrame([row])


def precision(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: str = "robust",
    *,
    device: str = "cpu",
    low: torch.dtype = torch.bfloat16,
) -> pd.DataFrame:
    """Scores in a narrow dtype against float32, at checkpoints and tasks with a circuit: a row each
    with `correlation` of the scores of all edges, `largest` difference over the largest score, and
    `edges`, the Jaccard similarity of the circuits of the same size.
    """
    settings, tables = get_recipe(recipe), []
    found = [result for result in circuits if result.circuit.found]
    places = [(result.model, result.step) for result in found]
    for result, here in zip(
        found,
        at_places(suite, places, store, what="precision", device=device, dtype=low, progress=False),
        strict=True,
    ):
        table = here.table(
            "errata",
            precision_table,
            task=get_task(result.task),
            prompts=settings.prompts[result.task],
            seed=settings.seed,
            attribution=settings.attribution,
            selection=settings.selection,
            absolute=settings.absolute,
            size=result.circuit.about["size"],
            scores=np.asarray(result.circuit.scores),
            mask=result.circuit.mask,
        )
        tables.append(table.assign(model=result.model, step=result.step, task=result.task))
    columns = ["correlation", "largest", "edges", "model", "step", "task"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def last_batch_table(model: Model, *, prompts: int, batch: int, size: int) -> pd.DataFrame:
    """weight, edges: see `last_batch`."""
    pairs = ioi.TASK.prompts(model.tokenizer, n=prompts)
    scores = attribute(model, pairs, rule="midpoint", points=10, per_prompt=True)
    assert scores.per_prompt is not None
    graph, dtype = graph_of(model), scores.per_prompt.dtype
    sizes = [min(batch, prompts - i // batch * batch) for i in range(prompts)]
    weights = torch.tensor([1 / rows for rows in sizes], dtype=dtype)
    theirs = torch.einsum("n,nuv->uv", weights, scores.per_prompt)
    masks = [
        first_edges(edge_order(values, graph), graph, size) for values in (scores.values, theirs)
    ]
    return pd.DataFrame(
        [{"weight": float(weights.max() / weights.min()), "edges": jaccard(*masks)}]
    )


def last_batch(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    *,
    prompts: int = 70,
    batch: int = 32,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """Batch means summed over batches, as in the authors' code, weigh the prompts of a short last
    batch more. Of circuits of the size found, from IOI scores over `prompts` prompts: `weight` of
    such a prompt over another's, and `edges`, the Jaccard similarity with equal weights.
    """
    found = [result for result in circuits if result.circuit.found and result.task == "ioi"]
    places = [(result.model, result.step) for result in found]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": False}
    tables = []
    for result, here in zip(
        found, at_places(suite, places, store, what="last batch", **where), strict=True
    ):
        what: dict[str, Any] = {
            "prompts": prompts,
            "batch": batch,
            "size": result.circuit.about["size"],
        }
        table = here.table("errata", last_batch_table, **what)
        tables.append(table.assign(model=result.model, step=result.step))
    columns = ["weight", "edges", "model", "step"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
