"""How similar circuits are to those of the checkpoint before, and within which bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from circuitbook.studies.size import Correlation, correlation
from circuitbook.studies.turnover import FLOORS
from circuitbook.wording import TASK_SHORT, in_markdown

NO_PAIRS = "no model has circuits at two checkpoints, so there is nothing to compare"

# `neighbours` below: what `turnover` gives for checkpoints and the one before;
# `growth`: what `size_table` gives for the sizes of circuits against those of models.


def correlation_text(found: Correlation) -> str:
    """correlation_text(correlation([1, 2, 3], [1, 3, 2])) -> "r = 0.50, p = 1 (n = 3)" """
    if np.isnan(found.pearson):
        return "too few models"
    between = "" if np.isnan(found.low) else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"r = {found.pearson:.2f}{between}, p = {found.p:.2g} (n = {found.n})"


def growth_of(growth: pd.DataFrame, task: str) -> Correlation | None:
    """The correlation of a task's circuits with model size; None if it has no circuits."""
    rows = growth[growth["task"] == task].drop(columns="task").to_dict("records")
    return Correlation(**rows[0]) if rows else None


def answer(suite: str, neighbours: pd.DataFrame, growth: pd.DataFrame, models: int) -> str:
    """The chapter's answer. models: how many sizes the correlations are over."""
    over_sizes = f"; correlations over the {models} sizes" if models >= 3 else ""
    head = (
        f"**The answer of suite {in_markdown(suite)}** (Jaccard similarity of edges, means over "
        f"models and checkpoints{over_sizes}): "
    )
    if neighbours.empty:
        return f"{head}{NO_PAIRS}."
    mean = neighbours.mean(numeric_only=True)
    shares = (
        f"a circuit shares {mean['edges']:.0%} of the edges with the checkpoint before, of "
        f"{mean['edges_ceiling']:.0%} that other prompts leave. Random circuits share "
        f"{_floors(mean)}. "
    )
    return head + shares + beyond_chance(growth, models)


def _floors(mean: pd.Series) -> str:
    """ "5% with as many edges, 37% with shuffled heads, 66% with the same degrees" """
    return ", ".join(
        f"{mean[f'edges_{kind}']:.0%} with {'the ' if kind == 'degree' else ''}{words}"
        for kind, words in FLOORS.items()
    )


def beyond_chance(growth: pd.DataFrame, models: int) -> str:
    """How many correlations with model size are beyond chance, and whether any could be."""
    if models < 3:
        return "A correlation with size needs three sizes at least."
    significant = int((growth["p"] < 0.05).sum())
    text = f"{significant} of {len(growth)} size correlations are beyond chance at 5 %"
    smallest_p = 2 / math.factorial(models)
    if smallest_p >= 0.05:
        text += (
            f"; with {models} sizes none can be, since the smallest p there is is {smallest_p:.2g}"
        )
    return f"{text}."


def answer_table(
    neighbours: pd.DataFrame,
    spaced: pd.DataFrame,
    growth: pd.DataFrame,
    sizes: Mapping[str, float],
    tasks: Sequence[str],
    ratio: float,
) -> pd.DataFrame:
    """A row per task: similarities, bounds, and what becomes of both with the model's size.

    spaced: as `neighbours`, for pairs at `ratio` times the tokens. sizes: {model: parameters}.
    """
    rows = []
    for task in tasks:
        pairs, apart = (table[table["task"] == task] for table in (neighbours, spaced))
        larger = growth_of(growth, task)
        rows.append(
            {
                "task": TASK_SHORT[task],
                "the checkpoint before": _mean(pairs["edges"]),
                f"{ratio:g} times the tokens": _mean(apart["edges"]),
                "ceiling": _mean(pairs["edges_ceiling"]),
                **{
                    f"floor: {words}": _mean(pairs[f"edges_{kind}"])
                    for kind, words in FLOORS.items()
                },
                "is it steadier in larger models?": correlation_text(steadiness(pairs, sizes)),
                "is the circuit larger in larger models?": correlation_text(larger)
                if larger
                else "",
            }
        )
    return pd.DataFrame(rows)


def _mean(values: pd.Series) -> str:
    return f"{values.mean():.2f}" if len(values) else ""


def steadiness(pairs: pd.DataFrame, sizes: Mapping[str, float]) -> Correlation:
    """The correlation of mean similarity with model size, over the models in `sizes`."""
    mean = pairs[pairs["model"].isin(sizes)].groupby("model")["edges"].mean()
    return correlation([sizes[model] for model in mean.index], mean)


# ---- Figure 5


