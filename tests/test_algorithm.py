"""The algorithm test: shares by hand, resampling against hooks, transfers against relabelled
networks."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close
from conftest import save_checkpoint
from scipy.stats import norm
from test_patching import hooked
from toys import toy_model, toy_pairs

from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.circuits.evaluation import evaluate_circuit, evaluate_masks
from circuitbook.circuits.random_circuits import shuffled_heads
from circuitbook.figures.algorithm import class_strips, matrices, share_panels, stacked_shares
from circuitbook.figures.heads import attention_maps
from circuitbook.heads.names import head_name
from circuitbook.heads.path_patching import path_patch
from circuitbook.model.graph import Graph, graph_of
from circuitbook.recipes import get_recipe
from circuitbook.store.disk import Store
from circuitbook.studies.answer_readers import AnswerReaders, read_answers, year_circuit
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.class_shares import (
    FUNCTIONS,
    ShareVerdict,
    function_shares,
    share_table,
    verdict,
)
from circuitbook.studies.classifying import (
    classify_heads,
    direct_classes,
    found_on_first,
    memberships,
    mostly,
    turned_away,
)
from circuitbook.studies.head_classes import CLAIMED, CLASSES, HeadClasses, measure_head_classes
from circuitbook.studies.head_scores import HeadScores, measure_heads
from circuitbook.studies.held_out import measure_held_out
from circuitbook.studies.masks import measure_masks
from circuitbook.studies.measurement import Measurer
from circuitbook.studies.resampling import measure_scrubs, random_members, scrub_masks
from circuitbook.studies.transfer import (
    class_pattern,
    instantiate,
    node_labels,
    transfer,
    transfer_matrix,
    transfer_summary,
)
from circuitbook.suites import Checkpoint
from circuitbook.suites.finding import load_suite
from circuitbook.tasks.registry import get_task

E_HEAD = 8
ROBUST = get_recipe("robust").algorithm


def classes_of(effects, classes, in_circuit, least=0.0, stage="direct") -> HeadClasses:
    """Clean 3, corrupted 1 on each of five prompts, so that a patched metric of 3 + 2e has effect
    e."""
    effects = np.array(effects)
    patched = {stage: np.tile(3 + 2 * effects[:, None], (1, 5))}
    every = {name: np.isin(range(len(effects)), classes.get(name, [])) for name in CLASSES}
    return HeadClasses(
        "m",
        8,
        80,
        2,
        np.full(5, 3.0),
        np.full(5, 1.0),
        patched,
        every,
        np.array(in_circuit, bool),
        {},
        np.full((len(effects), 3), np.nan),
        least,
        {},
    )


# ------------------------------------------------------------------ shares


def test_shares_by_hand():
    one = classes_of(
        [-0.5, 0.1, -0.2, -0.2], {"name mover": [0], "negative name mover": [1]}, [1, 1, 1, 0]
    )
    np.testing.assert_allclose(one.effects("direct"), [-0.5, 0.1, -0.2, -0.2])
    assert one.share("direct") == pytest.approx(0.6 / 0.8)
    assert one.share("direct", "signed") == pytest.approx(0.4 / 0.6)
    assert one.share("direct", "all heads") == pytest.approx(0.6 / 1.0)
    assert one.share("direct", members=np.array([0, 0, 1, 1], bool)) == pytest.approx(0.2 / 0.8)
    weights = np.full((2, 5), 0.2)
    np.testing.assert_allclose(one.share("direct", "absolute", weights), [0.75, 0.75])
    assert (
        one.role(0) == "name mover"
        and one.role(2) is None
        and one.labels[1] == {"negative name mover"}
    )
    with pytest.raises(
        ValueError, match="unknown form of share 'mean'; there are: absolute, signed, all heads"
    ):
        one.share("direct", "mean")


def test_where_there_is_nothing_to_share_there_is_no_share():
    one = classes_of([-0.5, 0.1], {"name mover": [0]}, [0, 0])
    assert np.isnan(one.share("direct")) and one.share("direct", "all heads") == pytest.approx(
        5 / 6
    )
    assert np.isnan(one.share("steering")) and len(one.null_shares("steering")) == 0  # no receivers
    assert np.isnan(one.share("steering", weights=np.full((3, 5), 0.2))).all()
    quiet = classes_of([-0.004, 0.001], {"name mover": [0]}, [1, 1], least=0.01)
    assert np.isnan(quiet.share("direct"))  # no head matters


@pytest.mark.parametrize("form", ["absolute", "all heads", "signed"])
def test_random_heads_have_the_share_of_all_subsets(form):
    effects = [-0.5, 0.1, -0.2, -0.25, 0.3]
    one = classes_of(effects, {"name mover": [0], "copy suppression": [0, 2]}, [1, 1, 1, 1, 0])
    n = 5 if form == "all heads" else 4
    values = np.array(effects[:n]) if form == "signed" else np.abs(effects[:n])
    helping = [0, 2, 3]  # both members help, so their places go to heads that help
    every = [values[list(some)].sum() / values.sum() for some in itertools.combinations(helping, 2)]
    null = one.null_shares(form=form, stage="direct", draws=6000)
    assert null.mean() == pytest.approx(np.mean(every), abs=0.02)
    assert set(np.round(null, 9)) == set(np.round(every, 9))
    table = share_table([one], draws=400).set_index(["stage", "form"])
    row = table.loc[("direct", form)]
    assert (row["members"], row["nodes"]) == (2, n) and row["low"] == pytest.approx(row["share"])
    assert row["beats"] == pytest.approx(np.mean(np.array(every) < row["share"] - 1e-9), abs=0.08)
    assert np.isnan(table.loc[("steering", form), "share"])


def test_the_verdict_asks_every_checkpoint():
    frame = pd.DataFrame(
        {"share": [0.9, 0.75, np.nan], "low": [0.8, 0.72, np.nan], "high": [0.95, 0.8, np.nan]}
    )
    assert verdict(frame, 0.7) == ShareVerdict("holds", 0.75, 0.72, 0.8, 2)
    assert (
        verdict(frame, 0.74).answer == "can't tell"
        and verdict(frame, 0.82).answer == "does not hold"
    )
    assert verdict(frame[2:], 0.7).answer == "can't tell"


# ------------------------------------------------------------------ classes


def test_classes_go_by_score_and_sign():
    n = 4
    arrays = {
        name: np.zeros((6, n))
        for name in ("previous", "copy", "negative_copy", "cspa_kept", "direct")
    }
    arrays |= {
        "clean": np.full(n, 2.0),
        "corrupted": np.full(n, -2.0),
        "cspa_ablated": np.ones((6, n)),
    }
    arrays["direct"] += 2 + 4 * np.array([-0.5, 0.3, -0.005, -0.4, 0.2, 0.0])[:, None]
    arrays["copy"][[0, 1, 2]] = 0.5
    arrays["negative_copy"][[3, 4, 5]] = 0.5
    arrays["cspa_kept"] += np.array([1, 1, 1, 0.5, 0.6, 1])[:, None]
    scores = HeadScores("m", 1, 1, 2, arrays)
    found = {
        name: rows.nonzero()[0].tolist() for name, rows in direct_classes(scores, ROBUST).items()
    }
    assert found == {
        "name mover": [0],
        "copy suppression": [3],
        "negative name mover": [3, 4],
        "negative copy suppression": [4],
    }
    paper = direct_classes(scores, get_recipe("paper").algorithm)
    assert paper["name mover"].nonzero()[0].tolist() == [0, 2]  # any effect below zero
    del arrays["cspa_kept"]  # no text: no suppressors
    assert not direct_classes(scores, ROBUST)["copy suppression"].any()


def test_what_turns_receivers_away():
    """Movers from IO, movers to S1, the others from the subject; a row per head."""
    turned = np.array(
        [
            [-0.3, 0.3, 0.0],  # the mover leaves IO for S1
            [0.3, -0.3, 0.0],
            [-0.3, 0.0, 0.0],  # it leaves IO for something else
            [0.0, 0.1, -0.4],  # the suppressor leaves the subject
            [-0.1, 0.1, 0.4],  # both are turned, the suppressor more, and to the good
            [-0.01, 0.01, 0.0],  # hardly
        ]
    )
    assert turned_away(turned[None]).tolist() == [[True, False, False, True, False, True]]
    assert turned_away(turned, 0.02).tolist() == [True, False, False, True, False, False]


def noise(seed: int, settings) -> HeadClasses:
    """30 heads that do nothing but noise, classed by the sign of their effect."""
    rng = np.random.default_rng(seed)
    heads, n = 30, 40
    arrays = {"previous": np.zeros((heads, n)), "copy": np.ones((heads, n))}
    arrays |= {"negative_copy": np.zeros((heads, n)), "direct": 3 + rng.normal(size=(heads, n))}
    arrays |= {"clean": np.full(n, 3.0), "corrupted": np.full(n, -3.0)}
    scores = HeadScores("m", 1, 1, 2, arrays)
    classes = direct_classes(scores, settings)
    every = {name: np.zeros(heads, bool) for name in CLASSES} | classes
    patched = {"direct": arrays["direct"]}
    about = ("m", 1, 1, 2, arrays["clean"], arrays["corrupted"], patched, every)
    more = (np.ones(heads, bool), {}, np.full((heads, 3), np.nan), 0.0, {})
    return HeadClasses(*about, *more, found_on=found_on_first(n, settings))


def test_noise_explains_nothing_on_prompts_that_it_was_not_chosen_on():
    """Heads chosen by a bar on their effect explain more than others on the very prompts, for no
    reason; on other prompts they explain as much as others of their sign."""
    same = dataclasses.replace(ROBUST, split=False)
    excess = {}
    for name, settings in (("same", same), ("other", ROBUST)):
        every = [noise(seed, settings) for seed in range(60)]
        over = [one.share("direct") - one.null_shares("direct", draws=200).mean() for one in every]
        excess[name] = np.mean(over), np.std(over) / len(over) ** 0.5
    assert excess["same"][0] > 5 * excess["same"][1] > 0
    assert abs(excess["other"][0]) < 3 * excess["other"][1]


def test_a_class_is_a_probability_over_resamples():
    """A head whose effect lies on the bar is in its class in half of the resamples."""
    n = 400
    rng = np.random.default_rng(0)
    settings = dataclasses.replace(ROBUST, split=False, resamples=2000)
    arrays = {"previous": np.zeros((2, n)), "copy": np.ones((2, n))}
    arrays |= {"negative_copy": np.zeros((2, n)), "clean": np.full(n, 1.0)}
    arrays["corrupted"] = np.full(n, -1.0)
    shift = rng.normal(size=n)
    shift = (shift - shift.mean()) / shift.std()
    above = 0.1 * np.array([0.0, 1.0])[:, None]  # standard errors of the second: 0.1 / (1 / 20) = 2
    arrays["direct"] = 1 - 2 * settings.direct_bar - above + shift[None]
    found = memberships(HeadScores("m", 1, 1, 2, arrays), {}, settings)["name mover"]
    assert found.shape == (2000, 2)
    np.testing.assert_allclose(found.mean(0), [0.5, norm.cdf(2)], atol=0.04)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two late checkpoints of mini-s-seed2, which has name movers and S-inhibition, and of mini-s;
    and of the former, one from before the ability."""
    suite, store = load_suite("mini"), Store(tmp_path_factory.mktemp("store"))
    models = ["mini-s", "mini-s-seed2"]
    steps = {"mini-s": (2896, 3906), "mini-s-seed2": (512, 2896, 3906)}
    found = measure_heads(suite, models, store, steps=steps, progress=False)
    circuits = measure_circuits(
        suite, models, ["ioi", "greater_than"], store, steps=steps, progress=False
    )
    return (
        suite,
        store,
        found,
        circuits,
        measure_head_classes(suite, found, circuits, store, progress=False),
    )


