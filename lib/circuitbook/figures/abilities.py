"""Abilities over training: Figure 1."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from circuitbook.figures.style import TASK_TITLES, curve, log_axis, tokens_axis
from circuitbook.suites.names import base_model


def ability_panels(
    curves: pd.DataFrame,
    tasks: list[str],
    models: list[str],
    labels: dict[str, str],
    value: str = "mean",
    columns: int = 2,
    panel: tuple[float, float] = (4.2, 2.9),
) -> plt.Figure:
    """Figure 1: one panel per task, one curve per model over tokens seen; `panel` is a panel's size in inches.

    `curves`: columns model, task, tokens_seen, `value`, and low and high for an interval; `labels`: {task: y label}.
    """
    columns = min(columns, len(tasks))
    rows = -(-len(tasks) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(panel[0] * columns, panel[1] * rows), squeeze=False
    )
    for ax, task in zip(axes.flat, tasks):
        part = curves[curves["task"] == task]
        ax.axhline(0, color="#888888", linewidth=0.8, zorder=0)
        for name in models:
            one = part[part["model"] == name].sort_values("tokens_seen")
            band = one if base_model(name) == name and {"low", "high"} <= set(one) else None
            curve(ax, one, value, name, band)
        tokens_axis(ax, part["tokens_seen"])
        ax.set_title(TASK_TITLES.get(task, task))
        ax.set_ylabel(labels[task])
    handles, names = axes.flat[0].get_legend_handles_labels()
    for ax in axes.flat[len(tasks) :]:
        ax.axis("off")
    if len(tasks) < axes.size:  # the empty place is the legend's
        axes.flat[-1].legend(handles, names, loc="center", fontsize=10)
    else:
        fig.legend(handles, names, loc="outside upper center", ncols=min(len(names), 6))
    return fig


def _legend(fig: plt.Figure, axes: np.ndarray, models: list[str]) -> None:
    handles = {}
    for ax in axes.flat:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels())))
    names = [name for name in models if name in handles]
    if names:
        fig.legend(
            [handles[name] for name in names],
            names,
            loc="outside upper center",
            ncols=min(6, len(names)),
        )


def task_panels(
    frame: pd.DataFrame,
    value: str,
    tasks: list[str],
    models: list[str],
    label: str,
    log: bool = False,
    top: float | None = None,
) -> plt.Figure:
    """A panel per task, a curve per model over tokens seen: `frame` has model, task, tokens_seen and `value`."""
    fig, axes = plt.subplots(
        -(-len(tasks) // 2), 2, figsize=(8.4, 2.9 * -(-len(tasks) // 2)), squeeze=False
    )
    for ax, task in zip(axes.flat, tasks):
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
    for ax in list(axes.flat)[len(tasks) :]:
        ax.axis("off")
    _legend(fig, axes, models)
    return fig
