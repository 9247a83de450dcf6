"""The circuits of one seed in another, under other numbers of heads.

Heads of two seeds that do the same job have no reason to bear the same number. So each circuit of a
seed is put to the others of its size under several numbers (heads change places within their
layers; see `circuits.relabelling`):

    old      the numbers it has
    random   numbers drawn at random, a mean
    roles    each head in the place of the head of the target that does what it does: measured
             scores, attention, direct effects and classes, matched as well as they can be
    best     the numbers under which it keeps most, by search: an upper bound of the others

The search looks at some of the prompts that circuits were found on, and what is reported comes from
others (see `halves`). Roles are those that other studies have measured: scores on IOI prompts may
have some of the reported ones among theirs, but no circuit was evaluated on these.

The search would find something for any circuit. So the same is done with circuits that are not the
one in question: rewired ones, in which every output and every input of a node keeps its number of
edges, and the source's circuits of other tasks. Shuffling a circuit's heads makes no other null for
"best": the search goes through all shuffled ones; it is the null for "roles", as "random".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from transformers import PreTrainedTokenizerBase

from circuitbook.circuits.corrupted import CorruptedRuns
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.circuits.random_circuits import rewired_circuit
from circuitbook.circuits.relabelling import (
    Mask,
    best_relabelling,
    random_numbers,
    relabellings,
)
from circuitbook.circuits.similarity import relabelled_jaccard
from circuitbook.model.graph import Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.answer_readers import AnswerReaders
from circuitbook.studies.circuit_tables import grouped
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_classes import HeadClasses
from circuitbook.studies.head_roles import HeadRoles
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.held_out import next_prompts
from circuitbook.studies.measurement import at_places
from circuitbook.suites import Suite
from circuitbook.tasks import PromptPairs, Task, get_task

NUMBERS = ("old", "random", "roles", "best")
CIRCUIT, REWIRED, OTHER_TASK = "circuit", "rewired", "other task"  # what is put to a target
SEARCHED = 24  # prompts of a search
FEWEST = 8  # held-out prompts; where there are fewer, the found-on ones are halved
DRAWS = 8  # random numbers of a circuit
REWIRINGS = 4  # of a circuit


@dataclass(frozen=True, eq=False)
class Relabelled:
    """One circuit of `source`, put to `target` under several numbers.

    what: `CIRCUIT`, the task's own; `REWIRED`, that one rewired; `OTHER_TASK`, one of `of`, another
    task. `choices`: how many ways there are to number its heads; `tried`: circuits that the search
    evaluated. `metric`: the task's metric of each held-out prompt, {one of `NUMBERS`: [n]}, and
    {"own": the target's own circuit, "clean", "corrupted": its full model}.
    """

    task: str
    source: str
    target: str
    what: str
    of: str
    edges: int
    choices: int
    tried: int
    orders: np.ndarray  # [layer, head], the best, as `Graph.relabel` takes them
    metric: Mapping[str, np.ndarray]

    def kept(
        self, which: str, weights: Float[np.ndarray, "draw n"] | None = None
    ) -> Float[np.ndarray, " draw"]:
        """Normalised faithfulness under these numbers, with weights of prompts (None: [1], all the
        same).
        """
        if weights is None:
            n = len(self.metric[which])
            weights = np.full((1, n), 1 / n)
        metric, clean, corrupted = (
            weights @ self.metric[name] for name in (which, "clean", "corrupted")
        )
        return faithfulness(metric, clean, corrupted, "normalised")


# ------------------------------------------------------------------ one target


def halves(
    task: Task, tokenizer: PreTrainedTokenizerBase, n: int, seed: int
) -> tuple[PromptPairs, PromptPairs]:
    """(prompts to search on, prompts to report): none is in both.

    `SEARCHED` of the n prompts that circuits are found on, and the held-out ones after these. Where
    there are fewer than `FEWEST` of those, the other prompts that circuits are found on.
    """
    found_on = task.prompts(tokenizer, n=n, seed=seed)
    order = np.random.default_rng(seed).permutation(len(found_on)).tolist()
    searched = min(SEARCHED, -(-len(order) // 2))
    held_out = next_prompts(task, tokenizer, n, seed)
    if held_out is None or len(held_out) < FEWEST:
        held_out = found_on.subset(order[searched:])
    return found_on.subset(order[:searched]), held_out


def under_other_numbers(
    model: Model,
    *,
    task: Task,
    prompts: int,
    seed: int,
    own: Bool[np.ndarray, "src dst"],
    circuits: Bool[np.ndarray, "circuit src dst"],
    matched: Int[np.ndarray, "circuit layer head"],
) -> dict[str, np.ndarray]:
    """Circuits in this model under the numbers of `NUMBERS`; matched: the orders by roles.

    metric [3 + circuit * 4, n]: of the full model on clean and on corrupted prompts, of its `own`
    circuit, then of each circuit under each numbers; orders [circuit, layer, head], the best, and
    tried [circuit], see `Relabelling`.
    """
    graph = graph_of(model)
    searched, reported = halves(task, model.tokenizer, prompts, seed)
    runs = CorruptedRuns(model, searched)
    clean, corrupted = (metric.double().mean().numpy() for metric in runs.baselines())

    def keeps(masks: Sequence[Mask]) -> np.ndarray:
        metric = evaluate_masks(model, searched, masks, runs=runs).double().mean(1)
        return faithfulness(metric.numpy(), clean, corrupted, "normalised")

    put, found = [own], []
    for mask, by_roles in zip(circuits, matched, strict=True):
        rng = np.random.default_rng(seed)
        drawn = [random_numbers(graph, rng) for _ in range(DRAWS)]
        found.append(best_relabelling(mask, graph, keeps, [list(by_roles), drawn[0]]))
        put += [mask, *(graph.relabel(mask, orders) for orders in drawn)]
        put += [graph.relabel(mask, orders) for orders in (list(by_roles), found[-1].orders)]
    runs = CorruptedRuns(model, reported)
    metric = evaluate_masks(model, reported, put, runs=runs).double()
    each = metric[1:].view(len(circuits), 3 + DRAWS, len(reported))
    random = each[:, 1:-2].mean(1, keepdim=True)
    rows = torch.cat([each[:, :1], random, each[:, -2:]], 1)  # as NUMBERS
    baselines = torch.stack(runs.baselines()).double()
    return {
        "metric": torch.cat([baselines, metric[:1], rows.flatten(0, 1)]).numpy(),
        "orders": np.array([one.orders for one in found]),
        "tried": np.array([one.tried for one in found]),
    }


# ------------------------------------------------------------------ all of them


def measure_relabelled(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    head_scores: Sequence[HeadScores],
    store: Store,
    recipe: Recipe | str = "robust",
    head_classes: Sequence[HeadClasses] = (),
    answer_readers: Sequence[AnswerReaders] = (),
    across: Sequence[Sequence[str]] = (),
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> list[Relabelled]:
    """Each model's last circuits of every task, put to the other models of its group in `across`
    (groups of one shape, such as seeds), with rewired circuits and those of other tasks beside.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    last = {place: group[-1] for place, group in grouped(circuits).items()}
    known = HeadRoles(head_scores, head_classes, answer_readers)
    kin = {name: [one for one in names if one != name] for names in across for name in names}
    targets = [
        (target, sources)
        for (model, task), target in last.items()
        if (sources := [last[one, task] for one in kin.get(model, []) if (one, task) in last])
    ]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    places = [(target.model, target.step) for target, _ in targets]
    results = []
    for (target, sources), here in zip(
        targets, at_places(suite, places, store, what="other numbers", **where), strict=True
    ):
        put = [one for source in sources for one in _put_to(source, last, recipe.seed)]
        graph = target.circuit.graph
        orders = {source.model: known.match(source, target) for source in sources}
        measured = here.arrays(
            "relabelled",
            under_other_numbers,
            task=get_task(target.task),
            prompts=recipe.prompts[target.task],
            seed=recipe.seed,
            own=target.circuit.mask,
            circuits=np.array([mask for *_, mask in put]),
            matched=np.array([orders[source.model] for source, *_ in put]),
        )
        shared = dict(zip(("clean", "corrupted", "own"), measured["metric"], strict=False))
        rows = measured["metric"][3:].reshape(len(put), len(NUMBERS), -1)
        for i, (source, what, of, mask) in enumerate(put):
            results.append(
                Relabelled(
                    task=target.task,
                    source=source.model,
                    target=target.model,
                    what=what,
                    of=of,
                    edges=int(mask.sum()),
                    choices=relabellings(mask, graph),
                    tried=int(measured["tried"][i]),
                    orders=measured["orders"][i],
                    metric=dict(zip(NUMBERS, rows[i], strict=True)) | shared,
                )
            )
    return results


def _put_to(
    source: CircuitResult, last: Mapping[tuple[str, str], CircuitResult], seed: int
) -> list[tuple[CircuitResult, str, str, Mask]]:
    """All of a source that is put to a target: (source, what, of which task, its edges)."""
    mask, graph, task = source.circuit.mask, source.circuit.graph, source.task
    put = [(source, CIRCUIT, task, mask)]
    put += [(source, REWIRED, task, other) for other in other_wirings(mask, graph, seed)]
    return put + [
        (source, OTHER_TASK, of, result.circuit.mask)
        for (model, of), result in last.items()
        if model == source.model and of != task
    ]


def other_wirings(mask: Mask, graph: Graph, seed: int) -> list[Mask]:
    """Up to `REWIRINGS` different rewired circuits that are no relabelling of the circuit.

    A small circuit may have none: its degrees then say all of it.
    """
    rng = np.random.default_rng(seed)
    drawn = [rewired_circuit(mask, graph, rng) for _ in range(REWIRINGS)]
    different = {one.tobytes(): one for one in drawn}.values()
    return [one for one in different if relabelled_jaccard(mask, one, graph) < 1]