def test_the_classes_are_their_path_patches(measured):
    suite, store, found, circuits, classes = measured
    early, one = [a for a in classes if a.model == "mini-s-seed2"][0], classes[-1]
    assert (
        early.patched == {}
        and not any(c.any() for c in early.classes.values())
        and "does not do IOI" in early.why["direct"]
    )
    assert one.heads[4] == (1, 0) and one.classes["S-inhibition"].nonzero()[0].tolist() == [4]
    movers = [one.heads[row] for row in one.classes["name mover"].nonzero()[0]]
    assert one.receivers["q"] == movers and len(movers) == 2
    model = suite.checkpoint("mini-s-seed2", 3906).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=64)
    metrics = [
        pairs.metric(model.logits(t, pairs.end)).double() for t in (pairs.clean, pairs.corrupted)
    ]
    clean, corrupted = (float(metric.mean()) for metric in metrics)
    later = [float(metric[32:].mean()) for metric in metrics]  # shares are of these prompts
    assert (one.found_on, one.prompts) == (32, 32)
    for stage, kind, heads in (("steering", "q", movers), ("tertiary", "v", [(1, 0)])):
        literal = (
            path_patch(model, pairs, [(0, 1), (1, 0)], [f"{head_name(h)}<{kind}>" for h in heads])
            .metric.double()[:, 32:]
            .mean(1)
        )
        effects = (literal - later[0]) / (later[0] - later[1])
        # in shares of the whole effect, whose own size is 1
        assert_close(one.effects(stage)[[1, 4]], effects, rounds=100, dtype=torch.float32, size=1)
    assert one.effects("steering")[4] < -0.3 and one.share("steering", "all heads") > 0.9
    assert np.isnan(one.share("tertiary")) and one.why == {}  # nothing matters to its values
    # the signal: who the subject is, not where it stood
    moved = get_task("ioi").prompts(model.tokenizer, n=64, corruption="token")
    through = path_patch(
        model,
        moved,
        [(1, 0)],
        [f"{head_name(h)}<q>" for h in movers],
        sender_at="END",
        receiver_at="END",
    ).metric
    signal = (float(through.double().mean()) - clean) / (clean - corrupted)
    assert_close(one.signals[4, 2], signal, rounds=100, dtype=torch.float32, size=1)
    assert abs(one.signals[4, 1]) < 0.05 < abs(one.signals[4, 2])


