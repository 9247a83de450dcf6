"""Pictures of precision and cost: circuits in sixteen bits, and seconds against model size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from circuitbook.figures.panels import subplots
from circuitbook.records.costs import Fit, inner_parameters
from circuitbook.suites.pythia import PYTHIA_SHAPES
from circuitbook.wording import TASK_SHORT

# of the parts of the work: colour, marker, dashes
PARTS = (
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "D", ":"),
    ("#e69f00", "v", (0, (5, 1, 1, 1))),
    ("#56b4e9", "P", (0, (1, 1))),
)


def similarity_in_dtypes(compared: Mapping[str, pd.DataFrame], tasks: Sequence[str]) -> plt.Figure:
    """Jaccard similarity with the checkpoint before: float32 on x, another dtype on y.

    compared: {dtype: a table as from `precision.against`}, a panel for each; a marker per task. On
    the diagonal the dtype changes nothing.
    """
    fig, axes = subplots(
        1, len(compared), figsize=(4.2 * len(compared), 3.8), sharey=True, squeeze=False
    )
    for ax, (dtype, table) in zip(axes[0], compared.items(), strict=True):
        pairs = table.dropna(subset=["before"])
        for task, marker in zip(tasks, "os^D", strict=False):
            points = pairs[pairs["task"] == task]
            ax.scatter(
                points["before_reference"],
                points["before"],
                marker=marker,
                s=34,
                label=TASK_SHORT[task],
                alpha=0.85,
            )
        ax.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1)
        ax.set_xlabel("similarity in float32")
        ax.set_title(dtype)
    axes[0, 0].set_ylabel("similarity in sixteen bits")
    axes[0, 0].legend(fontsize=8.5)
    return fig


def seconds_by_size(fits: Sequence[Fit]) -> plt.Figure:
    """Seconds of a checkpoint by part of the work, measured and fitted, over Pythia's sizes."""
    sizes = list(PYTHIA_SHAPES)
    parameters = {size: float(inner_parameters(PYTHIA_SHAPES[size])) for size in sizes}
    x = np.array(list(parameters.values()))
    fig, ax = subplots(figsize=(8, 4.4))
    for part, (colour, marker, dashes) in zip(fits, PARTS, strict=True):
        predicted = [part.predicted(size) for size in sizes]
        ax.plot(x, predicted, color=colour, linestyle=dashes, linewidth=1.4)
        ax.plot(
            [parameters[size] for size in part.measured],
            list(part.measured.values()),
            marker=marker,
            linestyle="",
            color=colour,
            label=part.part,
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(x, sizes)
    ax.xaxis.minorticks_off()
    ax.set_xlabel("Pythia's sizes, by parameters outside the embeddings")
    ax.set_ylabel("seconds of a checkpoint, one core")
    ax.legend(fontsize=8.5)
    return fig
