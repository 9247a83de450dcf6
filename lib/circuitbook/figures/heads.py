"""Heads: scores over training, attention patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from circuitbook.figures.panels import PAGE, handles_in, panel_grid, say_inside, subplots
from circuitbook.figures.style import curve, tokens_axis
from circuitbook.wording import head_label

HEAD_MARKERS = "os^DvPX<>*"


def kind_panels(
    curves: Mapping[str, Mapping[str, pd.DataFrame]],
    titles: Mapping[str, str],
    bars: Mapping[str, float] | None = None,
    models: Sequence[str] | None = None,
    *,
    label: str = "score",
) -> Figure:
    """A panel per kind of head, a curve per model.

    curves   {kind: {model: frame with tokens_seen and score}}
    titles   {kind: title}
    bars     {kind: the score that counts as such a head}, dashed
    models   those that are named in the legend; else all
    """
    fig, axes = panel_grid(len(curves), 2, (PAGE / 2, 2.9))
    for ax, (kind, frames) in zip(axes.flat, curves.items(), strict=False):
        for model, frame in frames.items():
            curve(ax, frame, "score", model)
        _bar(ax, kind, bars)
        if frames:
            tokens = np.concatenate([frame["tokens_seen"] for frame in frames.values()])
            tokens_axis(ax, np.unique(tokens))
        else:
            say_inside(ax, "no such head in any model", color="#666666")
        _scores_axis(ax, titles[kind])
    for ax in axes[:, 0]:
        ax.set_ylabel(label)
    handles = handles_in(axes.flat)
    names = [name for name in (models or handles) if name in handles]
    fig.legend(
        [handles[name] for name in names],
        names,
        loc="outside upper center",
        ncols=min(6, max(1, len(names))),
    )
    return fig


def head_lines(
    tables: Mapping[str, pd.DataFrame],
    titles: Mapping[str, str],
    named: Mapping[str, Sequence[tuple[int, int]]],
    bars: Mapping[str, float] | None = None,
) -> Figure:
    """A panel per kind, a line per head of a model: those of `named` in colour, the others grey.

    tables   {kind: index tokens seen, columns (layer, head)}, see `formation.trajectories`
    titles   {kind: title}
    named    {kind: heads that are labelled}
    bars     {kind: the score that counts as such a head}, dashed
    """
    fig, axes = panel_grid(len(tables), 2, (PAGE / 2, 2.5))
    for ax, (kind, table) in zip(axes.flat, tables.items(), strict=False):
        for head in table:
            if tuple(head) not in named[kind]:
                ax.plot(table.index, table[head], color="#cccccc", linewidth=0.8, zorder=1)
        colours = plt.get_cmap("viridis")(np.linspace(0.02, 0.53, max(1, len(named[kind]))))
        for i, head in enumerate(named[kind]):
            ax.plot(
                table.index,
                table[head],
                color=colours[i],
                marker=HEAD_MARKERS[i % len(HEAD_MARKERS)],
                label=head_label(head),
                zorder=2,
            )
        _bar(ax, kind, bars)
        tokens_axis(ax, table.index.to_numpy())
        _scores_axis(ax, titles[kind])
        if named[kind]:
            ax.legend(fontsize=8, loc="upper left", ncols=2 if len(named[kind]) > 5 else 1)
    for ax in axes[:, 0]:
        ax.set_ylabel("score")
    return fig


def _bar(ax: Axes, kind: str, bars: Mapping[str, float] | None) -> None:
    if bars and kind in bars:
        ax.axhline(bars[kind], color="#888888", linestyle="--", linewidth=0.8)


def _scores_axis(ax: Axes, title: str) -> None:
    ax.set_ylim(-0.04, 1.04)
    ax.set_title(title)


def attention_maps(
    tokens: Sequence[str],
    patterns: Sequence[np.ndarray] | np.ndarray,
    titles: Sequence[str],
    columns: int = 3,
) -> Figure:
    """Attention patterns on one prompt, a map per head: rows look, columns are looked at.

    patterns: [head, query, key]; titles: one per head. A frame marks where the last row looks most.
    """
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    fig, axes = subplots(
        rows,
        columns,
        figsize=(max(4.4, 2.8 * columns), 0.5 + 2.75 * rows),
        squeeze=False,
        sharey=True,
    )
    words = [token.strip() or repr(token) for token in tokens]
    seen = np.tri(len(words), dtype=bool)
    maps = zip(np.asarray(patterns), titles, strict=True)
    for ax, (pattern, title) in zip(axes.flat, maps, strict=False):
        shown = np.where(seen, pattern, np.nan)
        image = ax.imshow(
            shown, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto"
        )
        ax.add_patch(
            Rectangle(
                (pattern[-1].argmax() - 0.5, len(words) - 1.5),
                1,
                1,
                fill=False,
                edgecolor="black",
                linewidth=1.3,
                clip_on=False,
            )
        )
        ax.set_xticks(range(len(words)), words, rotation=90, fontsize=7.5)
        ax.set_yticks(range(len(words)), words, fontsize=7.5)
        ax.grid(False)
        ax.set_title(title, fontsize=9)
    for ax in axes.flat[len(titles) :]:
        ax.axis("off")
    fig.colorbar(image, ax=axes, label="attention", fraction=0.03, pad=0.02)
    return fig
