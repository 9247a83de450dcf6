"""The measures of an answer: from logits at END to a number for each prompt."""

from __future__ import annotations

import torch
from torch import Tensor


def _full(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def logit_difference(logits: Tensor, answers: Tensor, signs: Tensor) -> Tensor:
    """Mean logit of the correct answers minus mean logit of the wrong ones, [n].

    With one token in each group this is the usual logit difference. For groups the authors average
    too (in their code, the Greater-Than logit difference); a mean is linear in the residual stream,
    as the attribution of logits needs, but
    its sign is not the accuracy: implausible answers count as much as plausible ones.
    """
    chosen = _full(logits.gather(1, answers))
    right, wrong = (signs > 0).to(chosen.dtype), (signs < 0).to(chosen.dtype)
    return (chosen * (right / right.sum(1, keepdim=True) - wrong / wrong.sum(1, keepdim=True))).sum(
        1
    )


def probability_difference(logits: Tensor, answers: Tensor, signs: Tensor) -> Tensor:
    """Probability of all correct answers minus that of all wrong ones, [n] in [-1, 1] (the authors'
    metric)."""
    return (_probabilities(logits, answers) * signs).sum(1)


def _probabilities(logits: Tensor, answers: Tensor) -> Tensor:
    """Probability of each answer over the whole vocabulary, [n, k]."""
    logits = _full(logits)
    return (logits.gather(1, answers) - logits.logsumexp(1, keepdim=True)).exp()


def _accuracy(logits: Tensor, answers: Tensor, signs: Tensor) -> Tensor:
    chosen = _full(
        logits.gather(1, answers)
    )  # in logs: both groups' probabilities may be too small to compare
    right = chosen.masked_fill(signs < 0, -torch.inf).logsumexp(1)
    wrong = chosen.masked_fill(signs > 0, -torch.inf).logsumexp(1)
    return (right > wrong).float()


def _rank(logits: Tensor, answers: Tensor, signs: Tensor) -> Tensor:
    best = logits.gather(1, answers).masked_fill(signs < 0, -torch.inf).amax(1, keepdim=True)
    return (~(logits <= best)).sum(1)  # "not <=" rather than ">": a NaN must not look like rank 0


METRICS = {"logit_difference": logit_difference, "probability_difference": probability_difference}
