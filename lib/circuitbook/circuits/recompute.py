"""Only the circuit's own nodes, recomputed from the corrupted run: see `circuits.evaluation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from circuitbook.circuits.batches import metric_of_stream
from circuitbook.circuits.corrupted import CorruptedRun, at_any_position
from circuitbook.circuits.spans import SpanCircuit
from circuitbook.model.graph import HEAD_INPUTS, Graph
from circuitbook.model.layers import CosSin, Layer
from circuitbook.model.network import Network, attend

HEADS_FIRST = "prompt pos head d_head -> head prompt pos d_head"


@torch.no_grad()
def metric_of_circuits(
    network: Network,
    graph: Graph,
    corrupted: CorruptedRun,
    masks: Sequence[np.ndarray | SpanCircuit],
) -> Float[Tensor, "circuit prompt"]:
    """The task's metric with only the edges of each circuit clean; the circuits share a batch.

    masks: bool [src, dst] each, or with spans.
    """
    last = last_of_circuits(network, graph, corrupted, masks)
    return metric_of_stream(network, corrupted.pairs, last).t()


@torch.no_grad()
def last_of_circuits(
    network: Network,
    graph: Graph,
    corrupted: CorruptedRun,
    masks: Sequence[np.ndarray | SpanCircuit],
) -> Float[Tensor, "prompt circuit d_model"]:
    """What `logits` reads at END then; in the dtype of the model."""
    circuits = [_Circuit(graph, mask, corrupted) for mask in masks]
    n_pos = corrupted.change.shape[1]
    cos_sin = network.rotary_cos_sin(corrupted.last, corrupted.start, n_pos)
    for i, layer in enumerate(network.layers):
        _recompute_heads(network, layer, i, circuits, corrupted, cos_sin)
        _recompute_mlps(layer, i, circuits, corrupted)
    last = torch.stack([circuit.last_stream() for circuit in circuits], 1)
    return last.to(corrupted.last.dtype)


class _Circuit:
    """One circuit, and how far what its sources write has moved from the corrupted run.

    mask: bool [src, dst], or with edges of its own at each span.
    """

    def __init__(
        self, graph: Graph, mask: np.ndarray | SpanCircuit, corrupted: CorruptedRun
    ) -> None:
        self.graph, self.mask, self.corrupted = graph, at_any_position(mask), corrupted
        change = corrupted.change
        self.sources = np.flatnonzero(self.mask.any(1))  # in use, ascending
        self.place = np.full(graph.n_src, -1)  # of a source among these
        self.place[self.sources] = np.arange(len(self.sources))
        self.places: Tensor | None = None  # the span of each position, [prompt, pos]
        self.between: Tensor | None = None  # [to, at, dst]
        edges = mask.edges if isinstance(mask, SpanCircuit) else mask
        if isinstance(mask, SpanCircuit):
            window = slice(corrupted.start, corrupted.start + change.shape[1])
            self.places = mask.spans.places[corrupted.rows, window].to(change.device)
            if mask.between is not None:
                self.between = torch.as_tensor(mask.between, device=change.device)
        self.weights = torch.as_tensor(
            edges[..., self.sources, :], dtype=change.dtype, device=change.device
        )  # [source, dst], or [span, source, dst]
        self.moved = change.new_zeros(len(self.sources), *change.shape)  # now minus corrupted
        if len(self.sources) and self.sources[0] == 0:
            self.moved[0] = change

    def read(
        self, columns: np.ndarray, x: Float[Tensor, "prompt pos d_model"]
    ) -> Float[Tensor, "column prompt pos d_model"]:
        """What these inputs read, x on the corrupted prompts; they all reach the same sources."""
        known = int(np.searchsorted(self.sources, self.graph.reach[columns[0]]))
        weights = self.weights[..., :known, columns]
        if self.places is None:
            change = (weights.t() @ self.moved[:known].flatten(1)).view(-1, *x.shape)
        else:
            change = einsum(
                weights[self.places],
                self.moved[:known],
                "prompt pos source column, source prompt pos d_model -> column prompt pos d_model",
            )
        return (x.to(change.dtype)[None] + change).to(x.dtype)

    def seen(self, column: int) -> Bool[Tensor, "prompt to at"]:
        """Where queries at one position see the circuit's own key or value at another, rather than
        the corrupted one."""
        if self.places is None or self.between is None:
            change = self.corrupted.change
            n_prompts, n_pos, _ = change.shape
            everywhere = torch.ones((), dtype=torch.bool, device=change.device)
            return everywhere.expand(n_prompts, n_pos, n_pos)
        return self.between[:, :, column][self.places[:, :, None], self.places[:, None]]

    def write(self, source: int, change: Float[Tensor, "prompt pos d_model"]) -> None:
        """Keeps what a node writes now, if an edge of the circuit reads it."""
        if (place := self.place[source]) >= 0:
            self.moved[place] = change

    def last_stream(self) -> Float[Tensor, "prompt d_model"]:
        """What `logits` reads, at END."""
        end = self.corrupted.end
        at_end = self.moved[:, torch.arange(len(end), device=end.device), end]
        weights = self.weights[..., -1]
        if self.places is None:
            weights = weights.expand(len(end), -1)
        else:
            weights = weights[self.places[torch.arange(len(end), device=end.device), end]]
        change = einsum(weights, at_end, "prompt source, source prompt d_model -> prompt d_model")
        return self.corrupted.last.to(change.dtype) + change


# ------------------------------------------------------------------ attention


@dataclass(frozen=True, eq=False)
class _Inputs:
    """The inputs of a layer's heads that the circuits hold, in a row; arrays are [input]."""

    columns: list[np.ndarray]  # of each circuit: destinations
    circuit: np.ndarray
    kind: np.ndarray  # which of HEAD_INPUTS
    head: np.ndarray

    @classmethod
    def of_layer(cls, graph: Graph, index: int, masks: Sequence[np.ndarray]) -> _Inputs:
        first, mlp = graph.destination(index, 0), graph.destination(index)
        columns = [first + np.flatnonzero(mask[:, first:mlp].any(0)) for mask in masks]
        circuit = np.repeat(np.arange(len(masks)), [len(part) for part in columns])
        kind, head = np.divmod(np.concatenate(columns) - first, graph.n_heads)
        return cls(columns, circuit, kind, head)

    def rows(self) -> list[tuple[int, int]]:
        """(circuit, head) of each head that is recomputed."""
        return sorted(set(zip(self.circuit.tolist(), self.head.tolist(), strict=True)))


