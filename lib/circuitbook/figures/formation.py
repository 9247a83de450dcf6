"""Heads that form: where they look, when they come, and what they do for IOI."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import HTML

from circuitbook.figures.panels import subplots
from circuitbook.figures.style import TASK_SHORT, model_style, short_number, tokens_axis
from circuitbook.figures.views import attention_heads
from circuitbook.heads.attention import patterns_on
from circuitbook.heads.names import Head
from circuitbook.model.loaded import Model
from circuitbook.stats import Emergence
from circuitbook.studies.findings.heads_and_abilities import HeadAndAbility
from circuitbook.studies.findings.kinds import heads_in, kind_name
from circuitbook.studies.formation import SERVES
from circuitbook.studies.self_repair import CARRIES
from circuitbook.wording import head_label

HEAD, ABILITY = ("o", "#0072b2"), ("s", "#d55e00")  # marker and colour


def attention_on(model: Model, tokens: torch.Tensor, heads: Sequence[Head]) -> HTML:
    """Where these heads look on one prompt, int64 [position]: maps to choose from."""
    words = [str(model.tokenizer.decode([token])) for token in tokens.tolist()]
    return attention_heads(
        words, patterns_on(model, tokens, heads), [head_label(head) for head in heads]
    )


def dates_of_heads_and_abilities(dates: Sequence[HeadAndAbility]) -> plt.Figure:
    """A panel per kind: the tokens at half of the head and of its ability, with intervals."""
    kinds = list(dict.fromkeys(pair.kind for pair in dates))
    rows = -(-len(kinds) // 2)
    fig, axes = subplots(rows, 2, figsize=(8.4, 2.2 * rows), sharey=True, squeeze=False)
    for ax, kind in zip(axes.flat, kinds, strict=False):
        of_kind = [pair for pair in dates if pair.kind == kind]
        for row, pair in enumerate(of_kind):
            _date(ax, pair.head, row + 0.12, *HEAD)
            _date(ax, pair.ability, row - 0.12, *ABILITY)
        ax.set_yticks(range(len(of_kind)), [pair.model for pair in of_kind])
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(short_number)
        ax.xaxis.set_minor_formatter(_at_2_3_and_5)
        ax.tick_params(axis="x", which="minor", labelsize=8)
        ax.set_title(f"{kind_name(kind)} and {TASK_SHORT[SERVES[kind]]}")
    handles = [
        plt.Line2D([], [], marker=marker, color=colour, linestyle="", label=label)
        for (marker, colour), label in ((HEAD, "head"), (ABILITY, "ability"))
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=2)
    for ax in axes[-1]:
        ax.set_xlabel("tokens seen at half")
    return fig


def _date(ax: plt.Axes, emergence: Emergence, height: float, marker: str, colour: str) -> None:
    if len(emergence.samples):
        interval = [emergence.low, emergence.high]
        ax.plot(interval, [height, height], color=colour, linewidth=2, alpha=0.6)
        ax.plot(emergence.tokens, height, marker=marker, color=colour, linestyle="")


def _at_2_3_and_5(tokens: float, _tick: int) -> str:
    first_digit = f"{tokens:.0e}"[0]
    return short_number(tokens) if first_digit in "235" else ""


def effect_against_copying(last: pd.DataFrame, models: Sequence[str]) -> plt.Figure:
    """A panel per model: each head's direct effect on IOI against its copy scores, carriers named.

    last: a row per head at the last checkpoint: model, layer, head, direct (negative helps),
    copy and negative_copy.
    """
    fig, axes = subplots(1, len(models), figsize=(8.4, 2.9), sharey=True, squeeze=False)
    for ax, model in zip(axes[0], models, strict=True):
        part = last[last["model"] == model]
        copying, effect = part["copy"] - part["negative_copy"], -part["direct"]
        ax.axhline(0, color="#888888", linewidth=0.8)
        ax.axvline(0, color="#888888", linewidth=0.8)
        ax.scatter(copying, effect, color=model_style(model)["color"], s=26)
        for head, x, y in zip(heads_in(part), copying, effect, strict=True):
            if y > CARRIES:
                ax.annotate(
                    head_label(head),
                    (x, y),
                    xytext=(4, 3),
                    textcoords="offset points",
                    fontsize=8.5,
                )
        ax.set_title(model)
        ax.set_xlim(-1.15, 1.35)
    axes[0, 0].set_ylabel("direct effect\n(share of the whole)")
    fig.supxlabel("copy score less negative copy score", fontsize=10)
    return fig


def every_head(scored: pd.DataFrame, bar: float, label: str) -> plt.Figure:
    """The scores of all heads of a model over training, those that ever reach the bar in blue.

    scored: as `formation.trajectories` gives it, a row per checkpoint and a column per head.
    """
    fig, ax = subplots(figsize=(6.4, 3.0))
    for head in scored:
        passes = scored[head].max() >= bar
        colour, width = ("#0072b2", 1.4) if passes else ("#bbbbbb", 0.8)
        ax.plot(scored.index, scored[head], color=colour, linewidth=width)
    ax.axhline(bar, color="#888888", linestyle="--", linewidth=0.9)
    tokens_axis(ax, scored.index)
    ax.set_ylabel(label)
    return fig
