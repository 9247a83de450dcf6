"""What the field's tests of circuits measure: floors, completeness, other circuits."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from circuitbook.circuits.similarity import jaccard
from circuitbook.figures.panels import PAGE, model_legend, panel_grid, subplots
from circuitbook.figures.style import CURVES, MARKERS, TASK_TITLES, legend_label, model_style
from circuitbook.studies.circuit_tests import Trial
from circuitbook.studies.other_circuits import METHODS, Others

KINDS = {
    "circuit": ("o", CURVES[0]),
    "10% replaced": ("v", CURVES[2]),
    "25% replaced": ("^", CURVES[2]),
    "50% replaced": ("<", CURVES[2]),
    "same degrees": ("D", CURVES[3]),
    "random edges": ("x", CURVES[1]),
    "complement": ("+", CURVES[4]),
}


def floors_dots(table: pd.DataFrame) -> plt.Figure:
    """What circuits keep, and what random ones and the complement keep: a row per circuit.

    table: as from `floors_table`.
    """
    fig, ax = subplots(figsize=(PAGE, 1.2 + 0.26 * len(table)))
    rows = np.arange(len(table))[::-1]
    for kind, (marker, colour) in KINDS.items():
        style = {"linestyle": "", "color": colour, "markersize": 6, "label": kind}
        ax.plot(
            table[kind], rows, marker, fillstyle="full" if kind == "circuit" else "none", **style
        )
    names = [f"{model}, {task}" for model, task in zip(table["model"], table["task"], strict=True)]
    ax.set_yticks(rows, names)
    ax.axvline(0, color="#888888", linewidth=0.8)
    ax.axvline(1, color="#888888", linewidth=0.8)
    ax.set_xlabel("faithfulness on fresh prompts (normalised)")
    fig.legend(loc="outside upper center", ncols=4)
    return fig


def completeness_panels(trials: Sequence[Trial]) -> plt.Figure:
    """What the circuit keeps without a set K of nodes against what the model keeps without it.

    A panel per task, a point per K; on the diagonal the circuit is complete.
    """
    shown = [trial for trial in trials if trial.n and trial.removed]
    tasks = list(dict.fromkeys(trial.result.task for trial in shown))
    models = list(dict.fromkeys(trial.result.model for trial in shown))
    fig, axes = panel_grid(len(tasks), 2, (PAGE / 2, 3.1))
    for ax, task in zip(axes.flat, tasks, strict=False):
        for trial in (trial for trial in shown if trial.result.task == task):
            kept = np.array([trial.kept(both) for both in trial.removed.values()])
            style = model_style(trial.result.model, tuple(models)) | {"linestyle": ""}
            label = legend_label(trial.result.model)
            ax.plot(kept[:, 1], kept[:, 0], label=label, **style)
        low, high = ax.get_xlim()
        ax.plot([low, high], [low, high], color="#888888", linewidth=0.8)
        ax.set_title(TASK_TITLES[task])
        ax.set_xlabel("the model without K")
        ax.set_ylabel("the circuit without K")
    model_legend(fig, axes, models)
    return fig


def others_panels(measured: Sequence[Others], threshold: float) -> plt.Figure:
    """What other circuits keep on fresh prompts against how like the first one they are.

    A panel per task; the line is the threshold, the first circuits lie at the right.
    """
    shown = [others for others in measured if others.n]
    tasks = list(dict.fromkeys(others.result.task for others in shown))
    kinds = ["the circuit", "pruned", *METHODS.values()]
    fig, axes = panel_grid(len(tasks), 2, (PAGE / 2, 3.0))
    for ax, task in zip(axes.flat, tasks, strict=False):
        points: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for others in (others for others in shown if others.result.task == task):
            first = others.result.circuit.mask
            points["the circuit"].append((1.0, others.kept))
            points["pruned"] += [(jaccard(mask, first), kept) for mask, kept in others.pruned]
            for name, (mask, kept) in others.methods.items():
                points[METHODS[name]].append((jaccard(mask, first), kept))
        for i, (kind, some) in enumerate(points.items()):
            x, y = zip(*some, strict=True) if some else ((), ())
            ax.plot(x, y, MARKERS[i], color=CURVES[i], fillstyle="none", label=kind)
        ax.axhline(threshold, color="#888888", linewidth=0.8, linestyle=":")
        ax.set_xlim(-0.03, 1.05)
        ax.set_title(TASK_TITLES[task])
        ax.set_xlabel("Jaccard with the circuit")
        ax.set_ylabel("kept, held out")
    model_legend(fig, axes, kinds)
    return fig
