"""Exercises of the chapter on the algorithm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from circuitbook.studies.head_classes import CLASSES, HeadClasses
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _random, _register

# ------------------------------------------------------------------ the algorithm


def _effect_cases() -> list[Case]:
    cases = []
    for about, n, part in (
        ("a head that helps, 5 prompts", 5, 0.4),
        ("a head that harms, 4 prompts", 4, -0.2),
        ("a head that does all, 6 prompts", 6, 1.0),
    ):
        clean, corrupted = 3 + _random(n, seed=n), -2 + _random(n, seed=n + 9)
        patched = clean - part * (clean - corrupted) + 0.2 * _random(n, seed=n + 18)
        right = float(_head_classes(patched[None], clean, corrupted).effects("direct")[0])
        cases.append(Case(about, (patched, clean, corrupted), right))
    return cases


def _head_classes(
    patched, clean, corrupted, members=None, inside=None, min_effect=0.0
) -> HeadClasses:
    n = len(patched)
    rows = {name: np.zeros(n, bool) for name in CLASSES}
    rows |= {} if members is None else {"name mover": members.numpy()}
    return HeadClasses(
        "",
        0,
        0,
        n,
        clean.numpy(),
        corrupted.numpy(),
        {"direct": patched.numpy()},
        rows,
        np.ones(n, bool) if inside is None else inside.numpy(),
        {},
        np.full((n, 3), np.nan),
        min_effect,
        {},
    )


_register(
    "effect",
    "The effect of a head",
    ("patched [prompt]", "clean [prompt]", "corrupted [prompt]"),
    _effect_cases,
    (
        Mistake(
            "Your effect has the wrong sign: patched less clean, so that a head that helps is negative.",
            lambda p, c, x: (c - p).mean() / (c - x).mean(),
        ),
        Mistake(
            "You divide by the clean metric: divide by clean less corrupted, all that there is to lose.",
            lambda p, c, x: (p - c).mean() / c.mean(),
        ),
        Mistake(
            "You average a ratio of each prompt: take the means over the prompts first.",
            lambda p, c, x: ((p - c) / (c - x)).mean(),
        ),
        Mistake(
            "You compare with the corrupted metric: the change from the clean one is wanted.",
            lambda p, c, x: (p - x).mean() / (c - x).mean(),
        ),
        Mistake("You give logits: divide by clean less corrupted.", lambda p, c, x: (p - c).mean()),
    ),
    each=lambda patched, clean, corrupted: {"prompt": len(patched)},
)


def check_effect(function: Callable) -> Feedback:
    """function(patched [prompt], clean [prompt], corrupted [prompt]) -> the effect e(h) of a head
    on the mean logit difference."""
    return CHECKS["effect"].of(function)


def _share_cases() -> list[Case]:
    cases = []
    for about, e, members, inside in (
        (
            "five heads, one of them not in the circuit",
            [-0.5, 0.1, -0.2, -0.4, 0.05],
            [1, 0, 1, 1, 0],
            [1, 1, 1, 0, 1],
        ),
        ("four heads, one of which harms", [-0.6, 0.3, -0.25, -0.1], [1, 1, 0, 0], [1, 1, 1, 0]),
        ("three heads, none in a class", [-0.6, 0.3, -0.2], [0, 0, 0], [1, 1, 1]),
    ):
        effects, members, inside = (
            torch.tensor(e, dtype=torch.float64),
            torch.tensor(members) > 0,
            torch.tensor(inside) > 0,
        )
        clean, corrupted = (
            torch.full((2,), 3.0, dtype=torch.float64),
            torch.full((2,), -2.0, dtype=torch.float64),
        )
        anatomy = _head_classes(clean + effects[:, None] * 5, clean, corrupted, members, inside)
        cases.append(Case(about, (effects, members, inside), float(anatomy.share("direct"))))
    return cases


_register(
    "class_share",
    "What the classes explain",
    ("effects [head]", "in_class [head]", "in_circuit [head]"),
    _share_cases,
    (
        Mistake(
            "You sum effects with their signs: heads that help and heads that harm cancel then; sum absolute values.",
            lambda e, c, i: e[c & i].sum() / e[i].sum(),
        ),
        Mistake(
            "You sum over all heads: only heads in the circuit count, above and below the line.",
            lambda e, c, i: e[c].abs().sum() / e.abs().sum(),
        ),
        Mistake(
            "You count heads outside the circuit above the line: only heads in the circuit count there, too.",
            lambda e, c, i: e[c].abs().sum() / e[i].abs().sum(),
        ),
        Mistake(
            "You count heads outside the circuit below the line: only heads in the circuit count there, too.",
            lambda e, c, i: e[c & i].abs().sum() / e.abs().sum(),
        ),
        Mistake(
            "You count heads: the share is of their effects.",
            lambda e, c, i: (c & i).double().sum() / i.double().sum(),
        ),
        Mistake(
            "You divide mean effects: divide sums, or the number of heads drops out.",
            lambda e, c, i: e[c & i].abs().sum() / max(int((c & i).sum()), 1) / e[i].abs().mean(),
        ),
        Mistake(
            "You give the share that the classes do not explain: one less that is wanted.",
            lambda e, c, i: 1 - e[c & i].abs().sum() / e[i].abs().sum(),
        ),
    ),
    each=lambda effects, in_class, in_circuit: {"head": len(effects)},
)


def check_class_share(function: Callable) -> Feedback:
    """function(effects [head], in_class [head], in_circuit [head]) -> the share of the absolute
    effects of the heads in the circuit that heads in a class make. The last two are true or false
    for each head."""
    return CHECKS["class_share"].of(function)
