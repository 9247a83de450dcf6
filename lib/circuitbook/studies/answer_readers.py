"""The heads that bring what matters to END, for the tasks other than IOI (Tigges et al. 2024, the
Greater-Than check of its code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from circuitbook.heads.names import all_heads, head_name
from circuitbook.heads.path_patching import baselines, path_patch
from circuitbook.heads.unembedding import folded_unembedding
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.loaded import Model
from circuitbook.model.network import attention_pattern, run
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store.disk import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.measurement import as_array, at_places
from circuitbook.suites.suite import Suite
from circuitbook.tasks import Task
from circuitbook.tasks.base import PromptPairs
from circuitbook.tasks.registry import get_task

TELLS = {
    "greater_than": "YY",
    "gendered_pronoun": "name",
    "sva": "subject",
}  # the position that says what the answer is


@dataclass(frozen=True, eq=False)
class AnswerReaders:
    """The heads of one checkpoint that bring what matters from where it stands to END, for a task
    other than IOI.

    Rows of `effect` are heads, then MLPs: the direct effect e on the task's metric. `looks` [head,
    n]: attention from END to the token that tells; `peaks` [head, n]: whether it is the largest.
    For Greater-Than `year` [head, n]: the head's output at END, through the unembedding, is highest
    for YY or YY + 1 among the hundred years; `above` [MLP, n]: the MLP's, mean of the years after
    YY less that of the others.
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
    """The arrays of `Readers`."""
    net, device, place = network_of(model), model.device, TELLS[pairs.task]
    dtype, end = sums_dtype(model.dtype), pairs.end.to(device)
    tokens, b = (
        pairs.clean[:, : int(pairs.end.max()) + 1].to(device),
        torch.arange(len(pairs), device=device),
    )
    unembed = folded_unembedding(net, dtype)[pairs.answers.to(device)]  # [n, k, d]
    right = (pairs.signs > 0).to(device)
    out: dict[str, list[Tensor]] = {"looks": [], "peaks": []} | (
        {"year": [], "above": []} if pairs.task == "greater_than" else {}
    )
    for one, layer in zip(run(net, net.embed(tokens)[:, None]), net.layers):
        from_end = attention_pattern(one.q, one.k, net.scale)[b, 0, :, end]  # [n, h, s]
        at = pairs.positions[place].to(device)
        out["looks"].append(from_end[b, :, at].t())
        out["peaks"].append((from_end.argmax(-1) == at[:, None]).t())
        if "year" in out:
            written = torch.einsum("nhe,hed->nhd", one.z[b, 0, end], layer.w_out).to(dtype)
            first = right.long().argmax(1)  # the year after YY
            best = torch.einsum("nhd,nkd->nhk", written, unembed).argmax(-1)
            out["year"].append(((best == first[:, None]) | (best == first[:, None] - 1)).t())
            lens = torch.einsum("nd,nkd->nk", one.mlp_out[b, 0, end].to(dtype), unembed)
            mean = lambda chosen: (lens * chosen).sum(1) / chosen.sum(1)
            out["above"].append((mean(right) - mean(~right))[None])
    arrays = {name: torch.cat(parts) for name, parts in out.items()}
    arrays["clean"], arrays["corrupted"] = baselines(model, pairs)
    everything = [
        *map(head_name, all_heads(model)),
        *(f"m{layer}" for layer in range(model.shape.n_layers)),
    ]
    return arrays | {"direct": path_patch(model, pairs, everything, ["logits"]).metric}


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
    where = {"device": device, "dtype": dtype, "progress": progress}
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


def year_circuit(found: CircuitResult) -> tuple[list[int], list[int]]:
    """The parts that the authors' Greater-Than check looks at: (MLPs with an edge to the logits, as
    layers; heads with an edge to one of these MLPs, as rows).
    """
    graph, mask = found.circuit.graph, found.circuit.mask
    mlps = [layer for layer in range(graph.n_layers) if mask[graph.source(layer), -1]]
    columns = [graph.destination(layer) for layer in mlps]
    rows = [
        row
        for row in range(graph.n_layers * graph.n_heads)
        if mask[graph.source(*divmod(row, graph.n_heads)), columns].any()
    ]
    return mlps, rows
