"""Runs on ordered lists: where their heads sit, when they learn, and how two of them part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from circuitbook.figures.panels import PAGE, panel_grid, subplots
from circuitbook.figures.showing import nothing
from circuitbook.figures.style import CURVES
from circuitbook.studies.findings.two_algorithms import UNSOLVED
from circuitbook.wording import head_from_label, short_number

OTHER = "other"  # all lists are learned, by neither algorithm
COLOURS = {"move": CURVES[0], "fetch": CURVES[1], OTHER: CURVES[4], UNSOLVED: "#888888"}
TITLES = {
    "move": "find and move",
    "fetch": "look up and fetch",
    OTHER: "neither of the two",
    UNSOLVED: "not all learned",
}
MARKS = {  # column of the table of runs: marker, colour, label
    "inhibits": ("D", CURVES[2], "S-inhibition: steers the name mover"),
    "told": ("s", CURVES[3], "tells the fetching head whom"),
    "writer": ("v", CURVES[5], "writes most against the giver"),
    "chooser": ("o", "#000000", "chooses the receiver (in the colour of its algorithm)"),
}
HOLLOW = ("inhibits", "writer")  # drawn around others
FEW = 4  # most heads of a layer that are drawn apart


def heads_of_runs(last: pd.DataFrame) -> Figure:
    """Where the heads of each run sit at the end: a panel per depth, a row per seed.

    last: `two_algorithms.last_of_runs`. A layer has a column, its heads stand side by side.
    """
    if last.empty:
        return nothing("no run has ended")
    depths = sorted(set(last["layers"]))
    most = int(last.groupby("layers").size().max())
    fig, axes = subplots(
        1,
        len(depths),
        figsize=(PAGE, 1.5 + 0.34 * most),
        squeeze=False,
        gridspec_kw={"width_ratios": [depth + 2.2 for depth in depths]},
    )
    for ax, depth in zip(axes[0], depths, strict=True):
        _heads_panel(ax, last[last["layers"] == depth].sort_values("seed"), depth)
    handles = [
        Line2D([], [], linestyle="none", label=MARKS[name][2], **_mark(name)) for name in MARKS
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=8.5)
    fig.supxlabel("layer", fontsize=10)
    return fig


def _kinds(last: pd.DataFrame) -> pd.Series:
    """Of each run, the key of its colour and title."""
    return last["algorithm"].mask(last["solved"] & (last["algorithm"] == UNSOLVED), OTHER)


def _heads_panel(ax: Axes, runs: pd.DataFrame, depth: int) -> None:
    for y, ((_, run), kind) in enumerate(zip(runs.iterrows(), _kinds(runs), strict=True)):
        told = run["chooser_by_v"] if run["algorithm"] == "fetch" else ""
        heads = {"inhibits": run["inhibits"], "told": told}
        heads |= {"writer": run["writer"], "chooser": run["chooser"]}
        for name, labels in heads.items():
            colour = COLOURS[kind] if name == "chooser" else None
            for label in str(labels).split():
                layer, head = head_from_label(label)
                x = layer + (head - (FEW - 1) / 2) * 0.2
                ax.plot(x, y, linestyle="none", **_mark(name, colour))
        ax.text(depth - 0.2, y, TITLES[kind], va="center", fontsize=8, color=COLOURS[kind])
    ax.set_title(f"{depth} layers")
    ax.set_xticks(range(depth))
    ax.set_xlim(-0.5, depth + 1.7)
    ax.set_yticks(range(len(runs)), [f"seed {seed}" for seed in runs["seed"]], fontsize=8.5)
    ax.set_ylim(len(runs) - 0.5, -0.5)
    ax.grid(visible=False)
    for layer in range(depth + 1):
        ax.axvline(layer - 0.5, color="#e4e4e4", linewidth=0.8, zorder=0)


def _mark(name: str, colour: str | None = None) -> dict[str, Any]:
    """How a kind of head is drawn, in its own colour or another."""
    marker, own, _ = MARKS[name]
    hollow, colour = name in HOLLOW, colour or own
    face = "none" if hollow else colour
    size = 10 if hollow else 6
    return {"marker": marker, "color": colour, "markerfacecolor": face, "markersize": size}


def _tokens(ax: Axes) -> None:
    """A linear axis: what happens here happens late."""
    ax.xaxis.set_major_formatter(FuncFormatter(short_number))
    ax.set_xlabel("tokens seen")


def lists_learned(table: pd.DataFrame, last: pd.DataFrame) -> Figure:
    """How often the receiver is the likeliest token, over tokens seen: a panel per size of list, a
    line per run in the colour of the algorithm it ends with."""
    if last.empty:
        return nothing("no run has ended")
    fig, axes = panel_grid(3, 3, (PAGE / 3, 2.6), sharey=True)
    kinds = dict(zip(last["run"], _kinds(last), strict=True))
    for ax, size in zip(axes[0], (2, 3, 4), strict=True):
        for run, rows in table[table["run"].isin(last["run"])].groupby("run", sort=False):
            name = kinds[run]
            ax.plot(
                rows["tokens_seen"],
                rows[f"top_{size}"],
                color=COLOURS[name],
                alpha=0.7,
                linewidth=1.2,
                linestyle="-" if name != UNSOLVED else ":",
            )
        ax.set_title(f"lists of {size}")
        _tokens(ax)
        if size > 2:
            ax.axhline(1 / (size - 1), color="#999999", linewidth=5, alpha=0.35, zorder=0)
    axes[0, 0].set_ylabel("receiver is the likeliest token")
    shown = [name for name in TITLES if name in kinds.values()]
    handles = [Line2D([], [], color=COLOURS[name], label=TITLES[name]) for name in shown]
    handles.append(
        Line2D([], [], color="#999999", linewidth=5, alpha=0.35, label="anybody but the giver")
    )
    fig.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8.5)
    return fig


def parting(table: pd.DataFrame, runs: Sequence[str], last: pd.DataFrame) -> Figure:
    """Two runs over training, a panel each: where the head that carries the choice looks from END,
    and how often lists of three are right."""
    shown = [run for run in runs if run in set(table["run"])]
    if not shown:
        return nothing("no such run was measured")
    fig, axes = panel_grid(len(shown), 2, (PAGE / 2, 2.6), sharex=True, sharey=True)
    algorithm = last.set_index("run")["algorithm"]
    lines = {
        "chooser_IO": ("its attention to the receiver", COLOURS["move"], "o"),
        "chooser_S": ("its attention to the giver", COLOURS["fetch"], "s"),
        "top_3": ("lists of three right", "#000000", "x"),
    }
    for ax, run in zip(axes.flat, shown, strict=False):
        rows = table[table["run"] == run].sort_values("step")
        for name, (label, colour, marker) in lines.items():
            values = rows[name].to_numpy(float)
            ax.plot(rows["tokens_seen"], values, color=colour, marker=marker, label=label)
        ax.set_title(f"{run}: {TITLES[algorithm.get(run, UNSOLVED)]}")
        _tokens(ax)
        ax.set_ylim(-0.05, 1.15)
        _heads_named(ax, rows)
    handles = [
        Line2D([], [], color=colour, marker=marker, label=label)
        for label, colour, marker in lines.values()
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8.5)
    return fig


def _heads_named(ax: Axes, rows: pd.DataFrame) -> None:
    """Which head carries the choice, where that changes."""
    before = ""
    for _, row in rows.iterrows():
        if row["chooser"] and row["chooser"] != before:
            looks = np.nanmax([row["chooser_IO"], row["chooser_S"]])
            ax.annotate(
                row["chooser"],
                (row["tokens_seen"], looks),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        before = row["chooser"]
