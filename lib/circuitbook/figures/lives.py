"""Births and deaths of a circuit's edges over training."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from circuitbook.figures.panels import PAGE, subplots
from circuitbook.figures.style import CURVES
from circuitbook.stats import interval
from circuitbook.studies.lives import NEVER, Lives
from circuitbook.wording import short_number

MOST_EDGES = 40  # rows of the lower panel


def births_and_deaths(one: Lives, most: int = MOST_EDGES) -> Figure:
    """Above, how many edges come and go at each checkpoint; below, each edge's life.

    Of the edges, the `most` that are in the circuit longest, a row each, in the order in which they
    come in. A cell is as dark as the share of the draws of prompts that have the edge in the
    circuit there; the line in a row spans 95% of the births.
    """
    share = one.share
    longest = np.sort(np.argsort(-share.sum(1), kind="stable")[:most])
    fig, (above, below) = subplots(
        2, 1, figsize=(PAGE, 2.3 + 0.19 * len(longest)), height_ratios=[1.2, 0.19 * len(longest)]
    )
    _comings_and_goings(above, one)
    _lives(below, one, longest)
    for ax in (above, below):
        ax.set_xlim(-0.5, len(one.tokens) - 0.5)
        ax.set_xticks(range(len(one.tokens)), [short_number(t) for t in one.tokens], fontsize=8)
    above.tick_params(labelbottom=False)
    below.set_xlabel("tokens seen")
    return fig


def _comings_and_goings(ax: Axes, one: Lives) -> None:
    at = np.arange(len(one.tokens))
    kinds = (
        (one.births, 1, CURVES[0], "come in"),
        (one.deaths, -1, CURVES[1], "are gone for good"),
    )
    for counts, sign, colour, label in kinds:
        low, high = interval(counts)
        mean = counts.mean(0)
        error = np.maximum(0, [mean - low, high - mean])
        if sign < 0:
            error = error[::-1]
        ax.bar(at, sign * mean, 0.7, color=colour, label=label, hatch="//" if sign < 0 else None)
        ax.errorbar(at, sign * mean, error, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
    ax.axhline(0, color="#333333", linewidth=0.8)
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    ax.set_ylabel("edges")
    ax.legend(fontsize=8, loc="upper right")


def _lives(ax: Axes, one: Lives, rows: np.ndarray) -> None:
    image = ax.imshow(
        one.share[rows], aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest"
    )
    for place, row in enumerate(rows):
        born = one.born[:, row]
        low, high = interval(born[born != NEVER])
        if low < high:
            ax.plot([low, high], [place, place], color="#c85800", linewidth=1.6, marker="|")
    names = [one.edges[row].replace("->", " → ") for row in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=7.5)
    ax.set_yticks(np.arange(-0.5, len(rows)), minor=True)
    ax.grid(False)
    ax.grid(which="minor", axis="y", color="#e4e4e4", linewidth=0.6)
    ax.tick_params(which="minor", length=0)
    ax.figure.colorbar(image, ax=ax, label="share of the draws of prompts", fraction=0.03, pad=0.02)
