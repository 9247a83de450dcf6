"""Pruning and ACDC: the circuits evaluated in advance change nothing about what is decided."""

import numpy as np
import pytest
from closeness import assert_close
from literal import Literal
from toys import toy_model, toy_pairs

from circuitbook.circuits.acdc import acdc, acdc_order, smallest_acdc
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.pruning import MetricOfCircuits, prune
from circuitbook.circuits.random_circuits import random_circuit
from circuitbook.model.graph import Graph


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_model(tmp_path_factory.mktemp("toy"), layers=2)


@pytest.mark.parametrize(
    ("distance", "threshold"),
    [("shortfall", 0.02), ("shortfall", 0.07), ("distance", 0.02), ("distance", 0.3)],
)
def test_acdc_is_its_algorithm_by_hand(toy, distance, threshold):
    """One edge after the other, from the logits back, each tried on the literal twin."""
    network, model = toy
    pairs = toy_pairs()
    metric = MetricOfCircuits(model, pairs)
    graph, literal = metric.graph, Literal(network)
    kept = set(graph.edge_names)
    whole = literal.circuit(pairs, kept)

    def from_model(edges):
        apart = whole - literal.circuit(pairs, edges)
        return float((apart if distance == "shortfall" else apart.abs()).mean())

    tried = []
    before = from_model(kept)
    for dst in reversed(graph.destination_names):
        for src in reversed(graph.source_names):
            name = f"{src}->{dst}"
            if name not in kept:
                continue
            tried.append(graph.edge(name))
            after = from_model(kept - {name})
            assert abs(after - before - threshold) > 1e-9  # no rounding decides
            if after - before < threshold:
                kept, before = kept - {name}, after
    assert tried == acdc_order(graph)
    by_hand = np.zeros_like(graph.mask)
    for name in kept:
        by_hand[graph.edge(name)] = True
    found = acdc(metric, threshold, distance)
    assert (found == graph.live(by_hand)).all()
    assert 3 < found.sum() < graph.n_edges
    with pytest.raises(ValueError, match="unknown distance 'kl'"):
        acdc(metric, threshold, "kl")


def test_the_largest_threshold_whose_circuit_passes(toy):
    metric = MetricOfCircuits(toy[1], toy_pairs())
    shares = (2.0, 0.2, 0.05, 0.01)
    mask, threshold = smallest_acdc(metric, 0.8, shares)
    assert metric.kept([mask])[0] >= 0.8
    whole = abs(float((metric.clean - metric.corrupted).mean()))
    for larger in shares[: shares.index(threshold)]:
        assert metric.kept([acdc(metric, larger * whole)])[0] < 0.8
    assert smallest_acdc(metric, 1.0 + 1e9, shares)[0] is None


def test_pruning_goes_edge_by_edge(toy):
    """Whether one may go hangs on what went before: with every answer known, by hand."""
    graph = Graph(2, 2)
    rng = np.random.default_rng(0)
    weight = rng.random(graph.mask.shape)

    def metric(masks):
        return np.array([[weight[mask].sum(), float(mask.sum())] for mask in masks])

    start = random_circuit(graph, 30, rng)
    order = rng.permutation(np.argwhere(start))
    least = 0.5 * weight[start].sum()
    seen = []

    def may_go(before, after):
        seen.append(after[0])
        return after[0] >= least

    got = prune(metric, graph, start, order, may_go)
    mask = start.copy()
    for src, dst in order:
        less = mask.copy()
        less[src, dst] = False
        less = graph.live(less)
        if mask[src, dst] and weight[less].sum() >= least:
            mask = less
    assert (got == mask).all() and 0 < got.sum() < start.sum()
    assert len(seen) < len(order)  # what died with another edge was not tried
    nothing = prune(metric, graph, start, order, lambda before, after: False)
    assert (nothing == start).all()
    everything = prune(metric, graph, start, order, lambda before, after: True)
    assert not everything.any()


def test_the_same_living_edges_are_evaluated_once(toy, monkeypatch):
    from circuitbook.circuits import pruning

    model, pairs = toy[1], toy_pairs()
    metric = MetricOfCircuits(model, pairs)
    asked = []

    def counting(model, pairs, masks, **more):
        asked.append(len(masks))
        return evaluate_masks(model, pairs, masks, **more)

    monkeypatch.setattr(pruning, "evaluate_masks", counting)
    graph = metric.graph
    one = random_circuit(graph, 12, np.random.default_rng(3))
    dead = one.copy()
    dead[graph.edge("input->a1.h0<q>")] = True
    dead[graph.source(1, 0)] = False
    alive = graph.live(dead)
    got = metric([one, alive, dead, graph.mask, np.zeros_like(one), one])
    assert sum(asked) == len({one.tobytes(), alive.tobytes()})
    assert_close(got[2], got[1], rounds=1)
    assert_close(
        got,
        evaluate_masks(model, pairs, [one, alive, dead, graph.mask, one & False, one]).numpy(),
        rounds=100,
        size=10,
    )
    assert metric.kept([graph.mask, one & False]).tolist() == [1.0, 0.0]
