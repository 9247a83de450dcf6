"""Classes and scores of heads made by hand, for tests of tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from circuitbook.studies.answer_readers import AnswerReaders
from circuitbook.studies.head_classes import CLASSES, HeadClasses
from circuitbook.studies.head_scores import HeadScores

PROMPTS = 5


def head_classes(
    effects: Sequence[float],
    classes: Mapping[str, Sequence[int]],
    *,
    model: str = "m",
    step: int = 8,
    tokens: int = 8_000_000,
    in_circuit: Sequence[bool] | None = None,
    signals: np.ndarray | None = None,
    ioi: bool = True,
) -> HeadClasses:
    """Two heads a layer with these direct effects; classes: {class: heads, as rows}.

    Clean 3, corrupted 1 on each prompt, so that a patched metric of 3 + 2e has effect e.
    ioi: whether the model does IOI here.
    """
    size = len(effects)
    patched = {"direct": np.tile(3 + 2 * np.array(effects)[:, None], (1, PROMPTS))} if ioi else {}
    return HeadClasses(
        model=model,
        step=step,
        tokens_seen=tokens,
        n_heads=2,
        clean=np.full(PROMPTS, 3.0),
        corrupted=np.full(PROMPTS, 1.0),
        patched=patched,
        classes={name: np.isin(np.arange(size), classes.get(name, [])) for name in CLASSES},
        in_circuit=np.ones(size, bool) if in_circuit is None else np.array(in_circuit),
        receivers={},
        signals=np.full((size, 3), np.nan) if signals is None else signals,
        min_effect=0.0,
        why={"steering": "no receivers", "tertiary": "no receivers"},
    )


def head_scores(
    *, model: str = "m", step: int = 8, tokens: int = 8_000_000, **scores: Sequence[float]
) -> HeadScores:
    """Two heads a layer with these scores, the same on each prompt; "direct" is the effect e.

    A score that is not given is 0 for every head.
    """
    size = len(next(iter(scores.values())))
    kinds = ("previous", "duplicate", "induction", "successor", "copy", "negative_copy")
    arrays = {kind: np.zeros((size, PROMPTS)) for kind in (*kinds, "to_IO", "to_S1", "to_S2")}
    arrays |= {"clean": np.full(PROMPTS, 3.0), "corrupted": np.full(PROMPTS, 1.0)}
    zeros = {"direct": [0.0] * size, "copy_suppression": [0.0] * size}
    for kind, values in (zeros | scores).items():
        column = np.tile(np.array(values, float)[:, None], (1, PROMPTS))
        if kind == "direct":
            arrays["direct"] = 3 + 2 * column
        elif kind == "copy_suppression":
            arrays |= {"cspa_kept": 1 - column, "cspa_ablated": np.ones_like(column)}
        else:
            arrays[kind] = column
    return HeadScores(model, step, tokens, 2, arrays)


def answer_readers(task: str = "greater_than", model: str = "m", step: int = 8) -> AnswerReaders:
    """Four heads, two MLPs: heads 0.1 and 1.0 look at YY, on 60 % and on all of the prompts."""
    peaks = np.zeros((4, 5))
    peaks[1, :3] = peaks[2] = 1
    says_year = np.zeros((4, 5))
    says_year[2, 0] = 1
    effects = np.array([0, -0.1, -0.3, 0.1, -0.4, 0.1])
    arrays = {
        "looks": peaks,
        "peaks": peaks,
        "year": says_year,
        "above": np.tile([[1.5], [-0.25]], (1, 5)),
        "clean": np.ones(5),
        "corrupted": np.zeros(5),
        "direct": np.tile(1 + effects[:, None], (1, 5)),
    }
    return AnswerReaders(model, step, 8_000_000, task, 2, arrays)
