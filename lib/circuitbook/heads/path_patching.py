"""Patching of heads: path patching, ablation, and swaps between checkpoints.

Path patching asks what a sender does *through* chosen receivers (Wang et al. 2023, section 3.1; as
in the code of Tigges et al. 2024, section 4.2). Three passes over the clean prompts:

    1  clean, and the corrupted prompts for what the sender writes there
    2  the sender writes what it wrote on the corrupted prompts, all other heads what they wrote on
       the clean ones; MLPs are recomputed, since they belong to direct paths. What the receivers
       read now is kept
    3  clean again, but the receivers read what was kept; everything after them is recomputed

In pass 2 no attention is computed, since heads are held. Senders are rows of a batch, and nothing
is computed before the first token that differs, or before the first position at which a receiver
may change. Heads are pairs (layer, head), or
names as in the graph: a3.h1, receivers a3.h1<q>, m3, logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from circuitbook.circuits.batches import (
    at_end,
    check_pairs,
    chunks_of,
    default_memory,
    pairs_metric,
    window,
)
from circuitbook.heads.names import Head, head_name
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import HEAD_INPUTS, Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.model.network import Edit, Network, attention_pattern, keys_and_values, run
from circuitbook.tasks.base import PromptPairs


@dataclass(frozen=True, eq=False)
class PathPatched:
    """What a sweep over senders gave."""

    senders: tuple[str, ...]
    metric: Tensor  # float32 [sender, n]: the task's metric of each prompt, patched
    attention: Tensor | None  # float32 [sender, watched, place, n]: attention from END, patched


@torch.no_grad()
def path_patch(
    model: Model,
    pairs: PromptPairs,
    senders: Sequence[str | Head],
    receivers: Sequence[str],
    *,
    sender_at: str | None = None,
    receiver_at: str | None = None,
    watch: Sequence[Head] = (),
    places: Sequence[str] = (),
    memory: int | None = None,
) -> PathPatched:
    """The metric when each sender (a head or an MLP), alone, reaches the receivers with its
    corrupted output.

    senders: heads or MLPs, each patched by itself: "a1.h2", (1, 2), "m0".
    receivers: what reads it: inputs of heads "a3.h1<q>" (or <k>, <v>), of MLPs "m3"; or "logits"
    alone, which is the direct effect.
    sender_at, receiver_at: a position of the task, such as "END" or "S2"; None: all positions.
    watch, places: also return how much these heads attend from END to these positions in pass 3.

    Harm is positive in ``clean - patched``; the authors' number is ``(patched - clean) / (clean -
    corrupted)`` of the means. A sender behind its receivers changes nothing. `memory` as in
    `attribute`. Errors: ValueError for unknown names.
    """
    check_pairs(model, pairs)
    network, graph = network_of(model), graph_of(model)
    sources = [_source(graph, sender) for sender in senders]
    targets = [_receiver(graph, name) for name in receivers]
    if not sources or not targets:
        raise ValueError(
            f"path patching needs a sender and a receiver, and there are {len(sources)} and {len(targets)}"
        )
    final = ("final", graph.n_layers, 0) in targets
    if final and (len(targets) > 1 or watch):
        raise ValueError(
            "'logits' must be the only receiver, and no head can be watched behind it: nothing comes after it"
        )
    for name in (sender_at, receiver_at, *places):
        if name is not None and name not in pairs.positions:
            raise ValueError(
                f"{pairs.task} has no position {name!r}; there are {', '.join(pairs.positions)}"
            )

    dtype = sums_dtype(model.dtype)
    metric = torch.zeros(len(sources), len(pairs), dtype=dtype)
    attention = (
        torch.zeros(len(sources), len(watch), len(places), len(pairs), dtype=dtype)
        if watch
        else None
    )
    s, size = model.shape, torch.finfo(model.dtype).bits // 8
    row = lambda positions, length: size * (
        positions * (14 * s.d_model + s.d_mlp + 3 * s.n_heads * length) + 3 * s.d_vocab
    )
    prompt = lambda positions: size * positions * s.d_model * 16 * s.n_layers
    begin = "END" if final else receiver_at or sender_at
    for rows, some, position in _groups(
        pairs, begin, len(sources), row, prompt, memory or default_memory(model.device)
    ):
        part = pairs.subset(rows)
        chunk = _Chunk.of(network, part, model.device, position)
        last, read = _second_pass(network, chunk, sources[some], targets, chunk.where(sender_at))
        where = torch.arange(len(sources))[some]
        if final:
            metric[where[:, None], rows] = (
                pairs_metric(part, network.logits(at_end(last, chunk.end))).t().cpu().to(dtype)
            )
            continue
        edit = _replace(read, chunk.where(receiver_at))
        first = min([layer for _, layer, _ in targets] + [layer for layer, _ in watch])
        x = chunk.x[first][:, None].expand(-1, len(where), -1, -1)
        for layer, one in enumerate(run(network, x, chunk.start, chunk.prefix, edit, first), first):
            watched = [i for i, (at, _) in enumerate(watch) if at == layer]
            if watched:
                pattern = attention_pattern(
                    one.q, one.k, network.scale, chunk.prefix[layer] if chunk.start else None
                )
                for i in watched:
                    for j, place in enumerate(places):
                        found = _looked_at(pattern[:, :, watch[i][1]], chunk, part.positions[place])
                        attention[where[:, None], i, j, rows] = found.t().cpu().to(dtype)
        metric[where[:, None], rows] = (
            pairs_metric(part, network.logits(at_end(one.out, chunk.end))).t().cpu().to(dtype)
        )
    if not bool(metric.isfinite().all()):
        raise FloatingPointError(
            f"{model.checkpoint.model} at step {model.checkpoint.step} gives NaN or infinity on "
            f"{pairs.task} when it is patched, in {model.dtype}; use float32"
        )
    return PathPatched(tuple(graph.source_names[i] for i in sources), metric, attention)


def baselines(model: Model, pairs: PromptPairs) -> tuple[Tensor, Tensor]:
    """The full model's metric on the clean and on the corrupted prompts, each [n]."""
    return tuple(
        pairs.metric(model.logits(tokens, pairs.end)).cpu()
        for tokens in (pairs.clean, pairs.corrupted)
    )


