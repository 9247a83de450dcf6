"""Position-aware circuits: edges that are in at some positions alone (Haklay et al. 2025, PEAP,
arXiv 2502.04577).

A circuit elsewhere in this book has an edge at all positions or at none. Here there are edges

    at a span       (span, src, dst): what src writes at the span's positions, as dst reads it there
    between spans   (to, at, dst): the key or value dst at one span, as queries at another see it

A span is a position, where prompts are of one template and all of the same length; or one of
`spans_of(pairs)`, which line up prompts of different ones. Scores are those that `attribute` keeps
with per_position=True or spans=..., and between=True; evaluation is that of
`evaluation.evaluate_masks`, exact. Without edges between spans each query sees all keys and values
that the circuit has up to its own position.

What differs from PEAP: queries, keys and values are apart, as everywhere here; and a key or value
is also seen from the position where it is, so there are edges between a span and itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from circuitbook.circuits.attribution import Scores
from circuitbook.circuits.batches import first_difference
from circuitbook.circuits.corrupted import TOGETHER, CorruptedRuns
from circuitbook.circuits.evaluation import check_aligned, evaluate_masks
from circuitbook.circuits.faithfulness import FORMS, faithfulness
from circuitbook.circuits.spans import SpanCircuit, Spans, each_position
from circuitbook.model.graph import HEAD_INPUTS, Graph
from circuitbook.model.loaded import Model
from circuitbook.tasks.base import PromptPairs

BETWEEN = -1  # in place of a source


def position_order(
    scores: Scores, *, absolute: bool = True, limit: int | None = None
) -> Int64[np.ndarray, "edge 4"]:
    """Edges (to, at, src, dst) from the most to the least wanted, by score; the first `limit`.

    An edge at a span has to = at; one between spans, where the scores have those, has src = -1.
    `absolute`: by absolute score. Edges whose score is 0 (where clean and corrupted are the same)
    are left out. ValueError without the scores of each position.
    """
    if scores.per_position is None:
        raise ValueError(
            "a circuit with positions needs the scores of each: attribute(..., per_position=True)"
        )
    of_spans = scores.per_position.double().numpy() * scores.graph.mask
    at, src, dst = of_spans.nonzero()
    edges, values = np.stack([at, at, src, dst], 1), of_spans[at, src, dst]
    if scores.between is not None:
        of_pairs = scores.between.double().numpy()
        to, at, dst = of_pairs.nonzero()
        edges = np.concatenate([edges, np.stack([to, at, np.full(len(to), BETWEEN), dst], 1)])
        values = np.append(values, of_pairs[to, at, dst])
    priority = np.abs(values) if absolute else values
    return edges[np.argsort(-priority, kind="stable")[:limit]]


def first_positions(
    order: Int64[np.ndarray, "edge 4"], graph: Graph, spans: Spans, n: int
) -> SpanCircuit:
    """The circuit of the first n edges of an order, without its dead edges.

    Where the order has no edges between spans, all of these are in.
    """
    edges = np.zeros((len(spans), *graph.mask.shape), bool)
    between = np.zeros((len(spans), len(spans), graph.n_dst), bool)
    first, across = order[:n], order[:, 2] == BETWEEN
    to, at, src, dst = first.T
    edges[at[~across[:n]], src[~across[:n]], dst[~across[:n]]] = True
    between[to[across[:n]], at[across[:n]], dst[across[:n]]] = True
    circuit = SpanCircuit(edges=edges, spans=spans, between=between if across.any() else None)
    return live_at_positions(circuit, graph)


# ------------------------------------------------------------------ dead edges


def live_at_positions(circuit: SpanCircuit, graph: Graph) -> SpanCircuit:
    """The edges on a path, in some prompt, from `input` at any position to `logits` at END.

    Within a head a path goes from its query to what it writes at the same position, and from a key
    or a value to what it writes where the edges between spans lead, at the same position or later.
    """
    edges = np.zeros_like(circuit.edges)
    between = None if circuit.between is None else np.zeros_like(circuit.between)
    for layout in _layouts(circuit.spans):
        own = circuit.edges[layout] & graph.mask
        seen = np.ones((len(layout), len(layout), graph.n_dst), bool)
        pairs = np.ix_(layout, layout)
        if circuit.between is not None:
            seen = circuit.between[pairs]
        own, seen = _live(own, seen & np.tri(len(layout), dtype=bool)[..., None], graph)
        np.logical_or.at(edges, layout, own)
        if between is not None:
            np.logical_or.at(between, pairs, seen)
    return replace(circuit, edges=edges, between=between)


def _layouts(spans: Spans) -> list[np.ndarray]:
    """The orders of spans that prompts have. What is next to one of its own kind is left out: what
    is on a path there is so at the next."""
    layouts = {}
    for places in spans.places.numpy():
        layout = places[places >= 0]
        layout = layout[np.append(True, layout[1:] != layout[:-1])]
        layouts[layout.tobytes()] = layout
    return list(layouts.values())


def _live(
    mask: Bool[np.ndarray, "pos src dst"], seen: Bool[np.ndarray, "to at dst"], graph: Graph
) -> tuple[Bool[np.ndarray, "pos src dst"], Bool[np.ndarray, "to at dst"]]:
    """The same of one prompt, which ends at its last position."""
    n_pos = len(mask)
    fed = np.zeros((n_pos, graph.n_src + 1), bool)  # reached from `input`
    fed[:, 0] = True
    read = np.zeros((n_pos, graph.n_src + 1), bool)  # reaches `logits`
    read[-1, -1] = True
    into_fed = np.zeros(mask.shape[::2], bool)  # [pos, dst]: whether what is read there is reached
    into_read = np.zeros(mask.shape[::2], bool)  # and whether it counts
    later = _is_key_or_value(graph)
    seen = seen & later
    inputs = [(node, columns) for node, columns in graph.columns_of_nodes if columns]
    for node, columns in inputs:
        for column in columns:
            into_fed[:, column] = into = (mask[:, :, column] & fed[:, :-1]).any(axis=1)
            looking = (seen[:, :, column] & into).any(axis=1)
            fed[:, node] |= looking if later[column] else into
    for node, columns in reversed(inputs):
        for column in columns:
            out = read[:, node]
            looked_at = (seen[:, :, column] & out[:, None]).any(axis=0)
            into_read[:, column] = looked_at if later[column] else out
            read[:, :-1] |= mask[:, :, column] & into_read[:, column, None]
    return (
        mask & fed[:, :-1, None] & into_read[:, None],
        seen & into_fed & read[:, graph.node_of][:, None],
    )


def _is_key_or_value(graph: Graph) -> Bool[np.ndarray, " dst"]:
    """Which destinations later positions look at."""
    place = np.arange(graph.n_dst) % (3 * graph.n_heads + 1) // graph.n_heads
    return (place == HEAD_INPUTS.index("k")) | (place == HEAD_INPUTS.index("v"))


# ------------------------------------------------------------------ sizes and curves


def size_on_prompts(circuit: SpanCircuit, graph: Graph, pairs: PromptPairs) -> tuple[float, float]:
    """How many edges a circuit is on a prompt, in the mean: (at positions, between positions).

    An edge counts at each position of its span, an edge between spans at each pair of positions,
    from the first position on at which clean and corrupted differ: before it nothing is corrupted.
    Where all edges between spans are in, those of keys and values that the circuit has count.
    """
    positions = np.arange(pairs.clean.shape[1])
    behind = positions >= first_difference(pairs).numpy()[:, None]
    places = np.where(behind, circuit.spans.places.numpy(), -1)
    on = (places[..., None] == np.arange(len(circuit.spans))).astype(float)  # [n, pos, span]
    to_at = np.einsum("njt,nia,ji->ta", on, on, np.tri(len(positions))) / len(pairs)
    has = circuit.edges.any(1) & _is_key_or_value(graph)
    between = has[None] if circuit.between is None else circuit.between
    edges = on.sum(1).mean(0) @ circuit.edges.sum((1, 2))
    return float(edges), float((to_at * between.sum(-1)).sum())


def position_curve(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    sizes: Iterable[int],
    *,
    spans: Spans | None = None,
    absolute: bool = True,
    memory: int | None = None,
) -> pd.DataFrame:
    """Faithfulness of the first n edges of `position_order`, for each n of `sizes`.

    A row for each, ascending: size (n), edges and between (at spans and between them, dead ones not
    counted), anywhere (edges at any span), at_positions and pairs (edges on a prompt, see
    `size_on_prompts`), metric, ratio, normalised.
    spans: of these prompts, where the scores are of others'. ValueError for scores without spans on
    prompts that end at different positions.
    """
    spans = spans or scores.spans
    if spans is None:
        check_aligned(pairs)
        spans = each_position(pairs)
    runs, order = CorruptedRuns(model, pairs, memory), position_order(scores, absolute=absolute)
    wanted = sorted({int(n) for n in sizes})
    clean, corrupted = (float(metric.double().mean()) for metric in runs.baselines())
    rows: list[dict[str, float]] = []
    for first in range(0, len(wanted), TOGETHER):
        some = wanted[first : first + TOGETHER]
        circuits = [first_positions(order, runs.graph, spans, n) for n in some]
        metrics = evaluate_masks(model, pairs, circuits, runs=runs).double().mean(1).tolist()
        for n, circuit, metric in zip(some, circuits, metrics, strict=True):
            kept = {form: faithfulness(metric, clean, corrupted, form) for form in FORMS}
            at_positions, between = size_on_prompts(circuit, runs.graph, pairs)
            counts = {
                "size": n,
                "edges": int(circuit.edges.sum()),
                "between": 0 if circuit.between is None else int(circuit.between.sum()),
                "anywhere": int(circuit.edges.any(0).sum()),
                "at_positions": at_positions,
                "pairs": between,
            }
            rows.append(counts | {"metric": metric} | kept)
    return pd.DataFrame(rows)
