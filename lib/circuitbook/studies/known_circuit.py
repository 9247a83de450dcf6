"""Do methods find a circuit that is known by construction?

All score the edges of the compiled model (`model.compiled`), built in three ways, and the order of
their scores is held against the truth.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool

from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.minimal import minimal_circuit
from circuitbook.circuits.pruning import MetricOfCircuits
from circuitbook.circuits.recovery import auroc, average_precision, strengths
from circuitbook.heads.edge_patching import patch_edges
from circuitbook.model.compiled import KINDS, Design, save_compiled
from circuitbook.model.compiled_nodes import HEADS, LAYERS
from circuitbook.model.graph import Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.model.loading import read_model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store, measurement_key
from circuitbook.suites.finding import load_suite
from circuitbook.tasks.base import PromptPairs
from circuitbook.tasks.marked_letters import marked_letters

METHODS = (
    "patching",
    "eap",
    "eap-qk",
    "atp*",
    "relp",
    "gim",
    "clean-corrupted",
    "eap-ig",
    "eap-ig-activations",
    "random",
)
"""Every edge patched by itself; gradients at the clean prompt, or at both ends; EAP-IG as the
recipe has it, and on activations; random numbers."""
DESIGNS = {
    "soft": Design(sharpness=4.0, norms=False),
    "sharp": Design(sharpness=64.0, norms=False),
    "norms": Design(sharpness=64.0, norms=True),
}
ALL = "all"  # kinds together
PROMPTS, BRUTE = 16, 8  # pairs that methods score, and on which single edges are patched
ORDERS, NEARLY_ALL = 16, 0.95  # in which the known circuit is taken apart, and what must be kept
DRAWS = 50  # of random scores
COLUMNS = ["design", "method", "kind", "edges", "auroc", "precision", "first"]


def compiled_model(design: Design) -> Model:
    """The compiled model in float64, written to a folder and loaded like any other.

    The folder is gone then: `Model.bridge`, which reads it, has nothing to read.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_compiled(Path(folder) / "compiled" / "step0", design)
        return load_suite(folder).checkpoint("compiled", 0).load(dtype=torch.float64)


def truth(graph: Graph, kind: str = ALL) -> Bool[np.ndarray, "src dst"]:
    """The edges of the known circuit, or those of one of `KINDS`."""
    mask = np.zeros(graph.mask.shape, bool)
    for name in KINDS if kind == ALL else (kind,):
        for edge in KINDS[name]:
            mask[graph.edge(edge)] = True
    return mask


def score_known(
    *, design: Design, prompts: int, brute: int, seed: int, attribution: dict
) -> dict[str, np.ndarray]:
    """What methods and brute force make of one design.

    {method: [src, dst]} of `METHODS` but random; "points" and "gap" of EAP-IG; "right", the share
    of clean prompts that the model answers right. By brute force, on `brute` prompts: "alone" and
    "with backup" [src, dst], the largest absolute change of the metric on any of them when an edge
    is patched, in the whole model, and with the edges patched that do the same (`backups`).
    "minimal" [draw, src, dst]: the minimal circuits that random orders leave of the known one.
    """
    model = compiled_model(design)
    pairs = marked_letters(prompts, seed)
    logits = model.logits(pairs.clean, pairs.end)
    scores = {"patching": patch_edges(model, pairs)}
    for method in METHODS:
        if method in ("patching", "random"):
            continue
        how = attribution if method == "eap-ig" else {"method": method}
        made = attribute(model, pairs, **how)
        scores[method] = made.values.double().numpy()
        if method == "eap-ig":
            scores |= {"points": np.array(made.points), "gap": np.array(made.relative_gap)}
    few = pairs.subset(slice(brute))
    each = [np.abs(patch_edges(model, few.subset([i]))) for i in range(len(few))]
    return scores | {
        "right": np.array(float((pairs.measures(logits)["rank"] == 0).double().mean())),
        "alone": np.max(each, axis=0),
        "with backup": effects_with_backup(model, few),
        "minimal": taken_apart(model, few, seed),
    }


