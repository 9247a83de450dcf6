"""The first two passes of path patching: see `heads.path_patching`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.batches import at_end, first_difference, metric_of_stream, window
from circuitbook.heads.names import Head
from circuitbook.model.layers import Layer
from circuitbook.model.network import Network, Prefix, attention_pattern, run
from circuitbook.tasks.base import PromptPairs

ROWS = 1024  # streams that go through an MLP at a time: their hidden layer stays in the cache


class Receiver(NamedTuple):
    """What reads: an input of a head, of an MLP, or the logits."""

    kind: str  # "q", "k", "v", "mlp" or "final"
    layer: int  # of "final", the number of layers
    head: int  # 0 where there is none


class Sender(NamedTuple):
    """A head, or the MLP of a layer, which comes after its heads: then head = n_heads."""

    layer: int
    head: int


class Places(NamedTuple):
    """Positions of prompts, in the order of the prompts."""

    prompt: Int[Tensor, " place"]
    """Which of the prompts at hand."""
    position: Int[Tensor, " place"]
    """Counted from the first position that is computed."""

    def of_prompts(self, begin: int, end: int) -> slice:
        """Where the places of prompts begin .. end - 1 are among all."""
        return slice(int((self.prompt < begin).sum()), int((self.prompt < end).sum()))


def patched_places(
    pairs: PromptPairs, sender_at: str | None, receiver_at: str | None
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """The first and the last position of each prompt where a sender acts and a receiver reads.

    In pass 2 heads are held and MLPs act at each position by itself, so that no other position
    changes. Nothing changes before the first position where clean and corrupted differ. The last
    lies before the first where a prompt has no such position.
    """
    first, last = first_difference(pairs), pairs.end
    for name in (sender_at, receiver_at):
        if name is not None:
            first = torch.maximum(first, pairs.positions[name])
            last = torch.minimum(last, pairs.positions[name])
    return first, last


# ------------------------------------------------------------------ the first pass


@dataclass(frozen=True, eq=False, kw_only=True)
class FirstPass:
    """The clean and the corrupted run of some prompts; lists are by layer.

    Of the streams and of what senders write, only what stands at the places is kept.
    """

    pairs: PromptPairs
    start: int
    """The first position that is computed."""
    end: Int[Tensor, " prompt"]
    """END, counted from `start`."""
    places: Places
    streams: list[Float[Tensor, "place d_model"]]
    """Clean, before each layer, and after the last."""
    attention: list[Float[Tensor, "place d_model"]]
    """What the clean heads and their bias write."""
    written: list[Float[Tensor, "place head d_head"]]
    """`Run.written`, corrupted minus clean."""
    mlp: list[Float[Tensor, "place d_model"]]
    """What the MLPs write, corrupted minus clean."""
    first_read: int
    """The layer at which the third pass begins; the number of layers for none."""
    x: Float[Tensor, "prompt pos d_model"] | None
    """The clean stream before that layer."""
    prefix: list[tuple[Tensor, Tensor] | None]
    """Clean keys and values of all positions up to the last that is computed, from that layer
    on."""
    metric: Float[Tensor, " prompt"]
    """Of the clean run."""
    from_end: Float[Tensor, "watched place prompt"]
    """Clean attention of the watched heads from END."""


def first_pass(
    network: Network,
    pairs: PromptPairs,
    before: Prefix,
    places: Places,
    first_read: int,
    watch: Sequence[Head] = (),
    watched_at: Sequence[str] = (),
) -> FirstPass:
    """Runs clean and corrupted prompts.

    before: keys and values of the positions before the first that differs in any; places are
    counted from that.
    """
    device = network.w_embed.device
    start, stop = window(pairs)
    both = torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, start:stop].to(device)
    end = (pairs.end - start).to(device)
    at = places.prompt, places.position
    x = network.embed(both, start)
    x_read = None
    prefix: list[tuple[Tensor, Tensor] | None] = []
    streams, attention, written, mlp = [], [], [], []
    from_end = x.new_zeros(len(watch), len(watched_at), len(pairs))
    for layer, done in enumerate(run(network, x, start, before)):
        streams.append(done.x[:, 0][at])
        out = done.out[:, 0][at]
        clean_mlp = done.mlp_out[:, 0][at]
        attention.append(out - streams[-1] - clean_mlp)
        clean_heads, corrupted_heads = done.written.unbind(1)
        written.append(corrupted_heads[at] - clean_heads[at])
        mlp.append(done.mlp_out[:, 1][at] - clean_mlp)
        if layer == first_read:
            x_read = done.x[:, 0].contiguous()
        if layer >= first_read:
            keys, values = done.k[:, 0], done.v[:, 0]
            if before:
                keys = torch.cat([before[layer][0], keys], 1)
                values = torch.cat([before[layer][1], values], 1)
            prefix.append((keys, values))
        else:
            prefix.append(None)
        watched = [i for i, (at_layer, _) in enumerate(watch) if at_layer == layer]
        if watched:
            shared = before[layer] if before else None
            pattern = attention_pattern(done.q[:, :1], done.k[:, :1], network.scale, shared)
            for i in watched:
                from_end[i] = attention_from(pattern[:, :, watch[i][1]], end, pairs, watched_at)[
                    ..., 0
                ]
    last = done.out[:, :1]
    streams.append(last[:, 0][at])
    return FirstPass(
        pairs=pairs,
        start=start,
        end=end,
        places=places,
        streams=streams,
        attention=attention,
        written=written,
        mlp=mlp,
        first_read=first_read,
        x=x_read,
        prefix=prefix,
        metric=metric_of_stream(network, pairs, at_end(last, end))[:, 0],
        from_end=from_end,
    )


def attention_from(
    pattern: Float[Tensor, "prompt sender query key"],
    query: Int[Tensor, " prompt"],
    pairs: PromptPairs,
    watched_at: Sequence[str],
) -> Float[Tensor, "place prompt sender"]:
    """Attention of one head to these positions, which are counted from the prompt's start."""
    prompts = torch.arange(len(pattern), device=pattern.device)
    keys = [pairs.positions[name].to(pattern.device) for name in watched_at]
    seen = [pattern[prompts, :, query, key] for key in keys]
    return torch.stack(seen) if seen else pattern.new_empty(0, *pattern.shape[:2])


