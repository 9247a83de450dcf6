"""Pictures of what attribution costs, from a record of `benchmarks/speed.py`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from circuitbook.figures.panels import subplots
from circuitbook.figures.style import log_axis

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#888888"


def cost_growth(record: dict) -> plt.Figure:
    """Seconds and memory of attribution against prompts, points, common beginning, and model."""
    fig, axes = subplots(2, 2, figsize=(8.4, 5.6))
    _seconds_and_memory(axes[0, 0], record["prompts"], "prompts", "prompts (70m shape, 5 points)")
    _seconds_and_memory(axes[0, 1], record["points"], "points", "points (70m shape, 16 prompts)")
    label = "tokens put before the prompt (70m shape)"
    _seconds_and_memory(axes[1, 0], record["length"], "shift", label, log=False)
    axes[0, 0].legend()
    _models(axes[1, 1], record["models"])
    return fig


def _seconds_and_memory(
    ax: plt.Axes, rows: list[dict], x: str, label: str, log: bool = True
) -> None:
    table = pd.DataFrame(rows)
    beyond = table["peak_gb"] - table["loaded_gb"]
    ax.plot(table[x], table["seconds"], marker="o", color=BLUE, label="seconds")
    ax.plot(table[x], beyond, marker="s", color=ORANGE, label="GB beyond the model")
    log_axis(ax.yaxis)
    if log:
        ax.set_xscale("log")
        ax.set_xticks(table[x], [f"{value:g}" for value in table[x]])
        ax.xaxis.minorticks_off()
    ax.set_xlabel(label)


def _models(ax: plt.Axes, rows: list[dict]) -> None:
    table = pd.DataFrame(rows)
    places = range(len(table))
    ax.plot(places, table["seconds"], marker="o", color=BLUE, label="attribution, 5 points")
    ax.plot(places, table["plain"], marker="^", color=GREY, linestyle="--", label="5 plain passes")
    ax.plot(places, table["peak_gb"], marker="s", color=ORANGE, label="peak GB of the process")
    ax.set_xticks(places, table["shape"])
    log_axis(ax.yaxis)
    ax.set_xlabel("Pythia's shapes (16 prompts)")
    ax.legend(fontsize=8.5)
