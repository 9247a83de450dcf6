"""The same circuit, or the same classes on other heads, put to another checkpoint, seed or size.

The most direct tests of "the circuit stays" and "the algorithm stays" (Tigges et al. 2024, section 4.2): circuits that were found
at one checkpoint are evaluated at another, edge by edge, or as the pattern of classes (see `algorithm`) that their edges join.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from .algorithm import Anatomy
from .graph import Graph
from .over_training import Found, measure_masks
from .recipes import Recipe, get_recipe
from .search import faithfulness
from .store import Store
from .suites import Suite


def node_labels(graph: Graph, heads_labels: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Labels of all nodes, logits last: heads have their classes; the first MLP is told from the later ones, since it works
    on the embedding alone."""
    labels = [frozenset({"input"})]
    for layer in range(graph.n_layers):
        labels += heads_labels[layer * graph.n_heads:(layer + 1) * graph.n_heads]
        labels.append(frozenset({"later MLP" if layer else "first MLP"}))
    return [*labels, frozenset({"logits"})]


def class_pattern(mask: np.ndarray, graph: Graph, labels: Sequence[frozenset[str]]) -> set[tuple[str, str, str]]:
    """A circuit as edges between classes: {(class, class it goes to, "q", "k", "v" or "")}. Heads in no class are lost."""
    return {(a, b, _input(graph, dst)) for src, dst in np.argwhere(mask) for a in labels[src] for b in labels[graph.node_of[dst]]}


def instantiate(pattern: set[tuple[str, str, str]], graph: Graph, labels: Sequence[frozenset[str]]) -> np.ndarray:
    """The circuit of all edges, in a graph with these labels, whose classes are in the pattern; dead edges left out."""
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


def shuffled_heads(mask: np.ndarray, graph: Graph, rng: np.random.Generator) -> np.ndarray:
    """A circuit of the same shape on other heads: the heads of each layer change places, edges and all."""
    return graph.relabel(mask, [rng.permutation(graph.n_heads) for _ in range(graph.n_layers)])


