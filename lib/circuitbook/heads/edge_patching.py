"""Every edge patched by itself, exactly, at the price of the layers behind it.

`circuits.evaluation.patch_each` evaluates the whole graph for each edge. But an edge changes what
one input reads and nothing before it, so that the clean run holds up to there, and all edges into
one input are versions of one batch from there on: what the third pass of path patching does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from circuitbook.circuits.batches import (
    check_pairs,
    chunks_of,
    default_memory,
    metric_of_stream,
    window,
)
from circuitbook.circuits.not_finite import refuse_not_finite
from circuitbook.circuits.prefixes import Prefixes
from circuitbook.heads.passes import FirstPass, Places, first_pass
from circuitbook.heads.third_pass import group_of, third_pass
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import HEAD_INPUTS, Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.model.network import Network
from circuitbook.tasks.base import PromptPairs


@torch.no_grad()
def patch_edges(
    model: Model, pairs: PromptPairs, *, memory: int | None = None
) -> Float64[np.ndarray, "src dst"]:
    """What patching one edge alone does to the loss: mean metric(clean) - metric(patched).

    The same numbers as `patch_each(model, pairs, "edges")`: the edge carries its source's corrupted
    output, all others what their source writes then; 0 off the graph, positive helps. `memory` as
    in `attribute`. FloatingPointError where the metric is not finite.
    """
    check_pairs(model, pairs)
    network, graph = network_of(model), graph_of(model)
    memory = memory or default_memory(model.device)
    prefixes = Prefixes(network, pairs, memory // 8)
    lost = np.zeros((len(pairs), *graph.mask.shape))
    for rows, _ in chunks_of(pairs, 1, _bytes_per_prompt(model), lambda positions: 0, memory):
        part = pairs.subset(rows)
        for layer in range(graph.n_layers + 1):
            for dst, metric, clean in _of_layer(network, graph, part, rows, prefixes, layer):
                after = clean[:, None] - metric.to(sums_dtype(model.dtype))
                lost[rows.numpy(), : metric.shape[1], dst] = after.double().cpu().numpy()
    refuse_not_finite(model, pairs, torch.as_tensor(lost[:, graph.mask].T), "when it is patched")
    return lost.mean(0)


def _of_layer(
    network: Network,
    graph: Graph,
    part: PromptPairs,
    rows: Tensor,
    prefixes: Prefixes,
    layer: int,
) -> Iterator[tuple[int, Float[Tensor, "prompt source"], Float[Tensor, " prompt"]]]:
    """For each input of a layer (behind the last: the logits): its column, the metric [prompt,
    source] with each of its edges patched, and the clean metric [prompt]."""
    start, stop = window(part)
    n, n_pos = len(part), stop - start
    prompts = torch.arange(n).repeat_interleave(n_pos)
    places = Places(prompts, torch.arange(n_pos).repeat(n))
    clean = first_pass(network, part, prefixes.before(rows, start), places, layer)
    changes = _changes(network, graph, part, clean)
    if layer == graph.n_layers:
        at_end = torch.arange(n, device=clean.end.device) * n_pos + clean.end
        streams = clean.streams[-1][at_end] + changes[:, at_end]
        last = streams.transpose(0, 1).to(network.w_embed.dtype)
        yield graph.n_dst - 1, metric_of_stream(network, part, last), clean.metric
        return
    group, block = group_of(clean, slice(0, n)), network.layers[layer]
    inputs = [(kind, head) for kind in HEAD_INPUTS for head in range(graph.n_heads)]
    for kind, head in [*inputs, ("mlp", None)]:
        dst = graph.destination(layer, head, kind)
        stream = clean.streams[layer]
        if kind == "mlp" and not network.parallel:
            stream = stream + clean.attention[layer]
        now = (stream + changes[: graph.reach[dst]]).to(network.w_embed.dtype)
        if kind == "mlp":
            value = block.norm_mlp(now)
        else:
            value = block.project_one(kind, block.norm_attention(now), head or 0)
        read = {(kind, layer): {head or 0: value}}
        last, _ = third_pass(network, clean, group, read, len(value), (), ())
        yield dst, metric_of_stream(network, part, last), clean.metric


def _changes(
    network: Network, graph: Graph, part: PromptPairs, clean: FirstPass
) -> Float[Tensor, "source place d_model"]:
    """Corrupted minus clean, of what every source writes."""
    start, stop = window(part)
    both = (part.corrupted, part.clean)
    corrupted, whole = (
        network.embed(tokens[:, start:stop].to(network.w_embed.device), start) for tokens in both
    )
    changes = [(corrupted - whole).flatten(0, 1)[None]]
    for block, heads, mlp in zip(network.layers, clean.written, clean.mlp, strict=True):
        changes += [heads.transpose(0, 1) @ block.w_written.to(heads.dtype), mlp[None]]
    return torch.cat(changes)


def _bytes_per_prompt(model: Model) -> Callable[[int, int], int]:
    """Of a prompt with all edges into one input at a time, as `chunks_of` asks for it."""
    shape, size = model.shape, model.dtype.itemsize
    n_src = 1 + shape.n_layers * (shape.n_heads + 1)

    def row_bytes(positions: int, length: int) -> int:
        hidden = (3 if shape.gated else 2) * shape.d_mlp
        streams = 13 * shape.d_model + hidden + 3 * shape.n_heads * length
        kept = 2 * shape.n_layers * length * shape.d_model
        return size * (n_src * positions * streams + kept)

    return row_bytes
