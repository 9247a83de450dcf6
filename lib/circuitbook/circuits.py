"""Circuits: some edges of the graph, and how well the model does with only these (Tigges et al. 2024, section 2).

To evaluate a circuit, every edge outside it carries what its source does on the corrupted prompt. A node outside the
circuit then has corrupted inputs only, so its output is the corrupted one, which is known. So we start from the corrupted
run and recompute the circuit's own nodes, in order:

    x_v = x_v(corrupted) + sum over the circuit's edges u -> v of (a_u now - a_u(corrupted))

Nothing is computed before the first token that differs, or behind END. That is exact: it equals running the model with
every absent edge patched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .attribution import at_end, check_pairs, chunks_of, default_memory, pairs_metric, window
from .graph import KINDS, Graph, graph_of
from .model import Model
from .network import Network, attend, keys_and_values, network_of, rotate, run, sums_dtype
from .store import write_atomically
from .tasks.base import PromptPairs

TOGETHER = 16                                          # circuits evaluated in one batch, where memory allows


@dataclass(frozen=True, eq=False, repr=False)
class Circuit:
    """Some edges of a graph, and what is known about them.

    `mask` bool [src, dst]. `reason` says why there is no circuit (then there are no edges, and `faithfulness` is None).
    A search adds the rest: `faithfulness`, in the form that was asked for, with the interval (`low`, `high`) over
    prompts; `clean` and `corrupted`, the full model's mean metric on either prompt; and `curve`, one row per size that was
    looked at (see `search.find_circuit`).
    """

    graph: Graph
    mask: np.ndarray
    scores: np.ndarray | None = None                   # [src, dst] that it was chosen by
    faithfulness: float | None = None
    low: float | None = None
    high: float | None = None
    clean: float | None = None
    corrupted: float | None = None
    curve: pd.DataFrame | None = None
    reason: str = ""
    about: dict = field(default_factory=dict)          # model, step, task, settings: whatever belongs to it

    @property
    def found(self) -> bool:
        return not self.reason

    @property
    def n_edges(self) -> int:
        return int(self.mask.sum())

    @property
    def n_nodes(self) -> int:
        """Nodes with an edge in the circuit; `input` and `logits` count, as in the authors' tables."""
        return int(self.graph.nodes_of(self.mask).sum())

    @cached_property
    def edges(self) -> tuple[str, ...]:
        """Names of the edges."""
        return tuple(self.graph.edge_name(src, dst) for src, dst in np.argwhere(self.mask))

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, `input` and `logits` among them."""
        return tuple(np.array(self.graph.node_names)[self.graph.nodes_of(self.mask)].tolist())

    def __repr__(self) -> str:
        if not self.found:
            return f"no circuit: {self.reason}"
        how = "" if self.faithfulness is None else f", faithfulness {self.faithfulness:.3f}"
        return f"Circuit({self.n_edges} of {self.graph.n_edges} edges, {self.n_nodes} nodes{how})"

    # ---------------------------------------------------------------- files

    def save(self, path: str | Path) -> Path:
        """Writes the circuit as the JSON that hannamw/EAP-IG and MIB read, with what else is known beside it."""
        nodes = dict(zip(self.graph.node_names, self.graph.nodes_of(self.mask).tolist()))
        scores = np.zeros(self.mask.shape) if self.scores is None else np.asarray(self.scores, dtype=float)
        edges = {self.graph.edge_name(src, dst): {"score": float(scores[src, dst]), "in_graph": bool(self.mask[src, dst])}
                 for src, dst in self.graph.edges}
        more = {name: getattr(self, name) for name in ("faithfulness", "low", "high", "clean", "corrupted", "reason", "about")}
        more |= {"scored": self.scores is not None, "curve": None if self.curve is None else self.curve.to_dict("list")}
        config = {"n_layers": self.graph.n_layers, "n_heads": self.graph.n_heads, "d_model": self.about.get("d_model", 0),
                  "parallel_attn_mlp": self.graph.parallel}
        record = {"cfg": config, "nodes": {name: {"in_graph": there} for name, there in nodes.items()}, "edges": edges,
                  "circuitbook": more}
        write_atomically(Path(path), json.dumps(record).encode())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Circuit:
        """Reads what `save` wrote, or a circuit of EAP-IG or MIB. ValueError if the file is neither."""
        try:
            record = json.loads(Path(path).read_text(encoding="utf8"))
            config, listed, more = record["cfg"], record["edges"], record.get("circuitbook", {})
            graph = Graph(config["n_layers"], config["n_heads"], bool(config["parallel_attn_mlp"]))
            mask, scores = np.zeros(graph.mask.shape, bool), np.zeros(graph.mask.shape)
            for name, edge in listed.items():
                at = graph.edge(name)
                mask[at], scores[at] = edge["in_graph"], edge["score"]
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path} is not a circuit as circuitbook, EAP-IG or MIB write it: {error}") from error
        curve = more.pop("curve", None)
        scored = more.pop("scored", True)
        return cls(graph, mask, scores if scored else None, curve=None if curve is None else pd.DataFrame(curve), **more)


def circuit_of(graph: Graph, edges: Sequence[str]) -> Circuit:
    """A circuit from the names of its edges, dead ones included."""
    mask = np.zeros(graph.mask.shape, bool)
    for name in edges:
        mask[graph.edge(name)] = True
    return Circuit(graph, mask)


# ------------------------------------------------------------------ evaluation

def evaluate_circuit(model: Model, pairs: PromptPairs, circuit: Circuit, memory: int | None = None) -> Tensor:
    """The task's metric of each prompt with only the circuit's edges left clean, float32 [n] (float64 of float64).

    With all edges this is the clean metric, with none the corrupted one. `memory` as in `attribute`. For many circuits
    on the same prompts `evaluate_masks` is faster.
    """
    if circuit.graph != graph_of(model):
        raise ValueError(f"the circuit is of {circuit.graph}, but {model.checkpoint.model} is {graph_of(model)}")
    return evaluate_masks(model, pairs, [circuit.mask], memory=memory)[0]


def evaluate_masks(model: Model, pairs: PromptPairs, masks: Sequence[np.ndarray], memory: int | None = None,
                   runs: CorruptedRuns | None = None) -> Tensor:
    """The same for several circuits, bool [src, dst] each: float32 [circuit, n]. `runs`: what was computed before."""
    runs = runs or CorruptedRuns(model, pairs, memory)
    out = torch.zeros(len(masks), len(pairs), dtype=sums_dtype(model.dtype))
    for one in runs:
        for batch in np.array_split(np.arange(len(masks)), -(-len(masks) // runs.together(one, masks))):
            out[batch[:, None], one.rows] = _evaluate(runs.network, runs.graph, one, [masks[i] for i in batch]).to(out)
    if not bool(out.isfinite().all()):
        bad = int((~out.isfinite()).any(0).nonzero()[0])
        raise FloatingPointError(f"{model.checkpoint.model} at step {model.checkpoint.step} gives NaN or infinity on prompt "
                                 f"{bad} of {pairs.task} ({pairs.table['clean'].iloc[bad]!r}) when it is patched, in "
                                 f"{model.dtype}; use float32")
    return out


@dataclass(frozen=True, eq=False)
class CorruptedRun:
    """All that evaluation needs of some prompts' corrupted run, from the first position that differs."""

    rows: Tensor                                       # which prompts
    pairs: PromptPairs
    start: int
    end: Tensor                                        # END, counted from start
    change: Tensor                                     # [b, s, d] clean minus corrupted embeddings
    x: list[Tensor]                                    # per layer [b, s, d]: the stream its heads read
    x_mlp: list[Tensor]                                # per layer [b, s, d]: the stream its MLP reads
    inputs: list[dict[str, Tensor]]                    # per layer: q and k after rotary, v; [b, s, h, e]
    z: list[Tensor]                                    # per layer [b, s, h, e]
    mlp: list[Tensor]                                  # per layer [b, s, d]
    last: Tensor                                       # [b, d] the last stream, at END
    prefix: list[tuple[Tensor, Tensor]]
    metric: Tensor                                     # [2, b]: clean, corrupted


