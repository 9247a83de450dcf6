"""Pictures of scores and circuits: the score matrix, the circuit from bottom to top, edges over training."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import FancyArrowPatch

from .circuits import Circuit
from .figures import curve, short_number, tokens_axis
from .graph import Graph
from .views import INPUTS


def score_matrix(values: np.ndarray, graph: Graph, label: str) -> plt.Figure:
    """All edge scores as a picture: sources from bottom to top, destinations from left to right."""
    shown = np.where(graph.mask, np.asarray(values, dtype=float), np.nan)
    largest = np.nanmax(np.abs(shown))
    fig, ax = plt.subplots(figsize=(8.4, 4.4))
    norm = mpl.colors.SymLogNorm(linthresh=largest / 100, vmin=-largest, vmax=largest)
    image = ax.imshow(shown, aspect="auto", origin="lower", cmap="RdBu", norm=norm, interpolation="nearest")
    ax.grid(False)
    ax.set_yticks(range(graph.n_src), graph.source_names, fontsize=7 if graph.n_src < 40 else 3)
    width = 3 * graph.n_heads + 1
    ticks, names = [], []
    for layer in range(graph.n_layers):
        ticks += [layer * width + (k + 0.5) * graph.n_heads - 0.5 for k in range(3)] + [(layer + 1) * width - 1]
        names += [f"q{layer}", f"k{layer}", f"v{layer}", f"m{layer}" if layer + 1 < graph.n_layers else ""]
        ax.axvline((layer + 1) * width - 0.5, color="#888888", linewidth=0.7)
    ax.set_xticks([*ticks, graph.n_dst - 1], [*names, "logits"], fontsize=8, rotation=90 if graph.n_layers > 4 else 0)
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
            place[f"a{layer}.h{h}"] = (-0.5 - 1.1 * (len(inside) - 1 - j) - 0.15 * (layer % 2), layer + 0.8)
        place[f"m{layer}"] = (1.2 + 0.25 * (layer % 2), layer + 0.95)
    fig, ax = plt.subplots(figsize=(8.4, height * (graph.n_layers + 1.6)))
    chosen = np.argwhere(circuit.mask)
    scores = np.ones(len(chosen)) if circuit.scores is None else np.array([circuit.scores[tuple(e)] for e in chosen])
    largest = np.abs(scores).max() if len(scores) else 1.0
    for (src, dst), score in zip(chosen, scores):
        target = graph.destination_names[dst]
        node, kind = (target[:-3], target[-2]) if target.endswith(">") else (target, "")
        a, b = place[graph.source_names[src]], place[node]
        bend = {"q": -0.22, "k": 0.0, "v": 0.22, "": 0.08}[kind] * (1 if a[1] < b[1] - 1.2 else 0.5)
        ax.add_patch(FancyArrowPatch(a, b, connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=9,
                                     shrinkA=11, shrinkB=13, linewidth=0.8 + 3.2 * abs(score) / largest, alpha=0.85,
                                     color=INPUTS[kind][0], linestyle="-" if score >= 0 else (0, (4, 2)), zorder=1))
    for name in there:
        x, y = place[name]
        label = name if name in ("input", "logits") else name.replace("a", "").replace(".h", ".") if name[0] == "a" else \
            f"MLP {name[1:]}"
        ax.text(x, y, label, ha="center", va="center", fontsize=9.5, zorder=2,
                bbox={"boxstyle": "round,pad=0.35", "facecolor": "#ffffff" if name[0] != "m" else "#eeeeee",
                      "edgecolor": "#333333"})
    for layer in range(graph.n_layers):
        ax.axhline(layer + 0.38, color="#dddddd", linewidth=0.8, zorder=0)
        ax.text(2.55, layer + 0.85, f"layer {layer}", ha="right", color="#666666", fontsize=9)
    left = min(x for x, _ in place.values()) - 1.0
    ax.set_xlim(min(left, -2.4), 2.6)
    ax.set_ylim(-0.45, graph.n_layers + 1.25)
    ax.axis("off")
    lines = [plt.Line2D([], [], color=colour, linewidth=2, label=name) for colour, name in INPUTS.values()]
    lines.append(plt.Line2D([], [], color="#333333", linestyle=(0, (4, 2)), label="negative score: it harms"))
    fig.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=8.5)
    return fig


def edges_over_training(history: pd.DataFrame, most: int = 40) -> plt.Figure:
    """Which edges are in the circuit at which checkpoint (see `over_training.edge_history`), the longest-lived `most`."""
    keep = history.sum(axis=1).sort_values(ascending=False, kind="stable").index[:most]
    shown = history.loc[[name for name in history.index if name in set(keep)]]
    fig, ax = plt.subplots(figsize=(8.4, 0.6 + 0.19 * len(shown)))
    ax.imshow(np.where(shown.to_numpy(), 1.0, np.nan), aspect="auto", cmap="viridis", vmin=0, vmax=1.6, interpolation="nearest")
    ax.set_yticks(range(len(shown)), [name.replace("->", " → ") for name in shown.index], fontsize=7.5)
    ax.set_xticks(range(shown.shape[1]), [short_number(t) for t in shown.columns], fontsize=8)
    ax.set_xticks(np.arange(-0.5, shown.shape[1]), minor=True)
    ax.set_yticks(np.arange(-0.5, len(shown)), minor=True)
    ax.grid(False)
    ax.grid(which="minor", color="#e4e4e4", linewidth=0.6)
    ax.tick_params(which="minor", length=0)
    ax.set_xlabel("tokens seen")
    return fig


def kind_panels(curves: dict[str, dict[str, pd.DataFrame]], titles: dict[str, str], bars: dict[str, float] | None = None,
                models: list[str] | None = None, label: str = "score") -> plt.Figure:
    """A panel per kind of head, a curve per model: {kind: {model: frame with tokens_seen and score}}; `bars` are dashed."""
    fig, axes = plt.subplots(-(-len(curves) // 2), 2, figsize=(8.4, 2.9 * -(-len(curves) // 2)), squeeze=False)
    handles = {}
    for ax, (kind, of) in zip(axes.flat, curves.items()):
        for model, frame in of.items():
            curve(ax, frame, "score", model)
        if bars and kind in bars:
            ax.axhline(bars[kind], color="#888888", linestyle="--", linewidth=0.8)
        if of:
            tokens_axis(ax, np.unique(np.concatenate([frame["tokens_seen"] for frame in of.values()])))
        else:
            ax.text(0.5, 0.5, "no such head in any model", ha="center", transform=ax.transAxes, color="#666666")
        ax.set_ylim(-0.04, 1.04)
        ax.set_title(titles[kind])
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels())))
    for ax in list(axes.flat)[len(curves):]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel(label)
    names = [name for name in (models or handles) if name in handles]
    fig.legend([handles[name] for name in names], names, loc="outside upper center", ncols=min(6, max(1, len(names))))
    return fig


def head_lines(tables: dict[str, pd.DataFrame], titles: dict[str, str], named: dict[str, list[tuple[int, int]]],
               bars: dict[str, float] | None = None) -> plt.Figure:
    """A panel per kind, a line per head of one model: those of `named` in colour and labelled, the others grey.

    tables: {kind: index tokens seen, columns (layer, head)}, as `formation.trajectories` gives them.
    """
    fig, axes = plt.subplots(-(-len(tables) // 2), 2, figsize=(8.4, 3.2 * -(-len(tables) // 2)), squeeze=False)
    for ax, (kind, table) in zip(axes.flat, tables.items()):
        colours = plt.get_cmap("viridis")(np.linspace(0.02, 0.53, max(1, len(named[kind]))))
        for head in table:
            if tuple(head) not in named[kind]:
                ax.plot(table.index, table[head], color="#cccccc", linewidth=0.8, zorder=1)
        for i, head in enumerate(named[kind]):
            ax.plot(table.index, table[head], color=colours[i], marker="os^DvPX<>*"[i % 10], label=f"{head[0]}.{head[1]}", zorder=2)
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


# ------------------------------------------------------------------ the algorithm

CLASS_COLOURS = {"name mover": "#0072b2", "copy suppression": "#d55e00", "negative name mover": "#e69f00",
                 "negative copy suppression": "#7f5200", "S-inhibition": "#009e73", "induction": "#56b4e9",
                 "duplicate token": "#cc79a7"}                                                  # colour-blind safe
CLASS_LETTERS = {"name mover": "N", "copy suppression": "C", "negative name mover": "n", "negative copy suppression": "c",
                 "S-inhibition": "S", "induction": "I", "duplicate token": "D"}                 # for greyscale


def class_strips(anatomies, models: list[str]) -> plt.Figure:
    """Which heads are in which class (see `algorithm.Anatomy`) at each checkpoint that does IOI: a panel per model, a row per
    head that ever is; a head in several classes shows all their letters and the colour of the first."""
    of = {name: [a for a in anatomies if a.model == name and "direct" in a.patched] for name in models}
    of = {name: mine for name, mine in of.items() if mine}
    if not of:
        return nothing("no checkpoint does IOI")
    columns = 2
    heights = [max(1, sum(any(a.role(row) for a in mine) for row in range(len(mine[0].heads)))) for mine in of.values()]
    rows = [max(heights[i:i + columns]) for i in range(0, len(heights), columns)]
    fig, axes = plt.subplots(len(rows), columns, figsize=(8.4, 0.9 * len(rows) + 0.25 * sum(rows)), squeeze=False,
                             gridspec_kw={"height_ratios": [1.2 + r for r in rows]})
    seen = set()
    for ax, (name, mine) in zip(axes.flat, of.items()):
        ever = [row for row in range(len(mine[0].heads)) if any(a.role(row) for a in mine)]
        for x, one in enumerate(mine):
            for y, row in enumerate(ever):
                if role := one.role(row):
                    ax.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, color=CLASS_COLOURS[role], alpha=0.55, linewidth=0))
                    ax.text(x, y, "".join(CLASS_LETTERS[c] for c in CLASS_COLOURS if c in one.labels[row]), ha="center", va="center",
                            fontsize=8.5, fontweight="bold")
                    seen |= one.labels[row]
        if not ever:
            ax.text((len(mine) - 1) / 2, 0, "no head in any class", ha="center", va="center", color="#555555", fontsize=9)
        ax.set_xlim(-0.5, len(mine) - 0.5)
        ax.set_ylim(max(1, len(ever)) - 0.5, -0.5)
        ax.set_yticks(range(len(ever)), [f"{mine[0].heads[row][0]}.{mine[0].heads[row][1]}" for row in ever], fontsize=8.5)
        ax.set_xticks(range(len(mine)), [short_number(a.tokens_seen) for a in mine], fontsize=8)
        ax.set_xticks(np.arange(-0.5, len(mine)), minor=True)
        ax.grid(False)
        ax.grid(which="minor", axis="x", color="#e4e4e4", linewidth=0.6)
        ax.tick_params(which="minor", length=0)
        ax.set_title(name)
    for ax in list(axes.flat)[len(of):]:
        ax.axis("off")
    handles = [plt.Rectangle((0, 0), 1, 1, color=CLASS_COLOURS[c], alpha=0.55, label=f"{CLASS_LETTERS[c]}  {c}") for c in CLASS_COLOURS if c in seen]
    if handles:
        fig.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8.5)
    fig.supxlabel("tokens seen", fontsize=10)
    return fig


def attention_maps(tokens: list[str], patterns, titles: list[str], columns: int = 3) -> plt.Figure:
    """Attention patterns [head, query, key] on one prompt, a map per head: rows look, columns are looked at. A frame marks where
    the last row looks most."""
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(max(4.4, 2.8 * columns), 0.5 + 2.75 * rows), squeeze=False, sharey=True)
    words = [token.strip() or repr(token) for token in tokens]
    for ax, pattern, title in zip(axes.flat, np.asarray(patterns), titles):
        shown = np.where(np.tri(len(words), dtype=bool), pattern, np.nan)
        image = ax.imshow(shown, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        ax.add_patch(plt.Rectangle((pattern[-1].argmax() - 0.5, len(words) - 1.5), 1, 1, fill=False, edgecolor="black", linewidth=1.3, clip_on=False))
        ax.set_xticks(range(len(words)), words, rotation=90, fontsize=7.5)
        ax.set_yticks(range(len(words)), words, fontsize=7.5)
        ax.grid(False)
        ax.set_title(title, fontsize=9)
    for ax in list(axes.flat)[len(titles):]:
        ax.axis("off")
    fig.colorbar(image, ax=axes, label="attention", fraction=0.03, pad=0.02)
    return fig


def nothing(why: str) -> plt.Figure:
    """In place of a figure that has nothing to show: a line that says why."""
    fig, ax = plt.subplots(figsize=(8.4, 1.2))
    ax.text(0.5, 0.5, why, ha="center", va="center", color="#555555")
    ax.axis("off")
    return fig


def share_panels(shares: pd.DataFrame, models: list[str], rows: dict[str, str], columns: dict[str, str],
                 claimed: dict[str, float]) -> plt.Figure:
    """Figure 4 B, C, D: rows are stages, columns the forms of the share; solid or dashed a model's share over tokens seen,
    dotted what as many random heads explain. `claimed`: the paper's bound per stage, grey. See `algorithm.share_table`."""
    fig, axes = plt.subplots(len(rows), len(columns), figsize=(8.4, 2.15 * len(rows)), sharex=True, sharey=True, squeeze=False)
    handles = {}
    for stage, line in zip(rows, axes):
        for form, ax in zip(columns, line):
            part = shares[(shares["stage"] == stage) & (shares["form"] == form)].dropna(subset=["share"])
            ax.axhline(claimed[stage], color="#999999", linewidth=5, alpha=0.35, zorder=0)
            for name in models:
                mine = part[part["model"] == name]
                if len(mine):
                    shown = mine.assign(share=mine["share"].clip(-0.12, 1.3))
                    curve(ax, shown, "share", name)
                    ax.plot(mine["tokens_seen"], mine["null"].clip(-0.12, 1.3), linestyle=":", linewidth=1, color=ax.lines[-1].get_color())
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
    extra = [plt.Line2D([], [], color="#555555", linestyle=":"), plt.Line2D([], [], color="#999999", linewidth=5, alpha=0.35)]
    fig.legend([handles[name] for name in names] + extra, [*names, "random heads", "paper: above this"], loc="outside upper center", ncols=4)
    return fig


