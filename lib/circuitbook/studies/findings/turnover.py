"""How similar circuits are to those of the checkpoint before, and within which bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from circuitbook.studies.size import Correlation, correlation
from circuitbook.studies.turnover import FLOORS
from circuitbook.wording import TASK_SHORT, counted, in_markdown, percent

AS_MUCH = 0.03  # of all edges: no more than that apart is "as many"
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
    if neighbours.empty:
        return f"**In {in_markdown(suite)}, {NO_PAIRS}.**"
    mean = neighbours.mean(numeric_only=True)
    share, ceiling = mean["edges"], mean["edges_ceiling"]
    floor = max(mean[f"edges_{kind}"] for kind in FLOORS)
    most = "most" if share > 0.5 else "few"
    real = (
        "less than other prompts alone would leave"
        if share < ceiling - AS_MUCH
        else "as many as other prompts alone would leave"
    )
    if share < floor + AS_MUCH:
        real += ", and no more than random circuits with busy nodes in the same places"
    return (
        f"**From one checkpoint to the next, {most} of a circuit's edges stay: of those in either, "
        f"{percent(share)} are in both, {real}** ({percent(ceiling)}). "
        f"{beyond_chance(growth, models)} ({in_markdown(suite)}; Jaccard similarity, means over "
        "models, tasks and checkpoints.)"
    )


def beyond_chance(growth: pd.DataFrame, models: int) -> str:
    """How many correlations with model size are beyond chance, and whether any could be."""
    if models < 3:
        return "A correlation with size needs three sizes at least."
    significant = int(((growth["p"] < 0.05) & (growth["pearson"] > 0)).sum())
    smallest_p = 2 / math.factorial(models)
    if smallest_p >= 0.05:
        return (
            f"Whether larger models have larger circuits can't be decided here: with {models} "
            f"sizes no correlation can be beyond chance (the smallest possible p is "
            f"{smallest_p:.2g})."
        )
    return (
        f"Larger models have larger circuits, beyond chance at 5%, in {significant} of "
        f"{counted(len(growth), 'task')}."
    )


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


def mean_similarities(neighbours: pd.DataFrame) -> str:
    """What Figure 5 averages, as a caption: similarity of nodes, of edges, and by their scores."""
    if neighbours.empty:
        return f"*{NO_PAIRS.capitalize()}.*"
    nodes, edges, weighted = neighbours[["nodes", "edges", "weighted"]].mean()
    if weighted > edges:
        scores = "weighted by their scores, more: it is parts with small scores that come and go"
    else:
        scores = "weighted by their scores, no more"
    return (
        f"*Of the nodes of two neighbours {percent(nodes)} are in both, of the edges "
        f"{percent(edges)}; "
        f"{scores} (Figure 5 of the paper, for this suite; the authors' code compares edges, their "
        "caption speaks of nodes).*"
    )


def similarity_table(neighbours: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """A row per task: mean similarity with the checkpoint before of nodes, of edges, and of edges
    weighted by score (scores made to sum to one, sum of minima over sum of maxima).
    """
    kinds = {"nodes": "nodes", "edges": "edges", "weighted": "edges, weighted by score"}
    mean = neighbours.groupby("task")[list(kinds)].mean()
    shown = mean.reindex([task for task in tasks if task in mean.index]).rename(columns=kinds)
    return shown.map("{:.2f}".format).rename(index=TASK_SHORT).reset_index()


# ---- ceiling and floor


def between_floor_and_ceiling(
    neighbours: pd.DataFrame, draws: pd.DataFrame, tasks: Sequence[str]
) -> str:
    """Where the similarity lies between its bounds: a caption, then a check. draws: as from
    `two_draws`.
    """
    left = neighbours.groupby("task")["normalised_jaccard"].mean()
    left = left[[task for task in tasks if task in left.index]].sort_values()
    if left.empty:
        said = f"*{NO_PAIRS.capitalize()}.*"
    else:
        least, most = left.index[0], left.index[-1]
        between = f" and {percent(left[least])} in {TASK_SHORT[least]}" if least != most else ""
        said = (
            "*On the way from the lowest floor (0%) to the ceiling (100%), neighbours are at "
            f"{percent(left[most])} in {TASK_SHORT[most]}{between}"
            f"{'; other tasks lie between' if len(left) > 2 else ''}.*"
        )
    if draws.empty:
        return said
    return (
        f"{said}\n\nAs a check, we search again on another draw of prompts at the last checkpoint "
        f"of every model: {percent(draws['edges'].mean())} of the edges in either are in both "
        f"(resampling predicts {percent(draws['expected'].mean())})."
    )


def floors_table(neighbours: pd.DataFrame) -> pd.DataFrame:
    """Each floor over all tasks, and how far up from it to the ceiling the mean similarity is."""
    if neighbours.empty:
        return pd.DataFrame(columns=["floor", "share of edges", "on the way to the ceiling"])
    mean = neighbours.mean(numeric_only=True)
    rows = []
    for kind, words in FLOORS.items():
        floor, room = mean[f"edges_{kind}"], mean["edges_ceiling"] - mean[f"edges_{kind}"]
        up = percent((mean["edges"] - floor) / room) if room > 0 else "above it"
        rows.append(
            {
                "floor": words,
                "share of edges": percent(floor),
                "on the way to the ceiling": up,
            }
        )
    return pd.DataFrame(rows)


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


def spacing_caption(neighbours: pd.DataFrame, spaced: pd.DataFrame, ratio: float) -> str:
    """Whether checkpoints further apart are less alike, as a caption."""
    near, apart = neighbours["edges"].mean(), spaced["edges"].mean()
    if np.isnan(near) or np.isnan(apart):
        return "*There are no two pairs of checkpoints at different distances.*"
    compared = "less alike" if apart < near - AS_MUCH else "no less alike"
    return (
        f"*Checkpoints further apart are {compared}: of the edges in either circuit "
        f"{percent(apart)} are in both at {ratio:g} times the tokens, among neighbours "
        f"{percent(near)}. Each dot: the mean over pairs of a model's checkpoints.*"
    )


def published_spacing(jaccard: pd.DataFrame) -> str:
    """How far apart neighbours are in the paper's printed series, `published("jaccard")`."""
    gaps = jaccard["step_next"] - jaccard["step"]
    return (
        f"In the paper's printed tables, neighbours are {gaps.min():,.0f} to {gaps.max():,.0f} "
        "steps apart."
    )


def towards_the_last(reference: pd.DataFrame) -> str:
    """How much the first circuits of runs share with the last ones, and those before the last, as
    a caption. reference: see `to_reference`.
    """
    before = reference[reference["step"] < reference["reference"]].sort_values("step")
    runs = before.groupby(["model", "task"])["edges"]
    if before.empty:
        return f"*{NO_PAIRS.capitalize()}.*"
    return (
        f"*Of the edges of a run's first and last circuit {percent(runs.first().mean())} are in "
        f"both, of the last and the one before it {percent(runs.last().mean())} (means over tasks "
        "and models).*"
    )


def spacing_matters_most(similarity: pd.DataFrame) -> str:
    """The task whose similarity differs most. similarity: a row per task, columns of two ratios and
    `difference`."""
    difference = similarity["difference"].dropna().abs()
    if difference.empty:
        return "There are no two pairs of checkpoints at these ratios."
    return f"It depends on the spacing most in {difference.idxmax()}."
