"""Exercises of the chapter on what becomes of heads."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pandas as pd
import torch

from circuitbook.heads.ablation import ablate
from circuitbook.studies.formation import balance
from circuitbook.tasks.registry import get_task
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _model, _random, _register


def _balance_cases() -> list[Case]:
    wave = torch.linspace(0, 2, 7, dtype=torch.float64).sin()[:, None]
    tables = {
        "three heads that change independently": 0.3 * _random(9, 3, seed=1),
        "two heads that take turns": torch.cat([wave, 1 - 0.8 * wave], 1),
        "four heads that rise together": wave
        * torch.tensor([1.0, 0.6, 0.9, 0.4], dtype=torch.float64),
    }
    return [
        Case(about, (table,), balance(pd.DataFrame(table.numpy())))
        for about, table in tables.items()
    ]


def _variance(values: torch.Tensor, dim: int = 0) -> torch.Tensor:
    return values.var(dim, unbiased=False)


_register(
    "balance",
    "Load balancing",
    ("scores [checkpoint, head]",),
    _balance_cases,
    (
        Mistake(
            "You turned the fraction over: the variance of the sum stands above the line.",
            lambda scores: _variance(scores).sum() / _variance(scores.sum(1)),
        ),
        Mistake(
            "You take variances over the heads: how the scores change over the checkpoints is "
            "wanted.",
            lambda scores: _variance(scores.sum(0)) / _variance(scores, 1).sum(),
        ),
        Mistake(
            "You use standard deviations: variances are wanted, since only they add up for what "
            "is independent.",
            lambda scores: _variance(scores.sum(1)).sqrt() / _variance(scores).sqrt().sum(),
        ),
        Mistake(
            "You take the mean of the heads' variances: divide by their sum.",
            lambda scores: _variance(scores.sum(1)) / _variance(scores).mean(),
        ),
        Mistake(
            "You take the variance of the heads' mean: that of their sum is wanted.",
            lambda scores: _variance(scores.mean(1)) / _variance(scores).sum(),
        ),
        Mistake(
            "You give the variance of the sum alone: divide by the sum of the heads' variances.",
            lambda scores: _variance(scores.sum(1)),
        ),
    ),
    each=lambda scores: {"checkpoint": len(scores), "head": scores.shape[1]},
)


def check_balance(function: Callable) -> Feedback:
    """function(scores [checkpoint, head]) -> the variance of the heads' sum over checkpoints, over
    the sum of their variances."""
    return CHECKS["balance"].of(function)


@cache
def _repair_cases() -> list[Case]:
    cases = []
    for name, how, n in (("mini-m", "zero", 7), ("mini-s", "resample", 5), ("mini-xs", "zero", 9)):
        model = _model(name)
        pairs = get_task("ioi").prompts(model.tokenizer, n=n, seed=2)
        direct = ablate(model, pairs, [], how).direct_before.mean(-1)
        head = divmod(int(direct.argmax()), model.shape.n_heads)  # the one that writes most
        done = ablate(model, pairs, [head], how)
        wrote = done.before - done.expected
        cases.append(
            Case(
                f"head {head[0]}.{head[1]} of {name} taken out ({how}), {n} prompts",
                (done.before, done.after, wrote),
                float(done.compensation.mean() / wrote.mean()),
            )
        )
    return cases


_register(
    "self_repair",
    "Self-repair",
    ("before [prompt]", "after [prompt]", "wrote [prompt]"),
    lambda: _repair_cases(),
    (
        Mistake(
            "Your share has the wrong sign: where less is lost than the head wrote, something "
            "was repaired, and the share is "
            "positive.",
            lambda before, after, wrote: -(after - (before - wrote)).mean() / wrote.mean(),
        ),
        Mistake(
            "You give the share that is lost: what is repaired is the rest, one less that.",
            lambda before, after, wrote: (before - after).mean() / wrote.mean(),
        ),
        Mistake(
            "You divide by the metric before: divide by what the head wrote, which is all that "
            "can be repaired.",
            lambda before, after, wrote: (after - (before - wrote)).mean() / before.mean(),
        ),
        Mistake(
            "You average a share of each prompt: take the means over the prompts first, since a "
            "head may write next to "
            "nothing on one.",
            lambda before, after, wrote: ((after - (before - wrote)) / wrote).mean(),
        ),
        Mistake(
            "You give logits: divide by what the head wrote, to have a share.",
            lambda before, after, wrote: (after - (before - wrote)).mean(),
        ),
        Mistake(
            "You give what is left of the metric, after over before: compare what is lost with "
            "what the head wrote.",
            lambda before, after, wrote: after.mean() / before.mean(),
        ),
    ),
    each=lambda before, after, wrote: {"prompt": len(before)},
)


def check_self_repair(function: Callable) -> Feedback:
    """function(before [prompt], after [prompt], wrote [prompt]) -> the share of what the head wrote
    that is repaired.

    before, after: the metric before and after a head is taken out; wrote: what the head itself
    wrote to it."""
    return CHECKS["self_repair"].of(function)