class CorruptedRuns:
    """The corrupted runs of all prompts, in chunks; kept for the next use if together they fit into `memory`."""

    def __init__(self, model: Model, pairs: PromptPairs, memory: int | None = None):
        check_pairs(model, pairs)
        self.network, self.graph, self.device = network_of(model), graph_of(model), model.device
        self.pairs, self.memory = pairs, memory or default_memory(model.device)
        s, size = model.shape, torch.finfo(model.dtype).bits // 8
        self._sum_size, self._d_model = torch.finfo(sums_dtype(model.dtype)).bits // 8, s.d_model
        kept = lambda positions, length: size * s.n_layers * s.d_model * ((8 if s.parallel else 9) * positions + 2 * (length - positions))
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
def _corrupted_run(network: Network, pairs: PromptPairs, rows: Tensor, device: torch.device) -> CorruptedRun:
    start, stop = window(pairs)
    dtype = sums_dtype(network.w_embed.dtype)
    end = (pairs.end - start).to(device)
    prefix = keys_and_values(network, pairs.clean[:, :start].to(device))
    clean, corrupted = (network.embed(t[:, start:stop].to(device), start) for t in (pairs.clean, pairs.corrupted))
    runs, first = [], torch.stack([clean, corrupted], 1)
    for one in run(network, first, start, prefix):
        first = one.out
        x = one.x[:, 1].contiguous()
        runs.append([x, x if network.parallel else one.x_mlp[:, 1].contiguous(), {"q": one.q[:, 1].contiguous(), "k": one.k[:, 1].contiguous(),
                     "v": one.inputs["v"][:, 1].contiguous()}, one.z[:, 1].contiguous(), one.mlp_out[:, 1].contiguous()])
    last = at_end(first, end)                                                                    # [b, 2, d]
    metric = pairs_metric(pairs, network.logits(last)).t()
    x, x_mlp, inputs, z, mlp = map(list, zip(*runs))
    return CorruptedRun(rows, pairs, start, end, clean.to(dtype) - corrupted.to(dtype), x, x_mlp, inputs, z, mlp,
                        last[:, 1].contiguous(), prefix, metric)


