"""Methods that score edges, side by side; and circuits of nodes beside those of edges."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from circuitbook.figures.panels import PAGE, subplots
from circuitbook.figures.style import model_style
from circuitbook.studies.findings.methods import TITLES
from circuitbook.studies.findings.node_circuits import TITLES as OF_NODES


def methods_compared(table: pd.DataFrame) -> Figure:
    """Left, the circuit-model distance (left is better); right, the edges of the smallest circuit.

    table: of `measure_methods`. A mark is one model and task; the bar is the median over them.
    """
    return _compared(table, "method", TITLES)


def nodes_compared(table: pd.DataFrame) -> Figure:
    """The same of circuits of nodes and of edges; table: of `measure_nodes`."""
    return _compared(table, "kind", OF_NODES)


def _compared(table: pd.DataFrame, column: str, titles: Mapping[str, str]) -> Figure:
    """column: which of `titles` a row of the table is of."""
    height = 0.4 + 0.5 * len(titles) + 0.3 * (len(titles) < 8)  # axis and legend of a low figure
    fig, (distance, size) = subplots(1, 2, figsize=(PAGE, height), sharey=True)
    for ax, number, label in (
        (distance, "cmd", "circuit-model distance (CMD)"),
        (size, "edges", "edges for the threshold"),
    ):
        _marks(ax, table.assign(row=table[column].map(list(titles).index)), number)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(label)
    distance.set_yticks(range(len(titles)), list(titles.values()))
    distance.invert_yaxis()
    fig.legend(*distance.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig


def _marks(ax: Axes, table: pd.DataFrame, number: str) -> None:
    models = list(dict.fromkeys(table["model"]))
    for k, model in enumerate(models):
        style = model_style(model)
        part = table[table["model"] == model]
        ax.plot(
            part[number],
            part["row"] + 0.16 * (k - (len(models) - 1) / 2),
            style["marker"],
            color=style["color"],
            markersize=6,
            alpha=0.8,
            label=model,
        )
    for row, median in table.groupby("row")[number].median().items():
        ax.plot([median, median], [row - 0.32, row + 0.32], color="#333333", linewidth=2)
