"""Circuits: some edges of the graph, and how well the model does with only these (Tigges et al.
2024, section 2).

To evaluate a circuit, every edge outside it carries what its source does on the corrupted prompt. A
node outside the circuit then has corrupted inputs only, so its output is the corrupted one, which
is known. So we start from the corrupted run and recompute the circuit's own nodes, in order:

    x_v = x_v(corrupted) + sum over the circuit's edges u -> v of (a_u now - a_u(corrupted))

Nothing is computed before the first token that differs, or behind END. That is exact: it equals
running the model with every absent edge patched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from circuitbook.circuits.batches import (
    at_end,
    check_pairs,
    chunks_of,
    default_memory,
    pairs_metric,
    window,
)
from circuitbook.circuits.circuit import Circuit
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import HEAD_INPUTS, Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.model.network import Network, attend, keys_and_values, rotate, run
from circuitbook.tasks.base import PromptPairs

TOGETHER = 16  # circuits evaluated in one batch, where memory allows


# ------------------------------------------------------------------ evaluation


def evaluate_circuit(
    model: Model, pairs: PromptPairs, circuit: Circuit, memory: int | None = None
) -> Tensor:
    """The task's metric of each prompt with only the circuit's edges left clean, float32 [n]
    (float64 of float64).

    With all edges this is the clean metric, with none the corrupted one. `memory` as in
    `attribute`. For many circuits on the same prompts `evaluate_masks` is faster.
    """
    if circuit.graph != graph_of(model):
        raise ValueError(
            f"the circuit is of {circuit.graph}, but {model.checkpoint.model} is {graph_of(model)}"
        )
    return evaluate_masks(model, pairs, [circuit.mask], memory=memory)[0]


def evaluate_masks(
    model: Model,
    pairs: PromptPairs,
    masks: Sequence[np.ndarray],
    memory: int | None = None,
    runs: CorruptedRuns | None = None,
) -> Tensor:
    """The same for several circuits, bool [src, dst] each: float32 [circuit, n]. `runs`: what was
    computed before."""
    runs = runs or CorruptedRuns(model, pairs, memory)
    out = torch.zeros(len(masks), len(pairs), dtype=sums_dtype(model.dtype))
    for one in runs:
        for batch in np.array_split(
            np.arange(len(masks)), -(-len(masks) // runs.together(one, masks))
        ):
            out[batch[:, None], one.rows] = _evaluate(
                runs.network, runs.graph, one, [masks[i] for i in batch]
            ).to(out)
    if not bool(out.isfinite().all()):
        bad = int((~out.isfinite()).any(0).nonzero()[0])
        raise FloatingPointError(
            f"{model.checkpoint.model} at step {model.checkpoint.step} gives NaN or infinity on prompt "
            f"{bad} of {pairs.task} ({pairs.table['clean'].iloc[bad]!r}) when it is patched, in "
            f"{model.dtype}; use float32"
        )
    return out


@dataclass(frozen=True, eq=False)
class CorruptedRun:
    """All that evaluation needs of some prompts' corrupted run, from the first position that
    differs."""

    rows: Tensor  # which prompts
    pairs: PromptPairs
    start: int
    end: Tensor  # END, counted from start
    change: Tensor  # [b, s, d] clean minus corrupted embeddings
    x: list[Tensor]  # per layer [b, s, d]: the stream its heads read
    x_mlp: list[Tensor]  # per layer [b, s, d]: the stream its MLP reads
    inputs: list[dict[str, Tensor]]  # per layer: q and k after rotary, v; [b, s, h, e]
    z: list[Tensor]  # per layer [b, s, h, e]
    mlp: list[Tensor]  # per layer [b, s, d]
    last: Tensor  # [b, d] the last stream, at END
    prefix: list[tuple[Tensor, Tensor]]
    metric: Tensor  # [2, b]: clean, corrupted


class CorruptedRuns:
    """The corrupted runs of all prompts, in chunks; kept for the next use if together they fit into
    `memory`."""

    def __init__(self, model: Model, pairs: PromptPairs, memory: int | None = None):
        check_pairs(model, pairs)
        self.network, self.graph, self.device = network_of(model), graph_of(model), model.device
        self.pairs, self.memory = pairs, memory or default_memory(model.device)
        s, size = model.shape, torch.finfo(model.dtype).bits // 8
        self._sum_size, self._d_model = torch.finfo(sums_dtype(model.dtype)).bits // 8, s.d_model
        kept = (
            lambda positions, length: size
            * s.n_layers
            * s.d_model
            * ((8 if s.parallel else 9) * positions + 2 * (length - positions))
        )
        each = lambda positions: 2 * self._sum_size * positions * s.d_model * self.graph.n_src
        self._chunks = [rows for rows, _ in chunks_of(pairs, 1, kept, each, self.memory)]
        start, stop = window(pairs)
        fits = len(pairs) * kept(stop - start, stop) <= self.memory
        self._kept: list[CorruptedRun] | None = [] if fits or len(self._chunks) == 1 else None

    def __iter__(self) -> Iterator[CorruptedRun]:
        for i, rows in enumerate(self._chunks):
            if self._kept is not None and i < len(self._kept):
                yield self._kept[i]
                continue
            one = _corrupted_run(self.network, self.pairs.subset(rows), rows, self.device)
            if self._kept is not None:
                self._kept.append(one)
            yield one

    def together(self, one: CorruptedRun, masks: Sequence[np.ndarray]) -> int:
        """How many of these circuits fit into memory at a time."""
        b, s, d = one.change.shape
        largest = 2 * self._sum_size * b * s * d * max(int(mask.any(1).sum()) + 2 for mask in masks)
        return int(np.clip(self.memory // max(1, largest), 1, TOGETHER))

    def baselines(self) -> tuple[Tensor, Tensor]:
        """The full model's metric on the clean and on the corrupted prompts, each [n]."""
        out = None
        for one in self:
            out = one.metric.new_zeros(2, len(self.pairs), device="cpu") if out is None else out
            out[:, one.rows] = one.metric.cpu()
        return out[0], out[1]


