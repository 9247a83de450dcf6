"""The heads that bring what matters to END, for the tasks other than IOI (Tigges et al. 2024, the
Greater-Than check of its code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuitbook.heads.names import all_heads, head_name
from circuitbook.heads.path_patching import baselines, path_patch
from circuitbook.heads.unembedding import folded_unembedding
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.loaded import Model
from circuitbook.model.network import Network, attention_pattern, run
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store.disk import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.measurement import as_array, at_places
from circuitbook.suites.suite import Suite
from circuitbook.tasks import Task
from circuitbook.tasks.base import PromptPairs
from circuitbook.tasks.registry import get_task

# the position that says what the answer is
TELLS = {"greater_than": "YY", "gendered_pronoun": "name", "sva": "subject"}


@dataclass(frozen=True, eq=False)
class AnswerReaders:
    """The heads of one checkpoint that bring what matters from where it stands to END, for a task
    other than IOI.

    Rows of `effect` are heads, then MLPs: the direct effect e on the task's metric. `looks` [head,
    n]: attention from END to the token that tells; `peaks` [head, n]: whether it is the largest.
    For Greater-Than `year` [head, n]: the head's output at END, through the unembedding, is highest
    for YY or YY + 1 among the hundred years; `above` [MLP, n]: the MLP's, mean of the years after
    YY less that of the others. For a tokenizer that writes digits, read YY's tens digit for YY, and
    the ten digits for the years.
    """

    model: str
    step: int
    tokens_seen: int
    task: str
    n_heads: int
    arrays: dict[str, np.ndarray]

    @property
    def n_rows(self) -> int:
        return len(self.arrays["looks"])

    @property
    def does(self) -> bool:
        """Whether the model does the task here at all."""
        return float(self.arrays["clean"].mean()) > get_task(self.task).min_metric

    def effect(self) -> np.ndarray:
        """e of heads, then MLPs; negative helps."""
        clean, corrupted = self.arrays["clean"].mean(), self.arrays["corrupted"].mean()
        return (self.arrays["direct"].mean(1) - clean) / (clean - corrupted)

    def readers(self, bar: float = 0.5) -> np.ndarray:
        """bool [head]: attention from END is highest at the token that tells, on more than `bar` of
        the prompts.
        """
        return self.arrays["peaks"].mean(1) > bar

    def shares(self) -> dict[str, float]:
        """Shares of the absolute direct effects: of the MLPs among all, of the readers among heads,
        and what k random heads would have (k of all).
        """
        effect, readers = np.abs(self.effect()), self.readers()
        of_heads = effect[: self.n_rows]
        return {
            "MLPs": effect[self.n_rows :].sum() / effect.sum(),
            "readers": of_heads[readers].sum() / of_heads.sum(),
            "random": readers.mean(),
            "helping": float(-self.effect()[: self.n_rows][readers].sum()),
        }


@torch.no_grad()
def read_answers(model: Model, pairs: PromptPairs) -> dict[str, Tensor]:
    """The arrays of `AnswerReaders`."""
    network, device = network_of(model), model.device
    prompt = torch.arange(len(pairs), device=device)
    # "tens" alone tells the answer where years are written digit by digit
    tells = "tens" if "tens" in pairs.positions else TELLS[pairs.task]
    end, place = pairs.end.to(device), pairs.positions[tells].to(device)
    tokens = pairs.clean[:, : int(pairs.end.max()) + 1].to(device)
    years = _Years(network, pairs) if pairs.task == "greater_than" else None
    by_layer: list[dict[str, Tensor]] = []
    runs = run(network, network.embed(tokens)[:, None])
    for done, layer in zip(runs, network.layers, strict=True):
        pattern = attention_pattern(done.q, done.k, network.scale)
        from_end = pattern[prompt, 0, :, end]  # [n, head, position]
        measured = {
            "looks": from_end[prompt, :, place].t(),
            "peaks": (from_end.argmax(-1) == place[:, None]).t(),
        }
        if years:
            written = torch.einsum(
                "nhe,hed->nhd", layer.scaled(done.z[prompt, 0, end]), layer.w_written
            )
            measured["year"] = years.is_named(written)
            measured["above"] = years.above(done.mlp_out[prompt, 0, end])
        by_layer.append(measured)
    arrays = {name: torch.cat([layer[name] for layer in by_layer]) for name in by_layer[0]}
    arrays["clean"], arrays["corrupted"] = baselines(model, pairs)
    heads = [head_name(head) for head in all_heads(model)]
    mlps = [f"m{layer}" for layer in range(model.shape.n_layers)]
    return arrays | {"direct": path_patch(model, pairs, [*heads, *mlps], ["logits"]).metric}


class _Years:
    """What an output at END says, through the unembedding, of the hundred years of Greater-Than."""

    def __init__(self, network: Network, pairs: PromptPairs):
        network.refuse_capped_logits("what heads and MLPs say of years")
        self.dtype = sums_dtype(network.w_embed.dtype)
        answers, device = pairs.answers, network.w_embed.device
        self.unembed = folded_unembedding(network, self.dtype)[answers.to(device)]  # [n, year, d]
        self.later = (pairs.signs > 0).to(device)  # [n, year]: after YY
        self.next = self.later.long().argmax(1)  # [n]: the year after YY

    def is_named(self, written: Tensor) -> Tensor:
        """bool [head, n]: what the heads write, [n, head, d], is highest for YY or YY + 1."""
        logits = torch.einsum("nhd,nyd->nhy", written.to(self.dtype), self.unembed)
        best, following = logits.argmax(-1), self.next[:, None]
        return ((best == following) | (best == following - 1)).t()

    def above(self, written: Tensor) -> Tensor:
        """[1, n]: mean logit of the years after YY less that of the others, of an output [n, d]."""
        logits = torch.einsum("nd,nyd->ny", written.to(self.dtype), self.unembed)
        later, others = (
            (logits * years).sum(1) / years.sum(1) for years in (self.later, ~self.later)
        )
        return (later - others)[None]


def reader_arrays(model: Model, *, task: Task, prompts: int, seed: int) -> dict[str, np.ndarray]:
    """`read_answers` on prompts of the task, as the store keeps it."""
    found = read_answers(model, task.prompts(model.tokenizer, n=prompts, seed=seed))
    return {name: as_array(array.float()) for name, array in found.items()}


def measure_answer_readers(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> list[AnswerReaders]:
    """`AnswerReaders` at each checkpoint and task (of `TELLS`) of `circuits` that has a circuit."""
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    found = [result for result in circuits if result.circuit.found and result.task in TELLS]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    places = [(result.model, result.step) for result in found]
    readers = []
    for result, here in zip(
        found, at_places(suite, places, store, what="readers", **where), strict=True
    ):
        task, n = get_task(result.task), recipe.prompts[result.task]
        arrays = here.arrays("readers", reader_arrays, task=task, prompts=n, seed=recipe.seed)
        n_heads = result.circuit.graph.n_heads
        about = (result.model, result.step, result.tokens_seen, result.task)
        readers.append(AnswerReaders(*about, n_heads, arrays))
    return readers


def year_circuit(result: CircuitResult) -> tuple[list[int], list[int]]:
    """The parts that the authors' Greater-Than check looks at: (MLPs with an edge to the logits, as
    layers; heads with an edge to one of these MLPs, as rows).
    """
    graph, mask = result.circuit.graph, result.circuit.mask
    mlps = [layer for layer in range(graph.n_layers) if mask[graph.source(layer), -1]]
    columns = [graph.destination(layer) for layer in mlps]
    heads = [(layer, head) for layer in range(graph.n_layers) for head in range(graph.n_heads)]
    rows = [row for row, head in enumerate(heads) if mask[graph.source(*head), columns].any()]
    return mlps, rows
