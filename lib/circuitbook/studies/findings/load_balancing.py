"""Load balancing: do heads of a kind share their function, so that others gain what one loses?

Heads that all grow, or all fade, while a model trains rise and fall together without having
anything to do with one another. So what all of them share is taken off first: the mean of their
straight lines in the logarithm of tokens. What is left of each head, a slow hand-over from one to
another among it, is balanced if its sum over heads varies less than that of heads that do not know
of one another, and moves together if more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.studies.findings.kinds import kind_name
from circuitbook.studies.formation import BARS, balance, formation, trajectories
from circuitbook.studies.head_scores import HeadScores

MIN_CHECKPOINTS = 4  # a line through three leaves next to nothing


def without_shared_trend(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores, [checkpoint, head] by tokens seen, less the heads' means and the line in log tokens
    that all of them share: its slope is the mean of the heads' own slopes.
    """
    time = _times(scores)
    return pd.DataFrame(_less_shared(scores.to_numpy(), time), scores.index, scores.columns)


def _times(scores: pd.DataFrame) -> np.ndarray:
    """Log tokens of the checkpoints, about their mean."""
    logs = np.log(np.maximum(np.asarray(scores.index, dtype=float), 1.0))
    return logs - logs.mean()


def _less_shared(values: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Of values [..., checkpoint, head]: less means and shared slope."""
    centred = values - values.mean(-2, keepdims=True)
    slope = (time @ centred).mean(-1) / max(float((time**2).sum()), 1e-12)
    return centred - slope[..., None, None] * time[:, None]


def balance_by_chance(
    scores: pd.DataFrame, draws: int = 5000, seed: int = 0
) -> tuple[float, float]:
    """The middle 95% of `balance` about the shared trend when every head's deviations from that
    trend are shuffled among the checkpoints: heads with that trend, and nothing else in common.
    """
    time, rng = _times(scores), np.random.default_rng(seed)
    left = _less_shared(scores.to_numpy(), time)
    copies = np.broadcast_to(left, (draws, *left.shape)).copy()
    # what the shuffled ones share by chance is taken off as it was of the real ones
    shuffled = _less_shared(rng.permuted(copies, axis=1), time)
    alone = shuffled.var(1).sum(1)
    balances = shuffled.sum(2).var(1) / np.where(alone > 0, alone, 1)
    return float(np.quantile(balances, 0.025)), float(np.quantile(balances, 0.975))


def balance_table(
    heads: Sequence[HeadScores], models: Sequence[str], kinds: Sequence[str]
) -> pd.DataFrame:
    """Do heads of a kind share it? A row where two heads are seen at four checkpoints or more."""
    rows = []
    for kind in kinds:
        for model in models:
            scores = _after_formation(heads, model, kind)
            if scores.shape[1] < 2 or len(scores) < MIN_CHECKPOINTS:
                continue
            value = balance(without_shared_trend(scores))
            if np.isnan(value):
                continue
            low, high = balance_by_chance(scores)
            rows.append(
                {
                    "kind": kind_name(kind),
                    "model": model,
                    "heads": scores.shape[1],
                    "checkpoints": len(scores),
                    "balance": balance(scores),
                    "about the shared trend": value,
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
    """In how many cases heads balance, move together, or we can't tell."""
    if balanced.empty:
        return "No kind has two heads at four checkpoints after formation."
    they = balanced["they"].value_counts()
    cases = f"{len(balanced)} cases (a kind in a model)" if len(balanced) > 1 else "one case"
    said = f"**In {they.get('balance', 0)} of {cases} heads balance each other**"
    if together := they.get("move together", 0):
        said += f"; in {together} they rise and fall together"
    if unsure := they.get("can't tell", 0):
        said += f"; in {unsure} we can't tell"
    return f"{said}."