@torch.no_grad()
def _evaluate(network: Network, graph: Graph, one: CorruptedRun, masks: Sequence[np.ndarray]) -> Tensor:
    """Metric [circuit, b] of circuits that share a batch."""
    b, s, d = one.change.shape
    dtype, device = one.change.dtype, one.change.device
    rows = [mask.any(1).nonzero()[0] for mask in masks]                    # sources in use
    place = [np.full(graph.n_src, -1) for _ in masks]                      # source -> its place in `moved`
    moved = [torch.zeros(len(r), b, s, d, dtype=dtype, device=device) for r in rows]             # a now - a corrupted
    weights = [torch.as_tensor(mask[r], dtype=dtype, device=device) for mask, r in zip(masks, rows)]
    for c, r in enumerate(rows):
        place[c][r] = np.arange(len(r))
        if len(r) and r[0] == 0:
            moved[c][0] = one.change
    turning = network.turning(one.last, one.start, s)

    def read(c: int, columns: np.ndarray, x: Tensor) -> Tensor:
        """What these inputs read in circuit c, [column, b, s, d]; they all read the same sources; x on the corrupted prompt."""
        known = int(np.searchsorted(rows[c], graph.reach[columns[0]]))
        change = weights[c][:known, columns].t() @ moved[c][:known].flatten(1)
        return (x.to(dtype).flatten()[None] + change).to(x.dtype).view(-1, b, s, d)

    for i, layer in enumerate(network.layers):
        first, mlp = graph.destination(i, 0), graph.destination(i)
        columns = [first + mask[:, first:mlp].any(0).nonzero()[0] for mask in masks]     # of the heads, in each circuit
        if any(len(some) for some in columns):
            circuit = np.repeat(np.arange(len(masks)), [len(some) for some in columns])
            kind, head = np.divmod(np.concatenate(columns) - first, graph.n_heads)
            heads = sorted(set(zip(circuit.tolist(), head.tolist())))
            where = {pair: j for j, pair in enumerate(heads)}
            of = torch.as_tensor([h for _, h in heads], device=device)
            now = {name: one.inputs[i][name].permute(2, 0, 1, 3)[of] for name in KINDS}          # [r, b, s, e]
            normed = layer.norm_attention(torch.cat([read(c, some, one.x[i]) for c, some in enumerate(columns) if len(some)]))
            for k, name in enumerate(KINDS):
                these = (kind == k).nonzero()[0]
                if len(these):
                    h = torch.as_tensor(head[these], device=device)
                    value = torch.einsum("rbsd,red->rbse", normed[torch.as_tensor(these, device=device)], layer.w_in[name][h])
                    value = value + layer.b_in[name][h][:, None, None]
                    value = value if name == "v" else rotate(value[:, :, :, None], turning)[:, :, :, 0]
                    now[name][[where[pair] for pair in zip(circuit[these].tolist(), head[these].tolist())]] = value
            before = None
            if one.start:                                                  # prompts and heads as one batch dimension
                before = tuple(part.permute(2, 0, 1, 3)[of].flatten(0, 1)[:, :, None] for part in one.prefix[i])
            q, k, v = (now[name].flatten(0, 1)[:, None, :, None] for name in KINDS)              # [rb, 1, s, 1, e]
            z = attend(q, k, v, network.scale, before)[:, 0, :, 0].unflatten(0, (len(heads), b))
            change = z.to(dtype) - one.z[i].permute(2, 0, 1, 3)[of].to(dtype)
            wrote = torch.einsum("rbse,red->rbsd", change, layer.w_out[of].to(dtype))
            for j, (c, h) in enumerate(heads):
                if (at := place[c][graph.source(i, h)]) >= 0:
                    moved[c][at] = wrote[j]
        with_mlp = [c for c, mask in enumerate(masks) if mask[:, mlp].any()]
        if with_mlp:
            wrote = layer.mlp(layer.norm_mlp(torch.cat([read(c, np.array([mlp]), one.x_mlp[i]) for c in with_mlp])))
            for j, c in enumerate(with_mlp):
                if (at := place[c][graph.source(i)]) >= 0:
                    moved[c][at] = wrote[j].to(dtype) - one.mlp[i].to(dtype)

    here = torch.arange(b, device=device)
    last = torch.stack([one.last.to(dtype) + torch.einsum("u,ubd->bd", weights[c][:, -1], moved[c][:, here, one.end])
                        for c in range(len(masks))], 1)                                          # [b, circuit, d]
    return pairs_metric(one.pairs, network.logits(last.to(one.last.dtype))).t()


