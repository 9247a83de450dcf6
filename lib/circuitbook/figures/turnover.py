"""Pictures of how much of a circuit turns over, and of its size against the model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from circuitbook.figures.panels import (
    PAGE,
    handles_in,
    model_legend,
    panel_grid,
    say_inside,
    subplots,
)
from circuitbook.figures.showing import nothing
from circuitbook.figures.style import CURVES, TASK_SHORT, legend_label, log_axis, model_style
from circuitbook.studies.seeds import COMPARED
from circuitbook.wording import short_number

TASK_MARKERS = "osD^"


def similarity_and_bounds(table: pd.DataFrame, tasks: Sequence[str]) -> Figure:
    """A row per task: mean similarity of edges at neighbouring checkpoints, between the ceiling and
    the floors. table: see `studies.turnover`.
    """
    mean = table.groupby("task").mean(numeric_only=True)
    rows = [task for task in tasks if task in mean.index]
    if not rows:
        return nothing("no model has circuits at two checkpoints")
    mean = mean.loc[rows]
    fig, ax = subplots(figsize=(PAGE, 1.3 + 0.42 * len(rows)))
    place = np.arange(len(rows))
    ax.hlines(place, mean["edges_floor"], mean["edges_ceiling"], color="#cccccc", zorder=1)
    for column, label, marker, colour, size in (
        ("edges", "the checkpoint before", "o", CURVES[0], 9),
        ("edges_ceiling", "ceiling: other prompts", "|", "#000000", 16),
        ("edges_degree", "floor: same degrees", "x", CURVES[1], 7),
        ("edges_heads", "floor: shuffled heads", "+", CURVES[2], 8),
        ("edges_floor", "floor: as many edges", "v", "#666666", 6),
    ):
        style = {"linestyle": "", "color": colour, "markersize": size, "label": label}
        ax.plot(mean[column], place, marker=marker, markeredgewidth=1.8, **style)
    ax.set_yticks(place, [TASK_SHORT[task] for task in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(-0.02, 1.02)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol="%"))
    ax.set_xlabel("edges in common (Jaccard similarity)")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def between_bounds(
    table: pd.DataFrame, tasks: Sequence[str], models: Sequence[str], what: str = "edges"
) -> Figure:
    """Similarity of neighbouring checkpoints between its ceiling and its floors.

    A row of panels per task, one per model. table: see `studies.turnover`; what: "edges" or
    "nodes".
    """
    if not table["model"].isin(models).any():
        return nothing("no model has circuits at two checkpoints")
    fig, axes = panel_grid(
        len(tasks) * len(models),
        len(models),
        (PAGE / len(models), 1.75),
        sharex=True,
        sharey=True,
    )
    for line, task in zip(axes, tasks, strict=True):
        for ax, name in zip(line, models, strict=True):
            part = table[(table["task"] == task) & (table["model"] == name)]
            _between(ax, part.sort_values("tokens_seen"), what)
    for ax, name in zip(axes[0], models, strict=True):
        ax.set_title(name, fontsize=9.5)
    for ax, task in zip(axes[:, 0], tasks, strict=True):
        ax.set_ylabel(TASK_SHORT[task], fontsize=9)
    for ax in axes[-1]:
        ax.xaxis.set_major_formatter(short_number)
        ax.xaxis.set_minor_formatter(_two_and_five)
        ax.tick_params(axis="x", which="both", labelsize=7, rotation=60)
    fig.supxlabel("tokens seen", fontsize=10)
    fig.supylabel(f"Jaccard similarity of {what}", fontsize=10)
    handles = handles_in(axes.flat)
    fig.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=3, fontsize=8.5
    )
    return fig


def _between(ax: Axes, part: pd.DataFrame, what: str) -> None:
    """Draws the similarity of a model's checkpoints on a task with its bounds."""
    tokens = part["tokens_seen"]
    floor, ceiling = part[f"{what}_floor"], part[f"{what}_ceiling"]
    ax.fill_between(tokens, floor, ceiling, color="#cccccc", alpha=0.4, linewidth=0)
    lines = [
        (ceiling, "ceiling: other prompts", "#555555", "--", 1.0),
        (part[f"{what}_degree"], "floor: same degrees", "#d55e00", "-.", 1.0),
        (part[f"{what}_heads"], "floor: shuffled heads", "#009e73", (0, (5, 1, 1, 1, 1, 1)), 1.0),
        (floor, "floor: as many edges", "#d55e00", ":", 1.2),
    ]
    for values, label, colour, dashes, width in lines:
        ax.plot(tokens, values, color=colour, linestyle=dashes, linewidth=width, label=label)
    ax.plot(
        tokens,
        part[what],
        marker="o",
        markersize=3.5,
        color="#0072b2",
        label="the checkpoint before",
    )
    if part.empty:
        say_inside(ax, "no two circuits", fontsize=8)
    ax.set_ylim(-0.03, 1.05)
    ax.set_xscale("log")