def _recompute_heads(
    network: Network,
    layer: Layer,
    index: int,
    circuits: Sequence[_Circuit],
    corrupted: CorruptedRun,
    cos_sin: CosSin | None,
) -> None:
    """Attention of a layer's heads, each (circuit, head) a row of one batch."""
    graph = circuits[0].graph
    inputs = _Inputs.of_layer(graph, index, [circuit.mask for circuit in circuits])
    rows = inputs.rows()
    if not rows:
        return
    heads = torch.as_tensor([head for _, head in rows], device=corrupted.change.device)
    now = _queries_keys_values(layer, inputs, rows, heads, circuits, corrupted, index, cos_sin)
    prefix = None
    if corrupted.start:
        keys, values = corrupted.prefix[index]
        prefix = _rows_as_prompts(keys, heads), _rows_as_prompts(values, heads)
    q, k, v = (
        rearrange(now[kind], "row prompt pos d_head -> (row prompt) 1 pos 1 d_head")
        for kind in HEAD_INPUTS
    )
    hidden = None
    if any(circuit.between is not None for circuit in circuits):
        k, v, hidden = _seen_or_corrupted(k, v, circuits, rows, heads, corrupted, index)
    z = rearrange(
        attend(q, k, v, network.scale, prefix, hidden),
        "(row prompt) 1 pos 1 d_head -> row prompt pos d_head",
        row=len(rows),
    )
    if layer.norm_out is not None:
        _write_behind_norm(layer, index, circuits, rows, z, corrupted)
        return
    dtype = corrupted.change.dtype
    before = rearrange(corrupted.layers[index].z, HEADS_FIRST)[heads]
    written = einsum(
        z.to(dtype) - before.to(dtype),
        layer.w_out[heads].to(dtype),
        "row prompt pos d_head, row d_head d_model -> row prompt pos d_model",
    )
    for (circuit, head), change in zip(rows, written, strict=True):
        circuits[circuit].write(graph.source(index, head), change)


def _write_behind_norm(
    layer: Layer,
    index: int,
    circuits: Sequence[_Circuit],
    rows: Sequence[tuple[int, int]],
    z: Float[Tensor, "row prompt pos d_head"],
    corrupted: CorruptedRun,
) -> None:
    """What heads write that share a norm: where one changes, all in use write something else.

    Where absent edges carry something else than the heads give, a head that no edge of the circuit
    reaches goes on writing that.
    """
    graph, dtype = circuits[0].graph, corrupted.change.dtype
    before, instead = corrupted.layers[index].z.to(dtype), corrupted.layers[index].instead
    written = layer.scaled(before) if instead is None else instead.to(dtype)
    weights = layer.w_written.to(dtype)
    for place in sorted({place for place, _ in rows}):
        now = before.clone()
        for (circuit, head), value in zip(rows, z, strict=True):
            if circuit == place:
                now[:, :, head] = value.to(dtype)
        changes = layer.scaled(now) - written
        reached = [head for circuit, head in rows if circuit == place]
        for head in range(graph.n_heads) if instead is None else reached:
            circuits[place].write(graph.source(index, head), changes[:, :, head] @ weights[head])