def matrices(frames: dict[str, pd.DataFrame], colours: str = "viridis", label: str = "", xlabel: str = "", ylabel: str = "",
             columns: int = 3, size: float = 2.75) -> plt.Figure:
    """Square tables with values from 0 to 1 as pictures with the numbers in them, one per title; index and columns are labels."""
    if not frames:
        return nothing("nothing to compare")
    rows = -(-len(frames) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(size * columns, size * rows), squeeze=False)
    cmap = mpl.colormaps[colours]
    for ax, (title, frame) in zip(axes.flat, frames.items()):
        values = frame.to_numpy(dtype=float)
        ax.imshow(np.clip(values, 0, 1), cmap=cmap, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        for (y, x), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = sum(cmap(float(np.clip(value, 0, 1)))[:3]) < 1.5
                ax.text(x, y, f"{value:.2f}".replace("0.", ".").replace("-.00", ".00"), ha="center", va="center", fontsize=7.5 if values.shape[1] < 8 else 6,
                        color="white" if dark else "black")
        ax.set_xticks(range(values.shape[1]), frame.columns, fontsize=7.5, rotation=45 if max(map(len, map(str, frame.columns))) > 4 else 0,
                      ha="right" if max(map(len, map(str, frame.columns))) > 4 else "center")
        ax.set_yticks(range(values.shape[0]), frame.index, fontsize=7.5)
        ax.set_title(title, fontsize=9.5)
        ax.grid(False)
    for ax in list(axes.flat)[len(frames):]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel, fontsize=9)
    fig.supxlabel(xlabel, fontsize=9)
    fig.colorbar(mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), cmap), ax=axes, label=label, fraction=0.025, pad=0.02)
    return fig


