"""Heads of one checkpoint put into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.batches import at_end, metric_of_stream
from circuitbook.heads.names import Head
from circuitbook.model.graph import HEAD_INPUTS
from circuitbook.model.layers import Layer
from circuitbook.model.network import Edit, Network, last_stream
from circuitbook.tasks.base import PromptPairs


def swap_heads(target: Network, source: Network, heads: Sequence[Head]) -> Network:
    """`target` with the q, k and v rows, biases and output columns of these heads from `source`.

    Norms and the output bias, which heads share, stay the target's. Heads that share a key have
    each its own then, and a norm over all keys counts each of them. (The stored code of Tigges et
    al. slices the fused matrix by input columns instead, and leaves the output: it does not swap
    the heads it names.) ValueError if the two networks differ in shape.
    """
    layers = list(target.layers)
    for layer, head in heads:
        if not _both_have(target, source, layer, head):
            raise ValueError(
                f"head {layer}.{head} cannot be swapped: the two networks differ in shape, or have "
                "no such head"
            )
        layers[layer] = _with_head_of(layers[layer], source.layers[layer], head)
    return replace(target, layers=tuple(layers))


def _both_have(target: Network, source: Network, layer: int, head: int) -> bool:
    if not layer < len(target.layers) == len(source.layers):
        return False
    shape = target.layers[layer].w_out.shape
    return shape == source.layers[layer].w_out.shape and head < shape[0]


def _with_head_of(target: Layer, source: Layer, head: int) -> Layer:
    """A layer with one head of another."""

    def put(ours: Tensor, theirs: Tensor) -> Tensor:
        index = torch.tensor([head], device=ours.device)
        return ours.index_copy(0, index, theirs[head : head + 1].to(ours))

    norm_in = {
        kind: replace(norm, weight=norm.weight.repeat_interleave(target.once(kind), 0))
        for kind, norm in target.norm_in.items()
    }
    return replace(
        target,
        norm_in=norm_in,
        w_in={kind: put(target.w_in[kind], source.w_in[kind]) for kind in HEAD_INPUTS},
        b_in={kind: put(target.b_in[kind], source.b_in[kind]) for kind in HEAD_INPUTS},
        w_out=put(target.w_out, source.w_out),
        shared=1,
    )


@torch.no_grad()
def metric_of(
    network: Network, pairs: PromptPairs, edit: Edit | None = None
) -> Float[Tensor, " n"]:
    """The task's metric of each clean prompt, of a network that may be a patchwork."""
    device = network.w_embed.device
    tokens = pairs.clean[:, None, : int(pairs.end.max()) + 1].to(device)
    last = at_end(last_stream(network, network.embed(tokens), edit), pairs.end.to(device))
    return metric_of_stream(network, pairs, last)[:, 0].cpu()
