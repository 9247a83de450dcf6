"""Exercises of the chapter on abilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from circuitbook.stats import crossing
from circuitbook.tasks.metrics import logit_difference
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _random, _register


def _logit_cases() -> list[Case]:
    cases = []
    for n, vocab, seed in ((5, 12, 1), (1, 7, 2), (8, 30, 3)):
        logits = 2 * _random(n, vocab, seed=seed)
        draw = torch.Generator().manual_seed(seed)
        pairs = torch.stack([torch.randperm(vocab, generator=draw)[:2] for _ in range(n)])
        right = logit_difference(logits, pairs, torch.tensor([1, -1]).expand(n, 2)).mean().item()
        cases.append(
            Case(
                f"{n} prompt{'s' * (n > 1)}, {vocab} tokens",
                (logits, pairs[:, 0], pairs[:, 1]),
                right,
            )
        )
    return cases


def _picked(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, tokens[:, None])[:, 0]


_register(
    "logit_difference",
    "The logit difference",
    ("logits [prompt, token]", "right [prompt]", "wrong [prompt]"),
    _logit_cases,
    (
        Mistake(
            "Your score has the wrong sign: it is the right answer's logit less the wrong "
            "one's, not the other way round.",
            lambda logits, right, wrong: (_picked(logits, wrong) - _picked(logits, right)).mean(),
        ),
        Mistake(
            "You sum over the prompts: take the mean, or the score grows with their number.",
            lambda logits, right, wrong: (_picked(logits, right) - _picked(logits, wrong)).sum(),
        ),
        Mistake(
            "You score the first prompt alone: average over all of them.",
            lambda logits, right, wrong: (_picked(logits, right) - _picked(logits, wrong))[0],
        ),
        Mistake(
            "You subtract probabilities: the logits themselves are wanted, without a softmax.",
            lambda logits, right, wrong: (
                _picked(logits.softmax(1), right) - _picked(logits.softmax(1), wrong)
            ).mean(),
        ),
        Mistake(
            "You take the right answer's logit alone: subtract the wrong answer's, since all "
            "logits may move together.",
            lambda logits, right, wrong: _picked(logits, right).mean(),
        ),
        Mistake(
            "You compare with the wrong token: subtract the logit of the wrong answer, not the "
            "largest logit.",
            lambda logits, right, wrong: (_picked(logits, right) - logits.amax(1)).mean(),
        ),
        Mistake(
            "You take the size of each difference: a prompt that the model gets wrong must "
            "count as negative.",
            lambda logits, right, wrong: (_picked(logits, right) - _picked(logits, wrong))
            .abs()
            .mean(),
        ),
    ),
    each=lambda logits, right, wrong: {"prompt": len(logits)},
)


def check_logit_difference(function: Callable) -> Feedback:
    """function(logits [prompt, token], right [prompt], wrong [prompt]) -> the mean logit
    difference."""
    return CHECKS["logit_difference"].of(function)


def _crossing(tokens: Sequence[float], curve: Sequence[float], level: float) -> float:
    return float(crossing(np.asarray(tokens, float), np.asarray(curve, float), level))


def _emergence_cases() -> list[Case]:
    curves = {
        "a curve that rises steadily": ([1e5, 4e5, 16e5, 64e5], [0.1, 0.7, 2.3, 4.1]),
        "a curve that rises, falls back and rises again": (
            [1e5, 3e5, 9e5, 27e5, 81e5],
            [0.0, 2.6, 0.9, 2.9, 4.0],
        ),
        "a curve whose last value is not its largest": (
            [2e5, 4e5, 8e5, 32e5],
            [-0.3, 0.8, 5.0, 2.2],
        ),
    }
    return [
        Case(
            f"{what}, share {share:g}",
            (tokens, curve, share),
            _crossing(tokens, curve, share * curve[-1]),
        )
        for what, (tokens, curve) in curves.items()
        for share in (0.5, 0.9)
    ]


def _first_at_level(curve: Sequence[float], share: float) -> int:
    """Number of the first checkpoint at or above the level."""
    return next(i for i, value in enumerate(curve) if value >= share * curve[-1])


def _interpolated_in_tokens(tokens: Sequence[float], curve: Sequence[float], share: float) -> float:
    after = _first_at_level(curve, share)
    around = slice(after - 1, after + 1)
    return float(np.interp(share * curve[-1], curve[around], tokens[around]))


def _last_crossing(tokens: Sequence[float], curve: Sequence[float], share: float) -> float:
    level = share * curve[-1]
    after = max(i for i, value in enumerate(curve) if value < level) + 1
    part = (level - curve[after - 1]) / (curve[after] - curve[after - 1])
    ratio = tokens[after] / tokens[after - 1]
    return float(np.exp(np.log(tokens[after - 1]) + part * np.log(ratio)))


_register(
    "emergence",
    "When does an ability form?",
    ("tokens [checkpoint]", "curve [checkpoint]", "share"),
    _emergence_cases,
    (
        Mistake(
            "You interpolate in tokens: the axis is logarithmic, so interpolate in the "
            "logarithm of the tokens.",
            _interpolated_in_tokens,
        ),
        Mistake(
            "You give the first checkpoint at or above the level: interpolate between it and "
            "the one before.",
            lambda tokens, curve, share: tokens[_first_at_level(curve, share)],
        ),
        Mistake(
            "You give the last checkpoint below the level: interpolate between it and the one "
            "after.",
            lambda tokens, curve, share: tokens[_first_at_level(curve, share) - 1],
        ),
        Mistake(
            "You take the share of the largest value: the share of the last value is wanted.",
            lambda tokens, curve, share: _crossing(tokens, curve, share * max(curve)),
        ),
        Mistake(
            "You give the last time the curve crosses the level: the first one is wanted.",
            _last_crossing,
        ),
        Mistake(
            "You take the share as the level itself: the level is the share times the last value.",
            lambda tokens, curve, share: _crossing(tokens, curve, share),
        ),
    ),
    each=lambda tokens, curve, share: {"checkpoint": len(tokens)},
)


def check_emergence(function: Callable) -> Feedback:
    """function(tokens, curve, share) -> the tokens at which the curve first reaches `share` of its
    last value, interpolated in the logarithm of the tokens. tokens ascending, above 0; lists of
    numbers. Every curve starts below the level."""
    return CHECKS["emergence"].of(function)