def stacked_shares(frame: pd.DataFrame, parts: tuple[str, ...], models: list[str], label: str) -> plt.Figure:
    """Shares that add up to one at each checkpoint, as stacked bars: a panel per model of `frame` (model, tokens_seen, parts)."""
    of = {name: frame[frame["model"] == name] for name in models if (frame["model"] == name).any()}
    if not of:
        return nothing("no checkpoint does IOI")
    fig, axes = plt.subplots(1, max(1, len(of)), figsize=(8.4, 2.6), sharey=True, squeeze=False,
                             gridspec_kw={"width_ratios": [2 + len(part) for part in of.values()] or [1]})
    colours, hatches = ("#0072b2", "#e69f00", "#dddddd"), ("", "///", "")
    for ax, (name, part) in zip(axes[0], of.items()):
        bottom = np.zeros(len(part))
        for what, colour, hatch in zip(parts, colours, hatches):
            ax.bar(range(len(part)), part[what], bottom=bottom, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=what, width=0.9)
            bottom += part[what].to_numpy()
        ax.set_xticks(range(len(part)), [short_number(t) for t in part["tokens_seen"]], fontsize=7, rotation=60)
        ax.set_title(name, fontsize=9)
        ax.grid(False)
    axes[0, 0].set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes[0, 0].set_ylabel(label)
    fig.supxlabel("tokens seen", fontsize=10)
    if of:
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig
