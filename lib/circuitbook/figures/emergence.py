"""Figures of "Abilities over training" beside Figure 1, which is in `figures.abilities`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from circuitbook.figures.panels import subplots
from circuitbook.figures.style import (
    CURVES,
    MARKERS,
    MEASURE_LABELS,
    curve,
    log_axis,
    tokens_axis,
)
from circuitbook.studies.abilities import OnsetComparison
from circuitbook.wording import TASK_SHORT, short_number

# The y axis of each task in its own metric.
METRIC_LABELS = {
    "ioi": "logit difference",
    "gendered_pronoun": "logit difference",
    "greater_than": "probability difference",
    "sva": "probability difference",
    "repetition": "log-probability gain (nats)",
}


# Where a row's label has to be short.
ROW_LABELS = MEASURE_LABELS | {
    "rank_zero": "answer is \nthe argmax",
    "probability_difference": "probability\ndifference",
    "answer_mass": "probability\nof all answers",
}


def ours_and_the_papers(
    curves: pd.DataFrame, models: Sequence[str], paper: pd.DataFrame
) -> plt.Figure:
    """IOI over training as measured here, and beside it as the paper measured it.

    curves: as from `summarise`. paper: columns model, step, tokens_seen and value.
    """
    fig, (ours, theirs) = subplots(1, 2, figsize=(8.4, 3.1), sharey=True)
    ioi = curves[curves["task"] == "ioi"]
    if len(ioi):
        for name in models:
            curve(ours, ioi[ioi["model"] == name], "mean", name)
    for name, part in paper.groupby("model"):
        curve(theirs, part.sort_values("step"), "value", name)
    tokens_axis(ours, curves["tokens_seen"])
    theirs.set_xscale("log")
    theirs.xaxis.set_major_formatter(FuncFormatter(short_number))
    theirs.set_xlabel("tokens seen")
    ours.set_ylabel("IOI logit difference")
    ours.set_title("Measured here")
    theirs.set_title("Pythia, as the paper measured it")
    for ax in (ours, theirs):
        ax.axhline(0, color="#888888", linewidth=0.8, zorder=0)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="best")
    return fig


def onset_ratios(
    comparisons: Mapping[tuple[str, str], OnsetComparison], bound: float = 2.0
) -> plt.Figure:
    """The slowest date over the quickest of each task, with intervals, a marker per group.

    comparisons: {(task, group): ...}. Left of the line at `bound` they are the same.
    """
    tasks, groups = (list(dict.fromkeys(names)) for names in zip(*comparisons, strict=True))
    fig, ax = subplots(figsize=(8.4, 0.9 + 0.55 * len(tasks)))
    for i, group in enumerate(groups):
        for row, task in enumerate(reversed(tasks)):
            found, height = comparisons[task, group], row + 0.22 * ((len(groups) - 1) / 2 - i)
            if np.isnan(found.ratio):
                continue
            look = {"color": CURVES[i], "marker": MARKERS[i], "linestyle": ""}
            ax.plot([found.low, min(found.high, 1e3)], [height] * 2, color=CURVES[i], alpha=0.7)
            ax.plot(found.ratio, height, **look)
        ax.plot([], [], label=group, color=CURVES[i], marker=MARKERS[i])
    ax.axvline(bound, color="#555555", linestyle="--", linewidth=1)
    log_axis(ax.xaxis)
    ax.set_xlim(left=0.95)
    ax.set_yticks(range(len(tasks)), [TASK_SHORT[task] for task in reversed(tasks)])
    ax.set_xlabel("tokens of the slowest over those of the quickest")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def measure_grid(
    measures: Mapping[str, pd.DataFrame], tasks: Sequence[str], models: Sequence[str]
) -> plt.Figure:
    """Measures of the answer, {measure: curves as from `summarise`}, in rows; tasks in columns."""
    fig, axes = subplots(len(measures), len(tasks), figsize=(9.6, 9.6), sharex=True, squeeze=False)
    for row, (measure, curves) in zip(axes, measures.items(), strict=True):
        for ax, task in zip(row, tasks, strict=True):
            for name in models:
                part = curves[(curves["model"] == name) & (curves["task"] == task)]
                curve(ax, part, "mean", name, markersize=2.5)
            tokens_axis(ax, curves["tokens_seen"])
            ax.set_xlabel("")
        row[0].set_ylabel(ROW_LABELS[measure])
    for ax, task in zip(axes[0], tasks, strict=True):
        ax.set_title(TASK_SHORT[task])
    for ax in axes[-1]:
        ax.set_xlabel("tokens seen")
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside upper center", ncols=min(len(names), 6))
    return fig


def agreement_panels(
    other_number: pd.DataFrame, same_number: pd.DataFrame, models: Sequence[str]
) -> plt.Figure:
    """Agreement past a noun of the other number (left) and of the same number (right).

    Each as from `summarise`, with its interval as a band.
    """
    fig, axes = subplots(1, 2, figsize=(8.4, 3.0), sharey=True)
    titles = ("attractor of the other number", "attractor of the same number")
    for ax, curves, title in zip(axes, (other_number, same_number), titles, strict=True):
        for name in models:
            part = curves[curves["model"] == name]
            curve(ax, part, "mean", name, part)
        tokens_axis(ax, curves["tokens_seen"])
        ax.axhline(0, color="#888888", linewidth=0.8, zorder=0)
        ax.set_title(title)
    axes[0].set_ylabel("probability difference")
    axes[1].legend(loc="lower right")
    return fig
