"""Circuits put elsewhere as matrices, and the readers of the answer over training."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from circuitbook.figures.algorithm import matrices
from circuitbook.figures.heads import kind_panels
from circuitbook.figures.panels import PAGE, subplots
from circuitbook.figures.showing import nothing
from circuitbook.figures.style import CURVES, TASK_TITLES, short_number
from circuitbook.studies.transfer import WHERE, places_moved, transfer_matrix

RANGE = (-0.2, 1.2)  # what is beyond is drawn at its ends
MOVED = {"circuit": "circuit", "classes": "pattern of classes"}
PLACES = {
    "same run": "at another checkpoint",
    "other seed": "in another seed",
    "other size": "in another size",
}


def kept_elsewhere(
    transfers: pd.DataFrame, seeds: Sequence[Sequence[str]], task: str = "ioi"
) -> Figure:
    """What circuits of a task and patterns of classes keep elsewhere: a row for each move, a dot
    for each pair and a larger one for the mean, beside the mean of the targets' own and of shuffled
    heads.

    transfers: see `transfer`; seeds: groups of models that differ by their seeds alone.
    """
    found = {
        what: dict(list(places_moved(transfers, task, what, seeds).groupby("where")))
        for what in MOVED
    }
    rows = [(what, where) for what in MOVED for where in WHERE if where in found[what]]
    if not rows:
        return nothing("there is no second place to put a circuit to")
    fig, ax = subplots(figsize=(PAGE, 1.3 + 0.38 * len(rows)))
    for row, (what, where) in enumerate(rows):
        pairs, colour = found[what][where], CURVES[list(MOVED).index(what)]
        targets = pairs.drop_duplicates(["target", "target_step"])
        kept = np.clip(pairs["faithfulness"], *RANGE)
        spread = row + 0.22 * np.linspace(-1, 1, len(pairs) + 2)[1:-1]
        ax.plot(kept, spread, "o", color=colour, alpha=0.35, markersize=3, markeredgewidth=0)
        for label, marker, shade, value in (
            ("mean over pairs (each a small dot)", "o", colour, pairs["faithfulness"].mean()),
            ("the target's own", "|", "#000000", targets["own"].mean()),
            ("with shuffled heads", "x", "#666666", targets["null"].mean()),
        ):
            ax.plot(
                np.clip(value, *RANGE),
                row,
                marker,
                color=shade,
                markersize={"|": 17, "o": 9}.get(marker, 6),
                markeredgewidth={"|": 2}.get(marker, 1.5),
                label=label if row == 0 else None,
            )
    ax.set_yticks(range(len(rows)), [f"{MOVED[what]}, {PLACES[where]}" for what, where in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(RANGE[0] - 0.02, RANGE[1] + 0.02)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol="%"))
    ax.set_xlabel("faithfulness on fresh prompts")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def run_matrices(transfers: pd.DataFrame, models: Sequence[str], task: str = "ioi") -> plt.Figure:
    """Faithfulness of the circuit of each checkpoint at each other one: a matrix per model.

    transfers: see `transfer`. Models with fewer than two such checkpoints are left out.
    """
    squares = {
        model: transfer_matrix(transfers, task, "circuit", model, short_number) for model in models
    }
    return matrices(
        {model: square for model, square in squares.items() if len(square) > 1},
        label="faithfulness on fresh prompts",
        xlabel="put to the checkpoint at these tokens",
        ylabel="found at",
    )


def model_matrices(transfers: pd.DataFrame, task: str = "ioi") -> plt.Figure:
    """Faithfulness of a model's circuit of a task, and of its pattern of classes, in another model.

    transfers: see `transfer`; at the models' last checkpoints.
    """
    squares = {
        "the circuit, edge by edge": transfer_matrix(transfers, task, "circuit"),
        "its classes": transfer_matrix(transfers, task, "classes"),
    }
    return matrices(
        {title: square for title, square in squares.items() if len(square)},
        label="faithfulness on fresh prompts",
        xlabel="put to",
        ylabel="found in",
        columns=2,
        size=4.0,
    )


def reader_panels(shares: pd.DataFrame, tasks: Sequence[str], models: Sequence[str]) -> plt.Figure:
    """The readers' share of the heads' direct effect over training: a panel per task.

    shares: see `reader_shares`. Tasks without a row are left out.
    """
    curves = {}
    for task in tasks:
        of_task = shares[shares["task"] == task].rename(columns={"readers": "score"})
        if len(of_task):
            curves[task] = dict(list(of_task.groupby("model", sort=False)))
    return kind_panels(curves, TASK_TITLES, models=list(models), label="share")
