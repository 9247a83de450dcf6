"""Name movers: does a head raise, or lower, the name that it looks at (Wang et al. 2023)?"""

from __future__ import annotations

import torch
from torch import Tensor

from circuitbook.heads.unembedding import folded_unembedding
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.network import Layer, Network, run

TOP = 5  # a name counts as copied if it is among these many best tokens


# ------------------------------------------------------------------ name movers


@torch.no_grad()
def copy_hits(
    network: Network, tokens: Tensor, places: Tensor, norms: bool = True
) -> tuple[Tensor, Tensor]:
    """Does a head that looks at a name raise that name? Share of the places with a hit, [head, n],
    and the same for lowering.

    tokens [n, pos]; places int64 [n, 3] positions of names. What the head reads there is taken
    after the first layer, goes through its values and output, and is unembedded; a hit: the name is
    among the five highest (lowest) tokens. norms=True: with the head's own LayerNorm. norms=False,
    as the authors' processed weights: the norm's weight and centring, but no division and no bias,
    and the unembedding's bias is added.
    """
    dtype = sums_dtype(network.w_embed.dtype)
    b = torch.arange(len(tokens), device=tokens.device)[:, None]
    first = next(iter(run(network, network.embed(tokens)[:, None])))
    stream, names = first.out[:, 0][b, places], tokens[b, places]  # [n, 3, d], [n, 3]
    unembed = folded_unembedding(network, dtype)
    bias = 0 if norms else network.w_unembed.to(dtype) @ network.norm_final.bias.to(dtype)
    raised, lowered = [], []
    for layer in network.layers:
        written = _written_without_attention(layer, stream, norms, dtype)  # [n, 3, h, d]
        for sign, hits in ((1, raised), (-1, lowered)):
            top = (sign * written @ unembed.t() + bias).topk(TOP, -1).indices
            hits.append((top == names[..., None, None]).any(-1).to(dtype).mean(1).t())
    return torch.cat(raised), torch.cat(lowered)


def _written_without_attention(
    layer: Layer, stream: Tensor, norms: bool, dtype: torch.dtype
) -> Tensor:
    """What each head of a layer would write if it looked here alone: [..., d] -> [..., h, d]."""
    if norms:
        value = layer.project("v", layer.norm_attention(stream))
    else:
        centred = layer.norm_attention.centre(stream) * layer.norm_attention.weight
        value = torch.einsum("...d,hed->...he", centred, layer.w_in["v"])
    return torch.einsum("...he,hed->...hd", value.to(dtype), layer.w_out.to(dtype))
