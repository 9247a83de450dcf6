"""From gradients behind a reader's norms to gradients of what it reads from the stream.

Norms' own backward, written out: one for all heads of a layer, whose gradients it meets last.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.backward import LayerGradients
from circuitbook.model.layers import Layer
from circuitbook.model.parts import Norm


def through_norm(
    norm: Norm, x: Float[Tensor, "*axes d_model"], gradient: Float[Tensor, "*axes d_model"]
) -> Float[Tensor, "*axes d_model"]:
    """From the gradient after a norm to the one before it."""
    normed, scale = norm.standardise(x, x.dtype)
    g = gradient * norm.weight.to(x.dtype)
    if norm.constant:
        return scale * norm.centre(g)
    return scale * (norm.centre(g) - normed * (g * normed).mean(-1, keepdim=True))


def at_head_inputs(
    layer: Layer, back: LayerGradients, dtype: torch.dtype, kinds: str
) -> Float[Tensor, "kind_heads prompt pos d_model"]:
    """Gradients at these inputs of a layer's heads, summed over the points (fact 2)."""
    norm = layer.norm_attention
    gamma, beta = norm.weight.to(dtype), norm.bias.to(dtype)
    normed, scale = norm.standardise(back.x, dtype)
    at_inputs = []
    for kind in kinds:
        if kind in layer.norm_in:
            at_inputs.append(_through_joint_norm(layer, kind, back, dtype))
            continue
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
        if not norm.constant:
            at_input -= einsum(
                along,
                normed,
                "prompt version pos head, prompt version pos d_model -> head prompt pos d_model",
            )
        at_inputs.append(at_input)
    return torch.cat(at_inputs)


def _through_joint_norm(
    layer: Layer, kind: str, back: LayerGradients, dtype: torch.dtype
) -> Float[Tensor, "head prompt pos d_model"]:
    """`at_head_inputs` where the queries or keys of all heads are normed together.

    Each head takes that norm over the stream which it reads itself, as it is (`NoNorm`).
    """
    norm, weight = layer.norm_in[kind], layer.w_in[kind].to(dtype)
    normed, scale = norm.standardise(layer.linear(kind, back.x.to(dtype)))
    once, own = layer.once(kind), normed
    gamma = norm.weight.to(dtype)
    if once > 1:
        own, gamma = own.repeat_interleave(once, -2), gamma.repeat_interleave(once, 0)
    g = back.at_inputs[kind].to(dtype) * gamma * scale
    at_input = einsum(
        g.sum(1),
        weight,
        "prompt pos head d_head, head d_head d_model -> head prompt pos d_model",
    )
    if norm.frozen:
        return at_input
    along = (g * own).sum(-1) / normed[0, 0, 0].numel()  # [prompt, version, pos, head]
    shared = einsum(
        normed,
        weight[::once],
        "prompt version pos head d_head, head d_head d_model -> prompt version pos d_model",
    )
    return at_input - einsum(
        along,
        shared,
        "prompt version pos head, prompt version pos d_model -> head prompt pos d_model",
    )