def transfer(suite: Suite, circuits: Sequence[Found], store: Store, recipe: Recipe | str = "robust",
             anatomies: Sequence[Anatomy] = (), across: Sequence[Sequence[str]] = (), draws: int = 6, device: str = "cpu",
             dtype: torch.dtype = torch.float32, progress: bool = True) -> pd.DataFrame:
    """Circuits found at one checkpoint, put to another: a row per source, target and what was put there.

    Every circuit goes to every checkpoint of its model that has a circuit of the task; a model's last one also to the last
    ones of the other models of its group in `across` (groups of one shape, such as seeds). Columns: task, source, target
    (models), source_step, target_step, source_tokens, target_tokens, what, edges, faithfulness (normalised).

    what: "circuit", its own edges. "shuffled": the mean of `draws` circuits of the target, each with the heads of every layer
    shuffled (a row per target; source is the target). For IOI, where `anatomies` tell the classes: "classes", all edges of the
    target between the classes that the source's circuit joins, which can go to any model of the suite; and "other classes", the
    mean over the target's class labels shuffled among its heads (source is the target).
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    there = [one for one in circuits if one.circuit.found]
    labels = {(a.model, a.step): a.labels for a in anatomies}
    last = {(one.model, one.task): one.step for one in there}                                 # ascending, so the last stays
    group = {name: set(names) for names in across for name in names}
    rows = []
    for target in tqdm(there, desc="transfer", unit="circuit", disable=not progress):
        graph, at_end = target.circuit.graph, target.step == last[target.model, target.task]
        sources = [one for one in there if one.task == target.task and (one.model == target.model or at_end
                   and one.step == last[one.model, one.task])]
        rng, own, put = np.random.default_rng(recipe.seed), labels.get((target.model, target.step)), []
        classes = own is not None and target.task == "ioi"
        for one in sources:
            if one.model == target.model or one.model in group.get(target.model, ()):
                put.append(("circuit", one, one.circuit.mask))
            if classes and (one.model, one.step) in labels:
                of = class_pattern(one.circuit.mask, one.circuit.graph, node_labels(one.circuit.graph, labels[one.model, one.step]))
                put.append(("classes", one, instantiate(of, graph, node_labels(graph, own))))
                if one is target:
                    for _ in range(draws):
                        order = rng.permutation(len(own))
                        put.append(("other classes", one, instantiate(of, graph, node_labels(graph, [own[i] for i in order]))))
        put += [("shuffled", target, shuffled_heads(target.circuit.mask, graph, rng)) for _ in range(draws)]
        checkpoint = suite.checkpoint(target.model, target.step)
        load = partial(checkpoint.load, device=device, dtype=dtype)
        metric = measure_masks(checkpoint, target.task, [mask for *_, mask in put], store, recipe.prompts[target.task], recipe.seed,
                               load=load, dtype=dtype).mean(1)
        kept = faithfulness(metric[2:], metric[0], metric[1], "normalised")
        found = pd.DataFrame({"task": target.task, "source": [one.model for _, one, _ in put], "target": target.model,
                              "source_step": [one.step for _, one, _ in put], "target_step": target.step,
                              "source_tokens": [one.tokens_seen for _, one, _ in put], "target_tokens": target.tokens_seen,
                              "what": [what for what, *_ in put], "edges": [int(mask.sum()) for *_, mask in put], "faithfulness": kept})
        keys = [name for name in found if name not in ("edges", "faithfulness")]
        rows.append(found.groupby(keys, sort=False).mean().reset_index())
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["task", "source", "target", "source_step", "target_step",
                     "source_tokens", "target_tokens", "what", "edges", "faithfulness"])


WHERE = ("same run", "other seed", "other size")


def transfer_summary(table: pd.DataFrame, across: Sequence[Sequence[str]] = ()) -> pd.DataFrame:
    """What `transfer` found, in short: a row per task, what ("circuit", "classes") and where it was put (see `WHERE`).

    Columns: pairs, mean and lowest faithfulness, own (mean over the targets of what was found there itself) and null (mean over
    the targets of the shuffled ones). "other seed": both models are in one group of `across`.
    """
    group = {name: i for i, names in enumerate(across) for name in names}
    same = (table["source"] == table["target"]) & (table["source_step"] == table["target_step"])
    rows = []
    for (task, what), part in table[table["what"].isin(["circuit", "classes"])].groupby(["task", "what"], sort=False):
        kin = part["source"].map(group) == part["target"].map(group)
        where = np.where(part["source"] == part["target"], WHERE[0], np.where(kin, WHERE[1], WHERE[2]))
        target = ["target", "target_step"]
        mine = table[(table["task"] == task) & same]
        own, null = (mine[mine["what"] == name].set_index(target)["faithfulness"] for name in
                     (what, "shuffled" if what == "circuit" else "other classes"))
        for name in WHERE:
            moved = part[(where == name) & ~same.loc[part.index]]
            if len(moved):
                at = list(dict.fromkeys(zip(moved["target"], moved["target_step"])))
                rows.append({"task": task, "what": what, "where": name, "pairs": len(moved), "mean": moved["faithfulness"].mean(),
                             "lowest": moved["faithfulness"].min(), "own": own.reindex(at).mean(), "null": null.reindex(at).mean()})
    return pd.DataFrame(rows, columns=["task", "what", "where", "pairs", "mean", "lowest", "own", "null"])


def transfer_matrix(table: pd.DataFrame, task: str, what: str, model: str | None = None, name=str) -> pd.DataFrame:
    """Faithfulness as a square: rows are sources, columns targets; checkpoints of one model (tokens seen, as `name` writes
    them), or, without a model, the models' last checkpoints."""
    part = table[(table["task"] == task) & (table["what"] == what)]
    if model is not None:
        part = part[(part["source"] == model) & (part["target"] == model)].sort_values(["source_tokens", "target_tokens"])
        part = part.assign(source=part["source_tokens"].map(name), target=part["target_tokens"].map(name))
    else:
        final = part.groupby("target")["target_step"].transform("max")
        part = part[(part["target_step"] == final) & ((part["source"] != part["target"]) | (part["source_step"] == part["target_step"]))]
    order = list(dict.fromkeys(part["target"]))
    return part.pivot(index="source", columns="target", values="faithfulness").reindex(index=order, columns=order)
