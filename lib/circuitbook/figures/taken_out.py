"""Heads swapped between checkpoints and heads taken out; direct effects of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from circuitbook.figures.panels import subplots
from circuitbook.figures.style import CURVES, short_number, tokens_axis
from circuitbook.heads.names import Head
from circuitbook.studies.findings.heads_taken_out import PARTS, repaired_share
from circuitbook.studies.formation import of_model, trajectories
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.self_repair import CARRIES, Repaired
from circuitbook.wording import head_label, head_labels

BLUE, ORANGE = "#0072b2", "#d55e00"


def swap_grids(swaps: pd.DataFrame, groups: Mapping[str, Sequence[Head]]) -> plt.Figure:
    """A panel per group: how much heads of later checkpoints change the metric of earlier ones.

    swaps: as from `measure_swaps`. Blue helps, red harms.
    """
    fig, axes = subplots(1, len(groups), figsize=(8.4, 3.9), sharey=True, squeeze=False)
    swaps = swaps.assign(change=swaps["metric"] - swaps["own"])
    largest = max(1e-6, swaps["change"].abs().max())
    for ax, (group, heads) in zip(axes[0], groups.items(), strict=True):
        of_group = swaps[swaps["group"] == group]
        grid = of_group.pivot(index="target", columns="source", values="change")
        image = ax.imshow(
            grid, origin="lower", cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto"
        )
        sources, targets = (
            [short_number(tokens) for tokens in axis] for axis in (grid.columns, grid.index)
        )
        ax.set_xticks(range(len(sources)), sources, rotation=60, fontsize=8)
        ax.set_yticks(range(len(targets)), targets, fontsize=8)
        ax.grid(False)
        ax.set_title(f"{group}: {head_labels(heads)}")
        ax.set_xlabel("source (tokens seen)")
    axes[0, 0].set_ylabel("target (tokens seen)")
    fig.colorbar(image, ax=axes[0], label="change of the logit difference", fraction=0.03)
    return fig


def repair_on_ioi_panels(numbers: pd.DataFrame, reacting: pd.Series, most: int = 8) -> plt.Figure:
    """Left: IOI before, expected and after over training. Right: the heads that react most.

    numbers: as from `repair_on_ioi`; reacting: as from `reactions`.
    """
    fig, (left, right) = subplots(1, 2, figsize=(8.4, 3.3))
    looks = {"before": ("o", BLUE), "expected": ("s", "#999999"), "after": ("^", ORANGE)}
    tokens = numbers["tokens_seen"]
    for measure, (marker, colour) in looks.items():
        left.plot(tokens, numbers[measure], marker=marker, color=colour, label=measure)
    left.axhline(0, color="#888888", linewidth=0.8)
    left.set_xscale("log")
    left.set_xticks(tokens, [short_number(seen) for seen in tokens], rotation=45)
    left.minorticks_off()
    left.set_xlabel("tokens seen")
    left.set_ylabel("IOI logit difference")
    left.legend()
    shown = reacting.loc[reacting.abs().sort_values(ascending=False, kind="stable").index[:most]]
    shown = shown.iloc[::-1]  # bars go up from the bottom
    colours = [BLUE if change > 0 else ORANGE for change in shown]
    right.barh(shown.index, shown, color=colours)
    right.axvline(0, color="#888888", linewidth=0.8)
    right.xaxis.set_major_locator(plt.MaxNLocator(4))
    right.set_xlabel("change of the direct effect (logits)")
    right.set_title("Who reacts, at the last checkpoint")
    return fig


def repair_on_text_panels(repaired: Sequence[Repaired], heads: Sequence[Head]) -> plt.Figure:
    """Left: lost in all against lost directly, a point per head. Right: share repaired over time.

    repaired: checkpoints with a text, ascending; heads: the rows of their arrays.
    """
    fig, (left, right) = subplots(1, 2, figsize=(8.4, 3.5))
    direct, total = repaired[-1].text["direct"], repaired[-1].text["total"]
    layers = np.array([layer for layer, _ in heads])
    points = left.scatter(direct, total, c=layers, cmap="viridis_r", s=24)
    diagonal = [0, max(direct.max(), total.max()) * 1.05]
    left.plot(diagonal, diagonal, color="#888888", linewidth=0.8)
    left.axhline(0, color="#cccccc", linewidth=0.8)
    left.set_xlabel("lost directly (logits)")
    left.set_ylabel("lost in all (logits)")
    left.set_title("Each head, last checkpoint")
    fig.colorbar(points, ax=left, label="layer", ticks=sorted(set(layers.tolist())))
    tokens = [at.tokens_seen for at in repaired]
    everyone = [repaired_share(at) for at in repaired]
    upper = [repaired_share(at, layers >= layers.max() / 2) for at in repaired]
    right.plot(tokens, everyone, marker="o", color=BLUE, label="all heads")
    right.plot(
        tokens,
        upper,
        marker="s",
        color="#009e73",
        linestyle="--",
        label="upper half of the layers",
    )
    right.axhline(0, color="#888888", linewidth=0.8)
    tokens_axis(right, tokens)
    right.set_ylabel("share repaired")
    right.legend(fontsize=8.5)
    right.set_title("Over training")
    return fig


def repair_parts_panels(on_ioi: pd.DataFrame, on_text: pd.DataFrame) -> plt.Figure:
    """Who makes up for what is lost directly, over training: on IOI, and on text.

    on_ioi, on_text: as from `repair_parts`; one that is empty has no panel.
    """
    tables = {"IOI": on_ioi, "ordinary text": on_text}
    tables = {title: table for title, table in tables.items() if len(table)}
    fig, axes = subplots(1, len(tables), figsize=(8.4, 3.3), squeeze=False)
    looks = dict(zip(PARTS.values(), ("o", "s", "^"), strict=True))
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        tokens = table["tokens_seen"]
        for i, (part, marker) in enumerate(looks.items()):
            ax.plot(tokens, table[part], marker=marker, color=CURVES[i], label=part)
        ax.plot(tokens, table["all"], color=CURVES[4], linestyle="--", label="all of them")
        ax.axhline(0, color="#888888", linewidth=0.8)
        tokens_axis(ax, tokens)
        ax.set_title(title)
    axes[0, 0].set_ylabel("made up for\n(share of what is lost directly)")
    axes[0, -1].legend(fontsize=8.5)
    return fig


def direct_effects_of_seeds(heads: Sequence[HeadScores], seeds: Sequence[str]) -> plt.Figure:
    """A panel per seed: direct effects of heads on IOI, from the checkpoint on that does it.

    Heads that ever make twice `CARRIES` of the effect are in colour and named.
    """
    fig, axes = subplots(1, len(seeds), figsize=(8.4, 3.0), sharey=True, squeeze=False)
    for ax, model in zip(axes[0], seeds, strict=True):
        able = [at.able for at in of_model(heads, model)]
        effects = -trajectories(heads, model, "direct")[able]
        named = 0
        for head in effects:
            if len(effects) and effects[head].abs().max() > 2 * CARRIES:
                look = {
                    "color": CURVES[named % len(CURVES)],
                    "marker": "os^DvPX"[named % 7],
                    "linewidth": 1.6,
                    "label": head_label(head),
                }
                named += 1
            else:
                look = {"color": "#cccccc", "linewidth": 0.8}
            ax.plot(effects.index, effects[head], **look)
        ax.axhline(0, color="#888888", linewidth=0.8)
        ax.set_title(model)
        ax.set_xlabel("tokens seen")
        ax.xaxis.set_major_formatter(short_number)
        if named:
            ax.legend(fontsize=8)
    axes[0, 0].set_ylabel("direct effect on IOI\n(share of the whole)")
    return fig
