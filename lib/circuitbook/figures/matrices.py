"""Tables of values from 0 to 1 as pictures."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from circuitbook.figures.panels import panel_grid
from circuitbook.figures.showing import nothing


def matrices(
    frames: Mapping[str, pd.DataFrame],
    *,
    colours: str = "viridis",
    label: str = "",
    xlabel: str = "",
    ylabel: str = "",
    columns: int = 3,
    size: float = 2.75,
    height: float | None = None,
) -> Figure:
    """Tables of values from 0 to 1 as pictures with the numbers in them.

    frames   {title: table}; index and columns are labels
    colours  a colour map; `label`: what the values are
    columns  pictures in a row, each `size` inches wide, and as high unless `height` is given
    """
    if not frames:
        return nothing("nothing to compare")
    fig, axes = panel_grid(len(frames), columns, (size, height or size))
    cmap = mpl.colormaps[colours]
    for ax, (title, frame) in zip(axes.flat, frames.items(), strict=False):
        _matrix(ax, frame, cmap)
        ax.set_title(title, fontsize=9.5)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel, fontsize=9)
    fig.supxlabel(xlabel, fontsize=9)
    colour_bar = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), cmap)
    fig.colorbar(colour_bar, ax=axes, label=label, fraction=0.025, pad=0.02)
    return fig


def _matrix(ax: Axes, frame: pd.DataFrame, cmap: mpl.colors.Colormap) -> None:
    values = frame.to_numpy(dtype=float)
    within = np.clip(values, 0, 1)
    ax.imshow(within, cmap=cmap, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = sum(cmap(float(within[y, x]))[:3]) < 1.5
            ax.text(
                x,
                y,
                f"{value:.2f}".replace("0.", ".").replace("-.00", ".00"),
                ha="center",
                va="center",
                fontsize=7.5 if values.shape[1] < 8 else 6,
                color="white" if dark else "black",
            )
    long = max(len(str(name)) for name in frame.columns) > 4
    ax.set_xticks(
        range(values.shape[1]),
        frame.columns,
        fontsize=7.5,
        rotation=45 if long else 0,
        ha="right" if long else "center",
    )
    ax.set_yticks(range(values.shape[0]), frame.index, fontsize=7.5)
    ax.grid(False)
