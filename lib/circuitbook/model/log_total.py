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
from circuitbook.model.parts import SoftCap

LOGIT_BYTES = 32 << 20  # of the logits that are in memory at a time, in the dtype of sums

# Tokens at a time at most. For one or two rows torch adds a product up term by term, and what a
# rare token gives is rounded away beside a large sum: of 49,152 tokens, 1e-4 of the gradient in
# float32.
TOKENS = 2048


def log_total(
    normed: Float[Tensor, "row d_model"],
    w_unembed: Float[Tensor, "vocab d_model"],
    logit_bytes: int | None = None,
    cap: SoftCap | None = None,
) -> Float[Tensor, " row"]:
    """logsumexp of `normed @ w_unembed.T`, with its gradient at `normed`; in the dtype of sums.

    w_unembed takes no gradient. logit_bytes: default `LOGIT_BYTES`; one token of the vocabulary at
    a time is the least. cap: of the logits, if they are capped.

    >>> round(float(log_total(torch.zeros(1, 3), torch.ones(8, 3)).exp()), 3)
    8.0
    """
    return _LogTotal.apply(normed, w_unembed, logit_bytes or LOGIT_BYTES, cap)


def mean_capped(
    normed: Float[Tensor, "prompt version d_model"],
    w_unembed: Float[Tensor, "vocab d_model"],
    p: Float[Tensor, "prompt vocab"],
    cap: SoftCap,
    logit_bytes: int | None = None,
) -> Float[Tensor, "prompt version"]:
    """The mean of capped logits over the tokens that p says, with its gradient at `normed`; the
    rest as in `log_total`.

    Without a cap it is the product with the mean unembedding, and needs no logits.
    """
    return _MeanCapped.apply(normed, w_unembed, p, cap, logit_bytes or LOGIT_BYTES)


class _LogTotal(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, normed: Tensor, w_unembed: Tensor, logit_bytes: int, cap: SoftCap | None
    ) -> Tensor:
        ctx.tokens, ctx.cap = _tokens_at_a_time(normed, len(normed), logit_bytes), cap
        parts = [
            _logits(normed, part, cap).logsumexp(1) for part in w_unembed.detach().split(ctx.tokens)
        ]
        total = torch.stack(parts).logsumexp(0)
        ctx.save_for_backward(normed, w_unembed, total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        normed, w_unembed, total = ctx.saved_tensors
        at_normed = torch.zeros_like(normed, dtype=total.dtype)
        for part in w_unembed.split(ctx.tokens):
            share = (_logits(normed, part, ctx.cap) - total[:, None]).exp()
            if ctx.cap is not None:
                share *= ctx.cap.slope(_logits(normed, part))
            at_normed += (share * gradients[0][:, None]).to(part.dtype) @ part
        return at_normed.to(normed.dtype), None, None, None


class _MeanCapped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, normed: Tensor, w_unembed: Tensor, p: Tensor, cap: SoftCap, logit_bytes: int
    ) -> Tensor:
        rows = normed.shape[0] * normed.shape[1]
        ctx.tokens, ctx.cap = _tokens_at_a_time(normed, rows, logit_bytes), cap
        ctx.save_for_backward(normed, w_unembed, p)
        mean = torch.zeros(normed.shape[:2], dtype=sums_dtype(normed.dtype), device=normed.device)
        parts = zip(w_unembed.detach().split(ctx.tokens), p.split(ctx.tokens, 1), strict=True)
        for part, share in parts:
            mean += (_logits(normed, part, cap) * share[:, None]).sum(2)
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        normed, w_unembed, p = ctx.saved_tensors
        at_normed = torch.zeros_like(normed, dtype=gradients[0].dtype)
        for part, share in zip(w_unembed.split(ctx.tokens), p.split(ctx.tokens, 1), strict=True):
            at_logits = share[:, None] * ctx.cap.slope(_logits(normed, part))
            at_normed += (at_logits * gradients[0][..., None]).to(part.dtype) @ part
        return at_normed.to(normed.dtype), None, None, None, None


def _tokens_at_a_time(normed: Tensor, rows: int, logit_bytes: int) -> int:
    size = sums_dtype(normed.dtype).itemsize
    return min(TOKENS, max(1, logit_bytes // max(1, size * rows)))


def _logits(
    normed: Tensor, w_unembed: Tensor, cap: SoftCap | None = None
) -> Float[Tensor, "*rows some_tokens"]:
    logits = F.linear(normed, w_unembed)
    return (logits if cap is None else cap(logits)).to(sums_dtype(normed.dtype))
