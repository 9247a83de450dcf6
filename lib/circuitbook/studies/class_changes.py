"""Do heads change their classes between checkpoints, or only between draws of prompts?

Classes are found on some prompts. On others, at the very same checkpoint, a head near a bar may be
on its other side: it flickers. So a change between checkpoints counts only beyond what two draws
at one checkpoint give.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from circuitbook.studies.head_classes import CLASSES, HeadClasses

CHANGE_COLUMNS = ["model", "pairs", "changed", "redrawn", "low", "high"]
FEWEST_PAIRS = 3  # of checkpoints, for an interval over them
SURE = 0.95  # a head is surely in a class, or surely not, from this share of resamples on


def flickers(classes: HeadClasses, name: str) -> np.ndarray:
    """bool [head]: neither surely in the class nor surely outside it."""
    probability = classes.probability(name)
    return (probability > 1 - SURE) & (probability < SURE)


def class_changes(
    head_classes: Sequence[HeadClasses], draws: int = 500, seed: int = 0
) -> pd.DataFrame:
    """How often some head enters or leaves a class: a row per model with two checkpoints that have
    classes.

    Columns: model, pairs (of neighbouring checkpoints), changed (in what share of comparisons the
    sets of heads in the classes differ, a resample of one checkpoint against one of the next),
    redrawn (the same for two resamples of one checkpoint, the mean over both of a pair: what
    changes without any training), low and high (of changed - redrawn: 95% over pairs; nan with
    fewer than `FEWEST_PAIRS`).
    """
    rng = np.random.default_rng(seed)
    rows = []
    for model in dict.fromkeys(classes.model for classes in head_classes):
        sets = [_members(one) for one in head_classes if one.model == model]
        sets = [members for members in sets if members.any()]
        if len(sets) < 2:
            continue
        within = [_differ(members, members, rng, draws) for members in sets]
        across = np.array([_differ(a, b, rng, draws) for a, b in pairwise(sets)])
        redrawn = np.array([(a + b) / 2 for a, b in pairwise(within)])
        excess = across - redrawn
        low = high = np.nan
        if len(excess) >= FEWEST_PAIRS:
            resampled = rng.choice(excess, size=(2000, len(excess))).mean(1)
            low, high = np.quantile(resampled, [0.025, 0.975])
        rows.append((model, len(across), across.mean(), redrawn.mean(), low, high))
    return pd.DataFrame(rows, columns=CHANGE_COLUMNS)


def _members(classes: HeadClasses) -> np.ndarray:
    """Who is in which class, bool [draw, head, class]; one draw where nothing was resampled."""
    drawn = {name: found[None] for name, found in classes.classes.items()} | dict(classes.drawn)
    return np.stack([drawn[name] for name in CLASSES], 2)


def _differ(a: np.ndarray, b: np.ndarray, rng: np.random.Generator, draws: int) -> float:
    """How often a draw of `a` [draw, head, class] has other members than one of `b`; two draws of
    the same are never the same draw."""
    first = rng.integers(len(a), size=draws)
    if a is b:
        second = (first + 1 + rng.integers(max(1, len(a) - 1), size=draws)) % len(a)
    else:
        second = rng.integers(len(b), size=draws)
    return float((a[first] != b[second]).any((1, 2)).mean())
