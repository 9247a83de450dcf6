"""The algorithm: classes of heads over training, and their shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from circuitbook.figures.matrices import matrices as matrices
from circuitbook.figures.panels import PAGE, handles_in, panel_grid, say_inside, subplots
from circuitbook.figures.showing import nothing
from circuitbook.figures.style import curve
from circuitbook.studies.class_changes import SURE, flickers
from circuitbook.studies.head_classes import HeadClasses
from circuitbook.wording import CLASS_DOES, head_label, short_number

CLASS_COLOURS = {
    "name mover": "#0072b2",
    "copy suppression": "#d55e00",
    "negative name mover": "#e69f00",
    "negative copy suppression": "#7f5200",
    "S-inhibition": "#009e73",
    "induction": "#56b4e9",
    "duplicate token": "#cc79a7",
}  # colour-blind safe

CLASS_LETTERS = {
    "name mover": "N",
    "copy suppression": "C",
    "negative name mover": "n",
    "negative copy suppression": "c",
    "S-inhibition": "S",
    "induction": "I",
    "duplicate token": "D",
}  # for greyscale

SHARE_RANGE = (-0.12, 1.3)  # shares beyond are drawn at its ends


def class_strips(head_classes: Sequence[HeadClasses], models: Sequence[str]) -> Figure:
    """Which heads are in which class at each checkpoint that does IOI.

    A panel per model, a row per head that ever is in a class. A head in several shows all their
    letters and the colour of the likeliest. Grey letters: classes it is in on less than half of the
    resamples; hatched: a head that flickers (see `class_changes.flickers`).
    """
    of_model = {
        name: [at for at in head_classes if at.model == name and "direct" in at.patched]
        for name in models
    }
    of_model = {name: checkpoints for name, checkpoints in of_model.items() if checkpoints}
    if not of_model:
        return nothing("no checkpoint does IOI")
    columns = 2
    heights = [max(1, len(_ever_in_a_class(checkpoints))) for checkpoints in of_model.values()]
    rows = [max(heights[i : i + columns]) for i in range(0, len(heights), columns)]
    fig, axes = subplots(
        len(rows),
        columns,
        figsize=(PAGE, 0.9 * len(rows) + 0.25 * sum(rows)),
        squeeze=False,
        gridspec_kw={"height_ratios": [1.2 + height for height in rows]},
    )
    seen: set[str] = set()
    for ax, (name, checkpoints) in zip(axes.flat, of_model.items(), strict=False):
        seen |= _class_strip(ax, checkpoints)
        ax.set_title(name)
    for ax in axes.flat[len(of_model) :]:
        ax.axis("off")
    handles = [
        _class_cell(0, 0, name, label=f"{CLASS_LETTERS[name]}  {name}: {CLASS_DOES[name]}")
        for name in CLASS_COLOURS
        if name in seen
    ]
    if handles:
        fig.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=8.5)
    fig.supxlabel("tokens seen", fontsize=10)
    return fig


def _ever_in_a_class(checkpoints: Sequence[HeadClasses]) -> list[int]:
    """Rows of the heads that are in a class at any of a model's checkpoints."""
    heads = range(len(checkpoints[0].heads))
    return [row for row in heads if any(at.role(row) for at in checkpoints)]


def _class_strip(ax: Axes, checkpoints: Sequence[HeadClasses]) -> set[str]:
    """Draws a model's heads and gives the classes that are to be seen."""
    heads = _ever_in_a_class(checkpoints)
    seen: set[str] = set()
    for x, at in enumerate(checkpoints):
        for y, row in enumerate(heads):
            shown = {
                name: at.probability(name)[row]
                for name in CLASS_COLOURS
                if at.probability(name)[row] > 1 - SURE
            }
            if not shown:
                continue
            first = max(shown, key=lambda name: (shown[name] > 0.5, shown[name]))
            unsure = any(flickers(at, name)[row] for name in shown)
            ax.add_patch(_class_cell(x - 0.5, y - 0.5, first, share=shown[first], unsure=unsure))
            for place, (name, share) in enumerate(shown.items()):
                ax.text(
                    x + (place - (len(shown) - 1) / 2) * 0.33,
                    y,
                    CLASS_LETTERS[name],
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    fontweight="bold" if share > 0.5 else "normal",
                    color="black" if share > 0.5 else "#666666",
                )
            seen |= set(shown)
    if not heads:
        ax.text(
            (len(checkpoints) - 1) / 2,
            0,
            "no head in any class",
            ha="center",
            va="center",
            color="#555555",
            fontsize=9,
        )
    ax.set_xlim(-0.5, len(checkpoints) - 0.5)
    ax.set_ylim(max(1, len(heads)) - 0.5, -0.5)
    names = [head_label(checkpoints[0].heads[row]) for row in heads]
    ax.set_yticks(range(len(heads)), names, fontsize=8.5)
    tokens = [short_number(at.tokens_seen) for at in checkpoints]
    ax.set_xticks(range(len(checkpoints)), tokens, fontsize=8)
    ax.set_xticks(np.arange(-0.5, len(checkpoints)), minor=True)
    ax.grid(False)
    ax.grid(which="minor", axis="x", color="#e4e4e4", linewidth=0.6)
    ax.tick_params(which="minor", length=0)
    return seen