@torch.no_grad()
def _corrupted_run(
    network: Network, pairs: PromptPairs, rows: Tensor, device: torch.device
) -> CorruptedRun:
    start, stop = window(pairs)
    dtype = sums_dtype(network.w_embed.dtype)
    end = (pairs.end - start).to(device)
    prefix = keys_and_values(network, pairs.clean[:, :start].to(device))
    clean, corrupted = (
        network.embed(t[:, start:stop].to(device), start) for t in (pairs.clean, pairs.corrupted)
    )
    runs, first = [], torch.stack([clean, corrupted], 1)
    for one in run(network, first, start, prefix):
        first = one.out
        x = one.x[:, 1].contiguous()
        runs.append(
            [
                x,
                x if network.parallel else one.x_mlp[:, 1].contiguous(),
                {
                    "q": one.q[:, 1].contiguous(),
                    "k": one.k[:, 1].contiguous(),
                    "v": one.inputs["v"][:, 1].contiguous(),
                },
                one.z[:, 1].contiguous(),
                one.mlp_out[:, 1].contiguous(),
            ]
        )
    last = at_end(first, end)  # [b, 2, d]
    metric = pairs_metric(pairs, network.logits(last)).t()
    x, x_mlp, inputs, z, mlp = map(list, zip(*runs))
    return CorruptedRun(
        rows,
        pairs,
        start,
        end,
        clean.to(dtype) - corrupted.to(dtype),
        x,
        x_mlp,
        inputs,
        z,
        mlp,
        last[:, 1].contiguous(),
        prefix,
        metric,
    )


