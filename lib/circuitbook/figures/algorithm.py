"""The algorithm: classes over training, their shares, matrices."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from circuitbook.figures.showing import nothing
from circuitbook.figures.style import curve, short_number

# ------------------------------------------------------------------ the algorithm

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


def class_strips(anatomies, models: list[str]) -> plt.Figure:
    """Which heads are in which class (see `algorithm.Anatomy`) at each checkpoint that does IOI: a panel per model, a row per
    head that ever is; a head in several classes shows all their letters and the colour of the first."""
    of = {
        name: [a for a in anatomies if a.model == name and "direct" in a.patched] for name in models
    }
    of = {name: mine for name, mine in of.items() if mine}
    if not of:
        return nothing("no checkpoint does IOI")
    columns = 2
    heights = [
        max(1, sum(any(a.role(row) for a in mine) for row in range(len(mine[0].heads))))
        for mine in of.values()
    ]
    rows = [max(heights[i : i + columns]) for i in range(0, len(heights), columns)]
    fig, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(8.4, 0.9 * len(rows) + 0.25 * sum(rows)),
        squeeze=False,
        gridspec_kw={"height_ratios": [1.2 + r for r in rows]},
    )
    seen = set()
    for ax, (name, mine) in zip(axes.flat, of.items()):
        ever = [row for row in range(len(mine[0].heads)) if any(a.role(row) for a in mine)]
        for x, one in enumerate(mine):
            for y, row in enumerate(ever):
                if role := one.role(row):
                    ax.add_patch(
                        plt.Rectangle(
                            (x - 0.5, y - 0.5),
                            1,
                            1,
                            color=CLASS_COLOURS[role],
                            alpha=0.55,
                            linewidth=0,
                        )
                    )
                    ax.text(
                        x,
                        y,
                        "".join(CLASS_LETTERS[c] for c in CLASS_COLOURS if c in one.labels[row]),
                        ha="center",
                        va="center",
                        fontsize=8.5,
                        fontweight="bold",
                    )
                    seen |= one.labels[row]
        if not ever:
            ax.text(
                (len(mine) - 1) / 2,
                0,
                "no head in any class",
                ha="center",
                va="center",
                color="#555555",
                fontsize=9,
            )
        ax.set_xlim(-0.5, len(mine) - 0.5)
        ax.set_ylim(max(1, len(ever)) - 0.5, -0.5)
        ax.set_yticks(
            range(len(ever)),
            [f"{mine[0].heads[row][0]}.{mine[0].heads[row][1]}" for row in ever],
            fontsize=8.5,
        )
        ax.set_xticks(range(len(mine)), [short_number(a.tokens_seen) for a in mine], fontsize=8)
        ax.set_xticks(np.arange(-0.5, len(mine)), minor=True)
        ax.grid(False)
        ax.grid(which="minor", axis="x", color="#e4e4e4", linewidth=0.6)
        ax.tick_params(which="minor", length=0)
        ax.set_title(name)
    for ax in list(axes.flat)[len(of) :]:
        ax.axis("off")
    handles = [
        plt.Rectangle(
            (0, 0), 1, 1, color=CLASS_COLOURS[c], alpha=0.55, label=f"{CLASS_LETTERS[c]}  {c}"
        )
        for c in CLASS_COLOURS
        if c in seen
    ]
    if handles:
        fig.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8.5)
    fig.supxlabel("tokens seen", fontsize=10)
    return fig


def share_panels(
    shares: pd.DataFrame,
    models: list[str],
    rows: dict[str, str],
    columns: dict[str, str],
    claimed: dict[str, float],
) -> plt.Figure:
    """Figure 4 B, C, D: rows are stages, columns the forms of the share; solid or dashed a model's share over tokens seen,
    dotted what as many random heads explain. `claimed`: the paper's bound per stage, grey. See `algorithm.share_table`."""
    fig, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(8.4, 2.15 * len(rows)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    handles = {}
    for stage, line in zip(rows, axes):
        for form, ax in zip(columns, line):
            part = shares[(shares["stage"] == stage) & (shares["form"] == form)].dropna(
                subset=["share"]
            )
            ax.axhline(claimed[stage], color="#999999", linewidth=5, alpha=0.35, zorder=0)
            for name in models:
                mine = part[part["model"] == name]
                if len(mine):
                    shown = mine.assign(share=mine["share"].clip(-0.12, 1.3))
                    curve(ax, shown, "share", name)
                    ax.plot(
                        mine["tokens_seen"],
                        mine["null"].clip(-0.12, 1.3),
                        linestyle=":",
                        linewidth=1,
                        color=ax.lines[-1].get_color(),
                    )
            if part.empty:
                ax.text(0.5, 0.3, "none", ha="center", transform=ax.transAxes, color="#555555")
            ax.set_ylim(-0.15, 1.33)
            ax.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
            if len(shares):
                ax.set_xscale("log")
                ticks = np.unique(shares.loc[shares["share"].notna(), "tokens_seen"])
                ax.set_xticks(ticks, [short_number(t) for t in ticks], fontsize=7.5, rotation=60)
                ax.minorticks_off()
            handles |= dict(zip(*reversed(ax.get_legend_handles_labels())))
    for ax, title in zip(axes[0], columns.values()):
        ax.set_title(title, fontsize=9)
    for ax, title in zip(axes[:, 0], rows.values()):
        ax.set_ylabel(title, fontsize=9)
    fig.supxlabel("tokens seen", fontsize=10)
    names = [name for name in models if name in handles]
    extra = [
        plt.Line2D([], [], color="#555555", linestyle=":"),
        plt.Line2D([], [], color="#999999", linewidth=5, alpha=0.35),
    ]
    fig.legend(
        [handles[name] for name in names] + extra,
        [*names, "random heads", "paper: above this"],
        loc="outside upper center",
        ncols=4,
    )
    return fig


def matrices(
    frames: dict[str, pd.DataFrame],
    colours: str = "viridis",
    label: str = "",
    xlabel: str = "",
    ylabel: str = "",
    columns: int = 3,
    size: float = 2.75,
) -> plt.Figure:
    """Square tables with values from 0 to 1 as pictures with the numbers in them, one per title; index and columns are labels."""
    if not frames:
        return nothing("nothing to compare")
    rows = -(-len(frames) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(size * columns, size * rows), squeeze=False)
    cmap = mpl.colormaps[colours]
    for ax, (title, frame) in zip(axes.flat, frames.items()):
        values = frame.to_numpy(dtype=float)
        ax.imshow(
            np.clip(values, 0, 1), cmap=cmap, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        for (y, x), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = sum(cmap(float(np.clip(value, 0, 1)))[:3]) < 1.5
                ax.text(
                    x,
                    y,
                    f"{value:.2f}".replace("0.", ".").replace("-.00", ".00"),
                    ha="center",
                    va="center",
                    fontsize=7.5 if values.shape[1] < 8 else 6,
                    color="white" if dark else "black",
                )
        ax.set_xticks(
            range(values.shape[1]),
            frame.columns,
            fontsize=7.5,
            rotation=45 if max(map(len, map(str, frame.columns))) > 4 else 0,
            ha="right" if max(map(len, map(str, frame.columns))) > 4 else "center",
        )
        ax.set_yticks(range(values.shape[0]), frame.index, fontsize=7.5)
        ax.set_title(title, fontsize=9.5)
        ax.grid(False)
    for ax in list(axes.flat)[len(frames) :]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel, fontsize=9)
    fig.supxlabel(xlabel, fontsize=9)
    fig.colorbar(
        mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), cmap),
        ax=axes,
        label=label,
        fraction=0.025,
        pad=0.02,
    )
    return fig


