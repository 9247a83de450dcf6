"""The numbers of the chapter "What is a circuit?": tables, and the sentences that hold them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from circuitbook.circuits.attribution import Scores, attribute
from circuitbook.circuits.circuit import Circuit
from circuitbook.heads.names import Head
from circuitbook.model.graph import Graph
from circuitbook.model.loaded import Model
from circuitbook.tasks.base import PromptPairs
from circuitbook.wording import (
    TASK_TITLES,
    capitalised,
    counted,
    head_label,
    in_markdown,
    percent,
    short_number,
)

Edge = tuple[int, int]  # row and column in a graph's mask
SMALL = 0.25  # of a graph's edges: "a small part"


# ------------------------------------------------------------------ model and prompts


def answer(model: Model, tokens_seen: int, pairs: PromptPairs, circuit: Circuit) -> str:
    """The chapter's answer: how much of the model does the task alone; or that nothing does."""
    where = f"{in_markdown(model.checkpoint.model)} after {short_number(tokens_seen)} tokens"
    if not circuit.found or circuit.faithfulness is None:
        return (
            f"**There is no circuit to show: {circuit.reason}** ({where}; "
            f"{TASK_TITLES[pairs.task]}). Choose a later `STEP`, or another `TASK`."
        )
    share = circuit.n_edges / circuit.graph.n_edges
    size = "a small part" if share < SMALL else "no small part"
    return (
        f"**A circuit is a part of a model that does a task alone, and here {size} is enough: "
        f"{circuit.n_edges} of {circuit.graph.n_edges} connections** keep "
        f"{percent(circuit.faithfulness)} of {TASK_TITLES[pairs.task]} ({where}, "
        f"{counted(model.shape.n_layers, 'layer')} of {counted(model.shape.n_heads, 'head')}, "
        f"{counted(len(pairs), 'prompt')})."
    )


def first_pairs(pairs: PromptPairs, clean: Tensor, corrupted: Tensor, n: int = 3) -> pd.DataFrame:
    """The first `n` pairs, with the metric [prompt] of the clean and of the corrupted prompt."""
    prompts = pairs.table[["clean", "corrupted"]].head(n)
    return prompts.assign(
        clean_metric=clean[:n].numpy().round(2), corrupted_metric=corrupted[:n].numpy().round(2)
    )


def mean_metrics(pairs: PromptPairs, clean: Tensor, corrupted: Tensor) -> str:
    """The mean metric on clean and on corrupted prompts."""
    metric = pairs.metric_name.replace("_", " ")
    return (
        f"Mean {metric} over all prompts, always scored with the clean answer: "
        f"clean **{clean.mean():.2f}**, corrupted **{corrupted.mean():.2f}**."
    )


# ------------------------------------------------------------------ nodes


