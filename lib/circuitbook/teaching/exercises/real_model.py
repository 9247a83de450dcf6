"""Exercises of the chapter on a real language model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from circuitbook.teaching.answers import series
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _register

LOOKS, COPIES = 0.2, 0.5  # more attention to IO, and a higher copy score, than these


def _cases() -> list[Case]:
    """Tables like `HeadScores.table()`, drawn at random, in which the typical mistakes differ."""
    cases: list[Case] = []
    seed = 0
    while len(cases) < 4:
        seed += 1
        rng = np.random.default_rng(seed)
        n_layers, n_heads = 3 + seed % 3, 4 + seed % 2
        rows = np.arange(n_layers * n_heads)
        table = pd.DataFrame(
            {
                "layer": rows // n_heads,
                "head": rows % n_heads,
                "to_IO": rng.beta(0.6, 1.5, len(rows)).round(3),
                "copy": rng.beta(0.5, 0.5, len(rows)).round(3),
                "direct": rng.normal(0, 0.2, len(rows)).round(3),
            }
        )
        right = _mover(table)
        mistaken = [tuple(np.atleast_1d(one.gives(table))) for one in MISTAKES]
        if tuple(right) not in mistaken and len(set(mistaken)) == len(mistaken):
            cases.append(Case(f"a model of {len(rows)} heads", (table,), right))
    return cases


def _movers(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["to_IO"] > LOOKS) & (table["copy"] > COPIES)]


def _place(table: pd.DataFrame, row: int) -> np.ndarray:
    return table.loc[row, ["layer", "head"]].to_numpy(dtype=float)


def _mover(table: pd.DataFrame) -> np.ndarray:
    return _place(table, _movers(table)["direct"].idxmin())


MISTAKES = (
    Mistake(
        "You take the largest direct effect, which is the head that harms most: helping heads are "
        "negative here.",
        lambda table: _place(table, _movers(table)["direct"].idxmax()),
    ),
    Mistake(
        "You take the direct effect of all heads: a head that helps most may neither look at the "
        "name nor copy it.",
        lambda table: _place(table, table["direct"].idxmin()),
    ),
    Mistake(
        "You do not ask whether the head copies what it looks at.",
        lambda table: _place(table, table[table["to_IO"] > LOOKS]["direct"].idxmin()),
    ),
    Mistake(
        "You do not ask whether the head looks at the name.",
        lambda table: _place(table, table[table["copy"] > COPIES]["direct"].idxmin()),
    ),
    Mistake(
        "You take the head that looks at the name most: what it writes to the answer is wanted.",
        lambda table: _place(table, _movers(table)["to_IO"].idxmax()),
    ),
)

_register("mover", "Find the name mover", ("table",), _cases, MISTAKES, read=series)


def check_mover(function: Callable) -> Feedback:
    """function(table) -> (layer, head) of the head that helps the answer most by its direct effect,
    of those with more than a fifth of their attention on IO (`to_IO`) and a copy score above a half
    (`copy`)."""
    return CHECKS["mover"].of(function)
