"""Circuits under other numbers of heads: the search against all orders, roles against all
assignments, seeds that are one model with its heads renumbered, and verdicts on gaps made by hand.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from closeness import assert_close
from safetensors.torch import load_file, save_file

from circuitbook.circuits import relabelling
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.evaluation import evaluate_circuit
from circuitbook.circuits.relabelling import (
    best_relabelling,
    heads_in,
    places,
    random_numbers,
    relabellings,
    same_numbers,
    swaps,
)
from circuitbook.circuits.similarity import jaccard
from circuitbook.figures.relabelling import number_panels
from circuitbook.model.graph import Graph
from circuitbook.recipes import get_recipe
from circuitbook.stats import Verdict
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.findings.relabelling import (
    NO_SEEDS,
    everywhere,
    few_pairs,
    gap_table,
    same_circuit,
    three_tests,
)
from circuitbook.studies.head_roles import match_roles
from circuitbook.studies.head_scores import measure_heads
from circuitbook.studies.relabelling import (
    CIRCUIT,
    DRAWS,
    NUMBERS,
    OTHER_TASK,
    REWIRED,
    SEARCHED,
    Relabelled,
    halves,
    measure_relabelled,
    other_wirings,
)
from circuitbook.studies.seed_gaps import gaps
from circuitbook.suites.finding import load_suite
from circuitbook.tasks.registry import get_task

SMALL, WIDE = Graph(2, 3), Graph(3, 4)
MINI = Path(__file__).parents[1] / "models" / "mini"


def random_mask(graph: Graph, seed: int, share: float = 0.3) -> np.ndarray:
    return graph.live(np.random.default_rng(seed).random(graph.mask.shape) < share)


def every_relabelling(mask: np.ndarray, graph: Graph) -> list[np.ndarray]:
    """The literal twin: all orders of all layers."""
    orders = [np.array(order) for order in itertools.permutations(range(graph.n_heads))]
    return [graph.relabel(mask, each) for each in itertools.product(orders, repeat=graph.n_layers)]


# ------------------------------------------------------------------ the search


@pytest.mark.parametrize("seed", range(6))
def test_the_places_of_a_circuits_heads_are_all_that_relabelling_can_make(seed):
    mask = random_mask(SMALL, seed, share=0.15 if seed % 2 else 0.4)
    layers = [places(mask, SMALL, layer) for layer in range(SMALL.n_layers)]
    made = [SMALL.relabel(mask, orders) for orders in itertools.product(*layers)]
    distinct = {one.tobytes() for one in every_relabelling(mask, SMALL)}
    assert {one.tobytes() for one in made} == distinct
    # heads with the same edges make the same circuit in each other's place
    assert len(made) == relabellings(mask, SMALL) >= len(distinct)


def test_the_heads_of_a_circuit_are_those_with_an_edge_in_or_out():
    mask = np.zeros(SMALL.mask.shape, bool)
    for name in ("a0.h2->m1", "input->a0.h0<k>", "input->a1.h1<v>"):
        mask[SMALL.edge(name)] = True
    assert [heads_in(mask, SMALL, layer).tolist() for layer in (0, 1)] == [[0, 2], [1]]
    assert relabellings(mask, SMALL) == 6 * 3
    changed = [order.tolist() for order in swaps(mask, SMALL, 1)]
    assert changed == [[1, 0, 2], [0, 2, 1]]  # 1.0 and 1.2 have no edge: no swap of the two


@pytest.mark.parametrize("seed", range(12))
def test_a_search_finds_what_trying_all_orders_finds(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    mask = random_mask(SMALL, seed, share=0.1 if seed % 2 else 0.3)
    worth = rng.normal(size=SMALL.mask.shape)

    def keeps(masks):
        return np.array([worth[one].sum() for one in masks])

    best = max(keeps(every_relabelling(mask, SMALL)))
    found = best_relabelling(mask, SMALL, keeps)
    assert found.all_tried and found.kept == pytest.approx(best)
    assert keeps([SMALL.relabel(mask, found.orders)])[0] == pytest.approx(best)
    monkeypatch.setattr(relabelling, "ALL", 0)
    starts = [random_numbers(SMALL, rng) for _ in range(3)]
    climbed = best_relabelling(mask, SMALL, keeps, starts)
    assert not climbed.all_tried and climbed.kept == pytest.approx(best)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("in_layer", [24, 0])  # 0: by swaps of two heads alone
def test_a_search_finds_the_numbers_that_were_taken_away(seed, in_layer, monkeypatch):
    monkeypatch.setattr(relabelling, "ALL_IN_LAYER", in_layer)
    rng = np.random.default_rng(seed)
    there = random_mask(WIDE, seed)
    mask = WIDE.relabel(there, random_numbers(WIDE, rng))
    assert relabellings(mask, WIDE) > relabelling.ALL
    asked = []

    def keeps(masks):
        asked.extend(one.tobytes() for one in masks)
        return np.array([jaccard(one, there) for one in masks])

    starts = [random_numbers(WIDE, rng) for _ in range(3)]
    found = best_relabelling(mask, WIDE, keeps, starts)
    assert found.kept == 1 and (WIDE.relabel(mask, found.orders) == there).all()
    assert len(asked) == len(set(asked)) == found.tried


def test_one_layer_is_searched_from_wherever_the_others_are():
    """From each start every place of the layer's heads is tried, and no other layer is touched."""
    mask = np.zeros(WIDE.mask.shape, bool)
    for name in ("input->a0.h0<v>", "a0.h0->a1.h3<q>", "m0->a1.h1<v>", "a1.h1->logits"):
        mask[WIDE.edge(name)] = True
    orders = [np.array([1, 2, 0, 3]), np.array([3, 0, 1, 2]), np.arange(4)]
    options = relabelling._others(WIDE.relabel(mask, orders), WIDE, 1, orders)
    made = {WIDE.relabel(mask, each).tobytes() for each in options}
    alone = [[orders[0], np.array(order), orders[2]] for order in itertools.permutations(range(4))]
    assert made == {WIDE.relabel(mask, each).tobytes() for each in alone} and len(made) == 12