def test_the_authors_ask_for_an_edge_of_the_circuit_to_a_name_mover(measured):
    suite, _, found, circuits, _ = measured
    model, scores = suite.checkpoint("mini-s-seed2", 3906).load(), found[-1]
    graph, settings = (
        graph_of(model),
        dataclasses.replace(ROBUST, receivers="movers", needs_edge=True),
    )
    there = circuit_of(graph, ["a1.h0->a2.h3<q>"]).mask
    for mask, expected in (
        (there, [4]),
        (np.zeros_like(there), []),
        (circuit_of(graph, ["a1.h0->a2.h3<k>"]).mask, []),
    ):
        out = classify_heads(model, scores, mask, settings)
        found = memberships(scores, out, settings)["S-inhibition"]
        assert mostly(found).nonzero()[0].tolist() == expected
    nobody = dataclasses.replace(
        scores, arrays=scores.arrays | {"copy": np.zeros_like(scores.arrays["copy"])}
    )
    none = classify_heads(model, nobody, there, settings)  # no name mover: no receivers, no crash
    assert none == {} and not memberships(nobody, none, settings)["S-inhibition"].any()


def test_what_was_measured_is_read(measured, monkeypatch):
    suite, store, found, circuits, classes = measured
    monkeypatch.setattr(
        "circuitbook.studies.classifying.path_patch",
        lambda *_, **__: pytest.fail("measured again"),
    )
    again = measure_head_classes(suite, found, circuits, store, progress=False)
    pd.testing.assert_frame_equal(share_table(classes), share_table(again))
    assert [a.receivers for a in again] == [a.receivers for a in classes]


