"""Intervals and emergence points: how sure a curve is, and when it rose.

Every resampling draws prompts, the unit that was sampled when the task was made; the same draw serves all
checkpoints of a curve, since they were measured on the same prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=16)
def bootstrap_draws(n: int, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Resampling weights, float64 [draws, n]: how often each of `n` prompts is drawn, divided by n. Rows sum to 1.

    With them a bootstrapped mean is a matrix product: ``weights @ values``. Kept for the next call, and read-only.
    """
    if n < 2:
        raise ValueError(f"a bootstrap over {n} prompt(s) says nothing; measure at min_value 2")
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws) / n
    weights.flags.writeable = False
    return weights


def interval(
    samples: np.ndarray, level: float = 0.95, axis: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of bootstrap samples along `axis`; infinities count as later than everything."""
    tail = (1 - level) / 2
    low = np.quantile(samples, tail, axis=axis, method="lower")
    high = np.quantile(samples, 1 - tail, axis=axis, method="higher")
    return low, high


def crossing(x: np.ndarray, y: np.ndarray, level: np.ndarray | float) -> np.ndarray:
    """First `x` at which each curve reaches its level, interpolated in log(x); inf where it never does.

    x: [points], ascending and not negative; y: [..., points]; level: [...]. Between x = 0 and the next point the
    interpolation is linear. A curve that starts at or above its level crosses at x[0].

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


@dataclass(frozen=True)
class Emergence:
    """When a curve reached a share of its final value: tokens seen, with a bootstrap interval over prompts.

    `tokens` is nan, and `samples` empty, where there is no ability to date: the final value's interval is not above
    the least that counts as one.
    """

    share: float
    final: float  # mean over prompts at the last checkpoint
    tokens: float
    low: float
    high: float
    samples: np.ndarray  # [draws] tokens


def emergence(
    tokens: np.ndarray,
    values: np.ndarray,
    share: float = 0.5,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    min_value: float = 0.0,
) -> Emergence:
    """The tokens at which the mean over prompts first reaches `share` of its value at the last checkpoint.

    tokens: [checkpoints], ascending; values: [checkpoints, prompts], zero meaning "no ability". Crossings are
    interpolated in log tokens (`crossing`). The final value is resampled together with the curve. Where its interval
    does not lie above `min_value`, there is nothing to date.
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
    of: str = "final",
) -> Emergence:
    """`emergence` of any curve [checkpoints] with its bootstrap samples [draws, checkpoints].

    of: "final", a share of the value at the last checkpoint, or "largest", of the largest value (for what comes and goes);
    that value is resampled too, and must lie above `min_value`.
    """
    tokens = np.asarray(tokens, dtype=float)
    top = (lambda values: values[..., -1]) if of == "final" else (lambda values: values.max(-1))
    final = float(top(curve))
    if interval(top(resampled), level)[0] <= min_value:
        return Emergence(share, final, np.nan, np.nan, np.nan, np.empty(0))
    samples = crossing(tokens, resampled, share * top(resampled))
    low, high = interval(samples, level)
    return Emergence(
        share,
        final,
        float(crossing(tokens, curve, share * final)),
        float(low),
        float(high),
        samples,
    )


def onset_ratio(samples: np.ndarray, axis: int = 0) -> np.ndarray:
    """Largest over smallest: "the same number of tokens" is 1, "one takes twice as long" is 2."""
    return samples.max(axis) / samples.min(axis)
