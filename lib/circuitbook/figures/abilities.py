"""Abilities over training: Figure 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from circuitbook.figures.panels import PAGE, model_legend, panel_grid
from circuitbook.figures.style import TASK_TITLES, curve, log_axis, tokens_axis
from circuitbook.suites.names import base_model


def ability_panels(
    curves: pd.DataFrame,
    tasks: Sequence[str],
    models: Sequence[str],
    labels: Mapping[str, str],
    value: str = "mean",
    *,
    columns: int = 2,
    panel: tuple[float, float] = (4.2, 2.9),
) -> Figure:
    """Figure 1: one panel per task, one curve per model over tokens seen.

    curves   columns model, task, tokens_seen, `value`, and low and high for an interval
    labels   {task: y label}
    columns  panels in a row; `panel`: a panel's size in inches
    """
    columns = min(columns, len(tasks))
    fig, axes = panel_grid(len(tasks), columns, panel)
    for place, (ax, task) in enumerate(zip(axes.flat, tasks, strict=False)):
        part = curves[curves["task"] == task]
        ax.axhline(0, color="#888888", linewidth=0.8, zorder=0)
        for name in models:
            rows = part[part["model"] == name].sort_values("tokens_seen")
            has_band = base_model(name) == name and {"low", "high"} <= set(rows)
            curve(ax, rows, value, name, rows if has_band else None)
        tokens_axis(ax, part["tokens_seen"])
        if place + columns < len(tasks):  # the panel below says it
            ax.set_xlabel("")
        ax.set_title(TASK_TITLES[task])
        ax.set_ylabel(labels[task], fontsize=10 if panel[1] > 2.5 else 8.5)
    handles, names = axes.flat[0].get_legend_handles_labels()
    if len(tasks) < axes.size:  # the empty place is the legend's
        axes.flat[-1].legend(handles, names, loc="center", fontsize=10)
    else:
        fig.legend(handles, names, loc="outside upper center", ncols=min(len(names), 6))
    return fig


def task_panels(
    frame: pd.DataFrame,
    value: str,
    tasks: Sequence[str],
    models: Sequence[str],
    label: str,
    *,
    log: bool = False,
    top: float | None = None,
    height: float = 2.9,
) -> Figure:
    """A panel per task, a curve per model over tokens seen.

    frame: columns model, task, tokens_seen and `value`. label: that of `value`. log: whether its
    axis is logarithmic; top: where its axis ends; height: of a panel, in inches.
    """
    fig, axes = panel_grid(len(tasks), 2, (PAGE / 2, height))
    for ax, task in zip(axes.flat, tasks, strict=False):
        for name in models:
            part = frame[(frame["task"] == task) & (frame["model"] == name)].dropna(subset=[value])
            if len(part):
                curve(ax, part, value, name)
        if len(frame):
            tokens_axis(ax, frame["tokens_seen"])
        ax.set_title(TASK_TITLES[task])
        if log:
            log_axis(ax.yaxis)
        if top is not None:
            ax.set_ylim(0, top)
    for ax in axes[:, 0]:
        ax.set_ylabel(label)
    model_legend(fig, axes, models)
    return fig
