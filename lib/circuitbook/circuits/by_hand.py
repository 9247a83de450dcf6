"""Every edge written out: the slow, literal way to what `circuits.recompute` does in one batch.

One prompt at a time, every position, every input of every node as the sum of what its edges carry.
It is what the fast ways are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.model.graph import HEAD_INPUTS, Graph
from circuitbook.model.network import Network, attend
from circuitbook.tasks.base import PromptPairs

# (source, destination, what the source writes now) -> what the edge carries
Carry = Callable[[int, int, Tensor], Tensor]


def run_by_hand(
    network: Network, graph: Graph, tokens: Int[Tensor, " pos"], carry: Carry
) -> tuple[dict[int, Float[Tensor, "pos d_model"]], Float[Tensor, "pos vocab"]]:
    """What every source writes, by its row in the graph, and the logits.

    Biases of attention's output belong to no node: every later input reads them.
    """
    written: dict[int, Tensor] = {0: network.embed(tokens[None])[0]}
    bias = torch.zeros_like(written[0])
    cos_sin = network.rotary_cos_sin(bias, 0, len(tokens))

    def read(dst: int) -> Tensor:
        sources = range(int(graph.reach[dst]))
        return sum((carry(src, dst, written[src]) for src in sources), start=bias)

    for i, layer in enumerate(network.layers):
        z = []
        for head in range(graph.n_heads):
            at = {}
            for kind in HEAD_INPUTS:
                stream = layer.norm_attention(read(graph.destination(i, head, kind)))
                value = layer.project(kind, stream)[None, None]
                at[kind] = layer.attended(kind, value, cos_sin)[..., [head], :]
            z.append(attend(at["q"], at["k"], at["v"], network.scale)[0, 0, :, 0])
        own = torch.einsum("phe,hed->hpd", layer.scaled(torch.stack(z, 1)), layer.w_written)
        heads = {graph.source(i, head): own[head] for head in range(graph.n_heads)}
        if not graph.parallel:  # the MLP reads the heads of its layer
            written |= heads
            bias = bias + layer.b_out
        mlp = layer.mlp(layer.norm_mlp(read(graph.destination(i))))
        if graph.parallel:
            written |= heads
            bias = bias + layer.b_out
        written[graph.source(i)] = mlp
    return written, network.logits(read(graph.n_dst - 1))


@torch.no_grad()
def circuits_by_hand(
    network: Network, graph: Graph, pairs: PromptPairs, masks: Sequence[np.ndarray]
) -> Float[Tensor, "circuit n"]:
    """The metric of each prompt where edges outside a circuit, bool [src, dst], carry their
    source's corrupted output: what `evaluate_masks` is to give."""
    metric = torch.zeros(len(masks), len(pairs), dtype=network.w_embed.dtype)
    for i, end in enumerate(pairs.end.tolist()):
        tokens = pairs.clean[i, : end + 1], pairs.corrupted[i, : end + 1]
        corrupted, _ = run_by_hand(network, graph, tokens[1], lambda src, dst, now: now)
        for circuit, mask in enumerate(masks):

            def carry(
                src: int, dst: int, now: Tensor, mask: np.ndarray = mask, other: dict = corrupted
            ) -> Tensor:
                return now if mask[src, dst] else other[src]

            _, logits = run_by_hand(network, graph, tokens[0], carry)
            metric[circuit, i] = pairs.subset([i]).metric(logits[None, end])[0]
    return metric
