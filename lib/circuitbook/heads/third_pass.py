"""The third pass of path patching: clean again, but receivers read what the second pass kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.batches import at_end
from circuitbook.heads.names import Head
from circuitbook.heads.passes import FirstPass, Places, Read, attention_from
from circuitbook.model.graph import HEAD_INPUTS
from circuitbook.model.network import Edit, Network, attend, attention_pattern, run
from circuitbook.tasks.base import PromptPairs


@dataclass(frozen=True, eq=False, kw_only=True)
class Group:
    """Prompts that are done together, and what was read at their places."""

    pairs: PromptPairs
    rows: slice
    """Which prompts of the first pass these are."""
    start: int
    """The first position that may change, counted from the prompt's start."""
    stop: int
    """The one behind the last END."""
    end: Int[Tensor, " prompt"]
    """END, counted from `start`."""
    places: Places
    """Their prompts and positions, counted from these."""


def group_of(clean: FirstPass, rows: slice) -> Group:
    """The group of some prompts of the first pass, each of which has a place."""
    at = clean.places.of_prompts(rows.start, rows.stop)
    prompt, position = clean.places.prompt[at], clean.places.position[at]
    begin, end = int(position.min()), clean.end[rows]
    return Group(
        pairs=clean.pairs.subset(rows),
        rows=rows,
        start=clean.start + begin,
        stop=clean.start + int(end.max()) + 1,
        end=end - begin,
        places=Places(prompt - rows.start, position - begin),
    )


def third_pass(
    network: Network,
    clean: FirstPass,
    group: Group,
    read: Read,
    n_senders: int,
    watch: Sequence[Head],
    watched_at: Sequence[str],
) -> tuple[Float[Tensor, "prompt sender d_model"], Float[Tensor, "watched place prompt sender"]]:
    """The last stream at END, and the attention of the watched heads from END."""
    assert clean.x is not None  # kept, since there is a receiver
    first, n_layers = clean.first_read, len(network.layers)
    x = clean.x[group.rows, group.start - clean.start : group.stop - clean.start]
    prefix = _prefix_of(clean, group, first)
    from_end = clean.from_end[:, :, group.rows, None].repeat(1, 1, 1, n_senders)

    def look(layer: int, heads: Sequence[int], q: Tensor, k: Tensor) -> None:
        """Keeps what the watched of these heads attend to; q and k are in their order."""
        watched = [i for i, (at, head) in enumerate(watch) if at == layer and head in heads]
        if watched:
            pattern = attention_pattern(q, k, network.scale, _of_heads(prefix[layer], heads))
            for i in watched:
                of_head = pattern[:, :, heads.index(watch[i][1])]
                from_end[i] = attention_from(of_head, group.end, group.pairs, watched_at)

    x = _first_layer(network, first, x, group, prefix[first], read, n_senders, look)
    # Of the last layer END is enough, if nothing else is done there
    later = max([first, *(layer for _, layer in read), *(layer for layer, _ in watch)])
    whole = n_layers if later == n_layers - 1 else max(first + 1, n_layers - 1)
    edit = _replace(read, group.places)
    layers = run(network, x, group.start, prefix, edit, first + 1, whole)
    for layer, done in enumerate(layers, first + 1):
        x = done.out
        look(layer, range(done.q.shape[3]), done.q, done.k)
    if whole < n_layers:
        return _last_layer_at_end(network, x, group, prefix[-1]), from_end
    return at_end(x, group.end), from_end


Look = Callable[[int, Sequence[int], Tensor, Tensor], None]