@torch.no_grad()
def _evaluate(
    network: Network, graph: Graph, one: CorruptedRun, masks: Sequence[np.ndarray]
) -> Tensor:
    """Metric [circuit, b] of circuits that share a batch."""
    b, s, d = one.change.shape
    dtype, device = one.change.dtype, one.change.device
    rows = [mask.any(1).nonzero()[0] for mask in masks]  # sources in use
    place = [np.full(graph.n_src, -1) for _ in masks]  # source -> its place in `moved`
    moved = [
        torch.zeros(len(r), b, s, d, dtype=dtype, device=device) for r in rows
    ]  # a now - a corrupted
    weights = [torch.as_tensor(mask[r], dtype=dtype, device=device) for mask, r in zip(masks, rows)]
    for c, r in enumerate(rows):
        place[c][r] = np.arange(len(r))
        if len(r) and r[0] == 0:
            moved[c][0] = one.change
    cos_sin = network.rotary_cos_sin(one.last, one.start, s)

    def read(c: int, columns: np.ndarray, x: Tensor) -> Tensor:
        """What these inputs read in circuit c, [column, b, s, d]; they all read the same sources; x
        on the corrupted prompt."""
        known = int(np.searchsorted(rows[c], graph.reach[columns[0]]))
        change = weights[c][:known, columns].t() @ moved[c][:known].flatten(1)
        return (x.to(dtype).flatten()[None] + change).to(x.dtype).view(-1, b, s, d)

    for i, layer in enumerate(network.layers):
        first, mlp = graph.destination(i, 0), graph.destination(i)
        columns = [
            first + mask[:, first:mlp].any(0).nonzero()[0] for mask in masks
        ]  # of the heads, in each circuit
        if any(len(some) for some in columns):
            circuit = np.repeat(np.arange(len(masks)), [len(some) for some in columns])
            kind, head = np.divmod(np.concatenate(columns) - first, graph.n_heads)
            heads = sorted(set(zip(circuit.tolist(), head.tolist())))
            where = {pair: j for j, pair in enumerate(heads)}
            of = torch.as_tensor([h for _, h in heads], device=device)
            now = {
                name: one.inputs[i][name].permute(2, 0, 1, 3)[of] for name in HEAD_INPUTS
            }  # [r, b, s, e]
            normed = layer.norm_attention(
                torch.cat([read(c, some, one.x[i]) for c, some in enumerate(columns) if len(some)])
            )
            for k, name in enumerate(HEAD_INPUTS):
                these = (kind == k).nonzero()[0]
                if len(these):
                    h = torch.as_tensor(head[these], device=device)
                    value = torch.einsum(
                        "rbsd,red->rbse",
                        normed[torch.as_tensor(these, device=device)],
                        layer.w_in[name][h],
                    )
                    value = value + layer.b_in[name][h][:, None, None]
                    value = (
                        value if name == "v" else rotate(value[:, :, :, None], cos_sin)[:, :, :, 0]
                    )
                    now[name][
                        [where[pair] for pair in zip(circuit[these].tolist(), head[these].tolist())]
                    ] = value
            before = None
            if one.start:  # prompts and heads as one batch dimension
                before = tuple(
                    part.permute(2, 0, 1, 3)[of].flatten(0, 1)[:, :, None] for part in one.prefix[i]
                )
            q, k, v = (
                now[name].flatten(0, 1)[:, None, :, None] for name in HEAD_INPUTS
            )  # [rb, 1, s, 1, e]
            z = attend(q, k, v, network.scale, before)[:, 0, :, 0].unflatten(0, (len(heads), b))
            change = z.to(dtype) - one.z[i].permute(2, 0, 1, 3)[of].to(dtype)
            wrote = torch.einsum("rbse,red->rbsd", change, layer.w_out[of].to(dtype))
            for j, (c, h) in enumerate(heads):
                if (at := place[c][graph.source(i, h)]) >= 0:
                    moved[c][at] = wrote[j]
        with_mlp = [c for c, mask in enumerate(masks) if mask[:, mlp].any()]
        if with_mlp:
            wrote = layer.mlp(
                layer.norm_mlp(
                    torch.cat([read(c, np.array([mlp]), one.x_mlp[i]) for c in with_mlp])
                )
            )
            for j, c in enumerate(with_mlp):
                if (at := place[c][graph.source(i)]) >= 0:
                    moved[c][at] = wrote[j].to(dtype) - one.mlp[i].to(dtype)

    here = torch.arange(b, device=device)
    last = torch.stack(
        [
            one.last.to(dtype)
            + torch.einsum("u,ubd->bd", weights[c][:, -1], moved[c][:, here, one.end])
            for c in range(len(masks))
        ],
        1,
    )  # [b, circuit, d]
    return pairs_metric(one.pairs, network.logits(last.to(one.last.dtype))).t()


def patch_each(
    model: Model, pairs: PromptPairs, what: str = "edges", memory: int | None = None
) -> np.ndarray:
    """What patching one thing alone does to the loss: mean over prompts of metric(clean) -
    metric(patched).

    "edges": every edge by itself carries its source's corrupted output: float64 [src, dst], 0 off
    the graph. This is what the scores of `attribute` estimate. "nodes": all edges out of a node at
    once, float64 [src] (activation patching). Costs one evaluation of the whole graph for each edge
    or node; sign as in `attribute`: positive helps.
    """
    if what not in ("edges", "nodes"):
        raise ValueError(f"cannot patch each of {what!r}; there are: edges, nodes")
    runs = CorruptedRuns(model, pairs, memory)
    graph, clean = runs.graph, runs.baselines()[0].double().mean()
    places = (
        [tuple(edge) for edge in graph.edges]
        if what == "edges"
        else [(src, slice(None)) for src in range(graph.n_src)]
    )
    effect = np.zeros(graph.mask.shape if what == "edges" else graph.n_src)
    for start in range(0, len(places), TOGETHER):
        some = places[start : start + TOGETHER]
        masks = [graph.mask.copy() for _ in some]
        for mask, place in zip(masks, some):
            mask[place] = False
        metric = evaluate_masks(model, pairs, masks, runs=runs).double().mean(1)
        for place, value in zip(some, metric):
            effect[place if what == "edges" else place[0]] = float(clean - value)
    return effect
