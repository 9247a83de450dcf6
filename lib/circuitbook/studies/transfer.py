"""The same circuit, or the same classes on other heads, put to another checkpoint, seed or size.

The most direct tests of "the circuit stays" and "the algorithm stays" (Tigges et al. 2024, section
4.2): circuits that were found at one checkpoint are evaluated at another, edge by edge, or as the
pattern of classes (see `head_classes`) that their edges join.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.circuits.random_circuits import shuffled_heads
from circuitbook.model.graph import Graph
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store.disk import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_classes import HeadClasses
from circuitbook.studies.masks import measure_masks
from circuitbook.studies.measurement import at_places
from circuitbook.suites.suite import Suite


def node_labels(graph: Graph, heads_labels: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Labels of all nodes, logits last: heads have their classes; the first MLP is told from the
    later ones, since it works on the embedding alone.
    """
    labels = [frozenset({"input"})]
    for layer in range(graph.n_layers):
        labels += heads_labels[layer * graph.n_heads : (layer + 1) * graph.n_heads]
        labels.append(frozenset({"later MLP" if layer else "first MLP"}))
    return [*labels, frozenset({"logits"})]


def class_pattern(
    mask: np.ndarray, graph: Graph, labels: Sequence[frozenset[str]]
) -> set[tuple[str, str, str]]:
    """A circuit as edges between classes: {(class, class it goes to, "q", "k", "v" or "")}. Heads
    in no class are lost.
    """
    return {
        (a, b, _input(graph, dst))
        for src, dst in np.argwhere(mask)
        for a in labels[src]
        for b in labels[graph.node_of[dst]]
    }


def instantiate(
    pattern: set[tuple[str, str, str]], graph: Graph, labels: Sequence[frozenset[str]]
) -> np.ndarray:
    """The circuit of all edges, in a graph with these labels, whose classes are in the pattern;
    dead edges left out.
    """
    mask = np.zeros(graph.mask.shape, bool)
    for dst in range(graph.n_dst):
        kind = _input(graph, dst)
        wanted = {a for a, b, at in pattern if at == kind and b in labels[graph.node_of[dst]]}
        for src in range(graph.reach[dst]):
            mask[src, dst] = not wanted.isdisjoint(labels[src])
    return graph.live(mask)


def _input(graph: Graph, dst: int) -> str:
    name = graph.destination_names[dst]
    return name[-2] if name.endswith(">") else ""


TRANSFER_COLUMNS = [
    *("task", "source", "target", "source_step", "target_step", "source_tokens", "target_tokens"),
    *("what", "edges", "faithfulness"),
]


@dataclass(frozen=True, eq=False)
class Moved:
    """A circuit to be evaluated at a target: what it is, which search it comes from, its edges bool
    [src, dst].
    """

    what: str
    source: CircuitResult
    mask: np.ndarray


