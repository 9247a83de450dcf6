"""Figures of the chapter "What is a circuit?": nodes patched, points, scores, faithfulness."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from circuitbook.circuits.attribution import Scores
from circuitbook.circuits.circuit import Circuit
from circuitbook.figures.panels import subplots
from circuitbook.model.graph import Graph
from circuitbook.studies.findings.circuits import by_layer

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#888888"


RULES = {"right": ("o", ORANGE), "left": ("s", "#999999"), "midpoint": ("^", BLUE)}  # of `points`


def node_effects(effect: np.ndarray, graph: Graph) -> plt.Figure:
    """The metric lost when each node [src] is patched alone: a grid of heads, and one of MLPs."""
    heads, mlps = by_layer(effect, graph)
    largest = max(np.abs(heads).max(), np.abs(mlps).max())
    fig, axes = subplots(
        1,
        2,
        figsize=(6.4, 0.9 + 0.55 * graph.n_layers),
        width_ratios=[graph.n_heads, 1],
        sharey=True,
    )
    for ax, values, title in zip(axes, (heads, mlps), ("heads", "MLP"), strict=True):
        image = ax.imshow(
            values, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto", origin="lower"
        )
        ax.grid(False)
        for (layer, column), value in np.ndenumerate(values):
            colour = "white" if abs(value) > largest / 2 else "black"
            ax.text(
                column,
                layer,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=8.5,
                color=colour,
            )
        ax.set_title(title)
        ax.set_yticks(range(graph.n_layers))
    axes[0].set_xticks(range(graph.n_heads))
    axes[1].set_xticks([0], ["MLP"])
    axes[0].set_ylabel("layer")
    axes[0].set_xlabel("head")
    fig.colorbar(image, ax=axes, label="metric lost", fraction=0.05)
    return fig


def points_and_errors(errors: pd.DataFrame) -> plt.Figure:
    """Error of the scores, and the completeness gap, against the number of points of each rule.

    `errors` as from `findings.circuits.errors_by_points`.
    """
    fig, axes = subplots(1, 2, figsize=(8.4, 3.0))
    for ax, column, title in zip(
        axes, ("error", "gap"), ("Error of all scores", "Completeness gap"), strict=True
    ):
        for rule, (marker, colour) in RULES.items():
            part = errors[errors["rule"] == rule]
            ax.loglog(part["points"], part[column], marker=marker, color=colour, label=rule)
        ax.set_title(title)
        ax.set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
        ax.set_xlabel("points m")
        ax.set_ylabel("share")
    axes[0].legend(title="rule")
    return fig


def scores_against_patching(effect: np.ndarray, scores: Mapping[str, Scores]) -> plt.Figure:
    """Each edge's score against the effect [src, dst] of patching it; `scores`: {title: scores}."""
    fig, axes = subplots(1, len(scores), figsize=(8.4, 3.7), sharex=True, sharey=True)
    for ax, (title, estimated) in zip(axes, scores.items(), strict=True):
        mask = estimated.graph.mask
        patched, estimate = effect[mask], estimated.values.numpy()[mask]
        ax.scatter(patched, estimate, s=12, color=BLUE, alpha=0.6, linewidth=0)
        ends = [min(patched.min(), estimate.min()), max(patched.max(), estimate.max())]
        ax.plot(ends, ends, color=GREY, linewidth=0.8)
        ax.set_xscale("symlog", linthresh=0.1)
        ax.set_yscale("symlog", linthresh=0.1)
        ax.set_title(title)
        ax.set_xlabel("metric lost when the edge is patched")
    axes[0].set_ylabel("score")
    return fig


def faithfulness_over_size(circuit: Circuit, threshold: float = 0.8) -> plt.Figure:
    """Faithfulness in both forms against the number of edges, from the curve of a search.

    The interval is of the form that was searched by, normalised; a line marks the circuit's size.
    """
    if circuit.curve is None:
        raise ValueError(f"{circuit!r} has no curve: find it with find_circuit")
    curve = circuit.curve[circuit.curve["edges"] > 0].drop_duplicates("edges")
    edges = curve["edges"]
    fig, ax = subplots(figsize=(7.2, 3.4))
    ax.fill_between(edges, curve["low"], curve["high"], color=BLUE, alpha=0.15, linewidth=0)
    ax.plot(edges, curve["normalised"], color=BLUE, marker="o", markersize=3.5, label="normalised")
    ax.plot(
        edges,
        curve["ratio"],
        color=ORANGE,
        marker="s",
        markersize=3,
        label="ratio (the paper's)",
    )
    ax.axhline(threshold, color=GREY, linestyle="--", linewidth=0.9)
    ax.axvline(circuit.n_edges, color=BLUE, linewidth=0.8)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlabel("edges in the circuit")
    ax.set_ylabel("faithfulness, on the\nprompts of the search")
    ax.legend(loc="lower right")
    return fig
