"""Circuits: evaluation equals patching every absent edge, the search finds the smallest, files go
round."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close
from literal import Literal
from test_attribution import lens_name
from toys import toy_model, toy_pairs
from transformer_lens.tools.analysis import attribution_patching as lens
from transformers import GPTNeoXForCausalLM

from circuitbook import attribute, evaluate_circuit, find_circuit, get_recipe, get_task, load_suite
from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.circuits.corrupted import CorruptedRuns
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.faithfulness import (
    MIB_SHARES,
    faithfulness_curve,
    grid_sizes,
    mib_metrics,
)
from circuitbook.circuits.search import task_not_done
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.model.graph import Graph, graph_of


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_model(tmp_path_factory.mktemp("toy"), layers=3)


@pytest.fixture(scope="module")
def mini():
    """mini-s at the end of training, IOI: (model, pairs, scores).

    In float64, so that no rounding decides which edge comes first or whether a circuit passes.
    """
    model = load_suite("mini").checkpoint("mini-s", 3906).load(dtype=torch.float64)
    pairs = get_task("ioi").prompts(model.tokenizer, n=24)
    return model, pairs, attribute(model, pairs, rule="midpoint", points=6)


def random_circuit(graph, share, seed):
    return Circuit(
        graph, graph.mask & (np.random.default_rng(seed).random(graph.mask.shape) < share)
    )


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_patching_every_absent_edge_of_a_toy(toy, share, seed):
    network, model = toy
    pairs, circuit = (
        toy_pairs("probability_difference" if seed else "logit_difference"),
        random_circuit(graph_of(model), share, seed),
    )
    literal = Literal(network).circuit(pairs, set(circuit.edges))
    got = evaluate_circuit(model, pairs, circuit)
    assert_close(got, literal, rounds=100)
    live = Circuit(circuit.graph, circuit.graph.live(circuit.mask))  # dead edges change nothing
    assert_close(evaluate_circuit(model, pairs, live), literal, rounds=100)


def test_equals_patching_every_absent_edge_of_a_mini_model(mini):
    model, pairs, scores = mini
    some = pairs.subset([0, 5, 9])
    plain = GPTNeoXForCausalLM.from_pretrained(model.checkpoint.fetch(), dtype=torch.float32)
    single = model.checkpoint.load()
    order = edge_order(scores.values, scores.graph)
    for n in (12, 40, 120):
        circuit = Circuit(scores.graph, first_edges(order, scores.graph, n))
        literal = Literal(plain).circuit(some, set(circuit.edges))
        assert literal.abs().min() > 0.01
        assert_close(evaluate_circuit(model, some, circuit), literal, rounds=100)
        assert_close(evaluate_circuit(single, some, circuit), literal, rounds=100)


def test_equals_transformer_lens(mini):
    model, pairs, scores = mini
    one = pairs.subset([3])
    one = one.subset([0])
    stop = int(one.end[0]) + 1
    clean, corrupted = one.clean[:, :stop], one.corrupted[:, :stop]

    def metric(logits):
        return one.metric(logits[:, -1]).sum()

    config = lens.EdgeAttributionConfig(granularity="edge")
    theirs = lens.attribution_patch(model.bridge, clean, corrupted, metric, config)
    circuit = Circuit(
        scores.graph, first_edges(edge_order(scores.values, scores.graph), scores.graph, 30)
    )
    kept = [edge for edge in theirs.edge_scores if lens_name(*edge) in set(circuit.edges)]
    result = lens.faithfulness(model.bridge, clean, corrupted, metric, kept)
    got = float(evaluate_circuit(model, one, circuit)[0])
    recovered = (got - result.corrupt_metric) / (result.full_metric - result.corrupt_metric)
    assert 0.05 < abs(result.recovered) < 0.99
    assert_close(recovered, result.recovered, rounds=100)


def test_all_edges_are_the_clean_run_and_none_the_corrupted(toy):
    _, model = toy
    pairs, graph = toy_pairs(), graph_of(toy[1])
    full, empty = Circuit(graph, graph.mask), Circuit(graph, np.zeros_like(graph.mask))
    clean, corrupted = (
        pairs.metric(model.logits(t, pairs.end)) for t in (pairs.clean, pairs.corrupted)
    )
    assert_close(evaluate_circuit(model, pairs, full), clean, rounds=100)
    assert_close(evaluate_circuit(model, pairs, empty), corrupted, rounds=100)
    assert (clean - corrupted).abs().min() > 0.01
    for found, expected in zip(
        CorruptedRuns(model, pairs).baselines(), (clean, corrupted), strict=True
    ):
        assert_close(found, expected, rounds=100)


def test_many_circuits_at_once_in_any_chunks(toy):
    _, model = toy
    pairs, graph = toy_pairs(), graph_of(model)
    masks = [
        random_circuit(graph, share, seed).mask
        for seed, share in enumerate([0, 0.02, 0.1, 0.3, 0.6, 1, 0.2])
    ]
    alone = torch.stack([evaluate_circuit(model, pairs, Circuit(graph, mask)) for mask in masks])
    assert len({round(float(v), 6) for v in alone.mean(1)}) > 4
    for memory in (None, 40_000, 200_000):
        assert_close(evaluate_masks(model, pairs, masks, memory=memory), alone, rounds=100)
    runs = CorruptedRuns(model, pairs, 40_000)
    assert len(list(runs)) > 1  # computed anew each time, since they do not fit
    assert_close(evaluate_masks(model, pairs, masks, runs=runs), alone, rounds=100)


def test_a_circuit_of_another_graph_is_refused(toy):
    with pytest.raises(ValueError, match="n_layers=9.* but toy is"):
        evaluate_circuit(toy[1], toy_pairs(), Circuit(Graph(9, 2), Graph(9, 2).mask))


def test_a_mask_of_another_shape_is_refused_with_both_shapes(toy):
    right = graph_of(toy[1]).mask
    shape = re.escape(str(list(right.shape)))
    assert evaluate_masks(toy[1], toy_pairs(), []).shape == (0, len(toy_pairs()))
    for wrong in (Graph(9, 2).mask, right.T, right[0]):
        of_wrong = re.escape(str(list(wrong.shape)))
        with pytest.raises(ValueError, match=rf"mask 1 is {of_wrong}, but .* toy has {shape}"):
            evaluate_masks(toy[1], toy_pairs(), [right, wrong])


# ------------------------------------------------------------------ the search


@pytest.mark.parametrize("form", ["ratio", "normalised"])
def test_every_size_finds_the_smallest_and_the_others_are_no_smaller(mini, form):
    model, pairs, scores = mini
    order, graph = edge_order(scores.values, scores.graph), scores.graph
    clean, corrupted = (part.double().mean() for part in CorruptedRuns(model, pairs).baselines())
    sizes = range(1, 61)
    metric = (
        evaluate_masks(model, pairs, [first_edges(order, graph, n) for n in sizes]).double().mean(1)
    )
    truth = metric / clean if form == "ratio" else (metric - corrupted) / (clean - corrupted)
    smallest = next(n for n, f in zip(sizes, truth, strict=True) if f >= 0.8)
    every = find_circuit(
        model, pairs, scores, search="every", form=form, max_share=60 / graph.n_edges
    )
    assert every.about["size"] == smallest
    assert_close(every.faithfulness, truth[smallest - 1], rounds=100)
    assert_close(every.curve[form], truth, rounds=100)
    assert (
        every.mask == first_edges(order, graph, smallest)
    ).all() and every.low < every.faithfulness < every.high
    failing = [n for n, f in zip(sizes, truth, strict=True) if f < 0.8]
    assert every.about["stays_from"] == max(failing) + 1
    for search in ("grid", "bisect"):
        found = find_circuit(model, pairs, scores, search=search, form=form)
        assert found.faithfulness >= 0.8 and found.about["size"] >= smallest
        again = evaluate_circuit(model, pairs, found).double().mean()
        if form == "normalised":
            again, whole = again - corrupted, clean - corrupted
        else:
            whole = clean
        assert_close(found.faithfulness, again / whole, rounds=100)
    assert found.curve["size"].is_monotonic_increasing and found.n_nodes == len(found.nodes)


def test_the_paper_search_is_a_literal_bisection(mini):
    model, pairs, scores = mini
    found = find_circuit(model, pairs, scores, search="bisect", max_share=1.0)
    order, graph, (clean, _) = (
        edge_order(scores.values, scores.graph),
        scores.graph,
        CorruptedRuns(model, pairs).baselines(),
    )
    low, high, looked = 1, graph.n_edges, []
    while low < high:
        n = (low + high) // 2
        looked.append(n)
        f = (
            evaluate_circuit(model, pairs, Circuit(graph, first_edges(order, graph, n))).mean()
            / clean.mean()
        )
        low, high = (low, n) if f >= 0.8 else (n + 1, high)
    assert found.about["size"] == low and set(found.curve["size"]) == {*looked, low}


def test_a_dip_is_found_by_the_grid(mini, monkeypatch):
    """A curve that passes early, fails and passes again: the grid finds the early one and says
    where it stays."""
    model, pairs, scores = mini
    clean = CorruptedRuns(model, pairs).baselines()[0]
    order = edge_order(scores.values, scores.graph)

    def passes(edges):
        return 20 <= edges <= 40 or edges >= 100

    def fake(model, pairs, masks, runs):
        return torch.stack([clean * (0.9 if passes(int(m.sum())) else 0.5) for m in masks])

    def edges(n):
        return int(first_edges(order, scores.graph, n).sum())

    monkeypatch.setattr("circuitbook.circuits.faithfulness.evaluate_masks", fake)
    found = find_circuit(model, pairs, scores, search="grid")
    first = next(n for n in range(1, 250) if passes(edges(n)))
    assert found.about["size"] == first and found.n_edges >= 20
    assert found.about["stays_from"] > 90
    assert (
        find_circuit(model, pairs, scores, search="bisect").n_edges >= 100
    )  # halving walks past it


def test_no_circuit_where_the_task_is_not_done():
    model = load_suite("mini").checkpoint("mini-s", 0).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=40)
    scores = attribute(model, pairs, rule="midpoint", points=4)
    circuit = find_circuit(model, pairs, scores, threshold=0.8)
    assert not circuit.found and circuit.n_edges == 0 and circuit.faithfulness is None
    assert "the model does not do the task here: its logit difference is" in repr(circuit)
    assert task_not_done(model, pairs).reason == circuit.reason


def test_no_circuit_within_the_limit_says_what_came_closest(mini):
    model, pairs, scores = mini
    circuit = find_circuit(model, pairs, scores, threshold=0.99, max_share=0.02)
    assert (
        not circuit.found
        and "none of up to 5 edges keeps 99% (closest: " in circuit.reason
        and len(circuit.curve)
    )
    assert find_circuit(model, pairs, scores, max_share=0.02, min_edges=100).found


def test_an_empty_circuit_is_no_circuit(mini):
    model, pairs, scores = mini
    circuit = find_circuit(model, pairs, scores, threshold=-5.0)
    assert not circuit.found and "the empty circuit keeps" in circuit.reason


@pytest.mark.parametrize(
    "how, says",
    [
        ({"search": "walk"}, "unknown search 'walk'"),
        ({"form": "kl"}, "unknown form"),
        ({"threshold": float("nan")}, "threshold nan"),
        ({"max_share": 0}, "max_share 0"),
    ],
)
def test_bad_settings_are_refused(mini, how, says):
    with pytest.raises(ValueError, match=says):
        find_circuit(*mini, **how)


def test_mib_areas_are_trapezoids_over_the_shares(mini):
    model, pairs, scores = mini
    order, graph = edge_order(scores.values, scores.graph, "top"), scores.graph
    clean, corrupted = (part.mean() for part in CorruptedRuns(model, pairs).baselines())
    f = [
        float(
            (
                evaluate_circuit(
                    model, pairs, Circuit(graph, first_edges(order, graph, int(p * graph.n_edges)))
                ).mean()
                - corrupted
            )
            / (clean - corrupted)
        )
        for p in MIB_SHARES
    ]
    steps = [b - a for a, b in itertools.pairwise(MIB_SHARES)]
    parts = list(zip(steps, itertools.pairwise(f), strict=True))
    found = mib_metrics(model, pairs, scores)
    cpr = sum(step * (a + b) / 2 for step, (a, b) in parts)
    cmd = sum(step * (abs(1 - a) + abs(1 - b)) / 2 for step, (a, b) in parts)
    assert_close(found["cpr"], cpr, rounds=100)
    assert_close(found["cmd"], cmd, rounds=100, size=1)
    assert_close(f[0], 0.0, rounds=100, size=1)
    assert_close(f[-1], 1.0, rounds=100)


def test_curves_at_given_sizes(mini):
    model, pairs, scores = mini
    curve = faithfulness_curve(model, pairs, scores, [0, 30, 250])
    assert_close(curve["normalised"].iloc[0], 0.0, rounds=100, size=1)
    assert_close(curve["ratio"].iloc[-1], 1.0, rounds=100)
    with pytest.raises(ValueError, match="sizes must lie in 0..250"):
        faithfulness_curve(model, pairs, scores, [251])
    assert grid_sizes(12) == [1, 2, 3, 4, 6, 8, 11, 12] and grid_sizes(1) == [1]


def test_recipes_differ_where_they_say():
    paper, robust = get_recipe("paper"), get_recipe("robust")
    assert (paper.rule, paper.points, paper.form, paper.search) == ("right", 30, "ratio", "bisect")
    assert robust.circuit("ioi")["min_metric"] == 1.0 and paper.circuit("ioi")["min_metric"] == 0.0
    with pytest.raises(ValueError, match="recipe 'best' does not exist; there are: paper, robust"):
        get_recipe("best")


# ------------------------------------------------------------------ files


def test_files_go_round_and_are_eap_igs(mini, tmp_path):
    model, pairs, scores = mini
    circuit = find_circuit(model, pairs, scores)
    file = circuit.save(tmp_path / "circuit.json")
    record = json.loads(file.read_text())
    assert record["cfg"] == {"n_layers": 3, "n_heads": 4, "d_model": 96, "parallel_attn_mlp": True}
    assert {name for name, edge in record["edges"].items() if edge["in_graph"]} == set(
        circuit.edges
    )
    assert {name for name, node in record["nodes"].items() if node["in_graph"]} == set(
        circuit.nodes
    )
    loaded = Circuit.load(file)
    assert (
        (loaded.mask == circuit.mask).all()
        and loaded.edges == circuit.edges
        and loaded.graph == circuit.graph
    )
    assert (loaded.scores == scores.values.double().numpy()).all()
    assert loaded.faithfulness == circuit.faithfulness and loaded.about == circuit.about
    pd.testing.assert_frame_equal(loaded.curve, circuit.curve, check_exact=True)
    kept = evaluate_circuit(model, pairs, circuit)
    assert (evaluate_circuit(model, pairs, loaded) == kept).all()  # the same computation again
    foreign = {
        "cfg": record["cfg"],
        "nodes": record["nodes"],
        "edges": record["edges"],
    }  # as EAP-IG writes it
    (tmp_path / "theirs.json").write_text(json.dumps(foreign))
    assert (Circuit.load(tmp_path / "theirs.json").mask == circuit.mask).all()
    (tmp_path / "bad.json").write_text('{"nodes": {}}')
    with pytest.raises(ValueError, match="is not a circuit as circuitbook, EAP-IG or MIB write it"):
        Circuit.load(tmp_path / "bad.json")


def test_a_circuit_from_one_prompt_is_strict_json(mini, tmp_path):
    """There is no interval over one prompt: nan here, null in the file."""
    model, pairs, _ = mini
    pairs = pairs.subset([0])
    circuit = find_circuit(model, pairs, attribute(model, pairs, rule="midpoint", points=3))
    assert circuit.found and np.isnan([circuit.low, circuit.high]).all()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    file = circuit.save(tmp_path / "circuit.json")
    record = json.loads(file.read_text(), parse_constant=refuse)["circuitbook"]
    assert record["low"] is record["high"] is None and record["faithfulness"] > 0
    loaded = Circuit.load(file)
    assert np.isnan([loaded.low, loaded.high]).all()
    pd.testing.assert_frame_equal(loaded.curve, circuit.curve, check_exact=True)


def test_circuits_from_names():
    circuit = circuit_of(Graph(2, 2), ["input->m0", "m0->logits"])
    assert circuit.n_edges == 2 and circuit.nodes == ("input", "m0", "logits")
