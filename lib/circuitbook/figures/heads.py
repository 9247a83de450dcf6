"""Heads: scores over training, attention patterns."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from circuitbook.figures.style import curve, tokens_axis


def kind_panels(
    curves: dict[str, dict[str, pd.DataFrame]],
    titles: dict[str, str],
    bars: dict[str, float] | None = None,
    models: list[str] | None = None,
    label: str = "score",
) -> plt.Figure:
    """A panel per kind of head, a curve per model: {kind: {model: frame with tokens_seen and score}}; `bars` are dashed."""
    fig, axes = plt.subplots(
        -(-len(curves) // 2), 2, figsize=(8.4, 2.9 * -(-len(curves) // 2)), squeeze=False
    )
    handles = {}
    for ax, (kind, of) in zip(axes.flat, curves.items()):
        for model, frame in of.items():
            curve(ax, frame, "score", model)
        if bars and kind in bars:
            ax.axhline(bars[kind], color="#888888", linestyle="--", linewidth=0.8)
        if of:
            tokens_axis(
                ax, np.unique(np.concatenate([frame["tokens_seen"] for frame in of.values()]))
            )
        else:
            ax.text(
                0.5,
                0.5,
                "no such head in any model",
                ha="center",
                transform=ax.transAxes,
                color="#666666",
            )
        ax.set_ylim(-0.04, 1.04)
        ax.set_title(titles[kind])
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels())))
    for ax in list(axes.flat)[len(curves) :]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel(label)
    names = [name for name in (models or handles) if name in handles]
    fig.legend(
        [handles[name] for name in names],
        names,
        loc="outside upper center",
        ncols=min(6, max(1, len(names))),
    )
    return fig


def head_lines(
    tables: dict[str, pd.DataFrame],
    titles: dict[str, str],
    named: dict[str, list[tuple[int, int]]],
    bars: dict[str, float] | None = None,
) -> plt.Figure:
    """A panel per kind, a line per head of one model: those of `named` in colour and labelled, the others grey.

    tables: {kind: index tokens seen, columns (layer, head)}, as `formation.trajectories` gives them.
    """
    fig, axes = plt.subplots(
        -(-len(tables) // 2), 2, figsize=(8.4, 3.2 * -(-len(tables) // 2)), squeeze=False
    )
    for ax, (kind, table) in zip(axes.flat, tables.items()):
        colours = plt.get_cmap("viridis")(np.linspace(0.02, 0.53, max(1, len(named[kind]))))
        for head in table:
            if tuple(head) not in named[kind]:
                ax.plot(table.index, table[head], color="#cccccc", linewidth=0.8, zorder=1)
        for i, head in enumerate(named[kind]):
            ax.plot(
                table.index,
                table[head],
                color=colours[i],
                marker="os^DvPX<>*"[i % 10],
                label=f"{head[0]}.{head[1]}",
                zorder=2,
            )
        if bars and kind in bars:
            ax.axhline(bars[kind], color="#888888", linestyle="--", linewidth=0.8)
        tokens_axis(ax, table.index.to_numpy())
        ax.set_ylim(-0.04, 1.04)
        ax.set_title(titles[kind])
        if named[kind]:
            ax.legend(fontsize=8, loc="upper left", ncols=2 if len(named[kind]) > 5 else 1)
    for ax in axes[:, 0]:
        ax.set_ylabel("score")
    return fig


def attention_maps(tokens: list[str], patterns, titles: list[str], columns: int = 3) -> plt.Figure:
    """Attention patterns [head, query, key] on one prompt, a map per head: rows look, columns are looked at. A frame marks where
    the last row looks most."""
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(max(4.4, 2.8 * columns), 0.5 + 2.75 * rows),
        squeeze=False,
        sharey=True,
    )
    words = [token.strip() or repr(token) for token in tokens]
    for ax, pattern, title in zip(axes.flat, np.asarray(patterns), titles):
        shown = np.where(np.tri(len(words), dtype=bool), pattern, np.nan)
        image = ax.imshow(
            shown, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto"
        )
        ax.add_patch(
            plt.Rectangle(
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
    for ax in list(axes.flat)[len(titles) :]:
        ax.axis("off")
    fig.colorbar(image, ax=axes, label="attention", fraction=0.03, pad=0.02)
    return fig