def test_a_signal_that_is_not_there_is_named(measured):
    suite, _, found, circuits, _ = measured
    recipe = get_recipe("robust")
    settings = dataclasses.replace(recipe.algorithm, signal="swpa")
    model, mask = suite.checkpoint("mini-s", 3906).load(), circuits[-1].circuit.mask
    with pytest.raises(ValueError, match=r"unknown signal 'swpa'; there are: .*'swap'"):
        classify_heads(model, scores=found[-1], mask=mask, settings=settings, seed=1)


def test_functions_by_hand():
    arrays = {name: np.zeros((4, 2)) for name in ("previous", "to_IO", "to_S1", "to_S2")}
    arrays |= {
        "clean": np.full(2, 2.0),
        "corrupted": np.full(2, -2.0),
        "direct": 2 + 4 * np.array([[-0.3], [-0.5], [-0.2], [0.4]]).repeat(2, 1),
    }
    arrays["to_IO"][:] = np.array([0.7, 0.1, 0.2, 0.9])[:, None]
    arrays["to_S2"][:] = np.array([0.2, 0.8, 0.1, 0.0])[:, None]
    table = function_shares(
        [
            HeadScores("m", 1, 1, 2, arrays),
            HeadScores("m", 0, 0, 2, arrays | {"clean": np.zeros(2)}),
        ]
    )
    assert table["step"].tolist() == [1]
    np.testing.assert_allclose(table[list(FUNCTIONS)], [[0.3, 0.5, 0.2]])