def _groups(pairs: PromptPairs, begin: str | None, *budget) -> Iterator[tuple[Tensor, slice, int]]:
    """(prompts, senders, the first position that may change): prompts that share this position go
    together."""
    at = torch.zeros(len(pairs), dtype=torch.long) if begin is None else pairs.positions[begin]
    for position in at.unique().tolist():
        group = (at == position).nonzero()[:, 0]
        for rows, some in chunks_of(pairs.subset(group), *budget):
            yield group[rows], some, position


def _source(graph: Graph, sender: str | Head) -> int:
    name = sender if isinstance(sender, str) else head_name(sender)
    if name not in graph.source_names[1:]:
        raise ValueError(
            f"sender {name!r} is no head or MLP of a model with {graph.n_layers} layers of {graph.n_heads} "
            "heads; they are written like 'a1.h2' and 'm1'"
        )
    return graph.source_names.index(name)


def _receiver(graph: Graph, name: str) -> tuple[str, int, int]:
    """(kind, layer, head)."""
    if name not in graph.destination_names:
        raise ValueError(
            f"receiver {name!r} reads nothing in a model with {graph.n_layers} layers of {graph.n_heads} heads; "
            "they are written like 'a3.h1<q>', 'm3' and 'logits'"
        )
    if name == "logits":
        return "final", graph.n_layers, 0
    layer, slot = divmod(graph.destination_names.index(name), 3 * graph.n_heads + 1)
    kind, head = divmod(slot, graph.n_heads)
    return (HEAD_INPUTS[kind], layer, head) if kind < 3 else ("mlp", layer, 0)


