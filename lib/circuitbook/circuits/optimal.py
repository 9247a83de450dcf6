"""Optimal ablation (Li and Janson 2024, arXiv 2409.09951): the constants that suit a circuit best.

Every source has one vector, the same on every prompt and at every position, which all its absent
edges carry; a head's lies in its own d_head dimensions, as what it writes does. The vectors are
those with the least mean KL(model || circuit), found by gradient descent from the means at END.
What a circuit then lacks is what no constant can stand in for.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitbook.circuits.ablations import Written, constant_written, streams_of
from circuitbook.circuits.batches import at_end, check_pairs
from circuitbook.circuits.divergence import divergence_pairs
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import HEAD_INPUTS, Graph, graph_of
from circuitbook.model.layers import Layer
from circuitbook.model.loaded import Model
from circuitbook.model.network import Network, attend
from circuitbook.tasks.base import PromptPairs

STEPS = 20  # of L-BFGS at most: with more, some constants fit their prompts and not others
LEAST_GAIN = 1e-4  # nats: a step that gains less is the last


def optimal_written(
    model: Model, pairs: PromptPairs, mask: Bool[np.ndarray, "src dst"], *, steps: int = STEPS
) -> Written:
    """The ablation "optimal" of one circuit, from these prompts (those it was found on).

    `for_prompts` puts them to other prompts. L-BFGS with a line search: deterministic, and the loss
    never rises; `steps` of them at most. Gradients are taken in the model's dtype, sums in that of
    sums. The activations of the circuit's nodes on all prompts are in memory at a time.
    """
    check_pairs(model, pairs)
    network, graph = network_of(model), graph_of(model)
    target, stop = divergence_pairs(model, pairs), int(pairs.end.max()) + 1
    end = pairs.end.to(model.device)
    clean = network.embed(pairs.clean[:, :stop].to(model.device)).detach()
    live = graph.live(mask)
    start = constant_written(model, pairs)
    tensors = [start.embed, *start.z, *start.mlp]
    # in units of its own size each, so that one step size fits all
    sizes = [tensor.square().mean().sqrt().clamp_min(1e-6) for tensor in tensors]
    free = [(tensor / size).requires_grad_() for tensor, size in zip(tensors, sizes, strict=True)]
    n_layers = len(network.layers)

    def written() -> Written:
        parts = [tensor * size for tensor, size in zip(free, sizes, strict=True)]
        return Written(
            embed=parts[0],
            z=tuple(parts[1 : 1 + n_layers]),
            mlp=tuple(parts[1 + n_layers :]),
            row_of=start.row_of,
        )

    optimiser = torch.optim.LBFGS(
        free, max_iter=steps, tolerance_change=LEAST_GAIN, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        last = ablated_last(network, graph, live, clean, written())
        normed = network.norm_final(at_end(last[:, None], end))
        value = -target.minus_divergence(network, normed).mean()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    best = written()
    return Written(
        embed=best.embed.detach(),
        z=tuple(part.detach() for part in best.z),
        mlp=tuple(part.detach() for part in best.mlp),
        row_of=start.row_of,
    )


def for_prompts(written: Written, n: int) -> Written:
    """Constants for other prompts: the same row for each of n."""
    return Written(
        embed=written.embed, z=written.z, mlp=written.mlp, row_of=torch.zeros(n, dtype=torch.long)
    )


def ablated_last(
    network: Network,
    graph: Graph,
    mask: Bool[np.ndarray, "src dst"],
    clean: Float[Tensor, "prompt pos d_model"],
    written: Written,
) -> Float[Tensor, "prompt pos d_model"]:
    """The stream that `logits` reads when absent edges carry what is written; differentiable.

    The plain form of what `circuits.recompute` does for many circuits at once: an input reads what
    it would if all its edges carried what is written (`streams_of`) and, for each edge of the
    circuit, what the source writes now, less what is written. mask: living edges; clean:
    embeddings; written: constants, or of these prompts in rows of their own.
    """
    streams, last = streams_of(network, written, clean.dtype)
    cos_sin = network.rotary_cos_sin(clean, 0, clean.shape[1])
    moved = {0: clean - written.embed.to(clean.dtype)}  # of each source in use: now less written

    def read(dst: int, stream: Tensor) -> Tensor:
        for src in np.flatnonzero(mask[:, dst]).tolist():
            stream = stream + moved[src]
        return stream

    def attends(layer: Layer, index: int, head: int) -> Tensor:
        now = {}
        for kind in HEAD_INPUTS:
            stream = read(graph.destination(index, head, kind), streams[index][0])
            value = layer.project_one(kind, layer.norm_attention(stream), head)
            value = value.expand(*clean.shape[:2], -1)[:, None, :, None]
            now[kind] = layer.attended(kind, value, cos_sin)
        return attend(now["q"], now["k"], now["v"], network.scale)[:, 0, :, 0]

    for i, layer in enumerate(network.layers):
        heads: dict[int, Tensor] = {}
        every = range(graph.n_heads)
        inputs = {
            head: [graph.destination(i, head, kind) for kind in HEAD_INPUTS] for head in every
        }
        reached = [head for head in every if mask[:, inputs[head]].any()]
        if layer.norm_out is None or not reached:
            now = {head: attends(layer, i, head) for head in reached}
        else:  # where one head changes, all write something else
            given = torch.stack([attends(layer, i, head) for head in every], -2)
            now = dict(zip(every, layer.scaled(given).unbind(-2), strict=True))
        for head in reached:
            change = now[head] - written.z[i][:, :, head].to(clean.dtype)
            heads[graph.source(i, head)] = change @ layer.w_written[head].to(change.dtype)
        if not graph.parallel:
            moved |= heads
        if mask[:, graph.destination(i)].any():
            normed = layer.norm_mlp(read(graph.destination(i), streams[i][1]))
            heads[graph.source(i)] = layer.mlp(normed) - written.mlp[i].to(clean.dtype)
        moved |= heads
    return read(graph.n_dst - 1, last).expand(clean.shape)
