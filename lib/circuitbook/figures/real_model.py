"""The stages of the IOI algorithm at single checkpoints, side by side: Figure 4 B to D as dots."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from circuitbook.figures.panels import PAGE, say_inside, subplots
from circuitbook.figures.style import CURVES, MARKERS
from circuitbook.studies.findings.real_model import absolute_share
from circuitbook.studies.head_classes import CLAIMED, PANELS


def stage_dots(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """A panel per stage, a line per table: its share with the interval, beside random heads.

    tables: {name: `share_table` of one checkpoint}. Grey bar: the paper's bound for Pythia. Small
    grey line: 95% of the draws of as many random heads.
    """
    fig, axes = subplots(
        1, len(PANELS), figsize=(PAGE, 0.9 + 0.42 * len(tables)), sharey=True, squeeze=False
    )
    names = list(tables)
    for ax, (stage, panel) in zip(axes.flat, PANELS.items(), strict=True):
        ax.axvline(CLAIMED[stage], color="#bbbbbb", linewidth=5, zorder=0)
        for i, name in enumerate(names):
            row = absolute_share(tables[name], stage)
            if row is None:
                say_inside(
                    ax, "no such heads", y=1 - (i + 0.5) / len(names), fontsize=8, va="center"
                )
            else:
                _dot(ax, i, row, CURVES[i % len(CURVES)], MARKERS[i % len(MARKERS)])
        ax.set_title(f"{panel}: {stage}")
        ax.set_xlim(-0.02, 1.02)
        ax.set_xlabel("share explained")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    return fig


def _dot(ax: Axes, y: float, row: pd.Series, colour: str, marker: str) -> None:
    """A share with its interval, and below it where as many random heads lie."""
    error = np.clip([[row["share"] - row["low"]], [row["high"] - row["share"]]], 0, None)
    ax.errorbar(row["share"], y, xerr=error, color=colour, marker=marker, capsize=3, markersize=6)
    ax.plot([row["null_low"], row["null_high"]], [y + 0.28] * 2, color="#777777", linewidth=1.5)
    ax.plot(row["null"], y + 0.28, "|", color="#777777", markersize=6)
