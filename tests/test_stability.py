"""Turnover, its bounds and size correlations: by hand, by enumeration, and against the published
numbers."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close

from circuitbook import attribute, get_recipe, get_task, load_suite
from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.circuits.random_circuits import random_circuit, rewired_circuit
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.circuits.similarity import (
    jaccard,
    node_jaccard,
    relabelled_jaccard,
    weighted_jaccard,
)
from circuitbook.figures.abilities import task_panels
from circuitbook.figures.style import TASK_TITLES
from circuitbook.figures.turnover import (
    between_bounds,
    comparison_dots,
    published_series,
    similarity_by_ratio,
    sizes_against_models,
)
from circuitbook.model.graph import Graph
from circuitbook.records.published import published
from circuitbook.stats import bootstrap_draws
from circuitbook.store.disk import Store
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.seeds import COMPARED, comparisons, same_heads
from circuitbook.studies.size import correlation, model_size, size_table
from circuitbook.studies.turnover import (
    FLOORS,
    by_ratio,
    checkpoint_pairs,
    ewma,
    to_reference,
    turnover,
    two_draws,
)
from circuitbook.suites.pythia import MISTYPED_PARAMETERS, PYTHIA_PARAMETERS

GRAPH = Graph(2, 3)


def random_mask(seed, share=0.3, graph=GRAPH):
    return graph.mask & (np.random.default_rng(seed).random(graph.mask.shape) < share)


def made(edges, step, model="m", task="ioi", scores=None, resampled=()):
    mask = circuit_of(GRAPH, edges).mask
    return CircuitResult(
        model,
        step,
        step * 10,
        task,
        Circuit(GRAPH, mask, np.where(mask, 1.0, 0.0) if scores is None else scores),
        0.0,
        tuple(m.ravel().nonzero()[0] for m in resampled),
    )


# ------------------------------------------------------------------ similarity


def test_similarities_by_hand():
    a = circuit_of(GRAPH, ["input->m0", "m0->logits"]).mask
    b = circuit_of(GRAPH, ["input->m0", "m0->a1.h0<v>", "a1.h0->logits"]).mask
    assert jaccard(a, b) == 1 / 4 and node_jaccard(a, b, GRAPH) == 3 / 4
    one, two = np.zeros(a.shape), np.zeros(a.shape)
    one[GRAPH.edge("input->m0")], one[GRAPH.edge("m0->logits")] = 3, -1  # .75, .25
    two[GRAPH.edge("input->m0")], two[GRAPH.edge("m0->a1.h0<v>")] = 1, 1  # .5, .5
    assert weighted_jaccard(one, two) == pytest.approx(0.5 / (0.75 + 0.25 + 0.5))
    assert (
        weighted_jaccard(one, 7 * one) == pytest.approx(1) and weighted_jaccard(one, 0 * one) == 0
    )


def test_the_moving_average_is_the_recursion():
    values = [0.2, 0.9, 0.4, 0.7]
    literal = [0.2]
    for x in values[1:]:
        literal.append(0.5 * x + 0.5 * literal[-1])
    np.testing.assert_allclose(ewma(values), literal)
    np.testing.assert_allclose(ewma([0.4, 0.4], start=0.0), [0.2, 0.3])
    assert len(ewma([])) == 0


@pytest.mark.parametrize("seed", range(6))
def test_matching_heads_finds_what_trying_all_orders_finds(seed):
    a = random_mask(seed)
    b = (
        random_mask(seed + 100)
        if seed % 2
        else GRAPH.relabel(a, [np.random.default_rng(seed).permutation(3) for _ in range(2)])
    )
    orders = [np.array(order) for order in itertools.permutations(range(3))]
    best = max(jaccard(a, GRAPH.relabel(b, both)) for both in itertools.product(orders, orders))
    found = relabelled_jaccard(a, b, GRAPH)
    assert found == pytest.approx(best) and found >= jaccard(a, b)
    assert seed % 2 or found == 1


# ------------------------------------------------------------------ random circuits


@pytest.mark.parametrize("edges", [3, 8, 20])
def test_random_circuits_have_the_edges_asked_for_and_all_are_alive(edges):
    graph = Graph(3, 3)
    found = [random_circuit(graph, edges, np.random.default_rng(seed)) for seed in range(6)]
    for seed, mask in enumerate(found):
        assert (graph.live(mask) == mask).all() and mask.sum() >= edges
        order = edge_order(np.random.default_rng(seed).random(graph.mask.shape), graph)
        literal = next(
            m
            for n in range(1, graph.n_edges + 1)
            if (m := first_edges(order, graph, n)).sum() >= edges
        )
        assert (mask == literal).all()
    assert any((found[0] != mask).any() for mask in found[1:])


def test_rewiring_keeps_degrees_and_life():
    graph = Graph(4, 3)
    mask = graph.live(random_mask(3, 0.15, graph))
    moved = rewired_circuit(mask, graph, np.random.default_rng(0))
    assert (moved.sum(0) == mask.sum(0)).all() and (moved.sum(1) == mask.sum(1)).all()
    assert (
        not (moved & ~graph.mask).any()
        and (graph.live(moved) == moved).all()
        and jaccard(mask, moved) < 0.9
    )
    stuck = circuit_of(
        graph, ["input->m0", "m0->logits"]
    ).mask  # only these degrees: nothing to swap
    assert (rewired_circuit(stuck, graph, np.random.default_rng(0)) == stuck).all()


# ------------------------------------------------------------------ over training

PLAIN, MORE = ["input->m0", "m0->logits"], ["input->m0", "m0->a1.h0<v>", "a1.h0->logits"]


def test_pairs_are_neighbours_or_at_a_ratio():
    found = [made(PLAIN, step) for step in (1, 2, 3, 4, 7, 8)]

    def steps(pairs):
        return [(a.step, b.step) for a, b in pairs]

    assert steps(checkpoint_pairs(found)) == [(1, 2), (2, 3), (3, 4), (4, 7), (7, 8)]
    assert steps(checkpoint_pairs(found, 2.0)) == [(1, 2), (2, 4), (4, 8)]
    assert steps(checkpoint_pairs(found, 2.0, tolerance=0.2)) == [(1, 2), (2, 4), (4, 7), (4, 8)]
    ratios = by_ratio(found)
    assert len(ratios) == 15 and ratios["ratio"].max() == 8 and (ratios["edges"] == 1).all()


def test_turnover_by_hand():
    both = [circuit_of(GRAPH, PLAIN).mask, circuit_of(GRAPH, MORE).mask]
    found = [
        made(PLAIN, 1, resampled=[both[0]] * 3),
        made(MORE, 2, resampled=[both[1], both[1], both[0]]),
        made(MORE, 3, resampled=[both[1]] * 2),
    ]
    table = turnover(found, draws=3)
    np.testing.assert_allclose(table["edges"], [1 / 4, 1])
    np.testing.assert_allclose(table["edges_ewma"], [1 / 4, 5 / 8])
    np.testing.assert_allclose(table["nodes"], [3 / 4, 1])
    np.testing.assert_allclose(
        table["edges_ceiling"], [(1 + 0.5) / 2, (0.5 + 1) / 2]
    )  # three pairs: 1, 1/4, 1/4
    np.testing.assert_allclose(table["weighted"], [(1 / 3) / (1 / 2 + 1 / 2 + 2 / 3), 1])
    for kind in FLOORS:
        assert ((table[f"edges_{kind}"] >= 0) & (table[f"edges_{kind}"] <= 1)).all()
    assert (table["edges_floor"] < 1).all()
    np.testing.assert_allclose(
        table["normalised_jaccard"],
        (table["edges"] - table["edges_floor"]) / (table["edges_ceiling"] - table["edges_floor"]),
    )
    pd.testing.assert_frame_equal(table, turnover(found, draws=3))
    assert np.isnan(turnover([made(PLAIN, 1), made(MORE, 2)])["edges_ceiling"]).all()
    assert turnover([made(PLAIN, 1)]).empty
    reference = to_reference(found, step=1)
    np.testing.assert_allclose(reference["edges"], [1, 1 / 4, 1 / 4])
    assert (
        to_reference(found)["reference"].tolist() == [3, 3, 3] and to_reference(found, step=9).empty
    )


def test_the_floor_of_shuffled_heads_is_its_mean_over_all_orders():
    """One head in the circuit, of three: two shuffled circuits are the same in a third of cases."""
    found = [made(MORE, 1), made(MORE, 2)]  # 4 edges apart but input->m0, or the same 3
    table = turnover(found, draws=800)
    same, apart = 1.0, 1 / 5
    assert table["edges_heads"][0] == pytest.approx((same + 2 * apart) / 3, abs=0.06)


def test_two_draws_and_likeness_by_hand():
    a, b = (
        made(PLAIN, 1, resampled=[circuit_of(GRAPH, PLAIN).mask, circuit_of(GRAPH, MORE).mask]),
        made(MORE, 1),
    )
    draws = two_draws([a], [b])
    assert draws.loc[0, ["edges", "size", "size_again", "expected"]].tolist() == [
        1 / 4,
        2,
        3,
        1 / 4,
    ]
    moved = ["input->m0", "m0->a1.h2<v>", "a1.h2->logits"]
    found = [made(MORE, 1, "m"), made(MORE, 2, "m"), made(moved, 2, "m-seed2")]
    like = (
        comparisons(found, [["m", "m-seed2"], ["alone"]], turnover(found), draws=2)
        .groupby("like")["edges"]
        .mean()
    )
    assert (
        like["next checkpoint"] == 1
        and like["other seed"] == 1 / 5
        and like["other seed, heads matched"] == 1
    )
    assert 0 < like["random, heads matched"] < 1


def test_sets_of_heads_by_hand():
    def scores(model, step, values):
        zero = np.zeros((4, 2))
        return HeadScores(
            model,
            step,
            step,
            2,
            {"previous": zero, "induction": np.array(values)[:, None].repeat(2, 1), "copy": zero},
        )

    found = [
        scores("m", 1, [0.9, 0.1, 0, 0]),
        scores("m", 2, [0.9, 0.8, 0, 0]),
        scores("m-seed2", 2, [0, 0, 0.5, 0.7]),
    ]
    table = same_heads(found, {"induction": 0.25, "copy": 0.25}, [["m", "m-seed2"]]).set_index(
        "like"
    )
    assert table.loc["next checkpoint", "heads"] == 1 / 2 and table.loc["other seed", "heads"] == 0
    assert table.loc["other seed", ["count", "count_other"]].tolist() == [2, 2] and set(
        table["kind"]
    ) == {"induction"}


def test_circuits_of_resampled_prompts_are_kept_and_are_what_they_say(tmp_path):
    suite, store = load_suite("mini"), Store(tmp_path)
    what = dict(
        suite=suite,
        models=["mini-xs"],
        tasks=["sva"],
        store=store,
        steps={"mini-xs": (3906,)},
        dtype=torch.float64,  # so that no rounding decides which of two near scores is the larger
        progress=False,
    )
    (one,) = measure_circuits(**what)
    recipe = get_recipe("robust")
    model = suite.checkpoint("mini-xs", 3906).load(dtype=torch.float64)
    pairs = get_task("sva").prompts(model.tokenizer, n=recipe.prompts["sva"])
    scores = attribute(model, pairs, **recipe.attribution, per_prompt=True)
    assert len(one.resampled) == recipe.resamples and any(
        (m != one.circuit.mask).any() for m in one.resampled
    )
    drawn = bootstrap_draws(len(pairs), recipe.resamples, 0)
    for mask, weights in list(zip(one.resampled, drawn, strict=True))[:4]:
        rows = np.repeat(np.arange(len(pairs)), np.round(weights * len(pairs)).astype(int))
        literal = attribute(
            model, pairs.subset(rows), **recipe.attribution
        ).values  # attribution of the drawn prompts themselves
        graph, size = one.circuit.graph, one.circuit.about["size"]
        assert (mask == first_edges(edge_order(literal, graph), graph, size)).all()
    (again,) = measure_circuits(**what)
    assert (
        all((a == b).all() for a, b in zip(one.resampled, again.resampled, strict=True))
        and len(again.resampled) == recipe.resamples
    )
    (other,) = measure_circuits(**what, seed=43)
    assert other.circuit.clean != one.circuit.clean
    assert_close(scores.per_prompt.mean(0), one.circuit.scores, rounds=100)


# ------------------------------------------------------------------ size


def test_correlations_are_the_published_ones():
    """Pearson of the published node counts: with the sizes as typed, and with the right ones
    (recomputed by hand once)."""
    counts = published("node_counts")
    expected = {
        "ioi": (0.7271, 0.7891),
        "greater_than": (0.9017, 0.9409),
        "gendered_pronoun": (0.6071, 0.6306),
        "sva": (0.8741, 0.8897),
    }
    for task, pair in expected.items():
        part = counts[counts["task"] == task]
        model = part["model"].str.removeprefix("pythia-")
        for sizes, r in zip((MISTYPED_PARAMETERS, PYTHIA_PARAMETERS), pair, strict=True):
            found = correlation(model.map(sizes), part["value"])
            assert (
                found.pearson == pytest.approx(r, abs=2e-4)
                and found.n == 5
                and found.low < r < found.high
            )
        every = [
            np.corrcoef(model.map(PYTHIA_PARAMETERS), list(order))[0, 1]
            for order in itertools.permutations(part["value"])
        ]
        assert found.p == pytest.approx(
            min(1, 2 * np.mean(np.array(every) >= found.pearson - 1e-12))
        )


def test_few_models_cannot_be_beyond_chance():
    best = correlation([1, 2, 3, 4], [1, 2, 3, 4.5])
    assert best.p == pytest.approx(2 / 24) and best.spearman == pytest.approx(1)
    assert correlation([1, 2, 3, 4], [4, 3, 2, 1]).pearson == pytest.approx(-1)
    assert np.isnan(correlation([1, 2], [1, 2]).pearson) and np.isnan(
        correlation([1, 2, 3], [2, 2, 2]).p
    )
    assert np.isnan(correlation([1, 2, 3], [1, 2, 4]).low)
    with pytest.raises(ValueError, match="3 model sizes cannot be correlated with 2"):
        correlation([1, 2, 3], [1, 2])


def test_model_sizes():
    suite = load_suite("mini")
    network = suite.checkpoint("mini-xs", 3906).load().hf_model
    assert model_size(suite, "mini-xs") == sum(p.numel() for p in network.parameters()) > 1e5
    pythia = load_suite("pythia")
    assert (
        model_size(pythia, "pythia-1.4b") == 1.4e9
        and model_size(pythia, "pythia-160m-seed3") == 160e6
    )
    frame = pd.DataFrame(
        {
            "model": ["a", "a", "b", "c"],
            "task": "ioi",
            "found": [True, True, True, True],
            "nodes": [2, 4, 5, 9],
        }
    )
    row = size_table(frame, {"a": 1, "b": 2, "c": 3}).iloc[0]
    assert row["pearson"] == pytest.approx(np.corrcoef([1, 2, 3], [3, 5, 9])[0, 1])


# ------------------------------------------------------------------ pictures


def test_pictures_of_turnover_show_what_is_there():
    found = [made(PLAIN, 1), made(MORE, 2), made(MORE, 4)] + [
        made(PLAIN, s, "m-seed2") for s in (1, 2)
    ]
    table = turnover(found, draws=2)
    fig = between_bounds(table, ["ioi"], ["m", "absent"])
    assert (
        fig.axes[0].lines[4].get_ydata().tolist() == [1 / 4, 1]
        and fig.axes[1].texts[0].get_text() == "no two circuits"
    )
    fig = task_panels(table, "nodes", ["ioi", "sva"], ["m"], "y", top=1.05)
    assert fig.axes[0].lines[0].get_ydata().tolist() == [3 / 4, 1] and fig.axes[0].get_ylim() == (
        0,
        1.05,
    )
    fig = similarity_by_ratio(by_ratio(found), ["ioi"], ["m", "m-seed2"])
    np.testing.assert_allclose(
        sorted(fig.axes[0].lines[0].get_ydata()), [1 / 4, (1 / 4 + 1) / 2]
    )  # ratios 2, 2 and 4
    like = comparisons(found, [["m", "m-seed2"]], table, draws=2)
    fig = comparison_dots(like, ["ioi"])
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == list(COMPARED)
    sizes = pd.DataFrame({"model": ["a", "b"], "size": [10, 100], "task": "ioi", "nodes": [3, 5]})
    fig = sizes_against_models({"x": sizes}, ["ioi", "sva"])
    assert fig.axes[0].lines[0].get_ydata().tolist() == [3, 5]
    j = published("jaccard")
    raw = j[j["metric"] == "jaccard_raw"].assign(ours=0.5, late=0.5)
    fig = published_series(
        published("edge_counts"), j[j["metric"] != "jaccard_raw"], raw, published("copy_scores")
    )
    assert len(fig.axes[0].lines[0].get_xdata()) == 140 and len(fig.axes[3].lines) == 7
    plt.close("all")


def test_published_series_are_whole():
    counts, j, copies = published("edge_counts"), published("jaccard"), published("copy_scores")
    assert (
        len(counts) == 164
        and counts["value"].between(1, 3000).all()
        and set(copies["head"]) >= {"12.8", "20.15", "11.14"}
    )
    assert (j["step_next"] > j["step"]).all() and set(j["task"]) == {"gendered_pronoun", "sva"}
    raw = j[j["metric"] == "jaccard_raw"]
    assert len(raw) == 36 and set(raw["model"]) == {"pythia-1.4b"}
    assert "step" not in published("node_counts") and len(published("single_values")) == 5
    assert (
        TASK_TITLES[j["task"].iloc[0]] == "Gendered Pronoun"
        and torch.tensor(raw["value"].to_numpy()).max() < 1
    )
