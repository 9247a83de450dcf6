"""What figures of several panels share: their grid, a legend for all, a word in an empty one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatterMathtext

from circuitbook.figures.style import SHOWN

PAGE = 8.4  # width of the page, in inches


class TextFigure(Figure):
    """A figure in which names of models and tokens are text: a dollar begins no formula.

    The powers of ten that matplotlib writes at a log axis are formulas as ever.
    """

    def draw(self, renderer: RendererBase) -> None:
        for text in self.findobj(Text):
            text.set_parse_math(False)
        for axis in (axis for ax in self.axes for axis in (ax.xaxis, ax.yaxis)):
            for minor, formatter in enumerate(
                (axis.get_major_formatter(), axis.get_minor_formatter())
            ):
                if isinstance(formatter, LogFormatterMathtext):
                    for label in axis.get_ticklabels(minor=bool(minor)):
                        label.set_parse_math(True)
        super().draw(renderer)


def subplots(*grid: int, **settings: Any) -> tuple[Figure, Any]:
    """`plt.subplots` with a `TextFigure`."""
    return plt.subplots(*grid, FigureClass=TextFigure, **settings)


def panel_grid(
    n: int, columns: int, size: tuple[float, float], **settings: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of n panels in rows of `columns`, `size` inches each, and its axes [row, column].

    Places without a panel are left empty. settings: those of `plt.subplots`.
    """
    rows = -(-n // columns)
    figsize = (size[0] * columns, size[1] * rows)
    fig, axes = subplots(rows, columns, figsize=figsize, squeeze=False, **settings)
    for ax in axes.flat[n:]:
        ax.axis("off")
    return fig, axes


def handles_in(axes: Iterable[Axes]) -> dict[str, Artist]:
    """What legends of these panels would show, {label: handle}."""
    found: dict[str, Artist] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        names = (label.removeprefix(SHOWN) for label in labels)
        found |= dict(zip(names, handles, strict=True))
    return found


def model_legend(fig: Figure, axes: np.ndarray, models: Iterable[str]) -> None:
    """One legend above all panels, with those of the models that are in any of them."""
    handles = handles_in(axes.flat)
    names = [name for name in models if name in handles]
    if names:
        fig.legend(
            [handles[name] for name in names],
            names,
            loc="outside upper center",
            ncols=min(6, len(names)),
        )


def say_inside(ax: Axes, text: str, *, y: float = 0.5, **style: Any) -> None:
    """A word in a panel that has nothing to show."""
    style = {"ha": "center", "color": "#555555"} | style
    ax.text(0.5, y, text, transform=ax.transAxes, **style)