def test_a_search_ends_at_its_limit_and_keeps_the_best_start(monkeypatch):
    monkeypatch.setattr(relabelling, "LIMIT", 1)
    there = random_mask(WIDE, 7)
    orders = random_numbers(WIDE, np.random.default_rng(7))
    back = [np.argsort(order) for order in orders]
    mask = WIDE.relabel(there, orders)

    def keeps(masks):
        return np.array([jaccard(one, there) for one in masks])

    worse = [np.roll(order, 1) for order in back]
    assert best_relabelling(mask, WIDE, keeps, [worse, back]).kept == 1
    found = best_relabelling(mask, WIDE, keeps)  # nowhere to go: the given numbers
    assert found.kept == keeps([mask])[0] < 1
    assert [order.tolist() for order in found.orders] == [
        order.tolist() for order in same_numbers(WIDE)
    ]


# ------------------------------------------------------------------ roles


@pytest.mark.parametrize("seed", range(4))
def test_roles_are_matched_as_trying_all_orders_matches_them(seed):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(2, 6, 5))
    orders = match_roles(source, target, SMALL)
    for layer, order in enumerate(orders):
        a, b = source[3 * layer : 3 * layer + 3], target[3 * layer : 3 * layer + 3]
        costs = {
            each: sum(((b[place] - a[head]) ** 2).sum() for place, head in enumerate(each))
            for each in itertools.permutations(range(3))
        }
        assert tuple(order) == min(costs, key=costs.__getitem__)


