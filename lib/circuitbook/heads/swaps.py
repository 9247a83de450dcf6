"""Heads of one checkpoint put into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from circuitbook.circuits.batches import at_end, pairs_metric
from circuitbook.heads.names import Head
from circuitbook.model.graph import HEAD_INPUTS
from circuitbook.model.network import Edit, Network, run
from circuitbook.tasks.base import PromptPairs

# ------------------------------------------------------------------ swaps


def swap_heads(target: Network, source: Network, heads: Sequence[Head]) -> Network:
    """`target` with the q, k and v rows (with their biases) and the output columns of these heads
    from `source`.

    Norms and the output bias, which heads share, stay the target's. (The stored code of Tigges et
    al. slices the fused matrix by input columns instead, and leaves the output: it does not swap
    the heads it names.) ValueError if the two networks differ in shape.
    """
    layers = list(target.layers)
    for layer, head in heads:
        if not (
            layer < len(layers) == len(source.layers)
            and layers[layer].w_out.shape == source.layers[layer].w_out.shape
            and head < layers[layer].w_out.shape[0]
        ):
            raise ValueError(
                f"head {layer}.{head} cannot be swapped: the two networks differ in shape, or have no such head"
            )
        into, of = layers[layer], source.layers[layer]
        put = lambda ours, theirs: ours.index_copy(
            0, torch.tensor([head], device=ours.device), theirs[head : head + 1].to(ours)
        )
        layers[layer] = replace(
            into,
            w_in={kind: put(into.w_in[kind], of.w_in[kind]) for kind in HEAD_INPUTS},
            b_in={kind: put(into.b_in[kind], of.b_in[kind]) for kind in HEAD_INPUTS},
            w_out=put(into.w_out, of.w_out),
        )
    return replace(target, layers=tuple(layers))


@torch.no_grad()
def metric_of(network: Network, pairs: PromptPairs, edit: Edit | None = None) -> Tensor:
    """The task's metric of each clean prompt, [n], of a network that may be a patchwork."""
    device = network.w_embed.device
    for one in run(
        network,
        network.embed(pairs.clean[:, None, : int(pairs.end.max()) + 1].to(device)),
        edit=edit,
    ):
        pass
    return pairs_metric(pairs, network.logits(at_end(one.out, pairs.end.to(device))))[:, 0].cpu()