# ------------------------------------------------------------------ the second pass

# {(kind, layer): {head: what it reads}}; of a head's input [sender, place, d_head], of an MLP's
# [sender, place, d_model], under head 0. The senders are the first so many: the others, which lie
# behind, change nothing there.
Read = dict[tuple[str, int], dict[int, Tensor]]


def reaching(
    network: Network, senders: Sequence[Sender], receivers: Sequence[Receiver]
) -> list[int]:
    """Which of the senders lie before a receiver, in the order in which the model runs."""
    n_heads = network.layers[0].w_out.shape[0]
    last = max(receiver.layer for receiver in receivers)
    mlp_too = any(receiver[:2] == ("mlp", last) for receiver in receivers) and not network.parallel
    before = Sender(last, n_heads if mlp_too else 0)
    return sorted(
        (i for i, sender in enumerate(senders) if sender < before), key=senders.__getitem__
    )


def second_pass(
    network: Network,
    clean: FirstPass,
    senders: Sequence[Sender],
    receivers: Sequence[Receiver],
    at: slice,
) -> tuple[Float[Tensor, "sender place d_model"], Read]:
    """The last streams that were computed, and what the receivers read, at some of the places.

    senders: each patched by itself, in the order in which the model runs. A sender joins the others
    where it first changes something.
    """
    stop = max(receiver.layer for receiver in receivers)
    read: Read = {}
    x = clean.streams[0].new_empty(
        len(senders), len(clean.streams[0][at]), network.w_embed.shape[1]
    )
    n_heads = network.layers[0].w_out.shape[0]
    joined = 0  # senders that have changed something by now

    def keep(kinds: str, layer: int) -> None:
        for receiver in receivers:
            if receiver.kind in kinds and receiver.layer == layer and joined:
                value = _what_it_reads(network.layers[layer], receiver, x[:joined])
                read.setdefault((receiver.kind, layer), {})[receiver.head] = value

    for i, layer in enumerate(network.layers[senders[0].layer :], senders[0].layer):
        heads = [sender.head for sender in senders if sender.layer == i and sender.head < n_heads]
        change = clean.written[i][at].transpose(0, 1)[heads]
        written = change @ layer.w_written[heads].to(change.dtype)
        stream, attention = clean.streams[i][at], clean.attention[i][at]
        keep("qkv", i)
        if not network.parallel:
            x[:joined] += attention
            joined += _join(x[joined:], written + (stream + attention))
        keep("mlp", i)
        if i == stop:
            break
        for rows in x[:joined].flatten(0, 1).split(ROWS):
            rows += layer.mlp(layer.norm_mlp(rows))
        after = clean.streams[i + 1][at]
        if network.parallel:
            x[:joined] += attention
            joined += _join(x[joined:], written + after)
        for _ in range(sum(sender == (i, n_heads) for sender in senders)):
            joined += _join(x[joined:], (after + clean.mlp[i][at])[None])
    return x, read


def _join(
    x: Float[Tensor, "sender place d_model"], streams: Float[Tensor, "joining place d_model"]
) -> int:
    """Puts streams into the first rows, and returns how many they are."""
    x[: len(streams)] = streams
    return len(streams)


def _what_it_reads(layer: Layer, receiver: Receiver, stream: Tensor) -> Tensor:
    if receiver.kind == "mlp":
        return layer.norm_mlp(stream)
    return layer.project_one(receiver.kind, layer.norm_attention(stream), receiver.head)
