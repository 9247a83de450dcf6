"""Hypothesis tests of circuits: closed forms, and data of which the right answer is known."""

import itertools
import math

import numpy as np
import pytest

from circuitbook.circuits.hypotheses import equivalence, holm, independence, superfluous
from circuitbook.circuits.random_circuits import inflated, partly_replaced, random_path
from circuitbook.model.graph import Graph


def test_holm_by_hand():
    assert holm([0.01, 0.02, 0.03, np.nan]).tolist()[:3] == pytest.approx([0.03, 0.04, 0.04])
    assert math.isnan(holm([0.01, np.nan])[1])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert len(holm([])) == 0


# ---- equivalence


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_the_sign_test_is_the_sum_of_the_binomial(epsilon):
    n = 9
    for wins in range(n + 1):
        circuit = np.array([1.0] * wins + [-1.0] * (n - wins))
        found = equivalence(circuit, np.zeros(n), epsilon)
        by_hand = sum(
            math.comb(n, k) * (0.5 + epsilon) ** k * (0.5 - epsilon) ** (n - k)
            for k in range(n + 1)
            if abs(2 * k - n) >= abs(2 * wins - n)
        )
        assert found.share == pytest.approx(wins / n)
        assert found.p == pytest.approx(by_hand)
        assert found.low <= wins / n <= found.high


def test_equivalence_says_yes_no_and_cannot_tell():
    rng = np.random.default_rng(0)
    model = rng.normal(size=400)
    same = equivalence(model + rng.normal(size=400), model)
    worse = equivalence(model + rng.normal(size=400) - 1, model)
    few = equivalence(np.zeros(2), np.ones(2))
    assert same.p > 0.2 and 0.4 < same.low < same.high < 0.6
    assert worse.p < 1e-6 and worse.high < 0.4
    assert few.p > 0.05 and few.high - few.low > 0.5
    assert equivalence(np.ones(8), np.ones(8)).p == pytest.approx(1)  # ties: as good as each other
    with pytest.raises(ValueError, match="no prompts"):
        equivalence(np.zeros(0), np.zeros(0))


def test_the_test_of_equivalence_keeps_its_level():
    """Under the least favourable share of the null it rejects no more often than it says."""
    rng = np.random.default_rng(1)
    p = [equivalence((rng.random(48) < 0.6) - 0.5, np.zeros(48), 0.1).p for _ in range(2000)]
    assert (np.array(p) <= 0.05).mean() < 0.06


# ---- independence


def test_hsic_by_hand():
    """Kernels, centring and all orders of four scores, written out."""
    a, b = np.array([0.0, 1.0, 3.0, 7.0]), np.array([2.0, 0.0, 1.0, 5.0])

    def kernel(x):
        apart = [abs(p - q) for p, q in itertools.combinations(x, 2)]
        width = np.median(apart)
        return np.array([[math.exp(-((p - q) ** 2) / (2 * width**2)) for q in x] for p in x])

    h = np.eye(4) - 1 / 4

    def hsic(x, y):
        return np.trace(kernel(x) @ h @ kernel(y) @ h)

    found = independence(a, b, draws=3000)
    assert found.hsic == pytest.approx(hsic(a, b) / math.sqrt(hsic(a, a) * hsic(b, b)))
    orders = [hsic(a, b[list(order)]) for order in itertools.permutations(range(4))]
    exact = np.mean(np.array(orders) >= hsic(a, b) - 1e-12)
    assert found.p == pytest.approx(exact, abs=0.03)
    assert independence(a, 5 - 3 * a).hsic == pytest.approx(1.0)  # the same but for scale


def test_independence_says_yes_and_no():
    rng = np.random.default_rng(2)
    model = rng.normal(size=60)
    assert independence(model, rng.normal(size=60)).p > 0.1
    assert independence(model, np.abs(model) + 0.1 * rng.normal(size=60)).p < 0.01  # no correlation
    assert independence(model, np.full(60, 3.0)).p == 1.0
    p = [independence(rng.normal(size=20), rng.normal(size=20), 99, i).p for i in range(400)]
    assert (np.array(p) <= 0.05).mean() < 0.08  # keeps its level
    with pytest.raises(ValueError, match="1 and 1 scores"):
        independence(np.zeros(1), np.zeros(1))


# ---- minimality


def test_an_edge_that_does_no_more_than_a_random_one_is_superfluous():
    rng = np.random.default_rng(3)
    at_random = np.abs(rng.normal(size=30))
    p = superfluous(np.array([10.0, 0.0, np.quantile(at_random, 0.95)]), at_random)
    assert p[0] == 1.0 and p[1] == pytest.approx(0.1**30) and p[2] > 0.5


# ---- random circuits


def test_a_random_path_is_one_path():
    graph, rng = Graph(3, 4), np.random.default_rng(4)
    lengths = set()
    for _ in range(40):
        path = random_path(graph, rng)
        assert (graph.live(path) == path).all()
        out = path.sum(1)
        assert out[0] == 1 and out.max() == 1  # no node is left twice
        lengths.add(int(path.sum()))
        more, edge = inflated(path, graph, rng)
        assert more[edge] and not path[edge] and (more | path == more).all()
    assert len(lengths) > 1
    with pytest.raises(ValueError, match="has all edges"):
        inflated(graph.mask, graph, rng)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_share_of_the_edges_is_replaced(share):
    graph, rng = Graph(3, 4), np.random.default_rng(5)
    mask = graph.mask & (rng.random(graph.mask.shape) < 0.1)
    other = partly_replaced(mask, graph, share, rng)
    assert other.sum() == mask.sum() and not (other & ~graph.mask).any()
    assert (mask & ~other).sum() == round(share * mask.sum())
    with pytest.raises(ValueError, match="1.5 of the edges"):
        partly_replaced(mask, graph, 1.5, rng)