def _first_layer(
    network: Network,
    index: int,
    x: Float[Tensor, "prompt pos d_model"],
    group: Group,
    prefix: KeysValues,
    read: Read,
    n_senders: int,
    look: Look,
) -> Float[Tensor, "prompt sender pos d_model"]:
    """The stream after the first layer with a receiver, which all senders find clean."""
    layer, x = network.layers[index], x[:, None]
    cos_sin = network.rotary_cos_sin(x, group.start, x.shape[2])
    normed = layer.norm_attention(x)
    clean = {kind: layer.project(kind, normed) for kind in HEAD_INPUTS}

    def attended(inputs: Mapping[str, Tensor], heads: Sequence[int]) -> Tensor:
        q, k, v = (layer.attended(kind, inputs[kind], cos_sin) for kind in HEAD_INPUTS)
        if q.shape[1] == n_senders:
            look(index, heads, q, k)
        return attend(q, k, v, network.scale, _of_heads(prefix, heads))

    z = attended(clean, range(len(layer.w_out)))
    between = x + layer.attention(z)
    heads = sorted({head for kind in HEAD_INPUTS for head in read.get((kind, index), {})})
    if heads:
        now = {kind: clean[kind][:, :, :, heads].repeat(1, n_senders, 1, 1, 1) for kind in clean}
        for kind in HEAD_INPUTS:
            for head, value in read.get((kind, index), {}).items():
                _put(now[kind][..., heads.index(head), :], value, group.places)
        if layer.norm_out is None:
            change = attended(now, heads) - z[:, :, :, heads]
            between = between + change.flatten(-2) @ layer.w_out[heads].flatten(0, 1)
        else:  # where one head changes, all write something else
            z = z.repeat(1, n_senders, 1, 1, 1)
            z[:, :, :, heads] = attended(now, heads)
            between = x + layer.attention(z)
    x_mlp = x if network.parallel else between
    mlp_in = layer.norm_mlp(x_mlp)
    if ("mlp", index) in read:
        mlp_in = mlp_in.expand(-1, n_senders, -1, -1).clone()
        _put(mlp_in, read["mlp", index][0], group.places)
    return (between + layer.mlp(mlp_in)).expand(-1, n_senders, -1, -1)


def _last_layer_at_end(
    network: Network,
    x: Float[Tensor, "prompt sender pos d_model"],
    group: Group,
    prefix: KeysValues,
) -> Float[Tensor, "prompt sender d_model"]:
    """The stream after the last layer, at END alone."""
    layer, n_pos = network.layers[-1], x.shape[2]
    normed = layer.norm_attention(x)
    cos_sin = network.rotary_cos_sin(x, group.start, n_pos)
    at_query = None
    if cos_sin is not None:
        at_query = {
            way: (cos[group.end][:, None, None], sin[group.end][:, None, None])
            for way, (cos, sin) in cos_sin.items()
        }
    q = layer.attended("q", layer.project("q", at_end(normed, group.end))[:, :, None], at_query)
    k, v = (layer.attended(kind, layer.project(kind, normed), cos_sin) for kind in "kv")
    later = torch.arange(n_pos, device=x.device) > group.end[:, None, None, None, None]
    z = attend(q, k, v, network.scale, _of_heads(prefix), later)
    x = at_end(x, group.end)
    between = x + layer.attention(z[:, :, 0])
    return between + layer.mlp(layer.norm_mlp(x if network.parallel else between))


# ------------------------------------------------------------------ keys, values and edits

KeysValues = tuple[Tensor, Tensor]  # of the positions before a group's; [prompt, pos, head, d_head]


def _prefix_of(clean: FirstPass, group: Group, first: int) -> list[KeysValues]:
    """By layer; nothing in the layers before the first that is run."""
    nothing = clean.streams[0].new_empty(0, 0), clean.streams[0].new_empty(0, 0)
    cut = group.rows, slice(group.start)
    return [
        (part[0][cut], part[1][cut]) if part and layer >= first else nothing
        for layer, part in enumerate(clean.prefix)
    ]


def _of_heads(prefix: KeysValues, heads: Sequence[int] | None = None) -> KeysValues | None:
    """The prefix of these heads, or of all; None where it has no position."""
    if prefix[0].shape[1] == 0:
        return None
    if heads is None or len(heads) == prefix[0].shape[2]:
        return prefix
    return prefix[0][:, :, heads], prefix[1][:, :, heads]


def _replace(read: Read, places: Places) -> Edit:
    """The edit that has the receivers read what was kept, at the places."""

    def edit(what: str, layer: int, now: Tensor) -> Tensor:
        if (what, layer) not in read:
            return now
        now = now.clone()
        for head, value in read[what, layer].items():
            _put(now if what == "mlp" else now[..., head, :], value, places)
        return now

    return edit


def _put(
    now: Float[Tensor, "prompt sender pos width"],
    value: Float[Tensor, "first_senders place width"],
    places: Places,
) -> None:
    """Overwrites what the first senders read at the places."""
    now[places.prompt, : len(value), places.position] = value.transpose(0, 1)
