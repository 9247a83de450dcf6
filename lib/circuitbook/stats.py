"""Intervals, verdicts and emergence points: how sure a number is, and when a curve rose.

Prompts were sampled when the task was made; the same draw of them serves all checkpoints of a
curve, since they were measured on the same prompts. Checkpoints and training runs are samples too:
`hierarchical_bootstrap`. When a curve crossed a level is known no better than between which
checkpoints: `drawn_crossing`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
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


# ------------------------------------------------------------------ several levels


def mean_of_resampled(
    samples: np.ndarray, rng: np.random.Generator, *, crossed: bool = False
) -> np.ndarray:
    """Bootstrap samples, [draws], of the mean over units that have samples of their own, [units,
    draws]: units are drawn with replacement, and each brings a sample of its own.

    A single unit is kept as it is: it says nothing of how units differ. crossed: all units were
    resampled together (draw k of each is on the same prompts), so that what is drawn in draw k
    stays in draw k.
    """
    n, draws = samples.shape
    if n == 1:
        return samples[0]
    total = np.zeros(draws)
    for _ in range(n):
        column = np.arange(draws) if crossed else rng.permutation(draws)
        total += samples[rng.integers(n, size=draws), column]
    return total / n


Tree = np.ndarray | Sequence  # nested sequences (of sequences ...) of arrays [units]


def hierarchical_bootstrap(
    tree: Tree, draws: int = 2000, seed: int = 0, *, crossed: bool = False
) -> np.ndarray:
    """Bootstrap samples, [draws], of the mean of means of nested units: seeds, of each the
    checkpoints, of each the prompts.

    Every level is drawn with replacement, and what is below each time anew. With n seeds, m
    checkpoints of each and k prompts of each, the variance of the samples is

        V(seed means) / n + mean V(checkpoint means) / (n m) + mean V(prompts) / (n m k),

    with V the variance over the units that there are (ddof 0). A level with one unit is kept, so
    that the interval then knows nothing of other such units. crossed: every leaf has the same units
    (the prompts of a task), one draw of which serves all of them.

    >>> hierarchical_bootstrap([[np.array([1.0, 3.0])], [np.array([5.0, 5.0])]], draws=50).shape
    (50,)
    """
    rng = np.random.default_rng(seed)

    def samples(part: Tree) -> np.ndarray:
        if isinstance(part, np.ndarray):
            if len(part) < 2:
                return np.full(draws, part.mean())
            prompts = seed if crossed else int(rng.integers(2**32))
            return bootstrap_draws(len(part), draws, prompts) @ part
        below = np.stack([samples(one) for one in part])
        return mean_of_resampled(below, rng, crossed=crossed)

    return samples(tree)


def spread(estimates: np.ndarray, samples: np.ndarray) -> tuple[float, np.ndarray]:
    """How far apart several numbers are: the largest less the smallest, and samples of it.

    estimates: [numbers]; samples: [numbers, draws]. The spread of resampled numbers is larger than
    theirs even where they are all the same, so its own quantiles are no interval. All pairs are at
    once within c of their estimated difference where c is a quantile of the spread of the
    resampling errors; so the samples, [2 draws], are the estimate less and plus that.

    >>> spread(np.array([1.0, 2.0]), np.array([[1.0, 1.5], [2.0, 2.0]]))[1].tolist()
    [1.0, 0.5, 1.0, 1.5]
    """
    estimate = float(np.ptp(estimates))
    off = np.ptp(samples - np.asarray(estimates)[:, None], axis=0)
    return estimate, np.concatenate([np.maximum(estimate - off, 0), estimate + off])


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


def p_above(samples: np.ndarray, bound: float) -> float:
    """Two-sided bootstrap p of the claim that a number is above `bound`: twice the share of its
    samples that are not. Where none of them is, what a normal distribution with their mean and
    deviation says, if that is less than 2 / (draws + 1).

    >>> p_above(np.arange(1.0, 100.0), 2.0)
    0.06
    """
    beyond = int((samples <= bound).sum())
    p = min(1.0, 2 * (1 + beyond) / (1 + len(samples)))
    if beyond:
        return p
    deviation = float(np.std(samples)) if np.isfinite(samples).all() else np.inf
    if deviation == 0:
        return 0.0
    return min(p, math.erfc((float(np.mean(samples)) - bound) / deviation / math.sqrt(2)))


def holm(p: Sequence[float]) -> np.ndarray:
    """The p values of several claims, corrected for there being several (Holm 1979).

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(steps, 1)
    return corrected


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
    first = (y >= level[..., None]).argmax(-1)
    after = np.take_along_axis(y, first[..., None], -1)[..., 0]
    before = np.take_along_axis(y, np.maximum(first - 1, 0)[..., None], -1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (level - before) / (after - before)
    return _between(x, y, level, share)


def drawn_crossing(
    x: np.ndarray, y: np.ndarray, level: np.ndarray | float, rng: np.random.Generator
) -> np.ndarray:
    """`crossing`, known no better than between which two points it lies (interval censoring): drawn
    evenly in log(x) between them, for each curve anew.

    A curve that starts at or above its level crosses at x[0].
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    level = np.broadcast_to(np.asarray(level, dtype=float), y.shape[:-1])
    return _between(x, y, level, rng.random(y.shape[:-1]))


def _between(x: np.ndarray, y: np.ndarray, level: np.ndarray, share: np.ndarray) -> np.ndarray:
    """So far between the first point at which each curve reaches its level and the point before,
    in log(x); inf where it never does."""
    reached = y >= level[..., None]
    first = reached.argmax(-1)
    x1, x0 = x[first], x[np.maximum(first - 1, 0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.where(
            x0 > 0, np.exp(np.log(x0) + share * (np.log(x1) - np.log(x0))), x0 + share * (x1 - x0)
        )
    out = np.where(first == 0, x[0], between)
    return np.where(reached.any(-1), out, np.inf)


@dataclass(frozen=True, kw_only=True)
class Emergence:
    """When a curve reached a share of its final value: tokens seen, with an interval over prompts
    and over where between two checkpoints it was.

    `tokens` is nan, and `samples` empty, where there is no ability to date: the final value's
    interval is not above the least that counts as one.
    """

    share: float  # of the final (or largest) value
    final: float  # that value: the mean over prompts
    tokens: float  # at which the share was first reached
    low: float  # tokens: the bootstrap interval
    high: float
    samples: np.ndarray  # [draws] tokens
    absent_until: float = np.nan
    """Tokens of the last checkpoint where it is beyond doubt not there by then; nan where it is
    dated, or where we can't tell whether it is there."""

    @classmethod
    def undated(
        cls, share: float, final: float = np.nan, absent_until: float = np.nan
    ) -> Emergence:
        """Where there is nothing to date."""
        return cls(
            share=share,
            final=final,
            tokens=np.nan,
            low=np.nan,
            high=np.nan,
            samples=np.empty(0),
            absent_until=absent_until,
        )


def emergence(
    tokens: np.ndarray,
    values: np.ndarray,
    share: float = 0.5,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    min_value: float = 0.0,
    gap_seed: int = 0,
) -> Emergence:
    """The tokens at which the mean over prompts first reaches `share` of its value at the last
    checkpoint.

    tokens: [checkpoints], ascending; values: [checkpoints, prompts], zero meaning "no ability".
    The crossing is interpolated in log tokens (`crossing`); its interval draws it between the two
    checkpoints (`drawn_crossing`), by `gap_seed`, which must be another one for each curve. The
    final value is resampled together with the curve. Where its interval does not lie above
    `min_value`, there is nothing to date.
    """
    values = np.asarray(values, dtype=float)
    resampled = bootstrap_draws(values.shape[1], draws, seed) @ values.T  # [draws, checkpoints]
    return dated(tokens, values.mean(1), resampled, share, level, min_value, gap_seed=gap_seed)


def dated(
    tokens: np.ndarray,
    curve: np.ndarray,
    resampled: np.ndarray,
    share: float = 0.5,
    level: float = 0.95,
    min_value: float = 0.0,
    *,
    share_of: Literal["final", "largest"] = "final",
    gap_seed: int = 0,
) -> Emergence:
    """`emergence` of any curve [checkpoints] with its bootstrap samples [draws, checkpoints].

    share_of: "final", a share of the value at the last checkpoint, or "largest", of the largest
    value (for what comes and goes); that value is resampled too, and must lie above `min_value`.
    """
    tokens = np.asarray(tokens, dtype=float)
    full, full_of_draws = _full_value(curve, share_of), _full_value(resampled, share_of)
    surely, at_most = interval(full_of_draws, level)
    if surely <= min_value:
        absent = float(tokens[-1]) if at_most <= min_value else np.nan
        return Emergence.undated(share, float(full), absent)
    gaps = np.random.default_rng([gap_seed, 1])
    samples = drawn_crossing(tokens, resampled, share * full_of_draws, gaps)
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
