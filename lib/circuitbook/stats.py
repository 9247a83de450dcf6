"""Intervals and emergence points: how sure a curve is, and when it rose.

Every resampling draws prompts, the unit that was sampled when the task was made; the same draw
serves all checkpoints of a curve, since they were measured on the same prompts.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np


@lru_cache(maxsize=16)
def bootstrap_draws(n: int, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Resampling weights, float64 [draws, n]: how often each of `n` prompts is drawn, divided by n.
    Rows sum to 1.

    With them a bootstrapped mean is a matrix product: ``weights @ values``. Kept for the next call,
    and read-only.

    >>> bootstrap_draws(4, draws=1000).shape
    (1000, 4)
    """
    if n < 2:
        raise ValueError(f"a bootstrap over {n} prompt(s) says nothing; measure at least 2")
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws) / n
    weights.flags.writeable = False
    return weights


def interval(
    samples: np.ndarray, level: float = 0.95, axis: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of bootstrap samples along `axis`; infinities count as later than
    everything."""
    tail = (1 - level) / 2
    low = np.quantile(samples, tail, axis=axis, method="lower")
    high = np.quantile(samples, 1 - tail, axis=axis, method="higher")
    return low, high


# ------------------------------------------------------------------ verdicts


class Verdict(str, enum.Enum):
    """What an interval says of a claim that a number lies above a bound."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "can't tell"

    def __str__(self) -> str:
        return self.value


def decide(low: float, high: float, bound: float) -> Verdict:
    """Whether what lies in [low, high] is above `bound`: the one rule for every claim that rests on
    an interval.

    It holds where the whole interval lies above the bound, and does not where the whole interval
    lies below it. Where the interval reaches the bound, or where an end is nan (nothing was
    measured), we can't tell. For a claim that a number is *below* a bound, turn the signs round:
    ``decide(-high, -low, -bound)``. ValueError if low > high.

    >>> decide(0.2, 0.4, bound=0.1), decide(-0.3, 0.0, bound=0.1), decide(0.0, 0.4, bound=0.1)
    (<Verdict.HOLDS: 'holds'>, <Verdict.FAILS: 'does not hold'>, <Verdict.OPEN: "can't tell">)
    """
    if low > high:
        raise ValueError(f"[{low:g}, {high:g}] is no interval: it ends below its beginning")
    if np.isnan(low) or np.isnan(high):
        return Verdict.OPEN
    if low > bound:
        return Verdict.HOLDS
    return Verdict.FAILS if high < bound else Verdict.OPEN


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """A claim about several things: it fails where it fails of one, holds where it holds of all.

    >>> all_of([Verdict.HOLDS, Verdict.OPEN]), all_of([Verdict.OPEN, Verdict.FAILS])
    (<Verdict.OPEN: "can't tell">, <Verdict.FAILS: 'does not hold'>)
    """
    every = set(verdicts)
    if Verdict.FAILS in every:
        return Verdict.FAILS
    return Verdict.HOLDS if every == {Verdict.HOLDS} else Verdict.OPEN


# ------------------------------------------------------------------ when a curve rises


def crossing(x: np.ndarray, y: np.ndarray, level: np.ndarray | float) -> np.ndarray:
    """First `x` at which each curve reaches its level, interpolated in log(x); inf where it never
    does.

    x: [points], ascending and not negative; y: [..., points]; level: [...]. Between x = 0 and the
    next point the interpolation is linear. A curve that starts at or above its level crosses at
    x[0].

    >>> crossing(np.array([1., 4., 16.]), np.array([0., 1., 2.]), 1.5)
    array(8.)
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    level = np.broadcast_to(np.asarray(level, dtype=float), y.shape[:-1])
    reached = y >= level[..., None]
    first = reached.argmax(-1)
    after = np.take_along_axis(y, first[..., None], -1)[..., 0]
    before = np.take_along_axis(y, np.maximum(first - 1, 0)[..., None], -1)[..., 0]
    x1, x0 = x[first], x[np.maximum(first - 1, 0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (level - before) / (after - before)
        between = np.where(
            x0 > 0, np.exp(np.log(x0) + share * (np.log(x1) - np.log(x0))), x0 + share * (x1 - x0)
        )
    out = np.where(first == 0, x[0], between)
    return np.where(reached.any(-1), out, np.inf)


@dataclass(frozen=True, kw_only=True)
class Emergence:
    """When a curve reached a share of its final value: tokens seen, with a bootstrap interval over
    prompts.

    `tokens` is nan, and `samples` empty, where there is no ability to date: the final value's
    interval is not above the least that counts as one.
    """

    share: float  # of the final (or largest) value
    final: float  # that value: the mean over prompts
    tokens: float  # at which the share was first reached
    low: float  # tokens: the bootstrap interval
    high: float
    samples: np.ndarray  # [draws] tokens

    @classmethod
    def undated(cls, share: float, final: float = np.nan) -> Emergence:
        """Where there is nothing to date."""
        empty = np.empty(0)
        return cls(share=share, final=final, tokens=np.nan, low=np.nan, high=np.nan, samples=empty)


def emergence(
    tokens: np.ndarray,
    values: np.ndarray,
    share: float = 0.5,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    min_value: float = 0.0,
) -> Emergence:
    """The tokens at which the mean over prompts first reaches `share` of its value at the last
    checkpoint.

    tokens: [checkpoints], ascending; values: [checkpoints, prompts], zero meaning "no ability".
    Crossings are interpolated in log tokens (`crossing`). The final value is resampled together
    with the curve. Where its interval does not lie above `min_value`, there is nothing to date.
    """
    values = np.asarray(values, dtype=float)
    resampled = bootstrap_draws(values.shape[1], draws, seed) @ values.T  # [draws, checkpoints]
    return dated(tokens, values.mean(1), resampled, share, level, min_value)


def dated(
    tokens: np.ndarray,
    curve: np.ndarray,
    resampled: np.ndarray,
    share: float = 0.5,
    level: float = 0.95,
    min_value: float = 0.0,
    *,
    share_of: Literal["final", "largest"] = "final",
) -> Emergence:
    """`emergence` of any curve [checkpoints] with its bootstrap samples [draws, checkpoints].

    share_of: "final", a share of the value at the last checkpoint, or "largest", of the largest
    value (for what comes and goes); that value is resampled too, and must lie above `min_value`.
    """
    tokens = np.asarray(tokens, dtype=float)
    full, full_of_draws = _full_value(curve, share_of), _full_value(resampled, share_of)
    if interval(full_of_draws, level)[0] <= min_value:
        return Emergence.undated(share, float(full))
    samples = crossing(tokens, resampled, share * full_of_draws)
    low, high = interval(samples, level)
    return Emergence(
        share=share,
        final=float(full),
        tokens=float(crossing(tokens, curve, share * float(full))),
        low=float(low),
        high=float(high),
        samples=samples,
    )


def _full_value(curves: np.ndarray, share_of: str) -> np.ndarray:
    """What a curve [..., checkpoints] is to reach a share of, [...]."""
    return curves[..., -1] if share_of == "final" else curves.max(-1)


def onset_ratio(samples: np.ndarray, axis: int = 0) -> np.ndarray:
    """Largest over smallest: "the same number of tokens" is 1, "one takes twice as long" is 2.

    >>> onset_ratio(np.array([[1e6, 2e6], [4e6, 2e6]]))
    array([4., 1.])
    """
    return samples.max(axis) / samples.min(axis)
