"""A known circuit and the methods; minimal circuits and how much they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from circuitbook.figures.matrices import matrices
from circuitbook.figures.panels import PAGE, subplots
from circuitbook.figures.showing import nothing
from circuitbook.figures.style import CURVES, TASK_SHORT
from circuitbook.studies.findings.known_circuit import panels
from circuitbook.studies.minimal_circuits import MinimalCircuits


def known_circuit_found(table: pd.DataFrame) -> Figure:
    """A panel per design, a row per method, a column per kind of edge: the AUROC.

    table: of `recovery_table`.
    """
    height = 1.5 + 0.25 * table["method"].nunique()
    figure = matrices(panels(table), label="AUROC", size=PAGE / 3, height=height)
    for ax in figure.axes[1 : len(set(table["design"]))]:
        ax.set_yticklabels([])
    return figure


def circuits_shared(measured: Sequence[MinimalCircuits]) -> Figure:
    """For each model and task, the Jaccard similarity of every two circuits: a mark per pair.

    Minimal circuits of random orders among each other, with one of those made to share little, and
    with the search's; random circuits of the same sizes among each other.
    """
    if not measured:
        return nothing("no circuit was found")
    fig, ax = subplots(figsize=(PAGE, 1.3 + 0.75 * len(measured)))
    groups = {
        "two minimal circuits": ("o", lambda one: one.pairs),
        "one made to share little, with others": ("^", lambda one: one.away_pairs),
        "a minimal one and the search's": ("D", lambda one: one.with_found),
        "two random ones": ("x", lambda one: one.by_chance),
    }
    for k, (label, (marker, values)) in enumerate(groups.items()):
        x = np.concatenate([values(one) for one in measured])
        y = np.concatenate(
            [np.full(len(values(one)), i + 0.2 * (k - 1.5)) for i, one in enumerate(measured)]
        )
        ax.plot(x, y, marker, color=CURVES[k], label=label, alpha=0.75, markersize=5)
    names = [f"{one.model}, {TASK_SHORT[one.task]}" for one in measured]
    ax.set_yticks(range(len(measured)), names)
    ax.set_ylim(len(measured) - 0.5, -0.5)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xlabel("edges shared, of the edges in either (Jaccard)")
    fig.legend(loc="outside lower center", ncols=2, fontsize=8.5)
    return fig