def by_layer(effect: np.ndarray, graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Values of nodes [src] as grids: of the heads [layer, head], and of the MLPs [layer, 1]."""
    layers = range(graph.n_layers)
    heads = np.array([effect[graph.heads(layer)] for layer in layers])
    mlps = np.array([[effect[graph.source(layer)]] for layer in layers])
    return heads, mlps


def node_caption(effect: np.ndarray, graph: Graph) -> str:
    """Which node matters most, as a caption: in italics. effect [src]: see `by_layer`."""
    heads, mlps = by_layer(effect, graph)
    layer, head = np.unravel_index(heads.argmax(), heads.shape)
    mlp = int(mlps.argmax())
    if mlps[mlp, 0] > heads[layer, head]:
        name, lost = f"the MLP of layer {mlp}", mlps[mlp, 0]
    else:
        name, lost = f"head {head_label((int(layer), int(head)))}", heads[layer, head]
    return (
        f"*The model needs {name} most: patched alone, it costs {lost:.2f} of the metric. Blue: "
        "the model needs the node. Red: it does better without.*"
    )


def score_caption(values: np.ndarray, graph: Graph) -> str:
    """How many edges have large scores [src, dst], as a caption: in italics."""
    size = np.abs(values[graph.mask])
    large = int((size > size.max() / 10).sum())
    return (
        f"*{large} of {len(size)} edges have more than a tenth of the largest score. The colours "
        "are logarithmic away from zero, so that even small scores show. Blank: no edge.*"
    )


def strongest_heads(effect: np.ndarray, graph: Graph, n: int = 4) -> list[Head]:
    """The `n` heads whose values are furthest from zero, as (layer, head)."""
    heads, _ = by_layer(effect, graph)
    return sorted(np.ndindex(heads.shape), key=lambda head: -abs(heads[head]))[:n]


# ------------------------------------------------------------------ points of the integral


def errors_by_points(
    model: Model,
    pairs: PromptPairs,
    rules: Sequence[str] = ("right", "midpoint", "left"),
    numbers: Sequence[int] = (1, 2, 3, 5, 10, 20, 30),
    reference: int = 60,
) -> pd.DataFrame:
    """How wrong EAP-IG's scores are with so many points: columns rule, points, gap, error.

    gap: the completeness gap, as a share of the change of the loss. error: the norm of the score
    matrix less that of `reference` midpoints, as a share of the latter's norm.
    """
    exact = attribute(model, pairs, rule="midpoint", points=reference).values.numpy()
    rows = []
    for rule in rules:
        for points in numbers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # large gaps are what we are after
                scores = attribute(model, pairs, rule=rule, points=points)
            error = np.linalg.norm(scores.values.numpy() - exact) / np.linalg.norm(exact)
            gap = abs(scores.relative_gap)
            rows.append({"rule": rule, "points": points, "gap": gap, "error": error})
    return pd.DataFrame(rows)


def points_needed(errors: pd.DataFrame) -> str:
    """How far off the scores are with few midpoints, with the paper's points, and as EAP has them:
    a caption, in italics.

    `errors` as from `errors_by_points`, with its default rules and numbers.
    """
    error = errors.set_index(["rule", "points"])["error"]
    return (
        f"*With 10 midpoints the scores are off by {error['midpoint', 10]:.2%}, with the paper's "
        f"30 right ends by {error['right', 30]:.2%}, and as EAP has them (one left end) by "
        f"{percent(error['left', 1])}: the error of the whole score matrix against 60 midpoints. "
        "Left: that error. Right: the completeness gap.*"
    )


# ------------------------------------------------------------------ scores and patching


def agreement_with_patching(effect: np.ndarray, scores: Mapping[str, Scores]) -> str:
    """How well scores, {title: scores}, agree with the effect [src, dst] of patching each edge:
    a caption, in italics.
    """
    parts = []
    for title, estimated in scores.items():
        mask = estimated.graph.mask
        patched, estimate = pd.Series(effect[mask]), pd.Series(estimated.values.numpy()[mask])
        parts.append(f"{title}'s is {patched.corr(estimate):.2f}")
    return (
        f"*How well do the scores correlate with patching each edge? {', '.join(parts)}. Each "
        "point is an edge; a perfect estimate lies on the grey diagonal.*"
    )


# ------------------------------------------------------------------ the circuit


def smallest_circuit(
    circuit: Circuit, by_ratio: Circuit, kept: float, prompts: int, mib: Mapping[str, float]
) -> str:
    """What the smallest circuit keeps on other prompts, and what other measures say.

    circuit, by_ratio: found by normalised faithfulness, and by the paper's ratio. kept: its
    normalised faithfulness on `prompts` other prompts. mib: as from `mib_metrics`.
    """
    before, low, high = (
        np.nan if value is None else value
        for value in (circuit.faithfulness, circuit.low, circuit.high)
    )
    compared = "less" if kept < low else "more" if kept > high else "about as much"
    ratio = (
        f"By the paper's ratio it takes {by_ratio.n_edges} edges."
        if by_ratio.found
        else f"By the paper's ratio there is {by_ratio!r}."
    )
    return (
        f"**{capitalised(compared)}**: on {prompts} fresh prompts the circuit keeps "
        f"{percent(kept)}, on those of the search {percent(before)} "
        f"[{percent(low)}, {percent(high)}] (95% over prompts). {ratio} MIB's "
        f"summary of the score matrix: CPR {mib['cpr']:.2f}, CMD {mib['cmd']:.2f}."
    )


def size_caption(circuit: Circuit) -> str:
    """How many edges are enough, as a caption: in italics."""
    return (
        f"*{circuit.n_edges} of {circuit.graph.n_edges} edges are enough for 80%. The normalised "
        "form has a 95% interval over prompts; the ratio is the paper's.*"
    )


# ------------------------------------------------------------------ exercises


def _scores(circuit: Circuit) -> np.ndarray:
    """The scores [src, dst] that a circuit was found by."""
    if circuit.scores is None:
        raise ValueError(f"{circuit!r} was not found by scores; find it with find_circuit")
    return circuit.scores


def weakest_alone(circuit: Circuit, effect: np.ndarray) -> Edge:
    """Of the circuit's edges with large scores, the one with the least effect for its score.

    Large: more than a tenth of the largest score of all edges. effect [src, dst]: the metric lost
    when an edge is patched alone.
    """
    size = np.abs(_scores(circuit))
    large = [tuple(edge) for edge in np.argwhere(circuit.mask & (size > 0.1 * size.max()))]
    return min(large, key=lambda edge: abs(effect[edge]) / size[edge])


def beyond_the_sum(
    circuit: Circuit,
    edge: Edge,
    others: Sequence[Edge],
    effect: np.ndarray,
    together: np.ndarray,
) -> pd.DataFrame:
    """What patching an edge with each of `others` costs beyond the sum of both, largest first.

    effect [src, dst]: the metric lost when an edge is patched alone; together [other]: when both
    are. For an edge that harms, "beyond the sum" has its sign turned.
    """
    own = np.array([effect[other] for other in others])
    beyond = np.sign(_scores(circuit)[edge]) * (together - own - effect[edge])
    table = pd.DataFrame(
        {
            "with": [circuit.graph.edge_name(*other) for other in others],
            "its own loss": own,
            "lost together": together,
            "beyond the sum": beyond,
        }
    )
    return table.sort_values("beyond the sum", ascending=False)


def alone(circuit: Circuit, edge: Edge, effect: np.ndarray) -> str:
    """What the edge's score says, and what patching it alone does."""
    score, lost = _scores(circuit)[edge], effect[edge]
    return (
        f"`{circuit.graph.edge_name(*edge)}`: score {score:.2f}, lost when patched alone "
        f"{lost:.2f}, or {percent(abs(lost) / abs(score))} of it, the least of any edge with a "
        "large score. Patched together with:"
    )


def best_partner(circuit: Circuit, edge: Edge, effect: np.ndarray, partners: pd.DataFrame) -> str:
    """What share of the difference between score and effect the best of the partners explains."""
    missing = abs(_scores(circuit)[edge]) - abs(effect[edge])
    share = partners["beyond the sum"].max() / missing
    if share > 0.5:
        meaning = "The two stand in for each other."
    else:
        meaning = (
            "So no *single* edge stands in for it: the rest is saturation, or spread over several "
            "edges."
        )
    return (
        f"The best partner accounts for {percent(max(share, 0))} of the difference between the "
        f"score and the effect alone. {meaning}"
    )


def heads_of(circuit: Circuit) -> set[str]:
    """Names of the heads in a circuit.  heads_of(circuit) -> {"a0.h1", "a2.h2"}"""
    return {node for node in circuit.nodes if node.startswith("a")}


def shared_heads(task: str, circuit: Circuit, other_task: str, other: Circuit) -> str:
    """Sizes of the circuits of two tasks, and how many heads they share."""
    first, second = heads_of(circuit), heads_of(other)
    if other.found:
        compared = (
            f"{counted(other.n_edges, 'edge')}, {counted(len(second), 'head')}. Heads in both: "
            f"{len(first & second)}."
        )
    else:
        compared = f"{other!r}."
    return (
        f"{TASK_TITLES[task]}: {counted(circuit.n_edges, 'edge')}, {counted(len(first), 'head')}. "
        f"{TASK_TITLES[other_task]}: {compared}"
    )
