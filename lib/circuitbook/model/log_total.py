"""The logarithm of the sum over the whole vocabulary of exp(logit), without all logits at a time.

    log p(token) = logit(token) - log_total(...)

Only a part of the vocabulary has its logits in memory, forward and back.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from circuitbook.model.dtypes import sums_dtype

LOGIT_BYTES = 32 << 20  # of the logits that are in memory at a time, in the dtype of sums

# Tokens at a time at most. For one or two rows torch adds a product up term by term, and what a
# rare token gives is rounded away beside a large sum: of 49,152 tokens, 1e-4 of the gradient in
# float32.
TOKENS = 2048


def log_total(
    normed: Float[Tensor, "row d_model"],
    w_unembed: Float[Tensor, "vocab d_model"],
    logit_bytes: int | None = None,
) -> Float[Tensor, " row"]:
    """logsumexp of `normed @ w_unembed.T`, with its gradient at `normed`; in the dtype of sums.

    w_unembed takes no gradient. logit_bytes: default `LOGIT_BYTES`; one token of the vocabulary at
    a time is the least.

    >>> round(float(log_total(torch.zeros(1, 3), torch.ones(8, 3)).exp()), 3)
    8.0
    """
    return _LogTotal.apply(normed, w_unembed, logit_bytes or LOGIT_BYTES)


class _LogTotal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, normed: Tensor, w_unembed: Tensor, logit_bytes: int) -> Tensor:
        size = sums_dtype(normed.dtype).itemsize
        ctx.tokens = min(TOKENS, max(1, logit_bytes // max(1, size * len(normed))))
        parts = [
            _logits(normed, part).logsumexp(1) for part in w_unembed.detach().split(ctx.tokens)
        ]
        total = torch.stack(parts).logsumexp(0)
        ctx.save_for_backward(normed, w_unembed, total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        normed, w_unembed, total = ctx.saved_tensors
        at_normed = torch.zeros_like(normed, dtype=total.dtype)
        for part in w_unembed.split(ctx.tokens):
            share = (_logits(normed, part) - total[:, None]).exp()
            at_normed += (share * gradients[0][:, None]).to(part.dtype) @ part
        return at_normed.to(normed.dtype), None, None


def _logits(normed: Tensor, w_unembed: Tensor) -> Float[Tensor, "row some_tokens"]:
    return F.linear(normed, w_unembed).to(sums_dtype(normed.dtype))