def backups(graph: Graph) -> dict[tuple[int, int], Bool[np.ndarray, "src dst"]]:
    """Of each backup edge, the edges of the other head that does the same."""
    twins = {"a0.h0": "a0.h1", "a0.h1": "a0.h0", "a0.h2": "a0.h3", "a0.h3": "a0.h2"}
    found = {}
    for kind in ("backup in attention", "backup in an MLP"):
        for edge in KINDS[kind]:
            head = next(name for name in twins if name in edge)
            others = np.zeros(graph.mask.shape, bool)
            for other in KINDS[kind]:
                others[graph.edge(other)] = twins[head] in other
            found[graph.edge(edge)] = others
    return found


def effects_with_backup(model: Model, pairs: PromptPairs) -> np.ndarray:
    """float64 [src, dst]: of each backup edge, the largest absolute change of the metric on any
    prompt when it is patched beside `backups`; 0 elsewhere."""
    graph = graph_of(model)
    effect = np.zeros(graph.mask.shape)
    for edge, others in backups(graph).items():
        before = graph.mask & ~others
        after = before.copy()
        after[edge] = False
        metric = evaluate_masks(model, pairs, [before, after]).double().numpy()
        effect[edge] = np.abs(metric[0] - metric[1]).max()
    return effect


def taken_apart(model: Model, pairs: PromptPairs, seed: int) -> Bool[np.ndarray, "draw src dst"]:
    """`ORDERS` minimal circuits that keep `NEARLY_ALL`, each from the known one in a random order.

    One of two backups can go, and what cancels can go, so four are possible.
    """
    metric, rng = MetricOfCircuits(model, pairs), np.random.default_rng(seed)
    whole = truth(metric.graph)
    circuits = [minimal_circuit(metric, whole, NEARLY_ALL, rng) for _ in range(ORDERS)]
    return np.array(circuits)


# ------------------------------------------------------------------ all designs


def measure_known(
    store: Store, recipe: Recipe | str = "robust", designs: Sequence[str] = tuple(DESIGNS)
) -> dict[str, dict[str, np.ndarray]]:
    """{design: what `score_known` gives}, from the store if it is there."""
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    measured = {}
    for name in designs:
        what: dict[str, Any] = {
            "design": DESIGNS[name],
            "prompts": PROMPTS,
            "brute": BRUTE,
            "seed": recipe.seed,
            "attribution": recipe.attribution,
        }
        key = measurement_key("known-circuit", code=(score_known, read_model), **what)
        measured[name] = store.arrays(key, partial(score_known, **what))
    return measured


def recovery_table(measured: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """A row per design, method and kind of edge, and one for all kinds. Columns: `COLUMNS`.

    auroc: of these edges against those outside the circuit; precision: the average precision, the
    same; first: which share of them is among the first n of these and the others, n their own
    number (ties as by chance). Of random scores the means over `DRAWS`.
    """
    rows = []
    graph = graph_of_known()
    chance = random_scores(graph)
    for design, arrays in measured.items():
        outside = graph.mask & ~truth(graph)
        for method in METHODS:
            for kind in (ALL, *KINDS):
                inside = truth(graph, kind)
                asked = np.where(outside | inside)
                draws = [strengths(arrays[method])] if method != "random" else chance
                values = [_measures(scores[asked], inside[asked]) for scores in draws]
                about = {"design": design, "method": method, "kind": kind}
                means = dict(zip(COLUMNS[4:], np.mean(values, 0).tolist(), strict=True))
                rows.append(about | {"edges": int(inside.sum())} | means)
    return pd.DataFrame(rows, columns=COLUMNS)


def graph_of_known() -> Graph:
    """The graph of the compiled model."""
    return Graph(LAYERS, HEADS, parallel=False)


def random_scores(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random(graph.mask.shape) for _ in range(DRAWS)]


def _measures(strength: np.ndarray, inside: np.ndarray) -> tuple[float, float, float]:
    n = int(inside.sum())
    bar = np.sort(strength)[-n]
    sure, tied = strength > bar, strength == bar
    first = inside[sure].sum() + inside[tied].mean() * (n - sure.sum())
    return auroc(strength, inside), average_precision(strength, inside), float(first / n)
