"""Load balancing: do heads of a kind share their function, so that others gain what one loses?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.studies.findings.kinds import kind_name
from circuitbook.studies.formation import BARS, balance, formation, trajectories
from circuitbook.studies.head_scores import HeadScores


def balance_by_chance(
    scores: pd.DataFrame, draws: int = 5000, seed: int = 0
) -> tuple[float, float]:
    """The middle 95 % of `balance` when the checkpoints of each head are shuffled."""
    values, rng = scores.to_numpy(), np.random.default_rng(seed)
    copies = np.broadcast_to(values, (draws, *values.shape)).copy()
    sums = rng.permuted(copies, axis=1).sum(2)  # [draw, checkpoint]
    balances = sums.var(1) / values.var(0).sum()
    return float(np.quantile(balances, 0.025)), float(np.quantile(balances, 0.975))


def balance_table(
    heads: Sequence[HeadScores], models: Sequence[str], kinds: Sequence[str]
) -> pd.DataFrame:
    """Do heads of a kind share it? A row where two heads are seen at three checkpoints or more."""
    rows = []
    for kind in kinds:
        for model in models:
            scores = _after_formation(heads, model, kind)
            if scores.shape[1] < 2 or len(scores) < 3:
                continue
            value = balance(scores)
            if np.isnan(value):
                continue
            low, high = balance_by_chance(scores)
            rows.append(
                {
                    "kind": kind_name(kind),
                    "model": model,
                    "heads": scores.shape[1],
                    "checkpoints": len(scores),
                    "balance": value,
                    "by chance": f"{low:.2f} to {high:.2f}",
                    "they": _what_they_do(value, low, high),
                }
            )
    return pd.DataFrame(rows)


def _after_formation(heads: Sequence[HeadScores], model: str, kind: str) -> pd.DataFrame:
    """Scores of heads that ever pass the bar, from the kind's formation on; none without it."""
    scores, formed = trajectories(heads, model, kind).clip(0, 1), formation(heads, model, kind)
    if not len(formed.samples):
        return scores.iloc[:0]
    return scores.loc[scores.index >= formed.tokens, scores.max() >= BARS[kind]]


def _what_they_do(value: float, low: float, high: float) -> str:
    if value < low:
        return "balance"
    if value > high:
        return "move together"
    return "can't tell"


def balance_in_words(balanced: pd.DataFrame) -> str:
    """In how many cases heads balance, move together, or one can't tell."""
    if balanced.empty:
        return "No kind has two heads at three checkpoints after formation."
    counts = []
    for answer, number in balanced["they"].value_counts().items():
        who = "one can't tell" if answer == "can't tell" else f"they {answer}"
        counts.append(f"{number} where {who}")
    return f"Of {len(balanced)} cases: {', '.join(counts)}."