# ------------------------------------------------------------------ resampling


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    network, model = toy_model(tmp_path_factory.mktemp("toy"), layers=3, heads=2, d_model=16)
    return copy.deepcopy(network).double().requires_grad_(False), model, toy_pairs()


def test_keeping_the_classes_alone_is_resampling_all_other_heads(toy):
    network, model, pairs = toy
    layers, graph = network.gpt_neox.layers, graph_of(model)
    members = {
        "direct": np.isin(range(6), [5]),
        "steering": np.isin(range(6), [2, 5]),
        "tertiary": np.isin(range(6), [0]),
    }
    masks = scrub_masks(graph, members)
    kept = {0, 2, 5}

    def metric(held):
        """Plain transformers; heads in `held` write what they wrote on the corrupted prompts."""
        z = {}
        with (
            hooked(
                [
                    (
                        b.attention.dense,
                        True,
                        lambda m, x, layer=layer: z.__setitem__(layer, x[0].clone()),
                    )
                    for layer, b in enumerate(layers)
                ]
            ),
            torch.no_grad(),
        ):
            network(pairs.corrupted)

        def hold(m, x, layer):
            now = x[0].clone()
            for h in (h for h in range(2) if 2 * layer + h in held):
                now[..., h * E_HEAD : (h + 1) * E_HEAD] = z[layer][
                    ..., h * E_HEAD : (h + 1) * E_HEAD
                ]
            return (now,)

        with (
            hooked(
                [
                    (b.attention.dense, True, lambda m, x, layer=layer: hold(m, x, layer))
                    for layer, b in enumerate(layers)
                ]
            ),
            torch.no_grad(),
        ):
            return pairs.metric(network(pairs.clean).logits[torch.arange(len(pairs)), pairs.end])

    got = evaluate_masks(model, pairs, [masks["heads"], masks["without"]])
    assert_close(got[0], metric({1, 3, 4}), rounds=100)
    assert_close(got[1], metric(kept), rounds=100)
    assert (got[0] - got[1]).abs().min() > 1e-4


def test_roles_are_the_edges_that_the_algorithm_speaks_of():
    graph = Graph(3, 2)
    members = {
        "direct": np.isin(range(6), [4]),
        "steering": np.isin(range(6), [2]),
        "tertiary": np.isin(range(6), [0]),
    }
    edges = set(Circuit(graph, scrub_masks(graph, members)["roles"]).edges)
    of_heads = {e for e in edges if e[0] == "a"}
    assert of_heads == {"a0.h0->a1.h0<v>", "a1.h0->a2.h0<q>", "a2.h0->logits"}
    assert edges - of_heads == {
        e for e in graph.edge_names if e[0] != "a"
    }  # embedding and MLPs are kept
    early = scrub_masks(graph, members | {"direct": np.isin(range(6), [0])})["roles"]
    assert {e for e in Circuit(graph, early).edges if e.startswith("a0.h0->") and "<" not in e} == {
        "a0.h0->m1",
        "a0.h0->m2",
        "a0.h0->logits",
    }
    shuffled = random_members(members, np.random.default_rng(3))
    assert {stage: int(rows.sum()) for stage, rows in shuffled.items()} == {
        "direct": 1,
        "steering": 1,
        "tertiary": 1,
    }
    assert any((shuffled[stage] != members[stage]).any() for stage in members)


def test_scrubs_of_a_real_model(measured):
    suite, store, _, circuits, classes = measured
    table = measure_scrubs(suite, classes, circuits, store, draws=2, progress=False)
    assert set(table["model"]) == {"mini-s", "mini-s-seed2"} and set(table["corruption"]) == {
        "swap",
        "abc",
    }
    one = table[
        (table["model"] == "mini-s-seed2")
        & (table["step"] == 3906)
        & (table["corruption"] == "swap")
    ].set_index("scrub")
    assert one.loc["without", "faithfulness"] < 0.2 < 0.8 < one.loc["heads", "faithfulness"]
    assert (
        one.loc["roles", "faithfulness"] < one.loc["heads", "faithfulness"] - 0.2
    )  # its S-inhibition head writes to the logits too
    assert (
        one.loc[["heads", "roles"], "random"] < one.loc[["heads", "roles"], "faithfulness"]
    ).all()
    assert (table["low"] <= table["faithfulness"]).all() and (
        table["faithfulness"] <= table["high"]
    ).all()


