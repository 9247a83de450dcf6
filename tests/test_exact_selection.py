"""The best n edges against every subset of a small graph, and a case where greedy is wrong."""

import itertools

import numpy as np
import pandas as pd
import pytest

from circuitbook.circuits.exact_selection import Selection, best_edges, greedy_edges
from circuitbook.model.graph import Graph
from circuitbook.studies.findings import equally_good as words

SMALL = [Graph(1, 1, parallel=False), Graph(1, 2), Graph(2, 0)]


def living_subsets(graph):
    """Every circuit without a dead edge."""
    for chosen in itertools.product([False, True], repeat=graph.n_edges):
        mask = np.zeros(graph.mask.shape, bool)
        mask[graph.mask] = chosen
        if (graph.live(mask) == mask).all():
            yield mask


@pytest.mark.parametrize("graph", SMALL, ids=str)
@pytest.mark.parametrize("absolute", [True, False])
def test_it_is_the_best_of_all_subsets(graph, absolute):
    subsets = list(living_subsets(graph))
    for seed in range(3):
        scores = np.random.default_rng(seed).normal(size=graph.mask.shape)
        values = np.abs(scores) if absolute else scores
        for n in range(graph.n_edges + 1):
            best = max(values[mask].sum() for mask in subsets if mask.sum() <= n)
            got = best_edges(scores, graph, n, absolute=absolute)
            assert got.total == pytest.approx(best) == values[got.mask].sum()
            assert got.mask.sum() <= n and (graph.live(got.mask) == got.mask).all()
            assert got.gap < 1e-6 or n == 0


def test_greedy_can_be_wrong_by_as_much_as_you_like():
    """A large edge behind a small one, and beside it edges that are a little larger."""
    graph = Graph(1, 1, parallel=False)
    scores = np.zeros(graph.mask.shape)
    for name, value in {
        "input->logits": 2.0,
        "a0.h0->logits": 1.0,
        "input->a0.h0<v>": 9.0,
        "m0->logits": 1.5,
        "input->m0": 1.2,
    }.items():
        scores[graph.edge(name)] = value
    assert greedy_edges(scores, graph, 2).total == 2.0  # the second, m0->logits, is dead
    got = best_edges(scores, graph, 2)
    assert got.total == 10 and got.mask[graph.edge("input->a0.h0<v>")]


def test_order_does_not_change_what_fits():
    graph, rng = Graph(3, 2), np.random.default_rng(1)
    scores = rng.normal(size=graph.mask.shape)
    for n in (1, 4, 9, 30, graph.n_edges):
        for selection in ("greedy", "top"):
            got = greedy_edges(scores, graph, n, selection=selection)
            assert got.mask.sum() <= n and (graph.live(got.mask) == got.mask).all()
            assert got.total <= best_edges(scores, graph, n).total + 1e-9
    assert greedy_edges(scores, graph, graph.n_edges).mask.sum() == graph.n_edges


def test_out_of_time_it_is_no_worse_than_greedy():
    graph = Graph(6, 8)
    scores = np.random.default_rng(0).normal(size=graph.mask.shape)
    got = best_edges(scores, graph, 60, seconds=1e-3)
    assert got.total >= greedy_edges(scores, graph, 60).total and got.bound >= got.total
    assert Selection(mask=graph.mask, total=2.0, bound=3.0).gap == 0.5


def test_fewer_than_no_edges_are_refused():
    with pytest.raises(ValueError, match="0 or more"):
        best_edges(np.zeros(SMALL[0].mask.shape), SMALL[0], -1)
    assert not best_edges(np.zeros(SMALL[0].mask.shape), SMALL[0], 0).mask.any()


# ------------------------------------------------------------------ in words


def table(exact, greedy, gap=0.0, share=1.0):
    """Two places whose smallest circuits have these numbers of edges."""
    rows = []
    for task in ("ioi", "sva"):
        for n in range(1, 31):
            for selection, least in (("exact", exact), ("greedy", greedy), ("top", greedy)):
                total = n * (1 if selection == "exact" else share)
                about = {"model": "mini-s", "step": 1, "task": task, "selection": selection, "n": n}
                kept = 0.9 if n >= least else 0.1
                rows.append(about | {"edges": n, "total": total, "gap": gap, "kept": kept})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("made", "says", "never"),
    [
        (table(8, 10), ["**The exact best edges make smaller", "in 2 of 2"], ["no difference"]),
        (table(10, 8), ["**A larger sum is not", "in 0 of 2 and more in 2"], ["smaller circuits"]),
        (table(8, 8), ["**It makes no difference", "in all 2", "leaves 0.0%"], ["larger sum"]),
        (table(8, 8, share=0.9), ["leaves 10.0%"], []),
        (table(8, 8, gap=0.1), ["Of 60 programs 60 ran out of time"], ["solved to the end"]),
        (table(8, 8), ["All 60 programs were solved"], ["out of time"]),
        (table(99, 99), ["No circuit of 40 edges or fewer keeps 80%"], ["no difference"]),
    ],
)
def test_selection_in_words(made, says, never):
    said = words.selection_in_words(made, 0.8)
    assert all(part in said for part in says) and not any(part in said for part in never)


def test_selection_without_a_circuit():
    assert "nothing to select" in words.selection_in_words(table(8, 8).iloc[:0], 0.8)
    shown = words.selection_shown(table(99, 8), 0.8)
    assert list(shown["exact"]) == ["none", "none"] and list(shown["greedy"]) == ["8", "8"]
