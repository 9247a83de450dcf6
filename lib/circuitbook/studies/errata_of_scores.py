"""What a narrow dtype, adding up in it, and weighing a short last batch more, do to edge scores and
circuits.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.batches import default_memory, window
from circuitbook.circuits.gradients import add_chunk
from circuitbook.circuits.prefixes import Prefixes
from circuitbook.circuits.score_sums import Chunk, ScoreSums
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.circuits.similarity import jaccard
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.measurement import at_places
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task, ioi
from circuitbook.tasks.base import PromptPairs


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


@dataclass(frozen=True, eq=False, kw_only=True)
class NarrowSums(ScoreSums):
    """Sums as the authors' code takes them (EAP-IG at commit 10035b88, attribute_mem.py): what the
    sources write, the gradients of a batch's mean loss, and the products of a batch and a point are
    each rounded to the dtype of `values`, and added up in it. A product's own sum is in float32, as
    in a GPU's matrix product.
    """

    batch: int

    def add(
        self,
        chunk: Chunk,
        difference: Float[Tensor, "src prompt pos d_model"],
        gradient: Float[Tensor, "dst prompt pos d_model"],
        columns: slice,
    ) -> None:
        narrow = self.values.dtype
        written, read = (
            tensor.to(narrow).to(difference.dtype).flatten(1)
            for tensor in (difference, gradient / self.batch)
        )
        self.values[: len(difference), columns] += (written @ read.t()).to(narrow)


def narrow_sums(
    model: Model, pairs: PromptPairs, points: int, batch: int, dtype: torch.dtype
) -> Float[Tensor, "src dst"]:
    """EAP-IG scores, right rule, of a model in whatever dtype, added up in `dtype` over batches and
    points, one after the other, as the authors' code does. Their number of prompts must be a
    multiple of the batch, so that a short batch's weight is no part of it.
    """
    if len(pairs) % batch:
        raise ValueError(f"{len(pairs)} prompts do not make batches of {batch}")
    network, graph = network_of(model), graph_of(model)
    prefixes = Prefixes(network, pairs, default_memory(model.device) // 8)
    n = len(pairs)
    sums = NarrowSums(
        values=torch.zeros(*graph.mask.shape, dtype=dtype, device=model.device),
        ends=torch.zeros(n, 2),
        losses=torch.zeros(n, points),
        from_input=torch.zeros(n),
        batch=batch,
    )
    for rows in torch.arange(n).split(batch):
        part = pairs.subset(rows)
        start, stop = window(part)
        prefix = prefixes.before(rows, start)
        for k in range(points):
            chunk = Chunk(
                pairs=part,
                rows=rows,
                prefix=prefix,
                start=start,
                stop=stop,
                versions=slice(k, k + 1),
                points=torch.full((batch, 1), (k + 1) / points),
                weights=torch.ones(batch, 1),
            )
            add_chunk(sums, network, graph, chunk, network)
    values = sums.values / torch.tensor(n / batch, dtype=dtype)
    return (values / torch.tensor(points, dtype=dtype)).float()


def in_dtype(model: Model, dtype: torch.dtype) -> Model:
    """The model with its weights rounded to another dtype."""
    rounded: Any = copy.deepcopy(model.hf_model)
    return dataclasses.replace(model, hf_model=rounded.to(dtype))


ACCUMULATION_COLUMNS = ["sums", "correlation", "largest", "edges", "model", "step"]


def accumulation_table(
    model: Model, *, prompts: int, batch: int, points: int, size: int, low: str
) -> pd.DataFrame:
    """sums, correlation, largest, edges: see `accumulation`."""
    pairs, narrow = ioi.TASK.prompts(model.tokenizer, n=prompts), getattr(torch, low)
    graph, rough = graph_of(model), in_dtype(model, narrow)
    fine = attribute(model, pairs, rule="right", points=points).values.float()
    found = {
        "in float32": attribute(rough, pairs, rule="right", points=points).values.float(),
        f"in {low}": narrow_sums(rough, pairs, points, batch, narrow),
    }
    circuit, rows = first_edges(edge_order(fine, graph), graph, size), []
    for sums, values in found.items():
        a, b = fine[graph.mask], values[graph.mask].cpu()
        other = first_edges(edge_order(values, graph), graph, size)
        correlation = float(torch.corrcoef(torch.stack([a, b]))[0, 1])
        largest = float((a - b).abs().max() / a.abs().max())
        rows.append((sums, correlation, largest, jaccard(circuit, other)))
    return pd.DataFrame(rows, columns=ACCUMULATION_COLUMNS[:4])


def accumulation(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    *,
    prompts: int = 24,
    batch: int = 8,
    points: int = 30,
    low: str = "bfloat16",
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """IOI's scores in a narrow dtype against those in float32: added up in float32 and, as in the
    authors' code, in the narrow dtype itself, one batch and point after the other (three batches,
    as theirs of 70 prompts in batches of 32, are 90 additions).

    Two rows for each IOI circuit, with `correlation` of the scores of all edges, `largest`
    difference over the largest score, and `edges`, the Jaccard similarity of the circuits of the
    same size.
    """
    found = [result for result in circuits if result.circuit.found and result.task == "ioi"]
    places = [(result.model, result.step) for result in found]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": False}
    tables = []
    for result, here in zip(
        found, at_places(suite, places, store, what="accumulation", **where), strict=True
    ):
        what: dict[str, Any] = {"prompts": prompts, "batch": batch, "points": points, "low": low}
        size = result.circuit.about["size"]
        table = here.table("errata", accumulation_table, size=size, **what)
        tables.append(table.assign(model=result.model, step=result.step))
    if not tables:
        return pd.DataFrame(columns=ACCUMULATION_COLUMNS)
    return pd.concat(tables, ignore_index=True)


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
