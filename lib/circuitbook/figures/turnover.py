"""Pictures of how much of a circuit turns over, and of its size against the model's (see `stability`)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from circuitbook.figures.panels import model_legend as _legend
from circuitbook.figures.showing import nothing
from circuitbook.figures.style import CURVES, TASK_SHORT, log_axis, model_style, short_number
from circuitbook.studies.seeds import COMPARED


def between_bounds(
    table: pd.DataFrame, tasks: list[str], models: list[str], what: str = "edges"
) -> plt.Figure:
    """Similarity of neighbouring checkpoints between its ceiling and its floors: a row of panels per task, one per model."""
    if not table["model"].isin(models).any():
        return nothing("no model has circuits at two checkpoints")
    fig, axes = plt.subplots(
        len(tasks),
        len(models),
        figsize=(8.4, 1.75 * len(tasks)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for line, task in zip(axes, tasks):
        for ax, name in zip(line, models):
            part = table[(table["task"] == task) & (table["model"] == name)].sort_values(
                "tokens_seen"
            )
            x = part["tokens_seen"]
            ax.fill_between(
                x,
                part[f"{what}_floor"],
                part[f"{what}_ceiling"],
                color="#cccccc",
                alpha=0.4,
                linewidth=0,
            )
            ax.plot(
                x,
                part[f"{what}_ceiling"],
                color="#555555",
                linestyle="--",
                linewidth=1,
                label="ceiling: other prompts",
            )
            ax.plot(
                x,
                part[f"{what}_degree"],
                color="#d55e00",
                linestyle="-.",
                linewidth=1,
                label="random, same degrees",
            )
            ax.plot(
                x,
                part[f"{what}_floor"],
                color="#d55e00",
                linestyle=":",
                linewidth=1.2,
                label="floor: random, same size",
            )
            ax.plot(
                x,
                part[what],
                marker="o",
                markersize=3.5,
                color="#0072b2",
                label="the checkpoint before",
            )
            if part.empty:
                ax.text(
                    0.5,
                    0.5,
                    "no two circuits",
                    ha="center",
                    transform=ax.transAxes,
                    color="#555555",
                    fontsize=8,
                )
            ax.set_ylim(-0.03, 1.05)
            ax.set_xscale("log")
    for ax, name in zip(axes[0], models):
        ax.set_title(name, fontsize=9.5)
    for ax, task in zip(axes[:, 0], tasks):
        ax.set_ylabel(TASK_SHORT[task], fontsize=9)
    for ax in axes[-1]:
        ax.xaxis.set_major_formatter(short_number)
        ax.xaxis.set_minor_formatter(lambda v, _: short_number(v) if f"{v:.0e}"[0] in "25" else "")
        ax.tick_params(axis="x", which="both", labelsize=7, rotation=60)
    fig.supxlabel("tokens seen", fontsize=10)
    fig.supylabel(f"Jaccard similarity of {what}", fontsize=10)
    handles = {}
    for ax in axes.flat:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels())))
    fig.legend(handles.values(), handles, loc="outside upper center", ncols=4, fontsize=8.5)
    return fig


def similarity_by_ratio(table: pd.DataFrame, tasks: list[str], models: list[str]) -> plt.Figure:
    """Jaccard of any two checkpoints against the ratio of their tokens (see `stability.by_ratio`): means per model and bin."""
    fig, axes = plt.subplots(1, len(tasks), figsize=(8.4, 2.7), sharey=True, squeeze=False)
    middle = 2.0 ** np.arange(
        0, np.log2(max(4.0, table["ratio"].max() if len(table) else 4.0)) + 0.5, 0.5
    )
    edges = np.append(middle[0], middle) * 2.0**0.25  # half a step to either side of 1, 1.41, 2 ...
    edges[0] = 1.0
    for ax, task in zip(axes[0], tasks):
        for name in models:
            part = table[(table["task"] == task) & (table["model"] == name)]
            mean = part.groupby(np.digitize(part["ratio"], edges) - 1)["edges"].mean()
            if len(mean):
                ax.plot(middle[mean.index], mean, label=name, **model_style(name, tuple(models)))
        log_axis(ax.xaxis)
        ax.set_xlim(1, 1.2 * middle[-1])
        ax.set_ylim(-0.03, 1.05)
        ax.set_title(TASK_SHORT[task], fontsize=9.5)
    axes[0, 0].set_ylabel("Jaccard of edges")
    fig.supxlabel("tokens of the later over tokens of the earlier checkpoint", fontsize=10)
    _legend(fig, axes, models)
    return fig


def sizes_against_models(panels: dict[str, pd.DataFrame], tasks: list[str]) -> plt.Figure:
    """Mean circuit size against model size, a panel per table {title: columns model, size, task, nodes}, a line per task."""
    if not panels:
        return nothing("no circuits")
    fig, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.1), squeeze=False)
    markers = "osD^"
    for ax, (title, frame) in zip(axes[0], panels.items()):
        for i, task in enumerate(tasks):
            part = frame[frame["task"] == task].sort_values("size")
            ax.plot(
                part["size"],
                part["nodes"],
                color=CURVES[i % len(CURVES)],
                marker=markers[i % 4],
                label=TASK_SHORT[task],
            )
        ax.set_xscale("log")
        ax.set_ylim(bottom=0)
        places = frame.drop_duplicates("model").sort_values("size")
        ax.set_xticks(
            places["size"], [f"{m}" for m in places["model"]], fontsize=7.5, rotation=30, ha="right"
        )
        ax.minorticks_off()
        ax.set_title(title, fontsize=9.5)
        ax.set_xlabel("model, by parameters (log)")
    axes[0, 0].set_ylabel("nodes in the circuit, mean")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def comparison_dots(table: pd.DataFrame, tasks: list[str]) -> plt.Figure:
    """What a circuit is as similar as (see `stability.likeness`): means with all pairs behind them."""
    order = [like for like in COMPARED if (table["like"] == like).any()]
    if not order:
        return nothing("nothing to compare")
    fig, axes = plt.subplots(
        1, len(tasks), figsize=(8.4, 0.8 + 0.36 * len(order)), sharey=True, squeeze=False
    )
    for ax, task in zip(axes[0], tasks):
        for y, like in enumerate(order):
            values = table.loc[(table["task"] == task) & (table["like"] == like), "edges"].dropna()
            colour = "#d55e00" if "random" in like else "#0072b2" if "seed" in like else "#555555"
            ax.plot(values, [y] * len(values), "|", color=colour, alpha=0.4, markersize=9)
            if len(values):
                ax.plot(
                    values.mean(),
                    y,
                    marker="D" if "seed" in like else "o",
                    color=colour,
                    markersize=6,
                )
        ax.set_xlim(-0.03, 1.05)
        ax.set_title(TASK_SHORT[task], fontsize=9.5)
    axes[0, 0].set_yticks(range(len(order)), order)
    axes[0, 0].invert_yaxis()
    fig.supxlabel("Jaccard similarity of edges", fontsize=10)
    return fig


def published_series(
    edge_counts: pd.DataFrame, jaccard: pd.DataFrame, raw: pd.DataFrame, copy_scores: pd.DataFrame
) -> plt.Figure:
    """The paper's series, as the paper's: circuit sizes, moving averages of Jaccard, one raw series with ours, copy scores."""
    fig, axes = plt.subplots(2, 2, figsize=(8.4, 6.0))
    for name, part in edge_counts.groupby("model", sort=False):
        axes[0, 0].plot(
            part["tokens_seen"],
            part["value"],
            label=name,
            **(model_style(name) | {"markersize": 2.5}),
        )
    axes[0, 0].set_ylabel("edges")
    axes[0, 0].set_title("IOI circuit", fontsize=10)
    for (name, task), part in jaccard.groupby(["model", "task"], sort=False):
        style = (
            model_style(name)
            | {"markersize": 2.5}
            | ({} if task == "gendered_pronoun" else {"linestyle": ":"})
        )
        axes[0, 1].plot(
            part["tokens_seen"],
            part["value"],
            label=f"{name}{'' if task == 'gendered_pronoun' else ', ' + TASK_SHORT[task]}",
            **style,
        )
    axes[0, 1].set_title("EWMA of Jaccard, Pronoun (and SVA)", fontsize=10)
    for name, part in raw.groupby("model", sort=False):
        axes[1, 0].plot(
            part["tokens_seen"], part["value"], ".", color="#767676", label=f"{name}, raw"
        )
        axes[1, 0].plot(part["tokens_seen"], part["ours"], color="#d55e00", label="our EWMA of it")
        axes[1, 0].plot(
            part["tokens_seen"],
            part["late"],
            color="#0072b2",
            linestyle="--",
            label="begun at step 1,000",
        )
    axes[1, 0].set_title("Jaccard, SVA", fontsize=10)
    for i, (head, part) in enumerate(copy_scores.groupby("head", sort=False)):
        axes[1, 1].plot(
            part["tokens_seen"],
            part["value"],
            label=head,
            color=plt.get_cmap("viridis")(0.02 + 0.085 * i),
            marker="os^DvPX"[i],
            markersize=2.2,
            linewidth=1,
        )
    axes[1, 1].set_title("Copy scores (%), heads of pythia-410m", fontsize=10)
    for ax in axes.flat:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(short_number)
        ax.legend(fontsize=7.5)
        ax.set_xlabel("tokens seen")
    return fig