def patch_each(model: Model, pairs: PromptPairs, what: str = "edges", memory: int | None = None) -> np.ndarray:
    """What patching one thing alone does to the loss: mean over prompts of metric(clean) - metric(patched).

    "edges": every edge by itself carries its source's corrupted output: float64 [src, dst], 0 off the graph. This is what
    the scores of `attribute` estimate. "nodes": all edges out of a node at once, float64 [src] (activation patching).
    Costs one evaluation of the whole graph for each edge or node; sign as in `attribute`: positive helps.
    """
    if what not in ("edges", "nodes"):
        raise ValueError(f"cannot patch each of {what!r}; there are: edges, nodes")
    runs = CorruptedRuns(model, pairs, memory)
    graph, clean = runs.graph, runs.baselines()[0].double().mean()
    places = [tuple(edge) for edge in graph.edges] if what == "edges" else [(src, slice(None)) for src in range(graph.n_src)]
    effect = np.zeros(graph.mask.shape if what == "edges" else graph.n_src)
    for start in range(0, len(places), TOGETHER):
        some = places[start:start + TOGETHER]
        masks = [graph.mask.copy() for _ in some]
        for mask, place in zip(masks, some):
            mask[place] = False
        metric = evaluate_masks(model, pairs, masks, runs=runs).double().mean(1)
        for place, value in zip(some, metric):
            effect[place if what == "edges" else place[0]] = float(clean - value)
    return effect
