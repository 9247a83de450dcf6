"""Orders of edges: greedy against a literal scan of all candidates, ties, nesting."""

import itertools

import numpy as np
import pytest

from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.model.graph import Graph

GRAPH = Graph(3, 2)


def some_scores(seed, ties=False):
    values = np.random.default_rng(seed).normal(size=GRAPH.mask.shape)
    return np.round(values) if ties else values


def scanned(scores, graph, n, absolute):
    """Literal greedy: look at every edge into a node that is in, take the best; ties to the first
    in the matrix."""
    wish, inside, taken = np.abs(scores) if absolute else scores, {graph.n_src}, []
    for _ in range(n):
        open_edges = [
            e
            for e in map(tuple, graph.edges)
            if e not in taken and int(graph.node_of[e[1]]) in inside
        ]
        best = max(open_edges, key=lambda e: wish[e])  # the first of the largest
        taken.append(best)
        inside.add(int(best[0]))
    return taken


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("ties", [True, False])
def test_greedy_equals_a_literal_scan(absolute, ties):
    for seed in range(4):
        scores = some_scores(seed, ties)
        order = edge_order(scores, GRAPH, "greedy", absolute)
        assert len(order) == GRAPH.n_edges
        assert [tuple(edge) for edge in order] == scanned(scores, GRAPH, GRAPH.n_edges, absolute)


def test_top_takes_the_largest_wherever_they_are():
    scores = some_scores(7)
    order = edge_order(scores, GRAPH, "top", absolute=True, limit=10)
    values = np.sort(np.abs(scores[GRAPH.mask]))[::-1]
    np.testing.assert_array_equal(np.abs(scores[tuple(order.T)]), values[:10])
    signed = edge_order(scores, GRAPH, "top", absolute=False, limit=10)
    np.testing.assert_array_equal(scores[tuple(signed.T)], np.sort(scores[GRAPH.mask])[::-1][:10])


def test_circuits_of_an_order_are_nested():
    order = edge_order(some_scores(1), GRAPH)
    masks = [first_edges(order, GRAPH, n) for n in range(0, GRAPH.n_edges + 1, 7)]
    assert all((small <= large).all() for small, large in itertools.pairwise(masks))
    assert first_edges(order, GRAPH, GRAPH.n_edges).sum() == GRAPH.n_edges and masks[0].sum() == 0
    assert first_edges(order, GRAPH, 9, prune=False).sum() == 9


@pytest.mark.parametrize(
    "scores, says",
    [(np.zeros((2, 2)), "this graph has"), (np.full(GRAPH.mask.shape, np.nan), "not finite")],
)
def test_bad_scores_are_refused(scores, says):
    with pytest.raises(ValueError, match=says):
        edge_order(scores, GRAPH)
    with pytest.raises(ValueError, match="unknown selection 'best'"):
        edge_order(np.zeros(GRAPH.mask.shape), GRAPH, "best")
