"""Intervals and emergence points against closed forms and slow twins."""

import numpy as np
import pytest

from circuitbook.stats import (
    Verdict,
    bootstrap_draws,
    crossing,
    decide,
    drawn_crossing,
    emergence,
    hierarchical_bootstrap,
    holm,
    interval,
    p_above,
    spread,
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


def test_one_prompt_is_no_sample():
    with pytest.raises(ValueError, match="1 prompt"):
        bootstrap_draws(1)


# ------------------------------------------------------------------ when, between checkpoints


def test_a_date_is_anywhere_between_its_two_checkpoints():
    x, rng = np.array([0.0, 1, 4, 16, 64]), np.random.default_rng(0)
    curve = np.array([0, 0.1, 0.2, 0.9, 1.0])
    drawn = drawn_crossing(x, np.tile(curve, (20_000, 1)), 0.5, rng)
    logs = np.log(drawn / 4) / np.log(4)  # evenly over the gap: uniform on [0, 1]
    assert logs.min() >= 0 and logs.max() <= 1
    assert logs.mean() == pytest.approx(0.5, abs=0.01)
    assert logs.var() == pytest.approx(1 / 12, rel=0.03)
    linear = drawn_crossing(x, np.tile(curve + 1, (20_000, 1)) * [0, 1, 1, 1, 1], 0.5, rng)
    assert linear.mean() == pytest.approx(0.5, abs=0.01)  # between 0 and 1 there is no log
    assert drawn_crossing(x, curve[None], 0.0, rng).tolist() == [0.0]
    assert drawn_crossing(x, curve[None], 2.0, rng).tolist() == [np.inf]


def test_no_number_of_prompts_makes_a_date_surer_than_its_gap():
    tokens = np.array([1.0, 4, 16, 64])
    values = np.repeat([0.0, 0, 4, 4], 1000).reshape(4, 1000)
    found = emergence(tokens, values)
    assert found.low == pytest.approx(4 * 4**0.025, rel=0.05)
    assert found.high == pytest.approx(4 * 4**0.975, rel=0.05)
    other = emergence(tokens, values, gap_seed=1)  # of another curve: drawn independently
    assert abs(np.corrcoef(found.samples, other.samples)[0, 1]) < 0.08


def test_what_is_surely_not_there_is_later_than_the_end():
    rng, tokens = np.random.default_rng(0), np.array([1.0, 4, 16])
    low = rng.normal(0.2, 0.1, (3, 50))
    assert emergence(tokens, low, min_value=1.0).absent_until == 16
    about = rng.normal(1.0, 0.5, (3, 50))
    about[-1] += 1 - about[-1].mean()
    unsure = emergence(tokens, about, min_value=1.0)
    assert not len(unsure.samples) and np.isnan(unsure.absent_until)


# ------------------------------------------------------------------ several levels


def components(rng, seeds, checkpoints, prompts, deviations):
    """Seeds, of each the checkpoints, of each the prompts, with these deviations of each level."""
    of_seed, of_checkpoint, of_prompt = deviations
    return [
        [
            seed + rng.normal(0, of_checkpoint) + rng.normal(0, of_prompt, prompts)
            for _ in range(checkpoints)
        ]
        for seed in rng.normal(0, of_seed, seeds)
    ]


def test_a_hierarchical_bootstrap_has_the_variance_of_its_formula():
    rng = np.random.default_rng(0)
    tree = components(rng, 5, 4, 30, (1.0, 0.7, 2.0))
    values = np.array(tree)
    of_checkpoints = values.mean(2)
    expected = (
        of_checkpoints.mean(1).var() / 5
        + of_checkpoints.var(1).mean() / (5 * 4)
        + values.var(2).mean() / (5 * 4 * 30)
    )
    samples = hierarchical_bootstrap(tree, draws=40_000, seed=1)
    assert samples.var() == pytest.approx(expected, rel=0.03)
    assert samples.mean() == pytest.approx(values.mean(), abs=0.01)


def hierarchical_slowly(tree, rng):
    if isinstance(tree, np.ndarray):
        return tree[rng.integers(len(tree), size=len(tree))].mean()
    return np.mean(
        [hierarchical_slowly(tree[i], rng) for i in rng.integers(len(tree), size=len(tree))]
    )


def test_a_hierarchical_bootstrap_is_its_slow_twin():
    tree = components(np.random.default_rng(3), 3, 2, 6, (1.0, 0.5, 1.0))
    tree[0] = tree[0][:1]  # not all have as many
    rng = np.random.default_rng(4)
    slow = np.array([hierarchical_slowly(tree, rng) for _ in range(4000)])
    fast = hierarchical_bootstrap(tree, draws=20_000)
    for share in (0.025, 0.25, 0.5, 0.75, 0.975):
        assert np.quantile(fast, share) == pytest.approx(np.quantile(slow, share), abs=0.08)


def test_intervals_over_all_levels_hold_the_truth_and_over_prompts_alone_do_not():
    rng, hits = np.random.default_rng(0), np.zeros(2)
    for repeat in range(200):
        tree = components(rng, 8, 3, 20, (1.0, 0.5, 1.0))
        every = hierarchical_bootstrap(tree, draws=500, seed=repeat)
        prompts = hierarchical_bootstrap(np.concatenate(sum(tree, [])), draws=500, seed=repeat)
        for k, samples in enumerate((every, prompts)):
            low, high = interval(samples)
            hits[k] += low <= 0 <= high
    assert hits[0] / 200 > 0.88 and hits[1] / 200 < 0.5


def test_the_same_prompts_everywhere_are_drawn_once():
    rng = np.random.default_rng(0)
    prompts = rng.normal(0, 1, 50)
    tree = [[prompts, prompts + 1], [prompts, prompts + 1]]
    crossed = hierarchical_bootstrap([row[:1] for row in tree], draws=4000, crossed=True)
    nested = hierarchical_bootstrap([row[:1] for row in tree], draws=4000)
    assert crossed.var() == pytest.approx(prompts.var() / 50, rel=0.08)
    assert nested.var() == pytest.approx(prompts.var() / 100, rel=0.08)


def test_the_spread_of_equal_numbers_is_not_above_one():
    """Four sizes that are the same: resampled, their spread is large; the interval reaches 0."""
    rng, wrong, naive = np.random.default_rng(0), 0, 0
    for _ in range(200):
        measured = rng.normal(0, 1, 4)
        samples = measured[:, None] + rng.normal(0, 1, (4, 500))
        estimate, off = spread(measured, samples)
        assert estimate == np.ptp(measured)
        wrong += interval(off)[0] > 0
        naive += interval(np.ptp(samples, axis=0))[0] > 0
    assert wrong / 200 <= 0.08 and naive == 200


# ------------------------------------------------------------------ verdicts


def holm_slowly(p):
    out, most = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        most = max(most, min(1.0, p[i] * (len(p) - rank)))
        out[i] = most
    return out


def test_holm_equals_its_slow_twin():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 30):
        p = rng.random(n) ** 3
        np.testing.assert_allclose(holm(p), holm_slowly(list(p)))
        assert (holm(p) >= p).all() and (holm(p) <= np.minimum(1, n * p) + 1e-12).all()
    assert len(holm([])) == 0


def test_p_is_the_normal_one_in_the_tail_and_the_share_elsewhere():
    samples = np.random.default_rng(0).normal(3, 1, 4000)
    assert p_above(samples, 2.0) == pytest.approx(2 * 0.1587, rel=0.06)
    assert p_above(samples, -4.0) == pytest.approx(2.56e-12, rel=0.9)
    assert p_above(np.full(10, 1.0), 0.0) == 0 and p_above(np.full(10, 1.0), 1.0) == 1
    assert p_above(np.array([1.0, 1.0, np.inf]), 0.0) == 0.5  # no deviation to go by


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
