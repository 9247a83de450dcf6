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
from circuitbook.wording import TASK_TITLES, in_markdown, short_number

Edge = tuple[int, int]  # row and column in a graph's mask


# ------------------------------------------------------------------ model and prompts


def model_and_prompts(model: Model, tokens_seen: int, pairs: PromptPairs) -> str:
    """Which model the chapter looks at, how far it is trained, and which prompts it reads."""
    return (
        f"The model here: **{in_markdown(model.checkpoint.model)}** after "
        f"{short_number(tokens_seen)} tokens, {model.shape.n_layers} layers of "
        f"{model.shape.n_heads} heads; {len(pairs)} prompts of **{TASK_TITLES[pairs.task]}**."
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
    """How far off the scores are with few midpoints, with the paper's points, and as EAP has them.

    `errors` as from `errors_by_points`, with its default rules and numbers.
    """
    error = errors.set_index(["rule", "points"])["error"]
    return (
        "**How many points are enough?** Against a reference of 60 midpoints, the whole score "
        f"matrix is off by {error['midpoint', 5]:.2%} with 5 midpoints, "
        f"{error['midpoint', 10]:.2%} with 10, and {error['right', 30]:.2%} with the 30 right ends "
        f"of the paper. EAP alone (one left end) is off by {error['left', 1]:.0%}."
    )


# ------------------------------------------------------------------ scores and patching


def agreement_with_patching(effect: np.ndarray, scores: Mapping[str, Scores]) -> str:
    """How well scores, {title: scores}, agree with the effect [src, dst] of patching each edge."""
    parts = []
    for title, estimated in scores.items():
        mask = estimated.graph.mask
        patched, estimate = pd.Series(effect[mask]), pd.Series(estimated.values.numpy()[mask])
        linear = patched.corr(estimate)
        ranks = patched.abs().corr(estimate.abs(), method="spearman")
        parts.append(
            f"{title}: correlation {linear:.2f}, of the ranks of absolute values {ranks:.2f}"
        )
    return (
        "; ".join(parts)
        + ". An edge's effect alone is not its share of the whole: a saturated model survives the "
        "loss of many single edges. EAP-IG spreads the *whole* change over the edges, so its "
        "scores may be larger."
    )


# ------------------------------------------------------------------ the circuit


def smallest_circuit(
    circuit: Circuit, by_ratio: Circuit, kept: float, prompts: int, mib: Mapping[str, float]
) -> str:
    """The size of the smallest circuit and what it keeps.

    circuit, by_ratio: found by normalised faithfulness, and by the paper's ratio. kept: its
    normalised faithfulness on `prompts` other prompts. mib: as from `mib_metrics`.
    """
    ratio = (
        f"By the ratio it takes {by_ratio.n_edges} edges."
        if by_ratio.found
        else f"By the ratio: {by_ratio!r}."
    )
    return (
        f"The smallest circuit that keeps 80 % has **{circuit.n_edges} of {circuit.graph.n_edges} "
        f"edges** and {circuit.n_nodes} nodes: faithfulness {circuit.faithfulness:.3f} "
        f"[{circuit.low:.3f}, {circuit.high:.3f}] (95 % over prompts). On {prompts} newly drawn "
        f"prompts it keeps {kept:.3f}. {ratio} MIB's summary of the whole score matrix: "
        f"CPR {mib['cpr']:.3f}, CMD {mib['cmd']:.3f}."
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
        f"{lost:.2f}, which is {abs(lost) / abs(score):.0%} of it: no edge with a large score has "
        "less. Patched together with:"
    )


def best_partner(circuit: Circuit, edge: Edge, effect: np.ndarray, partners: pd.DataFrame) -> str:
    """What share of the difference between score and effect the best of the partners explains."""
    missing = abs(_scores(circuit)[edge]) - abs(effect[edge])
    share = partners["beyond the sum"].max() / missing
    if share > 0.5:
        meaning = "What the one does hangs on the other."
    else:
        meaning = (
            "So no *single* edge stands in for it: the rest is saturation, or spread over several "
            "edges."
        )
    return (
        f"The best partner makes up for {max(share, 0):.0%} of what the score has more than the "
        f"effect alone. {meaning}"
    )


def heads_of(circuit: Circuit) -> set[str]:
    """Names of the heads in a circuit.  heads_of(circuit) -> {"a0.h1", "a2.h2"}"""
    return {node for node in circuit.nodes if node.startswith("a")}


def shared_heads(task: str, circuit: Circuit, other_task: str, other: Circuit) -> str:
    """Sizes of the circuits of two tasks, and how many heads they share."""
    first, second = heads_of(circuit), heads_of(other)
    if other.found:
        compared = (
            f"{other.n_edges} edges, {len(second)} heads, of which {len(first & second)} are the "
            "same."
        )
    else:
        compared = f"{other!r}."
    return (
        f"{TASK_TITLES[task]}: {circuit.n_edges} edges, {len(first)} heads. "
        f"{TASK_TITLES[other_task]}: {compared}"
    )