def mean_similarities(neighbours: pd.DataFrame, tasks: Sequence[str]) -> str:
    """What Figure 5 averages: similarity of nodes, of edges, and of edges by their scores."""
    kinds = {"nodes": "nodes", "edges": "edges", "weighted": "edges, weighted by score"}
    mean = neighbours.groupby("task")[list(kinds)].mean()
    lines = []
    for task in (task for task in tasks if task in mean.index):
        numbers = (f"{mean.loc[task, kind]:.2f} ({what})" for kind, what in kinds.items())
        lines.append(f"{TASK_SHORT[task]} {', '.join(numbers)}")
    return (
        "*Figure 5 of the paper, for this suite (nodes; the authors' code computes edges, the "
        "caption speaks of nodes).* Mean similarity with the checkpoint before: "
        f"{'; '.join(lines) or NO_PAIRS}. Weighted: scores made to sum to one, sum of minima over "
        "sum of maxima. It is the parts with small scores that come and go wherever the weighted "
        "similarity is higher."
    )


# ---- ceiling and floor


def between_floor_and_ceiling(
    neighbours: pd.DataFrame, draws: pd.DataFrame, tasks: Sequence[str]
) -> str:
    """Where the similarity lies between its bounds. draws: as from `two_draws`."""
    if neighbours.empty and draws.empty:
        return f"{NO_PAIRS.capitalize()}."
    left = neighbours.groupby("task")["normalised_jaccard"].mean()
    places = [f"{TASK_SHORT[task]} {left[task]:.0%}" for task in tasks if task in left.index]
    sentences = [
        "Where the similarity lies between floor (0 %) and ceiling (100 %), on average: "
        f"{', '.join(places) or NO_PAIRS}."
    ]
    if len(draws):
        larger, smaller = (draws[["size", "size_again"]].agg(end, axis=1) for end in ("max", "min"))
        sentences.append(
            "As a check, the whole search again on another draw of prompts, at the last checkpoint "
            f"of every model: {draws['edges'].mean():.2f} of the edges are the same (resampling "
            f"predicts {draws['expected'].mean():.2f}), and the size differs by "
            f"{(larger / smaller - 1).mean():.0%} on average."
        )
    if len(neighbours):
        sentences.append(_above_each_floor(neighbours))
    return " ".join(sentences)


def _above_each_floor(neighbours: pd.DataFrame) -> str:
    """How far up from each floor to the ceiling the mean similarity is."""
    mean = neighbours.mean(numeric_only=True)
    ways = []
    for kind, words in FLOORS.items():
        floor, room = mean[f"edges_{kind}"], mean["edges_ceiling"] - mean[f"edges_{kind}"]
        up = f"{(mean['edges'] - floor) / room:.0%} of the way up" if room > 0 else "above it"
        ways.append(f"{words} {floor:.0%} ({up})")
    return (
        f"Over all tasks, neighbours share {mean['edges']:.0%}, the ceiling is "
        f"{mean['edges_ceiling']:.0%}, and the floors are, the more of the circuit they keep: "
        f"{'; '.join(ways)}."
    )


# ---- spacing


def spacing_table(
    neighbours: pd.DataFrame, spaced: pd.DataFrame, tasks: Sequence[str], ratio: float
) -> pd.DataFrame:
    """A row per task: similarity and distance of neighbours, similarity at one `ratio`."""
    before = neighbours["tokens_before"]
    ratios = neighbours["tokens_seen"] / before.where(before > 0)  # none to step 0
    rows = []
    for task in tasks:
        near, apart = neighbours["task"] == task, spaced["task"] == task
        rows.append(
            {
                "task": TASK_SHORT[task],
                "neighbours: mean ratio of tokens": _mean(ratios[near].dropna()),
                "Jaccard, neighbours": _mean(neighbours.loc[near, "edges"]),
                f"Jaccard, ratio {ratio:g}": _mean(spaced.loc[apart, "edges"]),
                f"pairs at {ratio:g}": int(apart.sum()),
            }
        )
    return pd.DataFrame(rows)


def published_spacing(jaccard: pd.DataFrame) -> str:
    """How far apart neighbours are in the paper's printed series, `published("jaccard")`."""
    curve = [jaccard["model"], jaccard["task"]]
    ratios = jaccard["step_next"] / jaccard["step"].replace(0, np.nan)
    gaps = (jaccard["step_next"] - jaccard["step"]).groupby(curve).agg(["min", "max"])
    return (
        f"Neighbours in the paper's printed tables are {gaps['min'].min():,.0f} to "
        f"{gaps['max'].max():,.0f} steps apart, a ratio of tokens of {ratios.min():.2f} to "
        f"{ratios.max():.1f}. In {(gaps['max'] > gaps['min']).sum()} of {len(gaps)} curves the "
        "distance changes along the curve."
    )


def spacing_matters_most(similarity: pd.DataFrame) -> str:
    """The task whose similarity differs most. similarity: a row per task, columns of two ratios and
    `difference`."""
    difference = similarity["difference"].dropna().abs()
    if difference.empty:
        return "There are no two pairs of checkpoints at these ratios."
    return f"It depends on the spacing most in {difference.idxmax()}."
