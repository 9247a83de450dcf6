"""The unembedding as heads see it: with the final norm's weight in it."""

from __future__ import annotations

import torch
from torch import Tensor

from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.network import Network
from circuitbook.tasks.base import PromptPairs


def answer_directions(network: Network, pairs: PromptPairs) -> Tensor:
    """[n, d]: what a vector in the last stream, divided by the stream's deviation, adds to the
    logit difference."""
    dtype = sums_dtype(network.w_unembed.dtype)
    signs = pairs.signs.to(network.w_unembed.device, dtype)
    weight = signs.clamp(min=0) / (signs > 0).sum(1, keepdim=True) - (-signs).clamp(min=0) / (
        signs < 0
    ).sum(1, keepdim=True)
    folded = folded_unembedding(network, dtype)
    return torch.einsum("nk,nkd->nd", weight, folded[pairs.answers.to(folded.device)])


def folded_unembedding(network: Network, dtype: torch.dtype) -> Tensor:
    """[vocab, d]: the unembedding with the final norm's weight in it, and its centring if it
    centres."""
    return network.norm_final.centre(
        network.w_unembed.to(dtype) * network.norm_final.weight.to(dtype)
    )
