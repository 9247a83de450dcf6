"""Name movers: does a head raise, or lower, the name that it looks at (Wang et al. 2023)?"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.heads.unembedding import folded_unembedding
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.layers import Layer
from circuitbook.model.network import Network, run

TOP = 5  # a name counts as copied if it is among these many best tokens


@torch.no_grad()
def copy_hits(
    network: Network,
    tokens: Int[Tensor, "n pos"],
    places: Int[Tensor, "n place"],
    norms: bool = True,
) -> tuple[Float[Tensor, "head n"], Float[Tensor, "head n"]]:
    """Does a head that looks at a name raise that name, or lower it? Share of places with a hit.

    places: positions of names. What the head reads there is taken after the first layer, goes
    through its values and output, and is unembedded; a hit: the name is among the five highest
    (lowest) tokens. norms=True: with the head's own LayerNorm. norms=False, as the authors'
    processed weights: the norm's weight and centring, but no division and no bias, and the
    unembedding's bias is added. A norm behind the heads divides all tokens' logits by the same, so
    that its weight alone counts.
    """
    dtype = sums_dtype(network.w_embed.dtype)
    prompts = torch.arange(len(tokens), device=tokens.device)[:, None]
    first = next(run(network, network.embed(tokens)[:, None]))
    stream = first.out[:, 0][prompts, places]  # [n, place, d_model]
    names = tokens[prompts, places]
    unembed = folded_unembedding(network, dtype)
    bias = None if norms else network.w_unembed.to(dtype) @ network.norm_final.bias.to(dtype)
    raised: list[Tensor] = []
    lowered: list[Tensor] = []
    for layer in network.layers:
        values = values_without_attention(layer, stream, norms).to(dtype)
        for head, w_out in enumerate(layer.w_written.to(dtype)):
            # A head's output has few dimensions and there are many places: unembed those first
            logits = values[:, :, head] @ (w_out @ unembed.t())
            for highest, hits in ((True, raised), (False, lowered)):
                # Lowered: raised by the opposite of what the head writes
                pulled = logits
                if bias is not None:
                    pulled = logits + bias if highest else logits - bias
                own = pulled.gather(-1, names[..., None])
                as_far = pulled >= own if highest else pulled <= own  # a head that is still: all
                hit = as_far.sum(-1) <= TOP  # [n, place]
                hits.append(hit.to(dtype).mean(1))
    return torch.stack(raised), torch.stack(lowered)


def values_without_attention(
    layer: Layer, stream: Float[Tensor, "n place d_model"], norms: bool
) -> Float[Tensor, "n place head d_head"]:
    """What each head of a layer would pass on if it looked here alone."""
    if norms:
        return layer.attended("v", layer.project("v", layer.norm_attention(stream)), None)
    return einsum(
        layer.norm_attention.centre(stream) * layer.norm_attention.weight.to(stream),
        layer.w_in["v"],
        "n place d_model, head d_head d_model -> n place head d_head",
    )
