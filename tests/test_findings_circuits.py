"""What "What is a circuit?" computes and says, on objects whose right numbers are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from toys import toy_model, toy_pairs

from circuitbook.circuits.attribution import Scores, attribute
from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.figures.what_is_a_circuit import (
    faithfulness_over_size,
    node_effects,
    points_and_errors,
    scores_against_patching,
)
from circuitbook.model.graph import Graph
from circuitbook.studies.findings import circuits as findings

GRAPH = Graph(2, 2)  # sources: input, a0.h0, a0.h1, m0, a1.h0, a1.h1, m1
EFFECT = np.array([9.0, 0.5, -3.0, 1.0, 2.0, 0.0, -4.0])


def scored(values, **known):
    """A circuit of three edges with these scores, all other scores 0."""
    names = ["input->a0.h0<q>", "a0.h0->logits", "input->logits"]
    circuit = circuit_of(GRAPH, names)
    scores = np.zeros(GRAPH.mask.shape)
    for name, value in zip(names, values, strict=True):
        scores[GRAPH.edge(name)] = value
    return Circuit(GRAPH, circuit.mask, scores, **known)


def test_the_answer_says_how_much_of_the_model_is_enough():
    model = SimpleNamespace(
        checkpoint=SimpleNamespace(model="mini-s"),
        shape=SimpleNamespace(n_layers=3, n_heads=4),
    )
    pairs = type("Pairs", (), {"task": "ioi", "__len__": lambda self: 48})()
    circuit = scored([1, 1, 1], faithfulness=0.862)
    assert findings.answer(model, 1_500_000, pairs, circuit) == (
        "**A circuit is a part of a model that does a task alone, and here a small part is enough: "
        f"3 of {GRAPH.n_edges} connections** keep 86% of Indirect Object Identification (mini-s "
        "after 1.5M tokens, 3 layers of 4 heads, 48 prompts)."
    )
    most = Circuit(GRAPH, GRAPH.mask, faithfulness=0.9)
    assert "here no small part is enough" in findings.answer(model, 1_500_000, pairs, most)
    none = Circuit(GRAPH, np.zeros(GRAPH.mask.shape, bool), reason="it cannot do it")
    said = findings.answer(model, 1_500_000, pairs, none)
    assert said.startswith("**There is no circuit to show: it cannot do it**") and "`STEP`" in said


def test_the_first_pairs_have_their_own_metrics():
    pairs = toy_pairs()
    clean, corrupted = torch.tensor([1.234, 2, 3, 4]), torch.tensor([-1, -2.345, -3, -4])
    table = findings.first_pairs(pairs, clean, corrupted, n=2)
    assert table["clean"].tolist() == ["prompt 0", "prompt 1"]
    assert table["clean_metric"].tolist() == pytest.approx([1.23, 2.0])
    assert table["corrupted_metric"].tolist() == pytest.approx([-1.0, -2.35], abs=0.011)
    assert findings.mean_metrics(pairs, clean, corrupted) == (
        "Mean logit difference over all prompts, always scored with the clean answer: "
        "clean **2.56**, corrupted **-2.59**."
    )


def test_nodes_by_layer_and_the_strongest_heads():
    heads, mlps = findings.by_layer(EFFECT, GRAPH)
    assert heads.tolist() == [[0.5, -3.0], [2.0, 0.0]]
    assert mlps.tolist() == [[1.0], [-4.0]]
    assert findings.strongest_heads(EFFECT, GRAPH, 3) == [(0, 1), (1, 0), (0, 0)]


@pytest.mark.filterwarnings("ignore:toy in toy at step 1")
def test_errors_fall_with_points_and_are_those_of_the_scores(tmp_path):
    _, model = toy_model(tmp_path)
    pairs = toy_pairs()
    errors = findings.errors_by_points(
        model, pairs, rules=("left", "midpoint"), numbers=(1, 20), reference=40
    )
    error = errors.set_index(["rule", "points"])["error"]
    assert error["midpoint", 20] < error["midpoint", 1] and error["midpoint", 20] < 0.01
    one, exact = (
        attribute(model, pairs, rule=rule, points=points)
        for rule, points in (("midpoint", 1), ("midpoint", 40))
    )
    assert error["midpoint", 1] == pytest.approx(
        float((one.values - exact.values).norm() / exact.values.norm())
    )
    gap = errors.set_index(["rule", "points"])["gap"]
    assert gap["midpoint", 1] == pytest.approx(abs(one.relative_gap))


def test_points_needed_reads_the_right_rows():
    errors = pd.DataFrame(
        [
            ("midpoint", 5, 0.0049),
            ("midpoint", 10, 0.0012),
            ("right", 30, 0.0016),
            ("left", 1, 0.46),
            ("left", 5, 0.2),
        ],
        columns=["rule", "points", "error"],
    )
    text = findings.points_needed(errors)
    assert "With 10 midpoints the scores are off by 0.12%" in text
    assert "30 right ends by 0.16%, and as EAP has them (one left end) by 46%" in text


def estimates(values):
    nothing = torch.zeros(2)
    return Scores(
        values=torch.as_tensor(values),
        graph=GRAPH,
        method="eap",
        rule="left",
        points=1,
        change=nothing,
        from_input=nothing,
    )


def test_scores_that_are_proportional_agree_wholly():
    effect = np.zeros(GRAPH.mask.shape)
    effect[GRAPH.mask] = np.arange(GRAPH.n_edges) - 3.0
    text = findings.agreement_with_patching(
        effect, {"EAP": estimates(2 * effect), "EAP-IG": estimates(-effect)}
    )
    assert "EAP's is 1.00, EAP-IG's is -1.00." in text


def test_the_smallest_circuits_sentence():
    known = {"faithfulness": 0.862, "low": 0.8222, "high": 0.9}
    circuit, mib = scored([1, 1, 1], **known), {"cpr": 0.919, "cmd": 0.08}
    text = findings.smallest_circuit(circuit, circuit, 0.8891, 48, mib)
    assert text == (
        "**About as much**: on 48 fresh prompts the circuit keeps 89%, on those of the search 86% "
        "[82%, 90%] (95% over prompts). By the paper's ratio it takes 3 edges. MIB's summary of "
        "the score matrix: CPR 0.92, CMD 0.08."
    )
    assert findings.smallest_circuit(circuit, circuit, 0.5, 48, mib).startswith("**Less**")
    assert findings.smallest_circuit(circuit, circuit, 0.95, 48, mib).startswith("**More**")
    assert findings.size_caption(circuit).startswith(f"*3 of {GRAPH.n_edges} edges are enough")
    none = Circuit(GRAPH, np.zeros(GRAPH.mask.shape, bool), reason="none of up to 9 edges")
    text = findings.smallest_circuit(circuit, none, 0.8891, 48, mib)
    assert "By the paper's ratio there is no circuit: none of up to 9 edges. MIB" in text


def test_the_edge_that_matters_least_alone_and_its_partners():
    circuit = scored([-4.0, 2.0, 0.3])  # the last one is below a tenth of the largest
    a, b, c = (GRAPH.edge(name) for name in ("input->a0.h0<q>", "a0.h0->logits", "input->logits"))
    effect = np.zeros(GRAPH.mask.shape)
    effect[a], effect[b], effect[c] = -1.0, 1.5, 0.0
    assert findings.weakest_alone(circuit, effect) == a
    partners = findings.beyond_the_sum(circuit, a, [b, c], effect, np.array([0.4, -3.0]))
    assert partners["with"].tolist() == ["input->logits", "a0.h0->logits"]
    # harming: -(together - own - effect) = -(-3 - 0 + 1), -(0.4 - 1.5 + 1)
    assert partners["beyond the sum"].tolist() == pytest.approx([2.0, 0.1])
    assert partners["lost together"].tolist() == [-3.0, 0.4]
    assert findings.alone(circuit, a, effect).startswith(
        "`input->a0.h0<q>`: score -4.00, lost when patched alone -1.00, or 25% of it, "
    )
    assert findings.best_partner(circuit, a, effect, partners) == (
        "The best partner accounts for 67% of the difference between the score and the effect "
        "alone. The two stand in for each other."
    )
    weak = partners[partners["with"] == "a0.h0->logits"]
    assert "accounts for 3% of" in findings.best_partner(circuit, a, effect, weak)
    assert "no *single* edge stands in for it" in findings.best_partner(circuit, a, effect, weak)
    worse = weak.assign(**{"beyond the sum": -1.0})
    assert "accounts for 0% of" in findings.best_partner(circuit, a, effect, worse)


def test_shared_heads():
    first = circuit_of(GRAPH, ["input->a0.h0<q>", "a0.h0->a1.h1<v>", "a1.h1->logits"])
    second = circuit_of(GRAPH, ["input->a1.h1<v>", "a1.h1->logits", "input->m0"])
    assert findings.heads_of(first) == {"a0.h0", "a1.h1"}
    assert findings.shared_heads("ioi", first, "greater_than", second) == (
        "Indirect Object Identification: 3 edges, 2 heads. "
        "Greater-Than: 3 edges, 1 head. Heads in both: 1."
    )
    none = Circuit(GRAPH, np.zeros(GRAPH.mask.shape, bool), reason="it cannot do it")
    text = findings.shared_heads("ioi", first, "greater_than", none)
    assert text.endswith("Greater-Than: no circuit: it cannot do it.")


def test_captions_name_what_stands_out():
    assert findings.node_caption(EFFECT, GRAPH).startswith("*The model needs head 1.0 most: ")
    mlp = np.where(np.arange(7) == 3, 5.0, EFFECT)
    assert "needs the MLP of layer 0 most: patched alone, it costs 5.00" in findings.node_caption(
        mlp, GRAPH
    )
    scores = scored([-4.0, 2.0, 0.3]).scores
    text = findings.score_caption(scores, GRAPH)
    assert text.startswith(f"*2 of {GRAPH.n_edges} edges have more than a tenth")


# ------------------------------------------------------------------ figures


def test_a_grid_of_nodes_has_every_value_in_its_place():
    fig = node_effects(EFFECT, GRAPH)
    heads, mlps = fig.axes[:2]
    written = {text.get_position(): text.get_text() for text in heads.texts}
    assert written == {(0, 0): "0.50", (1, 0): "-3.00", (0, 1): "2.00", (1, 1): "0.00"}
    assert [text.get_text() for text in mlps.texts] == ["1.00", "-4.00"]
    assert heads.images[0].get_clim() == (-4.0, 4.0)


def test_errors_are_drawn_by_rule():
    errors = pd.DataFrame(
        [("left", 1, 0.5, 0.4), ("left", 10, 0.05, 0.04), ("right", 1, 0.6, 0.3)],
        columns=["rule", "points", "error", "gap"],
    )
    error, gap = points_and_errors(errors).axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in error.lines}
    assert lines["left"] == [0.5, 0.05] and lines["right"] == [0.6]
    assert [line.get_ydata().tolist() for line in gap.lines if line.get_label() == "left"] == [
        [0.4, 0.04]
    ]


def test_points_of_edges_lie_at_effect_and_score():
    effect = np.zeros(GRAPH.mask.shape)
    effect[GRAPH.mask] = np.linspace(-1, 1, GRAPH.n_edges)
    axes = scores_against_patching(
        effect, {"A": estimates(3 * effect), "B": estimates(effect)}
    ).axes
    offsets = axes[0].collections[0].get_offsets()
    assert np.allclose(offsets[:, 1], 3 * offsets[:, 0]) and len(offsets) == GRAPH.n_edges
    assert [ax.get_title() for ax in axes] == ["A", "B"]
    assert axes[0].lines[0].get_xdata() == pytest.approx([-3.0, 3.0])


def test_faithfulness_leaves_out_the_empty_circuit_and_marks_the_size():
    curve = pd.DataFrame(
        {
            "edges": [0, 1, 1, 3],
            "low": [0, 0.1, 0.1, 0.7],
            "high": [0, 0.3, 0.3, 0.9],
            "normalised": [0, 0.2, 0.2, 0.8],
            "ratio": [-1, -0.5, -0.5, 0.7],
        }
    )
    ax = faithfulness_over_size(scored([1, 1, 1], curve=curve)).axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["normalised"].get_xdata().tolist() == [1, 3]
    assert lines["ratio (the paper's)"].get_ydata().tolist() == [-0.5, 0.7]
    assert [3, 3] in [list(line.get_xdata()) for line in ax.lines]