def _queries_keys_values(
    layer: Layer,
    inputs: _Inputs,
    rows: Sequence[tuple[int, int]],
    heads: Tensor,
    circuits: Sequence[_Circuit],
    corrupted: CorruptedRun,
    index: int,
    cos_sin: CosSin | None,
) -> dict[str, Float[Tensor, "row prompt pos d_head"]]:
    """The corrupted ones, with those in their place that the circuits' edges change."""
    before = corrupted.layers[index]
    now = {kind: rearrange(before.inputs[kind], HEADS_FIRST)[heads] for kind in HEAD_INPUTS}
    row_of = {row: j for j, row in enumerate(rows)}
    read = [
        circuit.read(columns, before.x)
        for circuit, columns in zip(circuits, inputs.columns, strict=True)
        if len(columns)
    ]
    normed = layer.norm_attention(torch.cat(read))  # [input, prompt, pos, d_model]
    for i, kind in enumerate(HEAD_INPUTS):
        of_kind = (inputs.kind == i).nonzero()[0]
        if not len(of_kind):
            continue
        circuit, head = inputs.circuit[of_kind], inputs.head[of_kind]
        value = layer.project_each(
            kind,
            normed[torch.as_tensor(of_kind, device=normed.device)],
            torch.as_tensor(head, device=normed.device),
        )
        value = layer.attended(kind, value[:, :, :, None], cos_sin)[:, :, :, 0]
        places = zip(circuit.tolist(), head.tolist(), strict=True)
        now[kind][[row_of[place] for place in places]] = value
    return now


def _seen_or_corrupted(
    k: Float[Tensor, "row_prompt 1 pos 1 d_head"],
    v: Float[Tensor, "row_prompt 1 pos 1 d_head"],
    circuits: Sequence[_Circuit],
    rows: Sequence[tuple[int, int]],
    heads: Tensor,
    corrupted: CorruptedRun,
    index: int,
) -> tuple[Tensor, Tensor, Bool[Tensor, "row_prompt 1 1 query key"]]:
    """Keys and values four times, each with the circuit's own or the corrupted ones, and which of
    these a query does not see: all but one of each position's four, and those of later ones."""
    graph, before = circuits[0].graph, corrupted.layers[index].inputs
    seen = {
        kind: torch.cat(
            [circuits[c].seen(graph.destination(index, head, kind)) for c, head in rows]
        )
        for kind in "kv"
    }
    own = {"k": k, "v": v}
    kept = {kind: _rows_as_prompts(before[kind], heads)[:, None] for kind in "kv"}
    keys, values, shown = [], [], []
    for of_key, of_value in product((True, False), repeat=2):
        keys.append(own["k"] if of_key else kept["k"])
        values.append(own["v"] if of_value else kept["v"])
        shown.append(((seen["k"] == of_key) & (seen["v"] == of_value)).tril())
    return torch.cat(keys, 2), torch.cat(values, 2), ~torch.cat(shown, -1)[:, None, None]


def _rows_as_prompts(
    part: Float[Tensor, "prompt pos head d_head"], heads: Tensor
) -> Float[Tensor, "row_prompt pos 1 d_head"]:
    """Keys or values of the prefix, for every row."""
    return rearrange(
        rearrange(part, HEADS_FIRST)[heads], "row prompt pos d_head -> (row prompt) pos 1 d_head"
    )


# ------------------------------------------------------------------ MLPs


def _recompute_mlps(
    layer: Layer, index: int, circuits: Sequence[_Circuit], corrupted: CorruptedRun
) -> None:
    """The layer's MLP in every circuit that reads it."""
    graph, before = circuits[0].graph, corrupted.layers[index]
    column = graph.destination(index)
    reading = [circuit for circuit in circuits if circuit.mask[:, column].any()]
    if not reading:
        return
    streams = [circuit.read(np.array([column]), before.x_mlp) for circuit in reading]
    written = layer.mlp(layer.norm_mlp(torch.cat(streams)))
    dtype = corrupted.change.dtype
    for circuit, now in zip(reading, written, strict=True):
        circuit.write(graph.source(index), now.to(dtype) - before.mlp.to(dtype))
