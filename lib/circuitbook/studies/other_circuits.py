"""Other circuits that pass the same threshold, and other ways to find one.

A search gives one circuit. Is it the only one? Three kinds of others are looked for:

    without these edges   the same search with every edge of the circuits before forbidden, again
                          and again, until none passes
    from other orders     the scores multiplied by random factors; the first edges that pass, pruned
                          in a random order until no edge may go
    by other methods      from the exact effect of patching each edge in place of its estimate, and
                          by ACDC (Conmy et al. 2023)

All are found on a task's first prompts and evaluated on held-out ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64

from circuitbook.circuits.acdc import smallest_acdc
from circuitbook.circuits.attribution import Scores, attribute
from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.circuits.pruning import MetricOfCircuits, prune
from circuitbook.circuits.search import find_circuit
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.circuits.similarity import jaccard
from circuitbook.heads.edge_patching import patch_edges
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuit_tests import measure_held_out_masks
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.measurement import at_places
from circuitbook.suites import Suite
from circuitbook.tasks import PromptPairs, Task, get_task

Mask = Bool[np.ndarray, "src dst"]
DISJOINT = "edges of those before forbidden"
PRUNED = "pruned in a random order"
METHODS = {"eap-ig": "EAP-IG", "exact": "every edge patched", "acdc": "ACDC"}
ROUNDS = 3  # of forbidding
LARGER = 6  # times the circuit's edges: how far a circuit without them is looked for
SPREAD = 1.0  # of the logarithm of the random factors
STRANGERS = 0.5  # circuits with a Jaccard similarity below this are called different
FEW = 16  # prompts for other methods
MOST_PRUNED = 100  # edges of a circuit beside which others are pruned: each edge is an evaluation
MOST_EDGES = 500  # of a graph on which every edge is patched, and ACDC run


# ------------------------------------------------------------------ circuits of one model


def disjoint_circuits(
    model: Model, pairs: PromptPairs, scores: Scores, mask: Mask, search: dict[str, Any]
) -> list[Mask]:
    """Circuits that share no edge with `mask` nor with each other, `ROUNDS` at most.

    Each from the same search (`search`: the arguments of `find_circuit`), the scores of all edges
    used before made 0, up to `LARGER` times as many edges as the first has.
    """
    used = mask.copy()
    found: list[Mask] = []
    graph = graph_of(model)
    limits = {"max_share": min(1.0, LARGER * mask.sum() / graph.n_edges), "min_edges": 0}
    for _ in range(ROUNDS):
        allowed = torch.where(torch.as_tensor(used), 0.0, scores.values)
        circuit = find_circuit(model, pairs, _with_values(scores, allowed), **(search | limits))
        if not circuit.found or (circuit.mask & used).any():
            break
        found.append(circuit.mask)
        used |= circuit.mask
    return found


def pruned_circuits(
    metric: MetricOfCircuits,
    scores: Float[np.ndarray, "src dst"],
    edges: int,
    threshold: float,
    draws: int,
    rng: np.random.Generator,
) -> list[Mask]:
    """Circuits that pass and from which no edge may go, from scores with random factors.

    Each begins with the first 2 x `edges` edges in the order of scores times exp(`SPREAD` x normal)
    (twice as many until they pass) and loses its edges in a random order, as long as its normalised
    faithfulness stays at `threshold`. Fewer than `draws` where not even all edges pass.
    """
    graph = metric.graph
    found: list[Mask] = []
    corrupted, whole = metric.corrupted.mean(), (metric.clean - metric.corrupted).mean()

    def may_go(before: Float64[np.ndarray, " n"], after: Float64[np.ndarray, " n"]) -> bool:
        return bool((after.mean() - corrupted) / whole >= threshold)

    for _ in range(draws):
        order = edge_order(scores * np.exp(SPREAD * rng.normal(size=scores.shape)), graph)
        size = min(2 * edges, graph.n_edges)
        while metric.kept([first_edges(order, graph, size)])[0] < threshold:
            if size == graph.n_edges:
                return found
            size = min(2 * size, graph.n_edges)
        first = first_edges(order, graph, size)
        in_turn = rng.permutation(np.argwhere(first))
        found.append(prune(metric, graph, first, in_turn, may_go))
    return found


def _with_values(scores: Scores, values: torch.Tensor) -> Scores:
    return Scores(
        values=values,
        graph=scores.graph,
        method=scores.method,
        rule=scores.rule,
        points=scores.points,
        change=scores.change,
        from_input=scores.from_input,
    )


def by_other_methods(
    model: Model, pairs: PromptPairs, attribution: dict[str, Any], search: dict[str, Any]
) -> dict[str, Mask]:
    """{method of `METHODS`: its smallest circuit}, of the methods that give one.

    "exact" orders edges by what patching each of them alone does, in place of what EAP-IG
    estimates; the search is the same. "acdc" takes the largest threshold whose circuit passes. Both
    on graphs of at most `MOST_EDGES` edges.
    """
    orders = {"eap-ig": attribute(model, pairs, **attribution)}
    affordable = graph_of(model).n_edges <= MOST_EDGES
    if affordable:
        effects = torch.as_tensor(patch_edges(model, pairs))
        orders["exact"] = _with_values(orders["eap-ig"], effects)
    found = {name: find_circuit(model, pairs, order, **search) for name, order in orders.items()}
    masks = {name: circuit.mask for name, circuit in found.items() if circuit.found}
    if affordable:
        mask, _ = smallest_acdc(MetricOfCircuits(model, pairs), search["threshold"])
        masks |= {} if mask is None else {"acdc": mask}
    return masks


def find_others(
    model: Model,
    *,
    task: Task,
    prompts: int,
    seed: int,
    mask: Mask,
    scores: Float[np.ndarray, "src dst"],
    attribution: dict,
    search: dict,
    draws: int,
) -> dict[str, np.ndarray]:
    """{"disjoint": [circuit, src, dst], "pruned": the same, method: [src, dst]}, all bool.

    Disjoint circuits are found on the prompts that the circuit was found on, pruned ones on half of
    these (none beside more than `MOST_PRUNED` edges), those of other methods on `FEW`.
    """
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    graph = graph_of(model)
    none = torch.zeros(len(pairs))
    given = Scores(
        values=torch.as_tensor(scores),
        graph=graph,
        method="given",
        rule="none",
        points=0,
        change=none,
        from_input=none,
    )
    disjoint = disjoint_circuits(model, pairs, given, mask, search)
    half = MetricOfCircuits(model, pairs.subset(slice(None, None, 2)))
    size, rng = int(mask.sum()), np.random.default_rng(seed)
    draws = draws if size <= MOST_PRUNED else 0
    pruned = pruned_circuits(half, scores, size, search["threshold"], draws, rng)
    few = task.prompts(model.tokenizer, n=min(FEW, prompts), seed=seed)
    return {
        "disjoint": np.array(disjoint, bool).reshape(-1, *mask.shape),
        "pruned": np.array(pruned, bool).reshape(-1, *mask.shape),
        **by_other_methods(model, few, attribution, search),
    }


# ------------------------------------------------------------------ at every checkpoint


@dataclass(frozen=True, eq=False, kw_only=True)
class Others:
    """Circuits beside one that was found, and what each keeps on held-out prompts.

    A faithfulness is normalised, the mean over prompts; nan without held-out prompts.
    """

    result: CircuitResult
    n: int
    """How many held-out prompts."""
    kept: float
    """Of the circuit itself."""
    disjoint: list[tuple[Mask, float]]
    pruned: list[tuple[Mask, float]]
    methods: dict[str, tuple[Mask, float]]

    def passing(self, threshold: float) -> list[Mask]:
        """The circuit and the disjoint and pruned ones, those of them that keep the threshold."""
        everyone = [(self.result.circuit.mask, self.kept), *self.disjoint, *self.pruned]
        return [mask for mask, kept in everyone if kept >= threshold]


def measure_others(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    draws: int = 2,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> list[Others]:
    """Other circuits beside every one that was found; draws: how many are pruned."""
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    found = [result for result in circuits if result.circuit.found]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    places = [(result.model, result.step) for result in found]
    others = []
    for result, here in zip(
        found, at_places(suite, places, store, what="other circuits", **where), strict=True
    ):
        assert result.circuit.scores is not None  # it was found by them
        of: dict[str, Any] = {"prompts": recipe.prompts[result.task], "seed": recipe.seed}
        made = here.arrays(
            "other-circuits",
            find_others,
            task=get_task(result.task),
            mask=result.circuit.mask,
            scores=np.asarray(result.circuit.scores),
            attribution=recipe.attribution,
            search=recipe.circuit(result.task),
            draws=draws,
            **of,
        )
        made = {name: array.astype(bool) for name, array in made.items()}
        methods = {name: made[name] for name in METHODS if name in made}
        lists = [list(made["disjoint"]), list(made["pruned"]), list(methods.values())]
        masks = [result.circuit.mask, *(mask for some in lists for mask in some)]
        metric = measure_held_out_masks(here, result.task, masks, **of)
        n = metric.shape[1]
        kept = np.full(len(masks), np.nan)
        if n:
            mean = metric.mean(1)
            kept = faithfulness(mean[2:], mean[0], mean[1], "normalised")
        with_kept = list(zip(masks, kept.tolist(), strict=True))
        ends = np.cumsum([1, *(len(some) for some in lists)])
        disjoint, pruned, by_method = (
            with_kept[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)
        )
        others.append(
            Others(
                result=result,
                n=n,
                kept=float(kept[0]),
                disjoint=disjoint,
                pruned=pruned,
                methods=dict(zip(methods, by_method, strict=True)),
            )
        )
    return others


def different(masks: Sequence[Mask], below: float = STRANGERS) -> list[int]:
    """Circuits of which every two have a Jaccard similarity below this: as many as there are.

    Indices of the largest such set (of the first of these), among twelve circuits at most.
    """
    masks = masks[:12]
    apart = np.array([[jaccard(a, b) < below for b in masks] for a in masks])
    for size in range(len(masks), 0, -1):
        for some in combinations(range(len(masks)), size):
            if all(apart[i, j] for i, j in combinations(some, 2)):
                return list(some)
    return []
