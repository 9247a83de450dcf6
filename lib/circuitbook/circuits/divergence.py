"""How far a circuit's next-token distribution is from the model's own, as a task's metric.

With p the model's distribution at END on the clean prompt and q that of a circuit, both over the
whole vocabulary,

    KL(p || q) = sum_v p_v log p_v + log_total(q) - x . t,    t = sum_v p_v w_v,

where x is the circuit's last stream after the final norm, w_v the unembedding of token v and
log_total the logarithm of the sum of exp(logit). So beside t only `model.log_total` is needed, and
that takes the vocabulary in parts, forward and back: no more memory than for a probability. Where
logits are capped (Gemma 2) sum_v p_v cap(x . w_v) takes the place of x . t, in parts, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.loaded import Model
from circuitbook.model.log_total import log_total, mean_capped
from circuitbook.model.network import Network, last_stream
from circuitbook.tasks.base import PromptPairs

PROMPTS = 64  # that are run together
KL = "minus_kl_divergence"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DivergencePairs(PromptPairs):
    """Prompt pairs whose metric is -KL(model || circuit): 0 is the model itself, less is worse.

    Attribution, evaluation and the search take them like any others. Of the search only the form
    "normalised" says something, 1 - KL / KL(corrupted), and `min_metric` must be -inf.
    """

    log_probabilities: Float[Tensor, "n vocab"]
    """Of the model on the clean prompts, at END."""
    expected: Float[Tensor, "n d_model"]
    """The model's mean unembedding, t above; not used where logits are capped."""

    def metric(self, logits: Float[Tensor, "n vocab"]) -> Float[Tensor, " n"]:
        """-KL(model || logits), [n], in nats; `logits` as in `PromptPairs.metric`."""
        self._check(logits)
        full = logits if logits.dtype == torch.float64 else logits.float()
        log_p = self.log_probabilities.to(full)
        return (log_p.exp() * (full.log_softmax(1) - log_p)).sum(1)

    def subset(self, index: slice | Sequence[int] | Tensor) -> DivergencePairs:
        rows = torch.arange(len(self))[index].reshape(-1)
        plain = PromptPairs(**{f.name: getattr(self, f.name) for f in fields(PromptPairs)})
        return _with(plain.subset(rows), self.log_probabilities[rows], self.expected[rows])

    def minus_divergence(
        self, network: Network, normed: Float[Tensor, "prompt version d_model"]
    ) -> Float[Tensor, "prompt version"]:
        """The metric from what the final norm gives, with its gradient there."""
        log_p, dtype = self.log_probabilities.to(normed.device), sums_dtype(normed.dtype)
        minus_entropy = (log_p.exp() * log_p).sum(1).to(dtype)
        if network.cap is None:
            expected = self.expected.to(normed.device, dtype)
            mean_logit = torch.einsum("pvd,pd->pv", normed.to(dtype), expected)
        else:
            mean_logit = mean_capped(normed, network.w_unembed, log_p.exp().to(dtype), network.cap)
        total = log_total(normed.flatten(0, 1), network.w_unembed, cap=network.cap)
        return mean_logit - total.view(normed.shape[:2]) - minus_entropy[:, None]


@torch.no_grad()
def divergence_pairs(model: Model, pairs: PromptPairs) -> DivergencePairs:
    """The same prompts with -KL(model || ·) as their metric.

    Keeps 4 n vocab bytes, and beside them makes as much for a moment.
    """
    dtype = sums_dtype(model.dtype)
    log_p = clean_logits(model, pairs).to(dtype).log_softmax(1)
    unembed = network_of(model).w_unembed
    expected = sum(
        p @ part.to(dtype)
        for p, part in zip(log_p.exp().split(4096, 1), unembed.split(4096), strict=True)
    )
    assert isinstance(expected, Tensor)  # there is a token
    return _with(pairs, log_p.cpu(), expected.cpu())


@torch.no_grad()
def clean_logits(model: Model, pairs: PromptPairs) -> Float[Tensor, "n vocab"]:
    """Logits on the clean prompts at END, by the network that circuits are evaluated in.

    (transformers' own RMSNorm computes in float32 even in a float64 model.)
    """
    network, parts = network_of(model), []
    for rows in torch.arange(len(pairs)).split(PROMPTS):
        tokens, end = pairs.clean[rows].to(model.device), pairs.end[rows].to(model.device)
        last = last_stream(network, network.embed(tokens)[:, None])
        parts.append(network.logits(last[torch.arange(len(end), device=model.device), 0, end]))
    return torch.cat(parts)


def _with(pairs: PromptPairs, log_p: Tensor, expected: Tensor) -> DivergencePairs:
    parts = {f.name: getattr(pairs, f.name) for f in fields(PromptPairs)} | {"metric_name": KL}
    return DivergencePairs(**parts, log_probabilities=log_p, expected=expected)