def test_a_rewired_circuit_is_never_the_circuit_under_other_numbers():
    mask = random_mask(WIDE, 1)
    others = other_wirings(mask, WIDE, seed=0)
    assert others
    same = {
        WIDE.relabel(mask, random_numbers(WIDE, np.random.default_rng(i))).tobytes()
        for i in range(50)
    }
    for other in others:
        assert other.tobytes() not in same and (other.sum(0) == mask.sum(0)).all()
        assert (other.sum(1) == mask.sum(1)).all() and (WIDE.live(other) == other).all()
    path = np.zeros(WIDE.mask.shape, bool)
    for name in ("input->m0", "m0->a1.h2<v>", "a1.h2->logits"):
        path[WIDE.edge(name)] = True
    assert other_wirings(path, WIDE, seed=0) == []  # its degrees allow no other circuit


# ------------------------------------------------------------------ the prompts


def test_no_prompt_is_searched_on_and_reported(chosen=("ioi", "sva", "gendered_pronoun")):
    tokenizer = load_suite("mini").checkpoint("mini-xs", 3906).load().tokenizer
    for name in chosen:
        task = get_task(name)
        searched, reported = halves(task, tokenizer, 48, 42)
        texts = set(searched.table["clean"])
        assert len(searched) == SEARCHED and len(reported) >= 8
        assert not texts & set(reported.table["clean"])
        assert texts <= set(task.prompts(tokenizer, n=48, seed=42).table["clean"])
    # every item of the task is taken: the found-on ones are halved
    searched, reported = halves(get_task("gendered_pronoun"), tokenizer, 10_000, 42)
    assert len(searched) == SEARCHED and len(reported) >= 8
    assert not set(searched.table["clean"]) & set(reported.table["clean"])


# ------------------------------------------------------------------ one model under three names


def renumbered(folder: Path, orders: np.ndarray) -> None:
    """mini-s at its end, with the heads of each layer in these orders."""
    shutil.copytree(MINI / "mini-s" / "step3906", folder)
    weights = load_file(folder / "model.safetensors")
    for layer, order in enumerate(torch.as_tensor(orders)):
        name = f"gpt_neox.layers.{layer}.attention"
        for part in ("weight", "bias"):
            tensor = weights[f"{name}.query_key_value.{part}"]
            weights[f"{name}.query_key_value.{part}"] = (
                tensor.unflatten(0, (4, -1))[order].flatten(0, 1).contiguous()
            )
        tensor = weights[f"{name}.dense.weight"]
        weights[f"{name}.dense.weight"] = (
            tensor.unflatten(1, (4, -1))[:, order].flatten(1).contiguous()
        )
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(autouse=True)
def one_rewiring(monkeypatch):
    monkeypatch.setattr("circuitbook.studies.relabelling.REWIRINGS", 1)


@pytest.fixture(scope="module")
def one_model_thrice(tmp_path_factory):
    """(suite, store, circuits, head scores, {model: orders}): mini-s, and twice itself with its
    heads renumbered, as "seeds"; their circuits are the same under other numbers.
    """
    root, rng = tmp_path_factory.mktemp("thrice"), np.random.default_rng(3)
    orders = {"mini-s": np.tile(np.arange(4), (3, 1))}
    for name in ("mini-s-seed2", "mini-s-seed3"):
        orders[name] = np.array([rng.permutation(4) for _ in range(3)])
    for name, of_model in orders.items():
        renumbered(root / "suite" / name / "step3906", of_model)
    about = {"models": ["mini-s"], "tokens_per_step": 2048}
    (root / "suite" / "suite.json").write_text(json.dumps(about))
    suite, store = load_suite(root / "suite"), Store(root / "store")
    recipe = get_recipe("robust").with_prompts(16)
    found = measure_circuits(suite, ["mini-s"], ["ioi", "sva"], store, recipe, progress=False)
    circuits = [
        CircuitResult(
            name,
            result.step,
            result.tokens_seen,
            result.task,
            Circuit(result.circuit.graph, result.circuit.graph.relabel(result.circuit.mask, one)),
            0.0,
        )
        for name, one in orders.items()
        for result in found
    ]
    scores = measure_heads(suite, list(orders), store, recipe, progress=False)
    return suite, store, recipe, circuits, scores, orders