def _class_cell(
    x: float,
    y: float,
    name: str,
    label: str | None = None,
    share: float = 1.0,
    unsure: bool = False,
) -> Rectangle:
    """A field in the colour of a class, the paler the fewer resamples are in it, hatched where the
    head flickers; with a label, as the legend shows it."""
    colour = CLASS_COLOURS[name]
    face = to_rgba(colour, 0.55 * share)
    return Rectangle(
        (x, y),
        1,
        1,
        label=label,
        linewidth=0,
        facecolor=face,
        edgecolor="#888888" if unsure else colour,
        hatch="////" if unsure else None,
    )


def share_panels(
    shares: pd.DataFrame,
    models: Sequence[str],
    rows: Mapping[str, str],
    columns: Mapping[str, str],
    claimed: Mapping[str, float],
) -> Figure:
    """Figure 4 B, C, D: rows are stages, columns the forms of the share.

    Solid or dashed: a model's share over tokens seen; dotted: what as many random heads explain.

    shares   see `class_shares.share_table`
    rows     {stage: its title}; columns: {form of the share: its title}
    claimed  {stage: the paper's bound}, grey
    """
    fig, axes = panel_grid(
        len(rows) * len(columns),
        len(columns),
        (PAGE / len(columns), 2.15),
        sharex=True,
        sharey=True,
    )
    for stage, line in zip(rows, axes, strict=True):
        for form, ax in zip(columns, line, strict=True):
            part = shares[(shares["stage"] == stage) & (shares["form"] == form)]
            ax.axhline(claimed[stage], color="#999999", linewidth=5, alpha=0.35, zorder=0)
            _share_curves(ax, part.dropna(subset=["share"]), models)
            if len(shares):
                ax.set_xscale("log")
                ticks = np.unique(shares.loc[shares["share"].notna(), "tokens_seen"])
                ax.set_xticks(ticks, [short_number(t) for t in ticks], fontsize=7.5, rotation=60)
                ax.minorticks_off()
    for ax, title in zip(axes[0], columns.values(), strict=True):
        ax.set_title(title, fontsize=9)
    for ax, title in zip(axes[:, 0], rows.values(), strict=True):
        ax.set_ylabel(title, fontsize=9)
    fig.supxlabel("tokens seen", fontsize=10)
    handles = handles_in(axes.flat)
    names = [name for name in models if name in handles]
    extra = [
        Line2D([], [], color="#555555", linestyle=":"),
        Line2D([], [], color="#999999", linewidth=5, alpha=0.35),
    ]
    fig.legend(
        [*(handles[name] for name in names), *extra],
        [*names, "random heads", "paper: above this"],
        loc="outside upper center",
        ncols=4,
    )
    return fig


def _share_curves(ax: Axes, part: pd.DataFrame, models: Sequence[str]) -> None:
    for name in models:
        of_model = part[part["model"] == name]
        if len(of_model):
            curve(ax, of_model.assign(share=of_model["share"].clip(*SHARE_RANGE)), "share", name)
            ax.plot(
                of_model["tokens_seen"],
                of_model["null"].clip(*SHARE_RANGE),
                linestyle=":",
                linewidth=1,
                color=ax.lines[-1].get_color(),
            )
    if part.empty:
        say_inside(ax, "none", y=0.3)
    ax.set_ylim(-0.15, 1.33)
    ax.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])


def stacked_shares(
    frame: pd.DataFrame, parts: Sequence[str], models: Sequence[str], label: str
) -> Figure:
    """Shares that add up to one at each checkpoint, as stacked bars: a panel per model.

    frame: columns model, tokens_seen and `parts` (three at most). label: what is shared.
    """
    of_model = {
        name: frame[frame["model"] == name] for name in models if (frame["model"] == name).any()
    }
    if not of_model:
        return nothing("no checkpoint does IOI")
    fig, axes = subplots(
        1,
        len(of_model),
        figsize=(PAGE, 2.6),
        sharey=True,
        squeeze=False,
        gridspec_kw={"width_ratios": [2 + len(rows) for rows in of_model.values()]},
    )
    for ax, (name, rows) in zip(axes[0], of_model.items(), strict=True):
        _stacked_bars(ax, rows, parts)
        ax.set_title(name, fontsize=9)
    axes[0, 0].set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes[0, 0].set_ylabel(label)
    fig.supxlabel("tokens seen", fontsize=10)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def _stacked_bars(ax: Axes, rows: pd.DataFrame, parts: Sequence[str]) -> None:
    looks = [("#0072b2", ""), ("#e69f00", "///"), ("#dddddd", "")]
    bottom = np.zeros(len(rows))
    for part, (colour, hatch) in zip(parts, looks, strict=False):
        ax.bar(
            range(len(rows)),
            rows[part],
            bottom=bottom,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            label=part,
            width=0.9,
        )
        bottom += rows[part].to_numpy()
    tokens = [short_number(t) for t in rows["tokens_seen"]]
    ax.set_xticks(range(len(rows)), tokens, fontsize=7, rotation=60)
    ax.grid(False)
