"""The book's figures: tokens seen on a log axis, a colour and a marker per model in every chapter.

Colours run from light to dark with the model's size, so that they survive greyscale; markers differ
too. Figures have no background of their own: the page gives them white, or a light card in the dark
(GROUNDS). A curve stands out from both by 3 to 1 at least, text by 4.5 (WCAG 2.2, AA).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from circuitbook.suites.names import base_model as base_model
from circuitbook.wording import TASK_SHORT as TASK_SHORT
from circuitbook.wording import TASK_TITLES as TASK_TITLES
from circuitbook.wording import short_number as short_number

MINI = ("mini-xs", "mini-s", "mini-m", "mini-l")
LISTS = ("lists-4x64-seed1", "lists-4x64-seed4", "lists-6x64-seed1", "lists-6x64-seed4")

PYTHIA = (
    "pythia-14m",
    "pythia-31m",
    "pythia-70m",
    "pythia-160m",
    "pythia-410m",
    "pythia-1b",
    "pythia-1.4b",
    "pythia-2.8b",
    "pythia-6.9b",
    "pythia-12b",
)

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")

# of a variant, by its number: seed 2, seed 3, ...
DASHES = ((4, 2), (9, 2, 1.5, 2), (1.5, 1.5), (9, 2, 1.5, 2, 1.5, 2))

GROUNDS = ("#ffffff", "#f4f3f0")  # the second as in book/_static/custom.css

# from the smallest to the largest model of a suite; Pythia has the darker half of plasma instead
SIZES = LinearSegmentedColormap.from_list("sizes", ["#3a9a2a", "#12769a", "#4a3fae", "#33063f"])

# of what is no model; with markers
CURVES = ("#0072b2", "#c85800", "#00805d", "#a3518c", "#000000", "#8a6100")

SHOWN = "\u2060"  # of no width, before a label that begins with an underscore: else legends omit it

MEASURE_LABELS = {
    "logit_difference": "logit difference",
    "probability_difference": "probability difference",
    "accuracy": "accuracy",
    "rank_zero": "answer is the argmax (share)",
    "answer_mass": "probability of all answers",
    "rank": "rank of the answer",
}


def use_style() -> None:
    """Sets matplotlib's defaults for the book (call it once, at a notebook's start)."""
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "legend.frameon": False,
            "lines.linewidth": 1.7,
            "lines.markersize": 4.5,
            "figure.constrained_layout.use": True,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
        }
    )


def model_style(name: str, family: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Colour, marker and line of a model, for ``ax.plot(..., **model_style(name))``.

    A variant (another seed, say) has its model's colour, thin, without markers, in dashes that its
    number chooses.
    `family`: the models of the figure; if the book does not know all of them, their order there
    decides.
    """
    base = _drawn_as(name)
    bases = tuple(dict.fromkeys(map(_drawn_as, family or (name,))))
    orders = (MINI, PYTHIA, LISTS)
    order = next((known for known in orders if {*bases, base} <= set(known)), bases)
    rank = order.index(base) if base in order else 0
    size = rank / max(1, len(order) - 1)
    colour = mpl.colormaps["plasma"](0.58 - 0.56 * size) if order is PYTHIA else SIZES(size)
    if base != name:
        number = re.search(r"\d+$", name)
        dashes = DASHES[(int(number[0]) - 2) % len(DASHES) if number else 0]
        return {"color": colour, "linestyle": (0, dashes), "linewidth": 1.1, "alpha": 0.9}
    return {"color": colour, "marker": MARKERS[rank % len(MARKERS)]}


def _drawn_as(name: str) -> str:
    """The model whose colour it has."""
    return name if name in LISTS else base_model(name)


def legend_label(name: str) -> str:
    """A name as a label that legends show, whatever it is."""
    return SHOWN + name if name.startswith("_") else name


def tokens_axis(ax: Axes, tokens: Iterable[float]) -> None:
    """A log axis of tokens seen, which also has room for step 0 at its left end."""
    tokens = list(tokens)
    first = min((t for t in tokens if t > 0), default=None)
    if first is None:  # a model before training, alone
        ax.set_xticks([0], ["0"])
        ax.set_xlabel("tokens seen")
        return
    ax.set_xscale("symlog", linthresh=first, linscale=0.4)
    ax.set_xlim(left=-0.06 * first, right=1.15 * max(tokens))
    decades = 10.0 ** np.arange(np.floor(np.log10(first)), np.ceil(np.log10(max(tokens))) + 1)
    marks = decades if len(decades) > 4 else np.concatenate([decades, 3 * decades])
    ax.set_xticks([0, *sorted(t for t in marks if first <= t <= max(tokens))])
    ax.xaxis.set_major_formatter(FuncFormatter(short_number))
    ax.minorticks_off()
    ax.set_xlabel("tokens seen")


def log_axis(axis: XAxis | YAxis) -> None:
    """A log axis that is labelled at 1, 2 and 5 times the powers of ten, in plain numbers."""
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def curve(
    ax: Axes,
    frame: pd.DataFrame,
    value: str,
    name: str,
    band: pd.DataFrame | None = None,
    **style: Any,
) -> None:
    """One model's curve.

    frame: columns tokens_seen and `value`; band: low and high of the same rows. style: what shall
    differ from `model_style(name)`.
    """
    style = model_style(name) | style
    ax.plot(frame["tokens_seen"], frame[value], label=legend_label(name), **style)
    if band is not None:
        ax.fill_between(
            frame["tokens_seen"],
            band["low"],
            band["high"],
            color=style["color"],
            alpha=0.15,
            linewidth=0,
        )