def test_seeds_that_are_one_model_renumbered_have_the_same_circuit(one_model_thrice):
    suite, store, recipe, circuits, scores, orders = one_model_thrice
    results = measure_relabelled(
        suite, circuits, scores, store, recipe, across=[list(orders)], progress=False
    )
    moves = {(one.source, one.target) for one in results}
    assert moves == set(itertools.permutations(orders, 2))
    by_place = {(one.model, one.task): one.circuit for one in circuits}
    for one in results:
        if one.what != CIRCUIT:
            continue
        # of SVA, another order may do better on the few prompts of the search
        chosen = ("roles", "best") if one.task == "ioi" else ("roles",)
        for numbers in chosen:
            own = one.metric["own"]
            assert_close(one.metric[numbers], own, rounds=100, dtype=torch.float32)
        if one.task == "ioi":
            source, target = (by_place[model, "ioi"] for model in (one.source, one.target))
            there = source.graph.relabel(source.mask, list(one.orders))
            assert (there == target.mask).all()
    found = gaps(results)
    ioi = next(gap for gap in found if gap.task == "ioi")
    assert (ioi.pairs, ioi.moves) == (3, 6) and ioi.rewirable == 6
    for numbers in ("roles", "best"):
        closed = ioi.closed[numbers]
        assert (closed.value, closed.low, closed.high) == pytest.approx((1, 1, 1))
    assert ioi.kept["old"] < 0.7 < ioi.kept["best"] and ioi.verdict is Verdict.HOLDS
    assert "Yes for IOI" in same_circuit(found)


def test_what_is_reported_is_the_circuit_under_its_numbers_on_held_out_prompts(one_model_thrice):
    suite, store, recipe, circuits, scores, orders = one_model_thrice
    results = measure_relabelled(
        suite, circuits, scores, store, recipe, across=[["mini-s", "mini-s-seed2"]], progress=False
    )
    assert {(one.source, one.target) for one in results} == {
        ("mini-s", "mini-s-seed2"),
        ("mini-s-seed2", "mini-s"),
    }
    model = suite.checkpoint("mini-s", 3906).load()
    _, pairs = halves(get_task("sva"), model.tokenizer, 16, recipe.seed)
    here = [one for one in results if (one.target, one.task) == ("mini-s", "sva")]
    assert [(one.what, one.of) for one in here if one.what != REWIRED] == [
        (CIRCUIT, "sva"),
        (OTHER_TASK, "ioi"),
    ]
    for one in here:
        if one.what == REWIRED:
            continue
        mask = next(c for c in circuits if (c.model, c.task) == (one.source, one.of)).circuit.mask
        graph = circuits[0].circuit.graph
        rng = np.random.default_rng(recipe.seed)
        drawn = [random_numbers(graph, rng) for _ in range(DRAWS)]

        def metric(*all_orders, mask=mask, graph=graph):
            kept = [
                evaluate_circuit(model, pairs, Circuit(graph, graph.relabel(mask, orders)))
                for orders in all_orders
            ]
            return torch.stack(kept).double().mean(0)

        for numbers, expected in (
            ("old", metric(same_numbers(graph))),
            ("best", metric(list(one.orders))),
            ("random", metric(*drawn)),
        ):
            assert_close(one.metric[numbers], expected, rounds=100, dtype=torch.float32)
        assert one.edges == mask.sum() and one.choices == relabellings(mask, graph)
        assert 0 < one.tried <= max(one.choices, relabelling.LIMIT)
    clean = pairs.metric(model.logits(pairs.clean, pairs.end))
    assert_close(here[0].metric["clean"], clean, rounds=100, dtype=torch.float32)


