"""Methods that score edges, side by side."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from circuitbook.figures.panels import PAGE, subplots
from circuitbook.figures.style import model_style
from circuitbook.studies.findings.methods import TITLES
from circuitbook.studies.methods import METHODS


def methods_compared(table: pd.DataFrame) -> Figure:
    """Left, the circuit-model distance (left is better); right, the edges of the smallest circuit.

    table: of `measure_methods`. A mark is one model and task; the bar is the median over them.
    """
    fig, (distance, size) = subplots(1, 2, figsize=(PAGE, 0.4 + 0.5 * len(METHODS)), sharey=True)
    for ax, column, label in (
        (distance, "cmd", "circuit-model distance (CMD)"),
        (size, "edges", "edges for the threshold"),
    ):
        _marks(ax, table, column)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(label)
    distance.set_yticks(range(len(METHODS)), [TITLES[method] for method in METHODS])
    distance.invert_yaxis()
    fig.legend(*distance.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig


def _marks(ax: Axes, table: pd.DataFrame, column: str) -> None:
    models = list(dict.fromkeys(table["model"]))
    for k, model in enumerate(models):
        style = model_style(model)
        part = table[table["model"] == model]
        rows = part["method"].map(METHODS.index) + 0.16 * (k - (len(models) - 1) / 2)
        ax.plot(
            part[column],
            rows,
            style["marker"],
            color=style["color"],
            markersize=6,
            alpha=0.8,
            label=model,
        )
    for row, method in enumerate(METHODS):
        median = table.loc[table["method"] == method, column].median()
        ax.plot([median, median], [row - 0.32, row + 0.32], color="#333333", linewidth=2)
