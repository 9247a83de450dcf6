"""The scores of one chunk of prompts: what sources write differently, times gradients at readers.

The three facts that make this cheap are in `circuits.attribution`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.backward import Gradients, LayerGradients, gradients_at
from circuitbook.circuits.batches import at_end, metric_of_stream
from circuitbook.circuits.between import add_between
from circuitbook.circuits.score_sums import Chunk, ScoreSums
from circuitbook.circuits.through_norms import at_head_inputs, through_norm
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import HEAD_INPUTS, Graph
from circuitbook.model.layers import Layer
from circuitbook.model.network import Network, Prefix, run

# ------------------------------------------------------------------ one chunk


def add_chunk(
    sums: ScoreSums,
    network: Network,
    graph: Graph,
    chunk: Chunk,
    back_through: Network,
    between: str | None = None,
) -> None:
    """Adds the scores of these prompts and points to the sums.

    back_through: the network itself, or with other gradients (`circuits.rules`). between: how edges
    between positions are scored, if they are.
    """
    both = both_runs(sums, network, graph, chunk)
    back = gradients_at(
        back_through,
        chunk.pairs,
        both.between(chunk.points),
        chunk.start,
        chunk.prefix,
        both.end,
        both.weights,
        of_z=between is not None,
    )
    note_losses(sums, chunk, both, back)
    add_edges(sums, back_through, graph, chunk, both, back)
    if between is not None:
        add_between(sums, network, graph, chunk, both.x, back, anew=between == "pattern")


@dataclass(frozen=True, eq=False, kw_only=True)
class BothRuns:
    """What the clean and the corrupted run of a chunk give: no gradients."""

    x: Float[Tensor, "prompt two pos d_model"]
    """Embeddings."""
    difference: Float[Tensor, "src prompt pos d_model"]
    """What every source writes on the corrupted prompt minus on the clean one."""
    end: Int[Tensor, " prompt"]
    """END, counted from the first position that is computed."""
    weights: Float[Tensor, "prompt version"]
    """What each point counts."""

    def between(
        self, points: Float[Tensor, "prompt version"]
    ) -> Float[Tensor, "prompt version pos d_model"]:
        """Embeddings at these points from the clean (0) to the corrupted ones (1)."""
        dtype, device = self.difference.dtype, self.x.device
        clean, step = self.x[:, :1].to(dtype), self.difference[0][:, None]
        return (clean + points.to(device, dtype)[:, :, None, None] * step).to(self.x.dtype)


@torch.no_grad()
def both_runs(sums: ScoreSums, network: Network, graph: Graph, chunk: Chunk) -> BothRuns:
    """Runs a chunk's clean and corrupted prompts, and notes their losses."""
    device, dtype = network.w_embed.device, sums_dtype(network.w_embed.dtype)
    pairs, start = chunk.pairs, chunk.start
    tokens = torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, start : chunk.stop].to(device)
    end = (pairs.end - start).to(device)
    x = network.embed(tokens, start)
    difference, last = _differences(network, graph, x, start, chunk.prefix)
    losses = -metric_of_stream(network, pairs, at_end(last, end))
    sums.ends[chunk.rows] = losses.to(sums.ends)
    weights = chunk.weights.to(device, dtype)
    return BothRuns(x=x, difference=difference, end=end, weights=weights)


def note_losses(sums: ScoreSums, chunk: Chunk, both: BothRuns, back: Gradients) -> None:
    """Keeps the losses at the points, and what the edges out of `input` add up to there."""
    sums.losses[chunk.rows, chunk.versions] = back.losses.to(sums.losses)
    step = both.difference[0]
    along_step = (back.at_embeddings.to(step.dtype).sum(1) * step).sum((1, 2))
    sums.from_input[chunk.rows] += along_step.to(sums.from_input)


@torch.no_grad()
def add_edges(
    sums: ScoreSums,
    network: Network,
    graph: Graph,
    chunk: Chunk,
    both: BothRuns,
    back: Gradients,
    kinds: str = HEAD_INPUTS,
) -> None:
    """Adds change times gradient, of the edges into `logits`, MLPs and these inputs of heads.

    kinds: the last of "qkv".
    """
    _add_logits(sums, network, graph, chunk, both.difference, back, both.end)
    for i, layer in enumerate(network.layers):
        _add_layer(sums, layer, graph, chunk, both.difference, back.layers[i], i, kinds)


def _add_logits(
    sums: ScoreSums,
    network: Network,
    graph: Graph,
    chunk: Chunk,
    difference: Float[Tensor, "src prompt pos d_model"],
    back: Gradients,
    end: Int[Tensor, " prompt"],
) -> None:
    """The edges into `logits`, which are read at END alone."""
    dtype = difference.dtype
    prompts = torch.arange(len(end), device=end.device)
    gradient = through_norm(network.norm_final, back.last.to(dtype), back.at_last.to(dtype))
    at_logits = torch.zeros_like(difference[:1])
    at_logits[0, prompts, end] = gradient.sum(1)
    sums.add(chunk, difference, at_logits, slice(graph.n_dst - 1, graph.n_dst))


def _add_layer(
    sums: ScoreSums,
    layer: Layer,
    graph: Graph,
    chunk: Chunk,
    difference: Float[Tensor, "src prompt pos d_model"],
    back: LayerGradients,
    index: int,
    kinds: str,
) -> None:
    """The edges into the heads and the MLP of a layer."""
    first, mlp = graph.destination(index, 0, kinds[0]), graph.destination(index)
    dtype = difference.dtype
    heads = at_head_inputs(layer, back, dtype, kinds)
    sums.add(chunk, difference[: graph.reach[first]], heads, slice(first, mlp))
    gradient = through_norm(layer.norm_mlp, back.x_mlp.to(dtype), back.at_mlp.to(dtype))
    sums.add(chunk, difference[: graph.reach[mlp]], gradient.sum(1)[None], slice(mlp, mlp + 1))


def _differences(
    network: Network,
    graph: Graph,
    x: Float[Tensor, "prompt two pos d_model"],
    start: int,
    prefix: Prefix,
) -> tuple[Float[Tensor, "src prompt pos d_model"], Float[Tensor, "prompt two pos d_model"]]:
    """What every source writes on the corrupted prompt minus on the clean one; the last stream."""
    dtype = sums_dtype(x.dtype)
    n_prompts, _, n_pos, d_model = x.shape
    difference = torch.empty(graph.n_src, n_prompts, n_pos, d_model, dtype=dtype, device=x.device)
    difference[0] = _second_less_first(x, dtype)
    layers = zip(network.layers, run(network, x, start, prefix), strict=True)
    for i, (weights, done) in enumerate(layers):
        difference[graph.heads(i)] = einsum(
            _second_less_first(weights.scaled(done.z.to(dtype)), dtype),
            weights.w_written.to(dtype),
            "prompt pos head d_head, head d_head d_model -> head prompt pos d_model",
        )
        difference[graph.source(i)] = _second_less_first(done.mlp_out, dtype)
        x = done.out
    return difference, x


def _second_less_first(
    versions: Float[Tensor, "prompt two ..."], dtype: torch.dtype
) -> Float[Tensor, "prompt ..."]:
    return versions[:, 1].to(dtype) - versions[:, 0].to(dtype)
