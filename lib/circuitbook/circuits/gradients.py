"""The scores of one chunk of prompts: what sources write differently, times gradients at readers.

The three facts that make this cheap are in `circuits.attribution`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.batches import at_end, metric_of_normed, metric_of_stream
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import HEAD_INPUTS, Graph
from circuitbook.model.network import Layer, Network, Prefix, run
from circuitbook.model.parts import Norm
from circuitbook.tasks.base import PromptPairs

# ------------------------------------------------------------------ sums over prompts


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreSums:
    """What the chunks add to: sums over the prompts seen so far, and what was asked for besides."""

    values: Float[Tensor, "src dst"]
    ends: Float[Tensor, "n 2"]
    """Of each prompt, the loss on the clean and on the corrupted one."""
    losses: Float[Tensor, "n m"]
    """Of each prompt, the loss at each point."""
    from_input: Float[Tensor, " n"]
    """Of each prompt, the sum of its edges out of `input`."""
    per_prompt: Float[Tensor, "n src dst"] | None = None
    per_position: Float[Tensor, "pos src dst"] | None = None

    @property
    def change(self) -> Float[Tensor, " n"]:
        """Of each prompt, loss(corrupted) - loss(clean)."""
        return self.ends[:, 1] - self.ends[:, 0]

    def add(
        self,
        chunk: Chunk,
        difference: Float[Tensor, "src prompt pos d_model"],
        gradient: Float[Tensor, "dst prompt pos d_model"],
        columns: slice,
    ) -> None:
        """Adds the edges from the first sources to the destinations `columns`."""
        n_src, _, n_pos, _ = difference.shape
        if self.per_prompt is None and self.per_position is None:
            products = difference.flatten(1) @ gradient.flatten(1).t()
            self.values[:n_src, columns] += products
            return
        kept = []
        if self.per_prompt is not None:
            kept.append("prompt")
        if self.per_position is not None:
            kept.append("pos")
        products = einsum(
            difference,
            gradient,
            f"src prompt pos d_model, dst prompt pos d_model -> {' '.join(kept)} src dst",
        )
        if self.per_prompt is not None:
            of_prompts = products.sum(1) if len(kept) == 2 else products
            self.per_prompt[chunk.rows, :n_src, columns] += of_prompts.cpu()
        if self.per_position is not None:
            of_positions = products.sum(0) if len(kept) == 2 else products
            positions = slice(chunk.start, chunk.start + n_pos)
            self.per_position[positions, :n_src, columns] += of_positions.cpu()
        self.values[:n_src, columns] += products.flatten(0, -3).sum(0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Chunk:
    """Prompts and interpolation points that are done together."""

    pairs: PromptPairs
    rows: Int[Tensor, " prompt"]
    """Which prompts of all these are."""
    prefix: Prefix
    """Keys and values of the positions before `start`."""
    start: int
    """The first position that is computed,"""
    stop: int
    """and the one behind the last."""
    versions: slice
    """Which of the points of a prompt these are."""
    points: Float[Tensor, "prompt version"]
    """From 0, clean, to 1, corrupted."""
    weights: Float[Tensor, "prompt version"]
    """What each point counts."""


# ------------------------------------------------------------------ one chunk


def add_chunk(
    sums: ScoreSums, network: Network, graph: Graph, chunk: Chunk, back_through: Network
) -> None:
    """Adds the scores of these prompts and points to the sums.

    back_through: the network itself, or with other gradients (`circuits.rules`).
    """
    device, dtype = network.w_embed.device, sums_dtype(network.w_embed.dtype)
    pairs, start, prefix = chunk.pairs, chunk.start, chunk.prefix
    both = torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, start : chunk.stop].to(device)
    end = (pairs.end - start).to(device)
    with torch.no_grad():
        x = network.embed(both, start)
        difference, last = _differences(network, graph, x, start, prefix)
        losses = -metric_of_stream(network, pairs, at_end(last, end))
        sums.ends[chunk.rows] = losses.to(sums.ends)
        clean, step = x[:, :1].to(dtype), difference[0][:, None]
        points = chunk.points.to(device, dtype)[:, :, None, None]
        between = (clean + points * step).to(x.dtype)  # [b, k, s, d]

    weights = chunk.weights.to(device, dtype)
    back = gradients_at(back_through, pairs, between, start, prefix, end, weights)
    sums.losses[chunk.rows, chunk.versions] = back.losses.to(sums.losses)
    along_step = (back.at_embeddings.to(dtype).sum(1) * difference[0]).sum((1, 2))
    sums.from_input[chunk.rows] += along_step.to(sums.from_input)
    with torch.no_grad():
        _add_logits(sums, back_through, graph, chunk, difference, back, end)
        for i, layer in enumerate(back_through.layers):
            _add_layer(sums, layer, graph, chunk, difference, back.layers[i], i)


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
    gradient = _through_norm(network.norm_final, back.last.to(dtype), back.at_last.to(dtype))
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
) -> None:
    """The edges into the heads and the MLP of a layer."""
    first, mlp = graph.destination(index, 0), graph.destination(index)
    dtype = difference.dtype
    heads = _at_head_inputs(layer, back, dtype)
    sums.add(chunk, difference[: graph.reach[first]], heads, slice(first, mlp))
    gradient = _through_norm(layer.norm_mlp, back.x_mlp.to(dtype), back.at_mlp.to(dtype))
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
            _second_less_first(done.z, dtype),
            weights.w_out.to(dtype),
            "prompt pos head d_head, head d_head d_model -> head prompt pos d_model",
        )
        difference[graph.source(i)] = _second_less_first(done.mlp_out, dtype)
        x = done.out
    return difference, x


def _second_less_first(
    versions: Float[Tensor, "prompt two ..."], dtype: torch.dtype
) -> Float[Tensor, "prompt ..."]:
    return versions[:, 1].to(dtype) - versions[:, 0].to(dtype)


# ------------------------------------------------------------------ forward and back


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerGradients:
    """Of one layer: what was read, and the gradients of the loss."""

    x: Float[Tensor, "prompt version pos d_model"]
    """The stream that its heads read."""
    x_mlp: Float[Tensor, "prompt version pos d_model"]
    """The stream that its MLP reads."""
    inputs: dict[str, Float[Tensor, "prompt version pos head d_head"]]
    """Queries, keys and values, before rotary."""
    at_inputs: dict[str, Float[Tensor, "prompt version pos head d_head"]]
    """Gradients of these."""
    at_mlp: Float[Tensor, "prompt version pos d_model"]
    """Gradient of what the MLP reads, after its norm."""

    def all_finite(self) -> bool:
        return all(bool(g.isfinite().all()) for g in (*self.at_inputs.values(), self.at_mlp))


@dataclass(frozen=True, eq=False, kw_only=True)
class Gradients:
    """A pass forward and back."""

    layers: list[LayerGradients]
    last: Float[Tensor, "prompt version d_model"]
    """The last stream at END."""
    at_last: Float[Tensor, "prompt version d_model"]
    """The gradient of that, after its norm."""
    at_embeddings: Float[Tensor, "prompt version pos d_model"]
    losses: Float[Tensor, "prompt version"]


def gradients_at(
    network: Network,
    pairs: PromptPairs,
    embeddings: Float[Tensor, "prompt version pos d_model"],
    start: int,
    prefix: Prefix,
    end: Int[Tensor, " prompt"],
    weights: Float[Tensor, "prompt version"],
) -> Gradients:
    """Runs from the embeddings to the loss, and back.

    The losses are summed up by their weights.
    """
    with torch.enable_grad():
        embeddings = embeddings.detach().requires_grad_()
        runs = list(run(network, embeddings, start, prefix))
        last = at_end(runs[-1].out, end)
        normed = network.norm_final(last)
        losses = -metric_of_normed(network, pairs, normed)
        loss = (losses * weights.to(losses)).sum()
        read = [tensor for done in runs for tensor in (*done.inputs.values(), done.mlp_in)]
        *of_layers, at_last, at_embeddings = torch.autograd.grad(loss, [*read, normed, embeddings])
    layers = []
    for i, done in enumerate(runs):
        *of_heads, at_mlp = of_layers[4 * i : 4 * i + 4]
        layers.append(
            LayerGradients(
                x=done.x.detach(),
                x_mlp=done.x_mlp.detach(),
                inputs={kind: tensor.detach() for kind, tensor in done.inputs.items()},
                at_inputs=dict(zip(HEAD_INPUTS, of_heads, strict=True)),
                at_mlp=at_mlp,
            )
        )
    return Gradients(
        layers=layers,
        last=last.detach(),
        at_last=at_last,
        at_embeddings=at_embeddings,
        losses=losses.detach(),
    )


def _through_norm(
    norm: Norm, x: Float[Tensor, "*axes d_model"], gradient: Float[Tensor, "*axes d_model"]
) -> Float[Tensor, "*axes d_model"]:
    """From the gradient after a norm to the one before it."""
    normed, scale = norm.standardise(x, x.dtype)
    g = gradient * norm.weight.to(x.dtype)
    if norm.frozen:
        return scale * norm.centre(g)
    return scale * (norm.centre(g) - normed * (g * normed).mean(-1, keepdim=True))


def _at_head_inputs(
    layer: Layer, back: LayerGradients, dtype: torch.dtype
) -> Float[Tensor, "three_heads prompt pos d_model"]:
    """Gradients at the q, k and v inputs of a layer's heads, summed over the points (fact 2)."""
    norm = layer.norm_attention
    gamma, beta = norm.weight.to(dtype), norm.bias.to(dtype)
    normed, scale = norm.standardise(back.x, dtype)
    at_inputs = []
    for kind in HEAD_INPUTS:
        weight = layer.w_in[kind].to(dtype)
        g = back.at_inputs[kind].to(dtype) * scale[..., None]
        constant = weight @ beta + layer.b_in[kind].to(dtype)  # what the norm's bias gives
        projected = g * (back.inputs[kind].to(dtype) - constant)
        along = projected.sum(-1) / gamma.numel()  # [prompt, version, pos, head]
        at_input = einsum(
            g.sum(1),
            weight * gamma,
            "prompt pos head d_head, head d_head d_model -> head prompt pos d_model",
        )
        at_input = norm.centre(at_input)
        if not norm.frozen:
            at_input -= einsum(
                along,
                normed,
                "prompt version pos head, prompt version pos d_model -> head prompt pos d_model",
            )
        at_inputs.append(at_input)
    return torch.cat(at_inputs)
