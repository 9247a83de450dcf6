"""Pictures of one model's training: its loss, abilities, heads and circuit over steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from pandas.io.formats.style import Styler

from circuitbook.figures.panels import subplots
from circuitbook.figures.tables import styled
from circuitbook.heads.names import Head
from circuitbook.model.loaded import Model
from circuitbook.studies.head_scores import TITLES, HeadScores
from circuitbook.studies.talking import BEGINNING, NAMES, Said, what_it_says
from circuitbook.wording import TASK_TITLES, head_label, percent

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#999999"
ABILITIES = {"ioi": "logit difference", "repetition": "gain (nats)"}
KINDS = {"induction": (BLUE, "o"), "copy": (ORANGE, "s"), "previous": (GREY, "^")}


def _over_steps(
    ax: plt.Axes,
    steps: Sequence[int],
    values: Sequence[float],
    label: str,
    colour: str = BLUE,
    marker: str = "o",
) -> None:
    ax.plot(steps, values, color=colour, marker=marker, label=label)
    ax.axhline(0, color="#888888", linewidth=0.8, zorder=0)
    ax.set_xlabel("step")


def loss_curve(losses: Sequence[float], checkpoints: Sequence[int], window: int = 20) -> plt.Figure:
    """The mean loss of the last `window` updates after each step; lines mark the checkpoints."""
    mean = pd.Series(losses).rolling(window, min_periods=1).mean()
    fig, ax = subplots(figsize=(6.4, 2.8))
    ax.plot(np.arange(1, len(mean) + 1), mean, color=BLUE, linewidth=1.4)
    for step in checkpoints:
        ax.axvline(step, color="#cccccc", linewidth=0.7, zorder=0)
    ax.set_xlabel("step")
    ax.set_yscale("log")
    ax.set_yticks([1, 1.5, 2, 3, 5], ["1", "1.5", "2", "3", "5"])
    ax.minorticks_off()
    ax.set_ylabel("loss (nats per token)")
    return fig


def abilities_over_steps(curves: pd.DataFrame) -> plt.Figure:
    """IOI and repetition with their intervals; curves: columns task, step, mean, low, high."""
    fig, axes = subplots(1, 2, figsize=(8.4, 3.0))
    for ax, (task, label) in zip(axes, ABILITIES.items(), strict=True):
        curve = curves[curves["task"] == task]
        _over_steps(ax, curve["step"], curve["mean"], task)
        ax.fill_between(
            curve["step"], curve["low"], curve["high"], color=BLUE, alpha=0.15, linewidth=0
        )
        ax.set_title(TASK_TITLES[task])
        ax.set_ylabel(label)
    return fig


def heads_over_steps(scores: Sequence[HeadScores], carriers: Sequence[Head]) -> plt.Figure:
    """Left: the strongest score of each kind. Right: the direct effect on IOI of some heads,
    as a share of the whole, where IOI is done."""
    fig, (strongest, direct) = subplots(1, 2, figsize=(8.4, 3.0))
    steps = [at.step for at in scores]
    for kind, (colour, marker) in KINDS.items():
        values = [at.score(kind).max() for at in scores]
        _over_steps(strongest, steps, values, TITLES[kind].split(" (")[0], colour, marker)
    strongest.set_title("Strongest head of a kind")
    strongest.set_ylabel("score")
    strongest.legend()
    able = [at for at in scores if at.able]
    for head, colour, marker in zip(carriers, (BLUE, ORANGE, GREEN), "os^", strict=False):
        values = [-at.score("direct")[at.heads.index(head)] for at in able]
        _over_steps(direct, [at.step for at in able], values, head_label(head), colour, marker)
    direct.set_xlim(strongest.get_xlim())
    direct.set_title("Direct effect on IOI")
    direct.set_ylabel("share of the whole")
    if carriers:
        direct.legend()
    else:
        direct.set_xlabel("step (no head: IOI is not there)")
    return fig


def circuit_size_over_steps(circuits: pd.DataFrame, steps: int) -> plt.Figure:
    """Edges of the circuit, with crosses where there is none, over a run of so many steps.

    circuits: columns step, found, edges.
    """
    found, none = circuits[circuits["found"]], circuits[~circuits["found"]]
    fig, ax = subplots(figsize=(6.4, 2.8))
    _over_steps(ax, found["step"], found["edges"], "circuit")
    ax.plot(
        none["step"], 0 * none["step"], color=GREY, marker="x", linestyle="", label="no circuit"
    )
    ax.set_xlim(-0.03 * steps, 1.03 * steps)
    ax.set_ylim(bottom=-0.5)
    ax.yaxis.set_major_locator(plt.MaxNLocator(5, integer=True))
    ax.set_ylabel("edges in the circuit")
    ax.legend()
    return fig


# ------------------------------------------------------------------ what it says


def talking_table() -> Callable[[Model], None]:
    """Shows a table, empty at first, and gives what adds a checkpoint's row to it: see
    `what_it_says`."""
    said: list[Said] = []
    shown = display(said_table(said), display_id=True)

    def listen(model: Model) -> None:
        said.append(what_it_says(model))
        if shown:  # not where nothing is displayed
            shown.update(said_table(said))

    return listen


def said_table(said: Sequence[Said]) -> Styler:
    """A row for each checkpoint, in the order of training."""
    rows = [
        (one.step, one.continuation, ", ".join(f"{name} {percent(p)}" for name, p in one.names))
        for one in sorted(said, key=lambda one: one.step)
    ]
    columns = ["step", f"after “{BEGINNING}”", f"the {NAMES} best names"]
    return styled(pd.DataFrame(rows, columns=columns)).hide(axis="index")