def _two_and_five(value: float, _: int | None = None) -> str:
    """A label for 2 and 5 times the powers of ten alone."""
    return short_number(value) if f"{value:.0e}"[0] in "25" else ""


def similarity_by_ratio(table: pd.DataFrame, tasks: Sequence[str], models: Sequence[str]) -> Figure:
    """Similarity of any two checkpoints against the ratio of their tokens: means per model and bin.

    table: see `studies.turnover.by_ratio`.
    """
    if table.empty:
        return nothing("no model has circuits at two checkpoints")
    fig, axes = panel_grid(len(tasks), len(tasks), (PAGE / len(tasks), 2.7), sharey=True)
    middle = 2.0 ** np.arange(0, np.log2(max(4.0, table["ratio"].max())) + 0.5, 0.5)
    edges = np.append(middle[0], middle) * 2.0**0.25  # half a step to either side of 1, 1.41, 2 ...
    edges[0] = 1.0
    for ax, task in zip(axes[0], tasks, strict=True):
        for name in models:
            part = table[(table["task"] == task) & (table["model"] == name)]
            mean = part.groupby(np.digitize(part["ratio"], edges) - 1)["edges"].mean()
            if len(mean):
                ax.plot(
                    middle[mean.index],
                    mean,
                    label=legend_label(name),
                    **model_style(name, tuple(models)),
                )
        log_axis(ax.xaxis)
        ax.set_xlim(1, 1.2 * middle[-1])
        ax.set_ylim(-0.03, 1.05)
        ax.set_title(TASK_SHORT[task], fontsize=9.5)
    axes[0, 0].set_ylabel("Jaccard of edges")
    fig.supxlabel("tokens of the later over tokens of the earlier checkpoint", fontsize=10)
    model_legend(fig, axes, models)
    return fig


def sizes_against_models(panels: Mapping[str, pd.DataFrame], tasks: Sequence[str]) -> Figure:
    """Mean circuit size against model size: a panel per table, a line per task.

    panels: {title: columns model, size, task, nodes}; tables without rows have no panel.
    """
    panels = {title: frame for title, frame in panels.items() if len(frame)}
    if not panels:
        return nothing("no circuits")
    fig, axes = panel_grid(len(panels), len(panels), (PAGE / 2, 3.1))
    for ax, (title, frame) in zip(axes[0], panels.items(), strict=True):
        for i, task in enumerate(tasks):
            part = frame[frame["task"] == task].sort_values("size")
            ax.plot(
                part["size"],
                part["nodes"],
                color=CURVES[i % len(CURVES)],
                marker=TASK_MARKERS[i % len(TASK_MARKERS)],
                label=TASK_SHORT[task],
            )
        ax.set_xscale("log")
        ax.set_ylim(bottom=0)
        models = frame.drop_duplicates("model").sort_values("size")
        names = models["model"].astype(str).tolist()
        ax.set_xticks(models["size"], names, fontsize=7.5, rotation=30, ha="right")
        ax.minorticks_off()
        ax.set_title(title, fontsize=9.5)
        ax.set_xlabel("model, by parameters (log)")
    axes[0, 0].set_ylabel("nodes in the circuit, mean")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def comparison_dots(table: pd.DataFrame, tasks: Sequence[str]) -> Figure:
    """What a circuit is as similar as: means, with all pairs behind them.

    table: see `seeds.comparisons`.
    """
    kinds = [kind for kind in COMPARED if (table["like"] == kind).any()]
    if not kinds:
        return nothing("nothing to compare")
    size = (PAGE / len(tasks), 0.8 + 0.36 * len(kinds))
    fig, axes = panel_grid(len(tasks), len(tasks), size, sharey=True)
    for ax, task in zip(axes[0], tasks, strict=True):
        for y, kind in enumerate(kinds):
            pairs = table.loc[(table["task"] == task) & (table["like"] == kind), "edges"].dropna()
            colour, marker = _look_of(kind)
            ax.plot(pairs, [y] * len(pairs), "|", color=colour, alpha=0.4, markersize=9)
            if len(pairs):
                ax.plot(pairs.mean(), y, marker=marker, color=colour, markersize=6)
        ax.set_xlim(-0.03, 1.05)
        ax.set_title(TASK_SHORT[task], fontsize=9.5)
    axes[0, 0].set_yticks(range(len(kinds)), kinds)
    axes[0, 0].invert_yaxis()
    fig.supxlabel("Jaccard similarity of edges", fontsize=10)
    return fig