# ------------------------------------------------------------------ transfer


def test_a_circuit_of_shuffled_heads_works_in_a_network_of_shuffled_heads(tmp_path, toy):
    network, model, pairs = toy
    graph, seed = graph_of(model), 4
    mask = graph.mask & (np.random.default_rng(0).random(graph.mask.shape) < 0.5)
    moved = shuffled_heads(mask, graph, np.random.default_rng(seed))
    assert moved.sum() == mask.sum() and (moved != mask).any() and not (moved & ~graph.mask).any()
    rng, other = np.random.default_rng(seed), copy.deepcopy(network)
    with torch.no_grad():
        for layer in other.gpt_neox.layers:
            order = torch.tensor(rng.permutation(2))
            attention = layer.attention
            for tensor in (attention.query_key_value.weight, attention.query_key_value.bias):
                tensor.copy_(tensor.unflatten(0, (2, 3 * E_HEAD))[order].flatten(0, 1))
            attention.dense.weight.copy_(
                attention.dense.weight.unflatten(1, (2, E_HEAD))[:, order].flatten(1)
            )
    save_checkpoint(tmp_path / "other" / "step1", other, dtype=torch.float64)
    relabelled = load_suite(tmp_path).checkpoint("other", 1).load(dtype=torch.float64)
    expected = evaluate_circuit(model, pairs, Circuit(graph, mask))
    assert_close(evaluate_circuit(relabelled, pairs, Circuit(graph, moved)), expected, rounds=100)
    assert (evaluate_circuit(model, pairs, Circuit(graph, moved)) - expected).abs().max() > 1e-4


def test_patterns_of_classes_by_hand():
    here, there = Graph(3, 2), Graph(2, 3)
    labels = [frozenset()] * 6
    labels[2], labels[4] = (
        frozenset({"S"}),
        frozenset({"N"}),
    )  # a1.h0, a2.h0; the others are in no class
    mask = circuit_of(
        here,
        [
            "input->m0",
            "m0->a1.h0<v>",
            "a1.h0->a2.h0<q>",
            "m0->a2.h0<v>",
            "a2.h0->logits",
            "a2.h1->logits",
            "m1->logits",
        ],
    ).mask
    pattern = class_pattern(mask, here, node_labels(here, labels))
    assert pattern == {
        ("input", "first MLP", ""),
        ("first MLP", "S", "v"),
        ("S", "N", "q"),
        ("first MLP", "N", "v"),
        ("N", "logits", ""),
        ("later MLP", "logits", ""),
    }
    others = [frozenset()] * 6
    others[0], others[3], others[5] = frozenset({"S"}), frozenset({"N"}), frozenset({"N", "S"})
    got = Circuit(there, instantiate(pattern, there, node_labels(there, others)))
    # a0.h0 stands in the first layer, so that no MLP comes before it and it is fed by nothing:
    # dead; m1 is fed by nothing, too
    assert set(got.edges) == {
        "input->m0",
        "m0->a1.h0<v>",
        "m0->a1.h2<v>",
        "a1.h0->logits",
        "a1.h2->logits",
    }
    unique = [
        frozenset({f"own {i}"}) for i in range(6)
    ]  # labels that tell every head: nothing is lost
    own = node_labels(here, unique)
    assert (instantiate(class_pattern(mask, here, own), here, own) >= here.live(mask)).all()


