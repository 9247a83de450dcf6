"""Information flow routes: how much of what a node reads comes from whom (Ferrando and Voita 2024,
arXiv 2403.00824).

Nothing is patched and no gradient is taken. What a node reads, x, is the sum of what its sources
write, a_u, and of biases; a source is worth as much as taking it away moves x closer to 0:

    proximity(u) = max(0, |x|_1 - |x - a_u|_1),    score(u -> v) = proximity(u) / their sum over u

on the clean prompt, averaged over its positions up to END: a share, of no sign, that knows nothing
of the task but its prompts. A node whose sources all have proximity 0 at a position gets nothing
there. The q, k and v inputs of a layer's heads read the same, so their edges have the same scores.

This is how hannamw/EAP-IG brings the method to a graph of edges between nodes. The paper's own
graph is finer in attention, where a head's edges come from each position apart, and it is read from
the top down, edges above a threshold alone.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.gradients import both_runs
from circuitbook.circuits.score_sums import Chunk, ScoreSums
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import Graph
from circuitbook.model.network import Network, run


@torch.no_grad()
def add_chunk_of_routes(sums: ScoreSums, network: Network, graph: Graph, chunk: Chunk) -> None:
    """Adds the scores of these prompts to the sums."""
    both_runs(sums, network, graph, chunk)  # for the losses
    device, dtype = network.w_embed.device, sums_dtype(network.w_embed.dtype)
    tokens, end = chunk.pairs.clean[:, : chunk.stop].to(device), chunk.pairs.end.to(device)
    x = network.embed(tokens)[:, None]
    counts = (torch.arange(chunk.stop, device=device) <= end[:, None]).to(dtype)
    counts = counts / counts.sum(1, keepdim=True)  # [prompt, pos], each prompt's mean over its own
    written = torch.empty(graph.n_src, *x[:, 0].shape, dtype=dtype, device=device)
    written[0] = x[:, 0]
    scores = written.new_zeros(len(tokens), graph.n_src, graph.n_dst)

    def read(first: int, stop: int, stream: Tensor) -> None:
        """The edges into the destinations first .. stop - 1, which read the same."""
        reach = int(graph.reach[first])
        shares = _shares(written[:reach], stream[:, 0].to(dtype), counts)
        scores[:, :reach, first:stop] = shares[:, :, None]

    for i, (layer, done) in enumerate(zip(network.layers, run(network, x), strict=True)):
        heads, mlp = graph.destination(i, 0), graph.destination(i)
        read(heads, mlp, done.x)
        written[graph.heads(i)] = einsum(
            layer.scaled(done.z[:, 0].to(dtype)),
            layer.w_written.to(dtype),
            "prompt pos head d_head, head d_head d_model -> head prompt pos d_model",
        )
        read(mlp, mlp + 1, done.x_mlp)
        written[graph.source(i)] = done.mlp_out[:, 0]
        last = done.out
    read(graph.n_dst - 1, graph.n_dst, last)
    sums.add_of_prompts(chunk, scores, slice(None))


def _shares(
    written: Float[Tensor, "src prompt pos d_model"],
    x: Float[Tensor, "prompt pos d_model"],
    counts: Float[Tensor, "prompt pos"],
) -> Float[Tensor, "prompt src"]:
    """Of what is read, by source; averaged over positions."""
    whole = x.abs().sum(-1)
    proximity = torch.stack([whole - (x - one).abs().sum(-1) for one in written]).clamp(min=0)
    total = proximity.sum(0)
    shares = proximity / total.where(total > 0, torch.ones_like(total))
    return einsum(shares, counts, "src prompt pos, prompt pos -> prompt src")
