"""Pictures of scores and circuits: the score matrix, the circuit in layers."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from circuitbook.circuits.circuit import Circuit
from circuitbook.figures.panels import subplots
from circuitbook.figures.views import INPUTS
from circuitbook.model.graph import Graph

Places = dict[str, tuple[float, float]]  # of nodes

NEGATIVE = (0, (4, 2))  # dashes of an edge that harms
BENDS = {"q": -0.22, "k": 0.0, "v": 0.22, "": 0.08}  # so that edges into a head lie side by side


def score_matrix(values: np.ndarray, graph: Graph, label: str) -> Figure:
    """All edge scores as a picture: sources from bottom to top, destinations from left to right.

    values: [src, dst]; label: what they are, with their unit.
    """
    shown = np.where(graph.mask, np.asarray(values, dtype=float), np.nan)
    largest = np.nanmax(np.abs(shown))
    fig, ax = subplots(figsize=(8.4, 4.4))
    norm = mpl.colors.SymLogNorm(linthresh=largest / 100, vmin=-largest, vmax=largest)
    image = ax.imshow(
        shown, aspect="auto", origin="lower", cmap="RdBu", norm=norm, interpolation="nearest"
    )
    ax.grid(False)
    ax.set_yticks(range(graph.n_src), graph.source_names, fontsize=7 if graph.n_src < 40 else 3)
    _name_destinations(ax, graph)
    ax.set_xlabel("destination: q, k, v of a layer's heads, its MLP")
    ax.set_ylabel("source")
    bar = fig.colorbar(image, label=label, fraction=0.03, pad=0.02)
    top = np.floor(np.log10(largest))
    powers = 10.0 ** np.array([top - 1, top])
    marks = [*-powers[::-1], 0, *powers]
    bar.set_ticks(marks, labels=[f"{mark:g}" for mark in marks])
    bar.minorticks_off()
    return fig


def _name_destinations(ax: Axes, graph: Graph) -> None:
    """Names below the columns: q, k, v of a layer in the middle of theirs; lines between layers."""
    width = 3 * graph.n_heads + 1  # of a layer, in columns
    ticks: list[float] = []
    names: list[str] = []
    for layer in range(graph.n_layers):
        start, end = layer * width, (layer + 1) * width
        last = layer + 1 == graph.n_layers  # whose MLP would stand in the way of the logits
        ticks += [start + (k + 0.5) * graph.n_heads - 0.5 for k in range(3)] + [end - 1]
        names += [f"q{layer}", f"k{layer}", f"v{layer}", "" if last else f"m{layer}"]
        ax.axvline(end - 0.5, color="#888888", linewidth=0.7)
    ax.set_xticks(
        [*ticks, graph.n_dst - 1],
        [*names, "logits"],
        fontsize=8,
        rotation=90 if graph.n_layers > 4 else 0,
    )


def circuit_diagram(circuit: Circuit, height: float = 1.15) -> Figure:
    """The circuit layer by layer, input below, logits on top.

    Line width is the absolute score, dashes harm. height: of a layer, in inches.
    """
    layers = circuit.graph.n_layers
    places = _places(circuit)
    fig, ax = subplots(figsize=(8.4, height * (layers + 1.6)))
    _draw_edges(ax, circuit, places)
    for node in circuit.nodes:
        ax.text(
            *places[node],
            _node_label(node),
            ha="center",
            va="center",
            fontsize=9.5,
            zorder=2,
            bbox={
                "boxstyle": "round,pad=0.35",
                "facecolor": "#eeeeee" if node[0] == "m" else "#ffffff",
                "edgecolor": "#333333",
            },
        )
    for layer in range(layers):
        ax.axhline(layer + 0.38, color="#dddddd", linewidth=0.8, zorder=0)
        ax.text(2.55, layer + 0.85, f"layer {layer}", ha="right", color="#666666", fontsize=9)
    left = min(x for x, _ in places.values()) - 1.0
    ax.set_xlim(min(left, -2.4), 2.6)
    ax.set_ylim(-0.45, layers + 1.25)
    ax.axis("off")
    lines = [
        Line2D([], [], color=colour, linewidth=2, label=name) for colour, name in INPUTS.values()
    ]
    harm = Line2D([], [], color="#333333", linestyle=NEGATIVE, label="negative score: it harms")
    fig.legend(handles=[*lines, harm], loc="outside lower center", ncols=3, fontsize=8.5)
    return fig


def _places(circuit: Circuit) -> Places:
    """Where nodes stand: a layer's heads in the circuit to the left, its MLP to the right.

    Neighbouring layers are shifted a little, so that lines pass between nodes.
    """
    graph, nodes = circuit.graph, set(circuit.nodes)
    places = {"input": (0.0, 0.0), "logits": (0.0, graph.n_layers + 0.85)}
    for layer in range(graph.n_layers):
        odd = layer % 2
        heads = [f"a{layer}.h{head}" for head in range(graph.n_heads)]
        inside = [head for head in heads if head in nodes]
        for i, head in enumerate(inside):
            x = -0.5 - 1.1 * (len(inside) - 1 - i) - 0.15 * odd
            places[head] = (x, layer + 0.8)
        places[f"m{layer}"] = (1.2 + 0.25 * odd, layer + 0.95)
    return places


def _draw_edges(ax: Axes, circuit: Circuit, places: Places) -> None:
    graph = circuit.graph
    edges = np.argwhere(circuit.mask)
    scores = np.ones(len(edges)) if circuit.scores is None else circuit.scores[tuple(edges.T)]
    largest = np.abs(scores).max() if len(scores) else 1.0
    for (src, dst), score in zip(edges, scores, strict=True):
        target = graph.destination_names[dst]
        node, kind = (target[:-3], target[-2]) if target.endswith(">") else (target, "")
        start, end = places[graph.source_names[src]], places[node]
        far = start[1] < end[1] - 1.2
        ax.add_patch(
            FancyArrowPatch(
                start,
                end,
                connectionstyle=f"arc3,rad={BENDS[kind] * (1 if far else 0.5)}",
                arrowstyle="-|>",
                mutation_scale=9,
                shrinkA=11,
                shrinkB=13,
                linewidth=0.8 + 3.2 * abs(score) / largest,
                alpha=0.85,
                color=INPUTS[kind][0],
                linestyle="-" if score >= 0 else NEGATIVE,
                zorder=1,
            )
        )


def _node_label(node: str) -> str:
    """_node_label("a1.h2") -> "1.2"; _node_label("m1") -> "MLP 1" """
    if node in ("input", "logits"):
        return node
    return node[1:].replace(".h", ".") if node[0] == "a" else f"MLP {node[1:]}"
