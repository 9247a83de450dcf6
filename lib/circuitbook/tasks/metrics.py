"""The measures of an answer: from logits at END to a number for each prompt."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Logits = Float[Tensor, "n vocab"]
Answers = Int[Tensor, "n answer"]  # token ids; their signs +1 for correct, -1 for wrong ones
PerPrompt = Float[Tensor, " n"]


def _full(logits: Tensor) -> Tensor:
    """In float32 at least."""
    return logits if logits.dtype == torch.float64 else logits.float()


def logit_difference(logits: Logits, answers: Answers, signs: Answers) -> PerPrompt:
    """Mean logit of the correct answers minus mean logit of the wrong ones, [n].

    With one token in each group this is the usual logit difference. For groups the authors average
    too (in their code, the Greater-Than logit difference); a mean is linear in the residual stream,
    as the attribution of logits needs, but
    its sign is not the accuracy: implausible answers count as much as plausible ones.
    """
    return _difference_of_means(_full(logits.gather(1, answers)), signs)


def _difference_of_means(chosen: Float[Tensor, "n answer"], signs: Answers) -> PerPrompt:
    right, wrong = (signs > 0).to(chosen.dtype), (signs < 0).to(chosen.dtype)
    weight = right / right.sum(1, keepdim=True) - wrong / wrong.sum(1, keepdim=True)
    return (chosen * weight).sum(1)


def probability_difference(logits: Logits, answers: Answers, signs: Answers) -> PerPrompt:
    """Probability of all correct answers minus that of all wrong ones, in [-1, 1].

    The authors' metric.
    """
    return (probabilities(logits, answers) * signs).sum(1)


def probabilities(logits: Logits, answers: Answers) -> Float[Tensor, "n answer"]:
    """Probability of each answer over the whole vocabulary."""
    logits = _full(logits)
    return (logits.gather(1, answers) - logits.logsumexp(1, keepdim=True)).exp()


def accuracy(logits: Logits, answers: Answers, signs: Answers) -> PerPrompt:
    """1 if the correct answers together have more probability than the wrong ones, else 0."""
    chosen = _full(logits.gather(1, answers))  # in logs: the probabilities may be too small
    right = chosen.masked_fill(signs < 0, -torch.inf).logsumexp(1)
    wrong = chosen.masked_fill(signs > 0, -torch.inf).logsumexp(1)
    return (right > wrong).float()


def rank(logits: Logits, answers: Answers, signs: Answers) -> PerPrompt:
    """How many tokens have a higher logit than the best correct answer, int64."""
    best = logits.gather(1, answers).masked_fill(signs < 0, -torch.inf).amax(1, keepdim=True)
    return (~(logits <= best)).sum(1)  # "not <=" rather than ">": a NaN must not look like rank 0


METRICS = {"logit_difference": logit_difference, "probability_difference": probability_difference}


def of_answers(
    name: str,
    chosen: Float[Tensor, "n answer"],
    signs: Answers,
    log_total: Callable[[], Float[Tensor, " n"]],
) -> PerPrompt:
    """A metric of `METRICS` from the answers' own logits.

    log_total: gives the logsumexp of all logits; it is asked for only where the metric needs it.
    """
    chosen = _full(chosen)
    if name == "logit_difference":
        return _difference_of_means(chosen, signs)
    if name == "probability_difference":
        return ((chosen - log_total()[:, None]).exp() * signs).sum(1)
    raise ValueError(
        f"there is no metric {name!r} of the answers' logits; there are: {', '.join(METRICS)}"
    )
