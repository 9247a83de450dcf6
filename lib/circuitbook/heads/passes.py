"""The three passes of path patching: see `heads.path_patching`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitbook.circuits.batches import window
from circuitbook.heads.names import Head
from circuitbook.model.graph import HEAD_INPUTS
from circuitbook.model.network import Edit, Layer, Network, attention_pattern, keys_and_values, run
from circuitbook.tasks.base import PromptPairs


class Receiver(NamedTuple):
    """What reads: an input of a head, of an MLP, or the logits."""

    kind: str  # "q", "k", "v", "mlp" or "final"
    layer: int  # of "final", the number of layers
    head: int  # 0 where there is none


# {(kind, layer): {head: what it reads}}; of a head's input [prompt, sender, pos, d_head], of an
# MLP's [prompt, sender, pos, d_model], under head 0
Read = Mapping[tuple[str, int], Mapping[int, Tensor]]

# Keys and values of the positions before the first that is computed, by layer
Prefix = list[tuple[Tensor, Tensor]]


# ------------------------------------------------------------------ the first pass


@dataclass(frozen=True, eq=False, kw_only=True)
class FirstPass:
    """The clean and the corrupted run of some prompts; lists are by layer.

    They begin at the first position that differs, or, if that is later, that may change.
    """

    pairs: PromptPairs
    start: int
    end: Int[Tensor, " prompt"]
    """END, counted from `start`."""
    prefix: Prefix
    x: list[Float[Tensor, "prompt pos d_model"]]
    """Clean streams."""
    attention: list[Float[Tensor, "prompt pos d_model"]]
    """What the clean heads and their bias write."""
    z: list[Float[Tensor, "prompt pos head d_head"]]
    """Corrupted minus clean."""
    mlp: list[Float[Tensor, "prompt pos d_model"]]
    """What the corrupted MLPs write."""

    def at(self, name: str | None) -> Bool[Tensor, "prompt pos"] | None:
        """Where that position of each prompt is; None for all positions."""
        if name is None:
            return None
        place = (self.pairs.positions[name] - self.start).to(self.end.device)
        n_pos = self.x[0].shape[1]
        return torch.arange(n_pos, device=self.end.device) == place[:, None]


def first_pass(
    network: Network, pairs: PromptPairs, device: torch.device, position: int
) -> FirstPass:
    """Runs clean and corrupted prompts; `position`: the first that a receiver may change."""
    first, stop = window(pairs)
    before = keys_and_values(network, pairs.clean[:, :first].to(device))
    cut = max(0, position - first)
    both = torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, first:stop].to(device)
    x, attention, z, mlp = [], [], [], []
    prefix: Prefix = []
    for layer, done in enumerate(run(network, network.embed(both, first), first, before)):
        x.append(done.x[:, 0, cut:].contiguous())
        attention.append((done.out - done.x - done.mlp_out)[:, 0, cut:].contiguous())
        z.append((done.z[:, 1] - done.z[:, 0])[:, cut:])
        mlp.append(done.mlp_out[:, 1, cut:].contiguous())
        keys, values = done.k[:, 0, :cut], done.inputs["v"][:, 0, :cut]
        if before:
            keys = torch.cat([before[layer][0], keys], 1)
            values = torch.cat([before[layer][1], values], 1)
        prefix.append((keys, values))
    start = first + cut
    return FirstPass(
        pairs=pairs,
        start=start,
        end=(pairs.end - start).to(device),
        prefix=prefix,
        x=x,
        attention=attention,
        z=z,
        mlp=mlp,
    )


# ------------------------------------------------------------------ the second pass


def second_pass(
    network: Network,
    clean: FirstPass,
    sources: Sequence[int],
    receivers: Sequence[Receiver],
    at: Bool[Tensor, "prompt pos"] | None,
) -> tuple[Float[Tensor, "prompt sender pos d_model"], Read]:
    """The last stream that was computed, and what the receivers read.

    sources: rows of the graph, each patched by itself, at these positions.
    """
    n_heads = network.layers[0].w_out.shape[0]
    senders = [divmod(source - 1, n_heads + 1) for source in sources]
    first = min(layer for layer, _ in senders)
    stop = max(receiver.layer for receiver in receivers)
    stream = clean.x[min(first, stop, len(clean.x) - 1)]
    x = _for_each_sender(stream, len(senders))
    read: dict[tuple[str, int], dict[int, Tensor]] = {}

    def keep(kind: str, layer: int, stream: Tensor) -> None:
        for receiver in receivers:
            if (receiver.kind, receiver.layer) == (kind, layer):
                value = _what_it_reads(network.layers[layer], receiver, stream)
                read.setdefault((kind, layer), {})[receiver.head] = value

    for i, layer in enumerate(network.layers[first:], first):
        for kind in HEAD_INPUTS:
            keep(kind, i, x)
        between = x + clean.attention[i][:, None]
        _send_heads(between, clean.z[i], layer, _of_layer(senders, i, n_heads), at)
        x_mlp = x if network.parallel else between
        keep("mlp", i, x_mlp)
        if i == stop:
            break
        mlp = layer.mlp(layer.norm_mlp(x_mlp))
        for place, (layer_sent, head) in enumerate(senders):
            if layer_sent == i and head == n_heads:  # the MLP itself
                _put(mlp[:, place], clean.mlp[i], at)
        x = between + mlp
    if not read:  # every receiver lies before the senders: nothing changes
        for receiver in receivers:
            if receiver.kind != "final":
                stream = clean.x[receiver.layer]
                if receiver.kind == "mlp" and not network.parallel:
                    stream = stream + clean.attention[receiver.layer]
                keep(receiver.kind, receiver.layer, _for_each_sender(stream, len(senders)))
    return x, read


def _of_layer(senders: Sequence[Head], layer: int, n_heads: int) -> list[tuple[int, int]]:
    """(place among the senders, head) of the heads of a layer."""
    return [(k, head) for k, (at, head) in enumerate(senders) if at == layer and head < n_heads]


def _for_each_sender(
    stream: Float[Tensor, "prompt pos d_model"], n_senders: int
) -> Float[Tensor, "prompt sender pos d_model"]:
    return stream[:, None].expand(-1, n_senders, -1, -1)


def _what_it_reads(layer: Layer, receiver: Receiver, stream: Tensor) -> Tensor:
    if receiver.kind == "mlp":
        return layer.norm_mlp(stream)
    weight = layer.w_in[receiver.kind][receiver.head]
    return F.linear(layer.norm_attention(stream), weight, layer.b_in[receiver.kind][receiver.head])


def _send_heads(
    stream: Float[Tensor, "prompt sender pos d_model"],
    z: Float[Tensor, "prompt pos head d_head"],
    layer: Layer,
    senders: Sequence[tuple[int, int]],
    at: Bool[Tensor, "prompt pos"] | None,
) -> None:
    """Adds, in place, what each sender writes on the corrupted prompt rather than the clean one."""
    mask: Tensor | float = 1.0 if at is None else at[..., None].to(stream.dtype)
    for place, head in senders:
        stream[:, place] += mask * (z[:, :, head] @ layer.w_out[head])


def _put(
    now: Float[Tensor, "prompt pos d_model"],
    value: Float[Tensor, "prompt pos d_model"],
    at: Bool[Tensor, "prompt pos"] | None,
) -> None:
    """Overwrites `now` with the value, at these positions."""
    now.copy_(value if at is None else torch.where(at[..., None], value, now))


# ------------------------------------------------------------------ the third pass


def third_pass(
    network: Network,
    clean: FirstPass,
    read: Read,
    receivers: Sequence[Receiver],
    at: Bool[Tensor, "prompt pos"] | None,
    n_senders: int,
    watch: Sequence[Head],
    places: Sequence[str],
) -> tuple[
    Float[Tensor, "prompt sender pos d_model"],
    Float[Tensor, "watched place prompt sender"] | None,
]:
    """The last stream, and the attention of the watched heads from END to these positions."""
    first = min([receiver.layer for receiver in receivers] + [layer for layer, _ in watch])
    x = _for_each_sender(clean.x[first], n_senders)
    attention = None
    if watch:
        attention = x.new_zeros(len(watch), len(places), len(x), n_senders)
    layers = run(network, x, clean.start, clean.prefix, _replace(read, at), first)
    for layer, done in enumerate(layers, first):
        x = done.out
        watched = [i for i, (at_layer, _) in enumerate(watch) if at_layer == layer]
        if attention is None or not watched:
            continue
        prefix = clean.prefix[layer] if clean.start else None
        pattern = attention_pattern(done.q, done.k, network.scale, prefix)
        for i in watched:
            of_head = pattern[:, :, watch[i][1]]
            for j, place in enumerate(places):
                attention[i, j] = _from_end(of_head, clean, clean.pairs.positions[place])
    return x, attention


def _replace(read: Read, at: Bool[Tensor, "prompt pos"] | None) -> Edit:
    """The edit that has the receivers read what was kept, at these positions."""

    def edit(what: str, layer: int, now: Tensor) -> Tensor:
        if (what, layer) not in read:
            return now
        now = now.clone()
        for head, value in read[what, layer].items():
            place = now if what == "mlp" else now[..., head, :]
            if at is not None:
                value = torch.where(rearrange(at, "prompt pos -> prompt 1 pos 1"), value, place)
            place.copy_(value)
        return now

    return edit


def _from_end(
    pattern: Float[Tensor, "prompt sender query key"],
    clean: FirstPass,
    position: Int[Tensor, " prompt"],
) -> Float[Tensor, "prompt sender"]:
    """Attention of one head from END to a position, counted from the prompt's start."""
    prompts = torch.arange(len(pattern), device=pattern.device)
    return pattern[prompts, :, clean.end, position.to(pattern.device)]