def transfer(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    head_classes: Sequence[HeadClasses] = (),
    across: Sequence[Sequence[str]] = (),
    *,
    draws: int = 6,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """Circuits found at one checkpoint, put to another, on prompts that none was found on: a row
    per source, target and what was put there.

    Every circuit goes to every checkpoint of its model that has a circuit of the task; a model's
    last one also to the last ones of the other models of its group in `across` (groups of one
    shape, such as seeds). Columns: task, source, target (models), source_step, target_step,
    source_tokens, target_tokens, what, edges, faithfulness (normalised).

    what: "circuit", its own edges. "shuffled": the mean of `draws` circuits of the target, each
    with the heads of every layer shuffled (a row per target; source is the target). For IOI (or the
    recipe's `names_task`), where `head_classes` tell the classes: "classes", all edges of the
    target between the classes that the source's circuit joins, which can go to any model of the
    suite; and "other classes", the mean over the target's class labels shuffled among its heads
    (source is the target).
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    found = [result for result in circuits if result.circuit.found]
    labels = {(classes.model, classes.step): classes.labels for classes in head_classes}
    kin = {name: frozenset(names) for names in across for name in names}
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    places = [(target.model, target.step) for target in found]
    tables = []
    for target, here in zip(
        found, at_places(suite, places, store, what="transfer", **where), strict=True
    ):
        rng = np.random.default_rng(recipe.seed)
        kinship = kin.get(target.model, frozenset())
        of_names = labels if target.task == recipe.names_task else {}
        moved = _moved_to(target, found, of_names, kinship, rng, draws)
        masks = [one.mask for one in moved]
        prompts = recipe.prompts[target.task]
        metric = measure_masks(here, target.task, masks, prompts=prompts, seed=recipe.seed).mean(1)
        kept = faithfulness(metric[2:], metric[0], metric[1], "normalised")
        tables.append(_transfer_rows(target, moved, kept))
    return (
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=TRANSFER_COLUMNS)
    )


def _moved_to(
    target: CircuitResult,
    found: Sequence[CircuitResult],
    labels: Mapping[tuple[str, int], list[frozenset[str]]],
    kin: frozenset[str],
    rng: np.random.Generator,
    draws: int,
) -> list[Moved]:
    """All that is put to a target, see `transfer`; `kin`: the models of the target's group."""
    # checkpoints ascend, so that the last of a model stays
    last = {(one.model, one.task): one.step for one in found}
    is_last = target.step == last[target.model, target.task]
    sources = [
        one
        for one in found
        if one.task == target.task
        and (one.model == target.model or (is_last and one.step == last[one.model, one.task]))
    ]
    graph, own = target.circuit.graph, labels.get((target.model, target.step))
    moved = []
    for source in sources:
        if source.model == target.model or source.model in kin:
            moved.append(Moved("circuit", source, source.circuit.mask))
        theirs = labels.get((source.model, source.step))
        if own is None or theirs is None:
            continue
        circuit = source.circuit
        pattern = class_pattern(circuit.mask, circuit.graph, node_labels(circuit.graph, theirs))
        moved.append(Moved("classes", source, instantiate(pattern, graph, node_labels(graph, own))))
        for _ in range(draws if source is target else 0):
            shuffled = [own[i] for i in rng.permutation(len(own))]
            mask = instantiate(pattern, graph, node_labels(graph, shuffled))
            moved.append(Moved("other classes", source, mask))
    circuits = [shuffled_heads(target.circuit.mask, graph, rng) for _ in range(draws)]
    return moved + [Moved("shuffled", target, mask) for mask in circuits]


def _transfer_rows(target: CircuitResult, moved: Sequence[Moved], kept: np.ndarray) -> pd.DataFrame:
    """A row per source and what; of what was drawn several times, the mean."""
    table = pd.DataFrame(
        {
            "task": target.task,
            "source": [one.source.model for one in moved],
            "target": target.model,
            "source_step": [one.source.step for one in moved],
            "target_step": target.step,
            "source_tokens": [one.source.tokens_seen for one in moved],
            "target_tokens": target.tokens_seen,
            "what": [one.what for one in moved],
            "edges": [int(one.mask.sum()) for one in moved],
            "faithfulness": kept,
        }
    )
    return table.groupby(TRANSFER_COLUMNS[:-2], sort=False).mean().reset_index()


WHERE = ("same run", "other seed", "other size")
NULLS = {"circuit": "shuffled", "classes": "other classes"}  # what each is compared with
SUMMARY_COLUMNS = ["task", "what", "where", "pairs", "mean", "lowest", "own", "null"]


def transfer_summary(table: pd.DataFrame, across: Sequence[Sequence[str]] = ()) -> pd.DataFrame:
    """What `transfer` found, in short: a row per task, what ("circuit", "classes") and where it was
    put (see `WHERE`).

    Columns: pairs, mean and lowest faithfulness, own (mean over the targets of what was found there
    itself) and null (mean over the targets of the shuffled ones). "other seed": both models are in
    one group of `across`.
    """
    stays = (table["source"] == table["target"]) & (table["source_step"] == table["target_step"])
    rows = []
    for what, null in NULLS.items():
        for task in dict.fromkeys(table.loc[table["what"] == what, "task"]):
            of_task = table[table["task"] == task]
            own_place = stays[of_task.index]
            own, random = (
                of_task[own_place & (of_task["what"] == name)].set_index(["target", "target_step"])
                for name in (what, null)
            )
            moved = of_task[~own_place & (of_task["what"] == what)]
            for place, part in moved.groupby(_places(moved, across), sort=False):
                targets = list(dict.fromkeys(zip(part["target"], part["target_step"], strict=True)))
                kept = part["faithfulness"]
                numbers = (len(part), kept.mean(), kept.min())
                means = [group["faithfulness"].reindex(targets).mean() for group in (own, random)]
                rows.append((task, what, place, *numbers, *means))
    tasks = list(dict.fromkeys(table["task"]))
    order = {"task": tasks, "what": list(NULLS), "where": list(WHERE)}
    rows.sort(key=lambda row: [order[n].index(v) for n, v in zip(order, row, strict=False)])
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def _places(moved: pd.DataFrame, across: Sequence[Sequence[str]]) -> pd.Series:
    """Where each row's circuit was put: see `WHERE`."""
    same_run, other_seed, other_size = WHERE
    group = {name: i for i, names in enumerate(across) for name in names}
    kin = moved["source"].map(group) == moved["target"].map(group)
    places = pd.Series(other_size, index=moved.index).mask(kin, other_seed)
    return places.mask(moved["source"] == moved["target"], same_run)


def places_moved(
    table: pd.DataFrame, task: str, what: str, across: Sequence[Sequence[str]] = ()
) -> pd.DataFrame:
    """The pairs behind a row of `transfer_summary`, for one task and what was moved: source,
    source_step, target, target_step, where (see `WHERE`), faithfulness, own and null (at the
    target, what was found there itself and the shuffled ones).
    """
    of_task = table[table["task"] == task]
    ends = ["target", "target_step"]
    stays = (of_task["source"] == of_task["target"]) & (
        of_task["source_step"] == of_task["target_step"]
    )
    moved = of_task[~stays & (of_task["what"] == what)]
    for name, kind in {"own": what, "null": NULLS[what]}.items():
        found = of_task[stays & (of_task["what"] == kind)]
        found = found[[*ends, "faithfulness"]].rename(columns={"faithfulness": name})
        moved = moved.merge(found, on=ends, how="left")
    return moved.assign(where=_places(moved, across)).dropna(subset=["own", "null"])


def transfer_matrix(
    table: pd.DataFrame,
    task: str,
    what: str,
    model: str | None = None,
    name: Callable[[int], str] = str,
) -> pd.DataFrame:
    """Faithfulness as a square: rows are sources, columns targets; checkpoints of one model (tokens
    seen, as `name` writes them), or, without a model, the models' last checkpoints.
    """
    part = table[(table["task"] == task) & (table["what"] == what)]
    if model is None:
        final = part.groupby("target")["target_step"].transform("max")
        elsewhere = part["source"] != part["target"]
        at_end = part["target_step"] == final
        part = part[at_end & (elsewhere | (part["source_step"] == part["target_step"]))]
    else:
        part = part[(part["source"] == model) & (part["target"] == model)]
        part = part.sort_values(["source_tokens", "target_tokens"])
        tokens = {end: part[f"{end}_tokens"].map(name) for end in ("source", "target")}
        part = part.assign(**tokens)
    order = list(dict.fromkeys(part["target"]))
    square = part.pivot(index="source", columns="target", values="faithfulness")
    return square.reindex(index=order, columns=order)