def test_transfer_evaluates_each_circuit_where_it_is_put(measured):
    suite, store, _, circuits, classes = measured
    seeds = [["mini-s", "mini-s-seed2"]]
    table = transfer(suite, circuits, store, "robust", classes, seeds, draws=3, progress=False)
    ioi = {(c.model, c.step): c.circuit for c in circuits if c.task == "ioi" and c.circuit.found}
    one = table[(table["task"] == "ioi") & (table["what"] == "circuit")]
    diagonal = one[(one["source"] == one["target"]) & (one["source_step"] == one["target_step"])]
    assert len(diagonal) == len(ioi) == 4
    fresh = measure_held_out(suite, circuits, store, progress=False).set_index(
        ["task", "model", "step"]
    )
    for _, row in diagonal.iterrows():
        there = fresh.loc[("ioi", row["target"], row["target_step"]), "held_out"]
        assert_close(row["faithfulness"], there, rounds=100, dtype=torch.float32, size=1)
    away = one[(one["source"] == "mini-s") & (one["target"] == "mini-s-seed2")]
    assert away[["source_step", "target_step"]].to_numpy().tolist() == [[3906, 3906]]
    model = suite.checkpoint("mini-s-seed2", 3906).load()
    n = get_recipe("robust").prompts["ioi"]
    pairs = get_task("ioi").prompts(model.tokenizer, n=2 * n).subset(slice(n, None))
    kept = evaluate_circuit(model, pairs, ioi["mini-s", 3906]).double().mean()
    clean, corrupted = (
        pairs.metric(model.logits(t, pairs.end)).double().mean()
        for t in (pairs.clean, pairs.corrupted)
    )
    faithfulness = (kept - corrupted) / (clean - corrupted)
    assert_close(away["faithfulness"].item(), faithfulness, rounds=100, dtype=torch.float32, size=1)
    assert {"classes", "other classes", "shuffled"} <= set(table["what"]) and "classes" not in set(
        table.loc[table["task"] != "ioi", "what"]
    )
    summary = transfer_summary(table, seeds).set_index(["task", "what", "where"])
    assert (
        summary.loc[("ioi", "circuit", "other seed"), "pairs"] == 2
        and summary.loc[("ioi", "circuit", "same run"), "pairs"] == 4
    )
    assert (
        summary.loc[("ioi", "circuit", "same run"), "mean"]
        > 0.7
        > 0.5
        > summary.loc[("ioi", "circuit", "other seed"), "mean"]
    )
    square = transfer_matrix(table, "ioi", "circuit")
    assert square.loc["mini-s", "mini-s-seed2"] == away["faithfulness"].item()
    assert square.shape == (2, 2)
    assert transfer_matrix(table, "ioi", "circuit", "mini-s", str).shape == (2, 2)


def test_masks_are_measured_once_with_their_baselines(tmp_path, monkeypatch):
    suite, store = load_suite("mini"), Store(tmp_path)
    checkpoint = suite.checkpoint("mini-xs", 3906)
    graph = graph_of(checkpoint.load())
    masks = [graph.mask, np.zeros_like(graph.mask)]
    loads = []
    load = Checkpoint.load
    monkeypatch.setattr(
        Checkpoint, "load", lambda self, **how: loads.append(self.step) or load(self, **how)
    )

    def measured(**options):
        here = Measurer((checkpoint,), store)
        return measure_masks(here, "ioi", masks, prompts=10, **options)

    metric = measured()
    # all edges: the clean run; none: the corrupted one
    assert_close(metric[2], metric[0], rounds=100, dtype=torch.float32)
    assert_close(metric[3], metric[1], rounds=100, dtype=torch.float32)
    assert metric.shape == (4, 10) and metric[0].mean() > 2
    assert (measured() == metric).all() and len(loads) == 1
    other = measured(corruption="abc")
    assert len(loads) == 2
    assert_close(other[0], metric[0], rounds=100, dtype=torch.float32)
    assert np.abs(other[1] - metric[1]).max() > 0.1


# ------------------------------------------------------------------ the other tasks


def test_readers_are_what_the_bridge_says():
    suite = load_suite("mini")
    # in float64, so that no rounding decides which of two near values is the larger
    model = suite.checkpoint("mini-xs", 3906).load(dtype=torch.float64)
    pairs = get_task("greater_than").prompts(model.tokenizer, n=7)
    got = read_answers(model, pairs)
    logits, cache = model.bridge.run_with_cache(pairs.clean)
    bare, norm = model.hf_model, model.hf_model.base_model.final_layer_norm
    unembed = bare.lm_head.weight * norm.weight
    unembed = (unembed - unembed.mean(-1, keepdim=True)).detach()
    seen = 0
    for i in range(7):
        end, yy = int(pairs.end[i]), int(pairs.positions["YY"][i])
        years = unembed[pairs.answers[i]]
        for layer in range(2):
            for head in range(4):
                row = 4 * layer + head
                pattern = cache["pattern", layer][i, head, end]
                assert_close(got["looks"][row, i], pattern[yy], rounds=100, size=1)
                assert bool(got["peaks"][row, i]) == (int(pattern.argmax()) == yy)
                wrote = cache["z", layer][i, end, head] @ model.bridge.W_O[layer, head]
                year = int((years @ wrote).argmax())
                assert bool(got["year"][row, i]) == (
                    year in (pairs.table["yy"][i], pairs.table["yy"][i] + 1)
                )
                seen += bool(got["peaks"][row, i])
            lens = years @ cache["mlp_out", layer][i, end]
            after = torch.arange(100) > pairs.table["yy"][i]
            above = lens[after].mean() - lens[~after].mean()
            assert_close(got["above"][layer, i], above, rounds=100, size=lens.abs().max())
    assert 0 < seen < 56
    one = path_patch(model, pairs, [(1, 2)], ["logits"]).metric[0]
    assert_close(got["direct"][6], one, rounds=100)
    assert got["direct"].shape == (10, 7)


