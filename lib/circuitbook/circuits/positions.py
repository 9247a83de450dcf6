"""Position-aware circuits: edges that are in at some positions alone (Haklay et al. 2025, PEAP,
arXiv 2502.04577).

A circuit elsewhere in this book has an edge at all positions or at none. Here there are edges

    at a span       (span, src, dst): what src writes at the span's positions, as dst reads it there
    between spans   (to, at, dst): the key or value dst at one span, as queries at another see it

A span is a position, where prompts are of one template and all of the same length; or one of
`spans_of(pairs)`, which line up prompts of different ones. Scores are those that `attribute` keeps
with per_position=True or spans=..., and between=...; evaluation is that of
`evaluation.evaluate_masks`, exact. Without edges between spans each query sees all keys and values
that the circuit has up to its own position.

What differs from PEAP: queries, keys and values are apart, as everywhere here; and a key or value
is also seen from the position where it is, so there are edges between a span and itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from circuitbook.circuits.attribution import Scores
from circuitbook.circuits.batches import first_difference
from circuitbook.circuits.corrupted import CorruptedRuns
from circuitbook.circuits.evaluation import check_aligned
from circuitbook.circuits.faithfulness import Curve, grid_sizes
from circuitbook.circuits.search import refine
from circuitbook.circuits.spans import SpanCircuit, Spans, each_position
from circuitbook.model.graph import HEAD_INPUTS, Graph
from circuitbook.model.loaded import Model
from circuitbook.tasks.base import PromptPairs

BETWEEN = -1  # in place of a source
AT_A_TIME = 4  # sizes of the grid, before a search asks whether one passes


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

    An edge counts at each position of its span (into `logits` at END alone), an edge between spans
    at each pair of positions, from the first position on at which clean and corrupted differ:
    before it nothing is corrupted. Where all edges between spans are in, those of keys and values
    that the circuit has count.
    """
    positions = np.arange(pairs.clean.shape[1])
    behind = positions >= first_difference(pairs).numpy()[:, None]
    places = np.where(behind, circuit.spans.places.numpy(), -1)
    on = (places[..., None] == np.arange(len(circuit.spans))).astype(float)  # [n, pos, span]
    to_at = np.einsum("njt,nia,ji->ta", on, on, np.tri(len(positions))) / len(pairs)
    has = circuit.edges.any(1) & _is_key_or_value(graph)
    between = has[None] if circuit.between is None else circuit.between
    edges = on.sum(1).mean(0) @ circuit.edges[..., :-1].sum((1, 2))
    at_end = circuit.spans.places[np.arange(len(pairs)), pairs.end]
    edges += circuit.edges[at_end, :, -1].sum() / len(pairs)
    return float(edges), float((to_at * between.sum(-1)).sum())


@dataclass(eq=False, kw_only=True)
class PositionCurve(Curve):
    """`Curve` of an order of `position_order`: what has been evaluated so far."""

    spans: Spans
    about: dict[int, tuple[int, int, float, float]] = field(default_factory=dict)
    """Edges after pruning -> between, anywhere, at_positions, pairs: see `position_curve`."""

    def first(self, n: int) -> SpanCircuit:
        return first_positions(self.order, self.runs.graph, self.spans, n)

    def count(self, circuit: np.ndarray | SpanCircuit) -> tuple[int, int]:
        assert isinstance(circuit, SpanCircuit)
        anywhere, nodes = super().count(circuit)
        between = 0 if circuit.between is None else int(circuit.between.sum())
        edges = int(circuit.edges.sum()) + between
        if edges not in self.about:
            size = size_on_prompts(circuit, self.runs.graph, self.pairs)
            self.about[edges] = between, anywhere, *size
        return edges, nodes

    def frame(self) -> pd.DataFrame:
        table = super().frame()
        about = [self.about[edges] for edges in table["edges"]]
        columns = ["between", "anywhere", "at_positions", "pairs"]
        return table.join(pd.DataFrame(about, columns=columns))


def position_curve(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    sizes: Iterable[int],
    *,
    spans: Spans | None = None,
    absolute: bool = True,
    form: str = "normalised",
    memory: int | None = None,
) -> pd.DataFrame:
    """Faithfulness of the first n edges of `position_order`, for each n of `sizes`.

    The rows are those of `find_circuit`'s curve, where edges are those at spans and between them,
    and besides: between (how many are between spans), anywhere (different edges, whatever their
    spans), at_positions and pairs (edges on a prompt, see `size_on_prompts`).
    spans: of these prompts, where the scores are of others'. ValueError for scores without spans on
    prompts that end at different positions.
    """
    curve = _curve(model, pairs, scores, spans, absolute, form, memory)
    curve.evaluate(sorted({int(n) for n in sizes}))
    return curve.frame()


def find_at_positions(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    *,
    threshold: float = 0.8,
    spans: Spans | None = None,
    absolute: bool = True,
    form: str = "normalised",
    memory: int | None = None,
) -> tuple[SpanCircuit | None, pd.DataFrame]:
    """The smallest circuit with faithfulness >= `threshold` among the first n edges of
    `position_order`, and the curve of what was looked at (see `position_curve`).

    Looked for as `find_circuit` does on its grid, but no further than to the first that passes;
    None where none passes.
    """
    curve = _curve(model, pairs, scores, spans, absolute, form, memory)
    sizes = grid_sizes(len(curve.order))
    for first in range(0, len(sizes), AT_A_TIME):
        some = sizes[first : first + AT_A_TIME]
        curve.evaluate(some)
        if any(curve.faithfulness(n) >= threshold for n in some):
            break
    refine(curve, threshold)
    table = curve.frame()
    passing = table.loc[table[form] >= threshold, "size"]
    return (None if passing.empty else curve.first(int(passing.iloc[0]))), table


def _curve(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    spans: Spans | None,
    absolute: bool,
    form: str,
    memory: int | None,
) -> PositionCurve:
    spans = spans or scores.spans
    if spans is None:
        check_aligned(pairs)
        spans = each_position(pairs)
    return PositionCurve(
        model=model,
        pairs=pairs,
        runs=CorruptedRuns(model, pairs, memory),
        order=position_order(scores, absolute=absolute),
        form=form,
        spans=spans,
    )
