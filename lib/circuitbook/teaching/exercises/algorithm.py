"""Exercises of the chapter on the algorithm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from circuitbook.studies.head_classes import CLASSES, HeadClasses
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _random, _register


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
    patched: torch.Tensor,
    clean: torch.Tensor,
    corrupted: torch.Tensor,
    *,
    in_class: torch.Tensor | None = None,
    in_circuit: torch.Tensor | None = None,
) -> HeadClasses:
    """Heads patched at the stage "direct", [head, prompt], as the library's HeadClasses."""
    n = len(patched)
    classes = {name: np.zeros(n, bool) for name in CLASSES}
    if in_class is not None:
        classes["name mover"] = in_class.numpy()
    return HeadClasses(
        model="",
        step=0,
        tokens_seen=0,
        n_heads=n,
        clean=clean.numpy(),
        corrupted=corrupted.numpy(),
        patched={"direct": patched.numpy()},
        classes=classes,
        in_circuit=np.ones(n, bool) if in_circuit is None else in_circuit.numpy(),
        receivers={},
        signals=np.full((n, 3), np.nan),
        min_effect=0.0,
        why={},
    )


_register(
    "effect",
    "The effect of a head",
    ("patched [prompt]", "clean [prompt]", "corrupted [prompt]"),
    _effect_cases,
    (
        Mistake(
            "Your effect has the wrong sign: patched less clean, so that a head that helps is "
            "negative.",
            lambda patched, clean, corrupted: (clean - patched).mean() / (clean - corrupted).mean(),
        ),
        Mistake(
            "You divide by the clean metric: divide by clean less corrupted, all that there is "
            "to lose.",
            lambda patched, clean, corrupted: (patched - clean).mean() / clean.mean(),
        ),
        Mistake(
            "You average a ratio of each prompt: take the means over the prompts first.",
            lambda patched, clean, corrupted: ((patched - clean) / (clean - corrupted)).mean(),
        ),
        Mistake(
            "You compare with the corrupted metric: the change from the clean one is wanted.",
            lambda patched, clean, corrupted: (patched - corrupted).mean()
            / (clean - corrupted).mean(),
        ),
        Mistake(
            "You give logits: divide by clean less corrupted.",
            lambda patched, clean, corrupted: (patched - clean).mean(),
        ),
    ),
    each=lambda patched, clean, corrupted: {"prompt": len(patched)},
)


def check_effect(function: Callable) -> Feedback:
    """function(patched [prompt], clean [prompt], corrupted [prompt]) -> the effect e(h) of a head
    on the mean logit difference."""
    return CHECKS["effect"].of(function)


def _share_cases() -> list[Case]:
    clean = torch.full((2,), 3.0, dtype=torch.float64)
    corrupted = torch.full((2,), -2.0, dtype=torch.float64)
    cases = []
    for about, effect_of_each, class_of_each, circuit_of_each in (
        (
            "five heads, one of them not in the circuit",
            [-0.5, 0.1, -0.2, -0.4, 0.05],
            [1, 0, 1, 1, 0],
            [1, 1, 1, 0, 1],
        ),
        ("four heads, one of which harms", [-0.6, 0.3, -0.25, -0.1], [1, 1, 0, 0], [1, 1, 1, 0]),
        ("three heads, none in a class", [-0.6, 0.3, -0.2], [0, 0, 0], [1, 1, 1]),
    ):
        effects = torch.tensor(effect_of_each, dtype=torch.float64)
        in_class, in_circuit = torch.tensor(class_of_each) > 0, torch.tensor(circuit_of_each) > 0
        patched = clean + effects[:, None] * (clean - corrupted)
        heads = _head_classes(patched, clean, corrupted, in_class=in_class, in_circuit=in_circuit)
        cases.append(Case(about, (effects, in_class, in_circuit), float(heads.share("direct"))))
    return cases


_register(
    "class_share",
    "What the classes explain",
    ("effects [head]", "in_class [head]", "in_circuit [head]"),
    _share_cases,
    (
        Mistake(
            "You sum effects with their signs: heads that help and heads that harm cancel then; "
            "sum absolute values.",
            lambda effects, in_class, in_circuit: effects[in_class & in_circuit].sum()
            / effects[in_circuit].sum(),
        ),
        Mistake(
            "You sum over all heads: only heads in the circuit count, above and below the line.",
            lambda effects, in_class, in_circuit: effects[in_class].abs().sum()
            / effects.abs().sum(),
        ),
        Mistake(
            "You count heads outside the circuit above the line: only heads in the circuit "
            "count there, too.",
            lambda effects, in_class, in_circuit: effects[in_class].abs().sum()
            / effects[in_circuit].abs().sum(),
        ),
        Mistake(
            "You count heads outside the circuit below the line: only heads in the circuit "
            "count there, too.",
            lambda effects, in_class, in_circuit: effects[in_class & in_circuit].abs().sum()
            / effects.abs().sum(),
        ),
        Mistake(
            "You count heads: the share is of their effects.",
            lambda effects, in_class, in_circuit: (in_class & in_circuit).double().sum()
            / in_circuit.double().sum(),
        ),
        Mistake(
            "You divide mean effects: divide sums, or the number of heads drops out.",
            lambda effects, in_class, in_circuit: effects[in_class & in_circuit].abs().sum()
            / max(int((in_class & in_circuit).sum()), 1)
            / effects[in_circuit].abs().mean(),
        ),
        Mistake(
            "You give the share that the classes do not explain: one less that is wanted.",
            lambda effects, in_class, in_circuit: 1
            - effects[in_class & in_circuit].abs().sum() / effects[in_circuit].abs().sum(),
        ),
    ),
    each=lambda effects, in_class, in_circuit: {"head": len(effects)},
)


def check_class_share(function: Callable) -> Feedback:
    """function(effects [head], in_class [head], in_circuit [head]) -> the share of the absolute
    effects of the heads in the circuit that heads in a class make. The last two are true or false
    for each head."""
    return CHECKS["class_share"].of(function)