def test_shares_of_readers_by_hand():
    direct = 0.8 + np.array([[-0.4], [0.1], [-0.2], [-0.1], [0.2], [0.0]]).repeat(
        2, 1
    )  # four heads, two MLPs; effects as they stand
    one = AnswerReaders(
        "m",
        1,
        1,
        "greater_than",
        2,
        {
            "looks": np.zeros((4, 2)),
            "peaks": np.array([[1, 1], [0, 1], [0, 0], [1, 1]]),
            "direct": direct,
            "clean": np.full(2, 0.8),
            "corrupted": np.full(2, -0.2),
        },
    )
    shares = one.shares()
    assert shares == pytest.approx(
        {"MLPs": 0.2, "readers": 0.5 / 0.8, "random": 0.5, "helping": 0.5}
    )
    assert one.does and one.readers().tolist() == [True, False, False, True]


def test_the_parts_of_the_greater_than_check():
    graph = Graph(3, 2)
    mask = circuit_of(
        graph,
        ["input->a0.h1<v>", "a0.h1->m2", "a1.h0->m2", "a0.h0->m1", "m2->logits", "m1->a2.h0<v>"],
    ).mask
    assert year_circuit(CircuitResult("m", 1, 1, "greater_than", Circuit(graph, mask), 0.0)) == (
        [2],
        [1, 2],
    )


# ------------------------------------------------------------------ pictures


def test_figures_of_the_algorithm_show_what_is_there():
    one = classes_of(
        [-0.5, 0.1, -0.2, -0.2],
        {"name mover": [0], "copy suppression": [0], "negative name mover": [1]},
        [1, 1, 1, 0],
    )
    fig = class_strips([one], ["m", "absent"])
    assert {t.get_text() for t in fig.axes[0].texts} == {"N", "C", "n"}
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["0.0", "0.1"]
    plt.close(fig)
    fig = share_panels(
        share_table([one], draws=50),
        ["m"],
        {"direct": "B", "steering": "C"},
        {"absolute": "a", "all heads": "b"},
        CLAIMED,
    )
    assert fig.axes[0].lines[1].get_ydata()[0] == pytest.approx(0.75) and "none" in {
        t.get_text() for t in fig.axes[2].texts
    }
    plt.close(fig)
    fig = matrices(
        {"x": pd.DataFrame([[1.0, 0.5], [np.nan, -0.2]], index=["a", "b"], columns=["a", "b"])}
    )
    assert [t.get_text() for t in fig.axes[0].texts] == ["1.00", ".50", "-.20"]
    plt.close(fig)
    pattern = np.array([[1.0, 0.0], [0.75, 0.25]])
    fig = attention_maps([" a", " b"], [pattern, pattern[::-1]], ["0.1", "1.0"])
    assert fig.axes[0].images[0].get_array().filled(-1).tolist() == [[1.0, -1.0], [0.75, 0.25]]
    assert [ax.patches[0].get_x() for ax in fig.axes[:2]] == [-0.5, -0.5] and [
        t.get_text() for t in fig.axes[0].get_xticklabels()
    ] == ["a", "b"]
    plt.close(fig)
    frame = pd.DataFrame(
        {
            "model": ["m"],
            "step": [1],
            "tokens_seen": [1],
            **dict(zip(FUNCTIONS, ([0.2], [0.5], [0.3]), strict=True)),
        }
    )
    fig = stacked_shares(frame, FUNCTIONS, ["m"], "share")
    assert [round(p.get_y() + p.get_height(), 6) for p in fig.axes[0].patches] == [0.2, 0.7, 1.0]
    plt.close(fig)
