"""Circuits put elsewhere as matrices, and the readers of the answer over training."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd

from circuitbook.figures.algorithm import matrices
from circuitbook.figures.heads import kind_panels
from circuitbook.figures.style import TASK_TITLES, short_number
from circuitbook.studies.transfer import transfer_matrix


def run_matrices(transfers: pd.DataFrame, models: Sequence[str]) -> plt.Figure:
    """Faithfulness of the IOI circuit of each checkpoint at each other one: a matrix per model.

    transfers: see `transfer`. Models with fewer than two such checkpoints are left out.
    """
    squares = {
        model: transfer_matrix(transfers, "ioi", "circuit", model, short_number) for model in models
    }
    return matrices(
        {model: square for model, square in squares.items() if len(square) > 1},
        label="faithfulness on fresh prompts",
        xlabel="put to the checkpoint at these tokens",
        ylabel="found at",
    )


def model_matrices(transfers: pd.DataFrame) -> plt.Figure:
    """Faithfulness of a model's IOI circuit, and of its pattern of classes, in another model.

    transfers: see `transfer`; at the models' last checkpoints.
    """
    squares = {
        "the circuit, edge by edge": transfer_matrix(transfers, "ioi", "circuit"),
        "its classes": transfer_matrix(transfers, "ioi", "classes"),
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
