"""The unembedding as heads see it: with the final norm's weight in it."""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.network import Network
from circuitbook.tasks.base import PromptPairs


def answer_directions(network: Network, pairs: PromptPairs) -> Float[Tensor, "n d_model"]:
    """What a vector in the last stream, over the stream's deviation, adds to the logit difference.

    A direction for each prompt; the dot product with it is in logits.
    """
    dtype = sums_dtype(network.w_unembed.dtype)
    signs = pairs.signs.to(network.w_unembed.device, dtype)
    correct = signs.clamp(min=0) / (signs > 0).sum(1, keepdim=True)
    wrong = (-signs).clamp(min=0) / (signs < 0).sum(1, keepdim=True)
    folded = folded_unembedding(network, dtype)
    answers = folded[pairs.answers.to(folded.device)]
    return einsum(correct - wrong, answers, "n answer, n answer d_model -> n d_model")


def folded_unembedding(network: Network, dtype: torch.dtype) -> Float[Tensor, "vocab d_model"]:
    """The unembedding with the final norm's weight in it, and its centring if it centres."""
    weight = network.w_unembed.to(dtype) * network.norm_final.weight.to(dtype)
    return network.norm_final.centre(weight)