def test_without_seeds_there_is_nothing_to_put_elsewhere(one_model_thrice):
    suite, store, recipe, circuits, scores, orders = one_model_thrice
    alone = measure_relabelled(
        suite, circuits, scores, store, recipe, across=[[name] for name in orders], progress=False
    )
    assert alone == [] == gaps(alone)
    assert same_circuit([]) == everywhere([], "ioi") == NO_SEEDS
    assert gap_table([]).empty and three_tests([]).empty
    fig = number_panels([])
    assert "no two seeds" in fig.axes[0].texts[0].get_text()
    plt.close(fig)


# ------------------------------------------------------------------ gaps by hand


def put(source, target, what=CIRCUIT, task="ioi", of="ioi", *, own=0.8, noise=0.0, **kept):
    """What a circuit keeps, exactly or with noise over prompts (clean 1, corrupted 0)."""
    n = 40
    spread = noise * np.resize([1.0, -1.0], n)
    values = {"old": 0.0, "random": 0.0, "roles": 0.0, "best": 0.0} | kept | {"own": own}
    metric = {name: value + spread for name, value in values.items()}
    metric |= {"clean": np.ones(n), "corrupted": np.zeros(n)}
    return Relabelled(task, source, target, what, of, 9, 24, 24, np.zeros((1, 2), int), metric)


def pairs_of(best, rewired=0.1, other=0.1, roles=None, **more):
    """Three seeds; best: of each of the six moves, or of all."""
    moves = list(itertools.permutations("abc", 2))
    results = []
    for move, value in zip(moves, np.broadcast_to(best, 6), strict=True):
        by_roles = value if roles is None else roles
        results.append(put(*move, best=value, roles=by_roles, old=0.2, **more))
        if rewired is not None:
            results += [
                put(*move, REWIRED, best=x, roles=x) for x in (rewired - 0.1, rewired + 0.1)
            ]
        if other is not None:
            results += [
                put(*move, OTHER_TASK, of=of, best=x, roles=x)
                for of, x in (("sva", other), ("greater_than", -0.3))
            ]
    return results


def test_a_gap_is_what_the_own_circuit_keeps_more_and_what_closes_is_a_share_of_it():
    (gap,) = gaps(pairs_of([0.2, 0.5, 0.8, 0.5, 0.5, 0.5]))  # of a gap of .6: 0, .5, 1, .5 ...
    closed = gap.closed["best"]
    assert closed.value == pytest.approx(0.5)
    # ab: 0 and 1 of ba's .6 ... the pairs are (ab, ba), (ac, ca), (bc, cb)
    by_pair = [(0.2 + 0.8) / 2, (0.5 + 0.5) / 2, (0.5 + 0.5) / 2]
    assert (closed.low, closed.high) == pytest.approx(
        ((min(by_pair) - 0.2) / 0.6, (max(by_pair) - 0.2) / 0.6)
    )
    assert gap.null[REWIRED, "best"] == pytest.approx(0.1)  # the mean of 0 and .2
    assert gap.null[OTHER_TASK, "best"] == pytest.approx(0.1)  # the best of .1 and -.3
    assert gap.over[REWIRED, "best"].value == pytest.approx(0.4)
    assert gap.kept["own"] == pytest.approx(0.8) and gap.kept["old"] == pytest.approx(0.2)


def test_the_interval_goes_over_pairs_of_both_directions():
    (gap,) = gaps(pairs_of([0.2, 0.8, 0.2, 0.8, 0.8, 0.8]))  # ab, ba: .2; ac .8, ca .8; bc .8 ...
    closed = gap.closed["best"]
    assert closed.value == pytest.approx(4 / 6)
    assert (closed.low, closed.high) == pytest.approx(
        (0, 1)
    )  # all draws of one pair, of the others
    assert gap.verdict is Verdict.OPEN


