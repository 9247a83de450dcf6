"""Pictures of scores and circuits: the score matrix, the circuit from bottom to top, edges over training."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import FancyArrowPatch

from circuitbook.circuits.circuit import Circuit
from circuitbook.figures.style import short_number
from circuitbook.figures.views import INPUTS
from circuitbook.model.graph import Graph


def score_matrix(values: np.ndarray, graph: Graph, label: str) -> plt.Figure:
    """All edge scores as a picture: sources from bottom to top, destinations from left to right."""
    shown = np.where(graph.mask, np.asarray(values, dtype=float), np.nan)
    largest = np.nanmax(np.abs(shown))
    fig, ax = plt.subplots(figsize=(8.4, 4.4))
    norm = mpl.colors.SymLogNorm(linthresh=largest / 100, vmin=-largest, vmax=largest)
    image = ax.imshow(
        shown, aspect="auto", origin="lower", cmap="RdBu", norm=norm, interpolation="nearest"
    )
    ax.grid(False)
    ax.set_yticks(range(graph.n_src), graph.source_names, fontsize=7 if graph.n_src < 40 else 3)
    width = 3 * graph.n_heads + 1
    ticks, names = [], []
    for layer in range(graph.n_layers):
        ticks += [layer * width + (k + 0.5) * graph.n_heads - 0.5 for k in range(3)] + [
            (layer + 1) * width - 1
        ]
        names += [
            f"q{layer}",
            f"k{layer}",
            f"v{layer}",
            f"m{layer}" if layer + 1 < graph.n_layers else "",
        ]
        ax.axvline((layer + 1) * width - 0.5, color="#888888", linewidth=0.7)
    ax.set_xticks(
        [*ticks, graph.n_dst - 1],
        [*names, "logits"],
        fontsize=8,
        rotation=90 if graph.n_layers > 4 else 0,
    )
    ax.set_xlabel("destination: q, k, v of a layer's heads, its MLP")
    ax.set_ylabel("source")
    bar = fig.colorbar(image, label=label, fraction=0.03, pad=0.02)
    top = np.floor(np.log10(largest))
    marks = 10.0 ** np.array([top - 1, top])
    bar.set_ticks([*-marks[::-1], 0, *marks], labels=[f"{v:g}" for v in (*-marks[::-1], 0, *marks)])
    bar.minorticks_off()
    return fig


def circuit_diagram(circuit: Circuit, height: float = 1.15) -> plt.Figure:
    """The circuit drawn layer by layer, input below, logits on top; line width is the absolute score, dashes harm."""
    graph, there = circuit.graph, set(circuit.nodes)
    place = {"input": (0.0, 0.0), "logits": (0.0, graph.n_layers + 0.85)}
    for layer in range(graph.n_layers):
        inside = [h for h in range(graph.n_heads) if f"a{layer}.h{h}" in there]
        for j, h in enumerate(inside):
            place[f"a{layer}.h{h}"] = (
                -0.5 - 1.1 * (len(inside) - 1 - j) - 0.15 * (layer % 2),
                layer + 0.8,
            )
        place[f"m{layer}"] = (1.2 + 0.25 * (layer % 2), layer + 0.95)
    fig, ax = plt.subplots(figsize=(8.4, height * (graph.n_layers + 1.6)))
    chosen = np.argwhere(circuit.mask)
    scores = (
        np.ones(len(chosen))
        if circuit.scores is None
        else np.array([circuit.scores[tuple(e)] for e in chosen])
    )
    largest = np.abs(scores).max() if len(scores) else 1.0
    for (src, dst), score in zip(chosen, scores):
        target = graph.destination_names[dst]
        node, kind = (target[:-3], target[-2]) if target.endswith(">") else (target, "")
        a, b = place[graph.source_names[src]], place[node]
        bend = {"q": -0.22, "k": 0.0, "v": 0.22, "": 0.08}[kind] * (1 if a[1] < b[1] - 1.2 else 0.5)
        ax.add_patch(
            FancyArrowPatch(
                a,
                b,
                connectionstyle=f"arc3,rad={bend}",
                arrowstyle="-|>",
                mutation_scale=9,
                shrinkA=11,
                shrinkB=13,
                linewidth=0.8 + 3.2 * abs(score) / largest,
                alpha=0.85,
                color=INPUTS[kind][0],
                linestyle="-" if score >= 0 else (0, (4, 2)),
                zorder=1,
            )
        )
    for name in there:
        x, y = place[name]
        label = (
            name
            if name in ("input", "logits")
            else name.replace("a", "").replace(".h", ".")
            if name[0] == "a"
            else f"MLP {name[1:]}"
        )
        ax.text(
            x,
            y,
            label,
            ha="center",
            va="center",
            fontsize=9.5,
            zorder=2,
            bbox={
                "boxstyle": "round,pad=0.35",
                "facecolor": "#ffffff" if name[0] != "m" else "#eeeeee",
                "edgecolor": "#333333",
            },
        )
    for layer in range(graph.n_layers):
        ax.axhline(layer + 0.38, color="#dddddd", linewidth=0.8, zorder=0)
        ax.text(2.55, layer + 0.85, f"layer {layer}", ha="right", color="#666666", fontsize=9)
    left = min(x for x, _ in place.values()) - 1.0
    ax.set_xlim(min(left, -2.4), 2.6)
    ax.set_ylim(-0.45, graph.n_layers + 1.25)
    ax.axis("off")
    lines = [
        plt.Line2D([], [], color=colour, linewidth=2, label=name)
        for colour, name in INPUTS.values()
    ]
    lines.append(
        plt.Line2D([], [], color="#333333", linestyle=(0, (4, 2)), label="negative score: it harms")
    )
    fig.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=8.5)
    return fig


def edges_over_training(history: pd.DataFrame, most: int = 40) -> plt.Figure:
    """Which edges are in the circuit at which checkpoint (see `over_training.edge_history`), the longest-lived `most`."""
    keep = history.sum(axis=1).sort_values(ascending=False, kind="stable").index[:most]
    shown = history.loc[[name for name in history.index if name in set(keep)]]
    fig, ax = plt.subplots(figsize=(8.4, 0.6 + 0.19 * len(shown)))
    ax.imshow(
        np.where(shown.to_numpy(), 1.0, np.nan),
        aspect="auto",
        cmap="viridis",
        vmin=0,
        vmax=1.6,
        interpolation="nearest",
    )
    ax.set_yticks(
        range(len(shown)), [name.replace("->", " → ") for name in shown.index], fontsize=7.5
    )
    ax.set_xticks(range(shown.shape[1]), [short_number(t) for t in shown.columns], fontsize=8)
    ax.set_xticks(np.arange(-0.5, shown.shape[1]), minor=True)
    ax.set_yticks(np.arange(-0.5, len(shown)), minor=True)
    ax.grid(False)
    ax.grid(which="minor", color="#e4e4e4", linewidth=0.6)
    ax.tick_params(which="minor", length=0)
    ax.set_xlabel("tokens seen")
    return fig
