"""Intervals and emergence points against closed forms and slow twins."""

import numpy as np
import pytest

from circuitbook.stats import (
    Verdict,
    bootstrap_draws,
    crossing,
    decide,
    emergence,
    interval,
    onset_ratio,
)


def crossing_slowly(x, y, level):
    for k, value in enumerate(y):
        if value >= level:
            if k == 0:
                return x[0]
            share = (level - y[k - 1]) / (value - y[k - 1])
            if x[k - 1] == 0:
                return share * x[k]
            return x[k - 1] * (x[k] / x[k - 1]) ** share
    return np.inf


def test_crossing_equals_the_slow_twin():
    rng = np.random.default_rng(0)
    x = np.array([0, 3, 7, 20, 100, 1000.0])
    curves = rng.normal(size=(200, 6)).cumsum(1)
    levels = rng.normal(size=200) * 2
    expected = [crossing_slowly(x, c, v) for c, v in zip(curves, levels, strict=True)]
    assert np.isinf(expected).any() and np.isfinite(expected).sum() > 50
    np.testing.assert_allclose(crossing(x, curves, levels), expected, rtol=1e-12)


def test_a_power_law_crosses_where_it_should():
    x = 2.0 ** np.arange(12)
    y = np.log2(x)[None].repeat(3, 0)  # straight in log(x): interpolation is exact
    np.testing.assert_allclose(
        crossing(x, y, np.array([2.5, 4.25, 10.0])), 2 ** np.array([2.5, 4.25, 10.0])
    )


def test_bootstrap_mean_has_the_standard_error_of_the_mean():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    weights = bootstrap_draws(400, draws=4000, seed=5)
    np.testing.assert_allclose(weights.sum(1), 1)
    means = weights @ values
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)
    low, high = interval(means)
    assert low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.02)
    assert high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.02)


def test_emergence_dates_the_rise_and_its_interval_covers_it():
    tokens = np.array([0, 1, 2, 4, 8, 16, 32, 64.0])
    rise = np.array([0, 0, 0, 1, 2, 3, 4, 4.0])
    values = rise[:, None] + np.random.default_rng(0).normal(0, 0.5, size=(8, 100))
    found = emergence(tokens, values, share=0.5)
    assert found.low < found.tokens < found.high
    assert found.tokens == pytest.approx(8, rel=0.1)
    assert emergence(tokens, values, share=0.9).tokens > found.tokens
    assert (
        np.isnan(emergence(tokens, values, min_value=3.99).tokens)
        and emergence(tokens, values, min_value=3).tokens == found.tokens
    )


def test_emergence_of_nothing_is_not_a_number():
    values = np.random.default_rng(0).normal(0, 1, size=(8, 100))
    values[-1] -= values[-1].mean()
    found = emergence(np.arange(8.0), values)
    assert np.isnan(found.tokens) and found.samples.size == 0


def test_fold_range():
    assert onset_ratio(np.array([[1.0, 2.0], [4.0, 3.0]])).tolist() == [4.0, 1.5]
    with pytest.raises(ValueError, match="1 prompt"):
        bootstrap_draws(1)


@pytest.mark.parametrize(
    "low, high, bound, expected",
    [
        (1.1, 2.0, 1.0, Verdict.HOLDS),
        (1.0, 2.0, 1.0, Verdict.OPEN),  # the interval reaches the bound
        (0.0, 1.0, 1.0, Verdict.OPEN),
        (0.0, 0.9, 1.0, Verdict.FAILS),
        (-np.inf, np.inf, 0.0, Verdict.OPEN),
        (5.0, np.inf, 4.0, Verdict.HOLDS),
        (np.nan, 0.9, 1.0, Verdict.OPEN),
        (1.1, np.nan, 1.0, Verdict.OPEN),
    ],
)
def test_a_verdict_takes_the_whole_interval(low, high, bound, expected):
    assert decide(low, high, bound) is expected
    opposite = {Verdict.HOLDS: Verdict.FAILS, Verdict.FAILS: Verdict.HOLDS}
    assert decide(-high, -low, -bound) is opposite.get(expected, expected)


def test_a_verdict_says_itself_and_refuses_what_is_no_interval():
    assert [str(verdict) for verdict in Verdict] == ["holds", "does not hold", "can't tell"]
    with pytest.raises(ValueError, match="ends below its beginning"):
        decide(2.0, 1.0, 0.0)