def _look_of(kind: str) -> tuple[str, str]:
    """Colour and marker of a kind of comparison (see `seeds.COMPARED`)."""
    marker = "D" if "seed" in kind else "o"
    if "random" in kind:
        return "#d55e00", marker
    return ("#0072b2" if "seed" in kind else "#555555"), marker


def published_series(
    edge_counts: pd.DataFrame, jaccard: pd.DataFrame, raw: pd.DataFrame, copy_scores: pd.DataFrame
) -> Figure:
    """The paper's series, as the paper's.

    edge_counts  circuit sizes: columns model, tokens_seen, value
    jaccard      moving averages of Jaccard: also task
    raw          one raw series of it, with ours in `ours` and begun at step 1,000 in `late`
    copy_scores  columns head, tokens_seen, value
    """
    fig, axes = subplots(2, 2, figsize=(PAGE, 6.0))
    sizes, averages, single, copying = axes.flat
    for name, part in edge_counts.groupby("model", sort=False):
        style = model_style(name) | {"markersize": 2.5}
        sizes.plot(part["tokens_seen"], part["value"], label=name, **style)
    sizes.set_ylabel("edges")
    sizes.set_title("IOI circuit", fontsize=10)
    for (name, task), part in jaccard.groupby(["model", "task"], sort=False):
        style = model_style(name) | {"markersize": 2.5}
        label = name
        if task != "gendered_pronoun":
            style["linestyle"] = ":"
            label = f"{name}, {TASK_SHORT[task]}"
        averages.plot(part["tokens_seen"], part["value"], label=label, **style)
    averages.set_title("EWMA of Jaccard, Pronoun (and SVA)", fontsize=10)
    for name, part in raw.groupby("model", sort=False):
        tokens = part["tokens_seen"]
        single.plot(tokens, part["value"], ".", color="#767676", label=f"{name}, raw")
        single.plot(tokens, part["ours"], color="#d55e00", label="our EWMA of it")
        late = {"color": "#0072b2", "linestyle": "--", "label": "begun at step 1,000"}
        single.plot(tokens, part["late"], **late)
    single.set_title("Jaccard, SVA", fontsize=10)
    for i, (head, part) in enumerate(copy_scores.groupby("head", sort=False)):
        copying.plot(
            part["tokens_seen"],
            part["value"],
            label=head,
            color=plt.get_cmap("viridis")(0.02 + 0.085 * i),
            marker="os^DvPX"[i],
            markersize=2.2,
            linewidth=1,
        )
    copying.set_title("Copy scores (%), heads of pythia-410m", fontsize=10)
    for ax in axes.flat:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(short_number)
        ax.legend(fontsize=7.5)
        ax.set_xlabel("tokens seen")
    return fig