# ------------------------------------------------------------------ the passes


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Pass 1 of some prompts, from the first position that differs or may change; lists are per
    layer."""

    pairs: PromptPairs
    start: int
    end: Tensor  # END, counted from start
    prefix: list[tuple[Tensor, Tensor]]
    x: list[Tensor]  # [b, s, d] clean streams
    attention: list[Tensor]  # [b, s, d] what the clean heads and their bias write
    z: list[Tensor]  # [b, s, h, e] corrupted minus clean
    mlp: list[Tensor]  # [b, s, d] corrupted

    @classmethod
    def of(
        cls, network: Network, pairs: PromptPairs, device: torch.device, position: int
    ) -> _Chunk:
        first, stop = window(pairs)
        before = keys_and_values(network, pairs.clean[:, :first].to(device))
        cut = max(0, position - first)
        x = network.embed(
            torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, first:stop].to(device), first
        )
        clean, attention, z, mlp, prefix = [], [], [], [], []
        for layer, one in enumerate(run(network, x, first, before)):
            clean.append(one.x[:, 0, cut:].contiguous())
            attention.append((one.out - one.x - one.mlp_out)[:, 0, cut:].contiguous())
            z.append((one.z[:, 1] - one.z[:, 0])[:, cut:])
            mlp.append(one.mlp_out[:, 1, cut:].contiguous())
            here = (one.k[:, 0, :cut], one.inputs["v"][:, 0, :cut])
            prefix.append(
                here
                if not before
                else tuple(torch.cat(both, 1) for both in zip(before[layer], here))
            )
        start = first + cut
        return cls(pairs, start, (pairs.end - start).to(device), prefix, clean, attention, z, mlp)

    def where(self, name: str | None) -> Tensor | None:
        """bool [b, s]: that position of each prompt; None: all."""
        if name is None:
            return None
        at = (self.pairs.positions[name] - self.start).to(self.end.device)
        return torch.arange(self.x[0].shape[1], device=self.end.device) == at[:, None]


def _second_pass(
    network: Network,
    chunk: _Chunk,
    sources: Sequence[int],
    targets: Sequence[tuple[str, int, int]],
    where: Tensor | None,
) -> tuple[Tensor, dict[tuple[str, int], dict[int, Tensor]]]:
    """The last stream computed, [b, sender, s, d], and what the receivers read: {(kind, layer):
    {head: [b, sender, s, ...]}}."""
    n_heads = network.layers[0].w_out.shape[0]
    senders = [divmod(source - 1, n_heads + 1) for source in sources]
    first = min(layer for layer, _ in senders)
    stop = max(layer for _, layer, _ in targets)
    mask = 1.0 if where is None else where[..., None].to(chunk.x[0].dtype)
    x = chunk.x[min(first, stop, len(chunk.x) - 1)][:, None].expand(-1, len(senders), -1, -1)
    read: dict[tuple[str, int], dict[int, Tensor]] = {}

    def keep(kind: str, layer: int, stream: Tensor) -> None:
        """What the receivers of this kind read from the stream."""
        weights = network.layers[layer]
        for head in [head for of, at, head in targets if (of, at) == (kind, layer)]:
            read.setdefault((kind, layer), {})[head] = (
                weights.norm_mlp(stream)
                if kind == "mlp"
                else F.linear(
                    weights.norm_attention(stream),
                    weights.w_in[kind][head],
                    weights.b_in[kind][head],
                )
            )

    for layer, weights in enumerate(network.layers[first:], first):
        for kind in HEAD_INPUTS:
            keep(kind, layer, x)
        between = x + chunk.attention[layer][:, None]
        for k, (at, head) in enumerate(senders):
            if at == layer and head < n_heads:
                between[:, k] += mask * (chunk.z[layer][:, :, head] @ weights.w_out[head])
        x_mlp = x if network.parallel else between
        keep("mlp", layer, x_mlp)
        if layer == stop:
            break
        mlp = weights.mlp(weights.norm_mlp(x_mlp))
        for k, (at, head) in enumerate(senders):
            if at == layer and head == n_heads:
                mlp[:, k] = torch.where(
                    torch.as_tensor(mask, device=mlp.device).bool(), chunk.mlp[layer], mlp[:, k]
                )
        x = between + mlp
    if not read:  # every receiver lies before the senders: nothing changes
        for kind, at, _ in targets:
            if kind != "final":
                clean = (
                    chunk.x[at]
                    if kind != "mlp" or network.parallel
                    else chunk.x[at] + chunk.attention[at]
                )
                keep(kind, at, clean[:, None].expand(-1, len(senders), -1, -1))
    return x, read


def _replace(read: Mapping[tuple[str, int], Mapping[int, Tensor]], where: Tensor | None) -> Edit:
    def edit(kind: str, layer: int, now: Tensor) -> Tensor:
        if (kind, layer) not in read:
            return now
        now = now.clone()
        for head, value in read[kind, layer].items():
            place = now if kind == "mlp" else now[..., head, :]
            place.copy_(
                value if where is None else torch.where(where[:, None, :, None], value, place)
            )
        return now

    return edit


def _looked_at(pattern: Tensor, chunk: _Chunk, position: Tensor) -> Tensor:
    """Attention of one head, pattern [b, k, s, t], from END to a position (counted from the
    prompt's start): [b, k]."""
    b = torch.arange(len(pattern), device=pattern.device)
    return pattern[b, :, chunk.end, position.to(pattern.device)]