@pytest.mark.parametrize(
    "verdict, settings",
    [
        (Verdict.HOLDS, dict(best=0.75)),
        (Verdict.FAILS, dict(best=0.3)),  # a sixth of the gap
        (Verdict.FAILS, dict(best=0.75, rewired=0.78)),  # any wiring does as well
        (Verdict.FAILS, dict(best=0.75, other=0.78)),  # so does another task's circuit
        (Verdict.OPEN, dict(best=0.75, rewired=None)),  # nothing to compare with
        (Verdict.OPEN, dict(best=0.75, other=None)),
        (Verdict.OPEN, dict(best=0.75, roles=0.3)),  # the search finds it, the roles do not
        (Verdict.OPEN, dict(best=[0.3, 0.75, 0.3, 0.75, 0.75, 0.75])),  # the pairs differ
        (Verdict.OPEN, dict(best=0.51, noise=2.0)),  # the prompts do
        (Verdict.OPEN, dict(best=0.75, own=0.1)),  # there is no gap
    ],
)
def test_it_is_the_same_circuit_only_where_all_three_tests_say_so(verdict, settings):
    (gap,) = gaps(pairs_of(**settings))
    assert gap.verdict is verdict


def test_one_pair_of_seeds_says_nothing():
    results = [one for one in pairs_of(0.75) if {one.source, one.target} == {"a", "b"}]
    (gap,) = gaps(results)
    assert gap.pairs == 1 and gap.closed["best"].value == pytest.approx(0.55 / 0.6)
    assert np.isnan(gap.closed["best"].low) and gap.verdict is Verdict.OPEN
    assert "1 pair of seeds" in few_pairs([gap])
    assert not three_tests([gap])["best"].str.contains("\\[").any()


def test_sentences_and_the_table_say_what_the_verdicts_are():
    stands = pairs_of(0.75)
    falls = [
        put(*move, task="sva", of="sva", old=0.2, best=0.25, roles=0.199)
        for move in itertools.permutations("abc", 2)
    ]
    found = gaps([*stands, *falls])
    text = same_circuit(found)
    assert "Yes for IOI; no for SVA.**" in text and "can't tell" not in text
    assert "closes most in IOI, 92% [92%, 92%] of the gap" in text
    assert "numbers? No for SVA.**" in same_circuit(found[1:])
    table = gap_table(found).set_index("task")
    assert table.loc["IOI", ["old numbers", "best", "target's own"]].tolist() == [
        "20%",
        "75%",
        "80%",
    ]
    assert table.loc["SVA", ["rewired, best", "same circuit"]].tolist() == ["–", "does not stand"]
    tests = three_tests(found).set_index("task")
    ioi, sva = tests.loc["IOI"], tests.loc["SVA"]
    assert ioi["by roles"].iloc[1] == "holds, +65 points [+65, +65]"
    assert sva["best"].tolist()[:2] == ["does not hold, 8% [8%, 8%]", "no circuit can be rewired"]
    assert "close 92% [92%, 92%] of the gap" in everywhere(found, "ioi")
    assert "does not" in str(Verdict.FAILS)


def test_the_figure_has_a_row_for_each_move_and_a_mark_for_each_numbers():
    fig = number_panels([*pairs_of(0.75), put("a", "b", task="sva", old=-3.0, best=0.5)])
    ioi, sva = fig.axes[:2]
    assert len(ioi.get_yticks()) == 6 and ioi.get_yticklabels()[0].get_text() == "a (9) → b"
    marks = {
        line.get_label(): line.get_xdata() for line in ioi.lines if line.get_linestyle() == "None"
    }
    np.testing.assert_allclose(marks["best numbers"], 0.75)
    assert len(marks["rewired, best numbers"]) == 12
    assert min(min(line.get_xdata(), default=0) for line in sva.lines) == -0.12  # at the end
    assert set(NUMBERS) >= {"old", "roles", "best"}
    plt.close(fig)
