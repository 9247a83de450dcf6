"""Edges with stable signs: against a bootstrap written out, and what they do to the order."""

import dataclasses

import numpy as np
import pytest
import torch

from circuitbook import attribute, find_circuit, get_task, load_suite
from circuitbook.circuits.attribution import Scores
from circuitbook.circuits.faithfulness import faithfulness_curve, mib_metrics
from circuitbook.circuits.selection import edge_order
from circuitbook.circuits.stable_signs import stable_signs
from circuitbook.model.graph import Graph

GRAPH = Graph(2, 2)


def scores_of(per_prompt):
    """Scores with these of each prompt, [n, src, dst]."""
    per_prompt = torch.as_tensor(per_prompt) * torch.from_numpy(GRAPH.mask)
    zeros = torch.zeros(len(per_prompt))
    return Scores(
        values=per_prompt.mean(0),
        graph=GRAPH,
        method="given",
        rule="right",
        points=0,
        change=zeros,
        from_input=zeros,
        per_prompt=per_prompt,
    )


def drawn(n=30, seed=3):
    """Scores of prompts whose means lie at all distances from 0."""
    rng = np.random.default_rng(seed)
    means = rng.normal(scale=0.3, size=GRAPH.mask.shape)
    return scores_of(means + rng.normal(size=(n, *GRAPH.mask.shape)))


def resampled(scores, level, draws, seed):
    """Literally: draw prompts, one after the other; sort an edge's means; look at both ends."""
    rng, n, stable = np.random.default_rng(seed), len(scores.per_prompt), {}
    picks = [rng.integers(n, size=n) for _ in range(draws)]
    for src, dst in scores.graph.edges:
        own = scores.per_prompt[:, src, dst].numpy()
        means = sorted(own[pick].mean() for pick in picks)
        tail = round((1 - level) / 2 * draws)
        stable[src, dst] = means[tail] > 0 or means[-1 - tail] < 0
    return stable


def test_signs_are_those_of_a_bootstrap_written_out():
    scores = drawn()
    got = stable_signs(scores, 0.95, seed=5)
    theirs = [resampled(scores, 0.95, 2000, seed) for seed in (1, 2)]
    same = [[bool(got[edge]) == one[edge] for edge in one] for one in theirs]
    assert np.mean(same) > 0.97  # but for edges on the border, which other draws move over it
    assert 0.2 < got[GRAPH.mask].mean() < 0.8 and not got[~GRAPH.mask].any()
    wider = stable_signs(scores, 0.99, seed=5)
    assert wider.sum() < got.sum() and not (wider & ~got).any()


def test_signs_where_they_are_known():
    per_prompt = np.ones((6, *GRAPH.mask.shape))
    per_prompt[:, 0] *= -1
    per_prompt[::2, 1] *= -1  # half of the prompts each way
    per_prompt[:, 2] = 0
    got = stable_signs(scores_of(per_prompt))
    assert got[0][GRAPH.mask[0]].all() and not got[1].any() and not got[2].any()
    assert (got[3:] == GRAPH.mask[3:]).all()


def test_parts_make_no_difference(monkeypatch):
    scores = drawn()
    whole = stable_signs(scores)
    monkeypatch.setattr("circuitbook.circuits.stable_signs.HELD", 1 << 20)
    assert (stable_signs(scores) == whole).all()


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("selection", ["greedy", "top"])
def test_some_edges_come_first(selection, absolute):
    scores = drawn()
    values = scores.values.numpy().round(1)
    first = np.random.default_rng(8).random(values.shape) < 0.5
    order = [tuple(edge) for edge in edge_order(values, GRAPH, selection, absolute, first=first)]
    wish, inside, taken = np.abs(values) if absolute else values, {GRAPH.n_src}, []
    for _ in range(GRAPH.n_edges):  # a literal scan of all edges that may come next
        reached = (
            e
            for e in map(tuple, GRAPH.edges)
            if e not in taken and (selection == "top" or int(GRAPH.node_of[e[1]]) in inside)
        )
        best = max(reached, key=lambda e: (first[e], wish[e]))
        taken.append(best)
        inside.add(int(best[0]))
    assert order == taken
    assert order != [tuple(edge) for edge in edge_order(values, GRAPH, selection, absolute)]


def test_the_search_takes_them_first():
    model = load_suite("mini").checkpoint("mini-xs", 3906).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=12)
    scores = attribute(model, pairs, method="eap", per_prompt=True)
    first = stable_signs(scores, 0.9)
    circuit = find_circuit(model, pairs, scores, stable=0.9, selection="top", search="every")
    order = edge_order(scores.values, scores.graph, "top", first=first)
    chosen = order[: circuit.about["size"]]
    assert {scores.graph.edge_name(*edge) for edge in chosen} >= set(circuit.edges)
    assert circuit.about["stable"] == 0.9
    sizes = [int(first.sum()), scores.graph.n_edges]
    curve = faithfulness_curve(model, pairs, scores, sizes, stable=0.9, selection="top")
    plain = faithfulness_curve(model, pairs, scores, sizes, selection="top")
    assert curve["metric"][0] != plain["metric"][0] and curve["metric"][1] == plain["metric"][1]
    assert mib_metrics(model, pairs, scores, stable=0.9) != mib_metrics(model, pairs, scores)


def test_what_cannot_be_told_is_refused():
    scores = drawn()
    with pytest.raises(ValueError, match="per_prompt=True"):
        stable_signs(dataclasses.replace(scores, per_prompt=None))
    with pytest.raises(ValueError, match="not the level of an interval"):
        stable_signs(scores, 95)
    with pytest.raises(ValueError, match="measure at least 2"):
        stable_signs(dataclasses.replace(scores, per_prompt=scores.per_prompt[:1]))