def stacked_shares(
    frame: pd.DataFrame, parts: tuple[str, ...], models: list[str], label: str
) -> plt.Figure:
    """Shares that add up to one at each checkpoint, as stacked bars: a panel per model of `frame` (model, tokens_seen, parts)."""
    of = {name: frame[frame["model"] == name] for name in models if (frame["model"] == name).any()}
    if not of:
        return nothing("no checkpoint does IOI")
    fig, axes = plt.subplots(
        1,
        max(1, len(of)),
        figsize=(8.4, 2.6),
        sharey=True,
        squeeze=False,
        gridspec_kw={"width_ratios": [2 + len(part) for part in of.values()] or [1]},
    )
    colours, hatches = ("#0072b2", "#e69f00", "#dddddd"), ("", "///", "")
    for ax, (name, part) in zip(axes[0], of.items()):
        bottom = np.zeros(len(part))
        for what, colour, hatch in zip(parts, colours, hatches):
            ax.bar(
                range(len(part)),
                part[what],
                bottom=bottom,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                label=what,
                width=0.9,
            )
            bottom += part[what].to_numpy()
        ax.set_xticks(
            range(len(part)),
            [short_number(t) for t in part["tokens_seen"]],
            fontsize=7,
            rotation=60,
        )
        ax.set_title(name, fontsize=9)
        ax.grid(False)
    axes[0, 0].set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes[0, 0].set_ylabel(label)
    fig.supxlabel("tokens seen", fontsize=10)
    if of:
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig
