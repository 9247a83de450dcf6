"""Circuits at every checkpoint: measured once, kept whole, compared by hand; and the pictures of
them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close
from literal import Literal
from toys import toy_model, toy_pairs

from circuitbook import load_suite
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.evaluation import patch_each
from circuitbook.circuits.similarity import jaccard
from circuitbook.figures.circuits import circuit_diagram, score_matrix
from circuitbook.heads.attention import patterns_on
from circuitbook.model.graph import Graph, graph_of
from circuitbook.store.disk import Store
from circuitbook.studies import circuit_tables
from circuitbook.studies.circuit_tables import edge_history, survival
from circuitbook.studies.circuits import CircuitResult, measure_circuits

GRAPH = Graph(2, 2)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """mini-xs: before the ability, in between and at the end; two tasks."""
    store = Store(tmp_path_factory.mktemp("store"))
    what = dict(
        suite=load_suite("mini"),
        models=["mini-xs"],
        tasks=["ioi", "sva"],
        store=store,
        steps={"mini-xs": (0, 1448, 3906)},
        progress=False,
    )
    return what, measure_circuits(**what)


def test_a_second_time_is_read_and_equal(measured, monkeypatch):
    what, first = measured

    def no_work(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("circuitbook.studies.circuits.find_circuit", no_work)
    monkeypatch.setattr("circuitbook.studies.circuits.task_not_done", no_work)
    second = measure_circuits(**what)
    pd.testing.assert_frame_equal(circuit_tables.table(first), circuit_tables.table(second))
    for a, b in zip(first, second, strict=True):
        assert a.circuit.reason == b.circuit.reason and (a.circuit.mask == b.circuit.mask).all()
        assert a.circuit.about == b.circuit.about
        if a.circuit.found:
            pd.testing.assert_frame_equal(a.circuit.curve, b.circuit.curve)


def test_what_is_found_is_faithful_and_dated(measured):
    _, found = measured
    table = circuit_tables.table(found).set_index(["step", "task"])
    assert not table.loc[(0, "ioi"), "found"] and np.isnan(table.loc[(0, "ioi"), "edges"])
    assert "does not do the task" in found[0].circuit.reason
    done = table[table["found"]]
    assert len(done) >= 3 and (done["faithfulness"] >= 0.8).all() and (done["edges"] > 2).all()
    assert (done["gap"].abs() < 0.05).all() and table.loc[(3906, "ioi"), "found"]


def circuits(*names):
    masks = []
    for edges in names:
        mask = np.zeros(GRAPH.mask.shape, bool)
        for name in edges:
            mask[GRAPH.edge(name)] = True
        masks.append(mask)
    return [
        CircuitResult(
            "m", i, i * 10, "ioi", Circuit(GRAPH, mask, reason="" if mask.any() else "none"), 0.0
        )
        for i, mask in enumerate(masks)
    ]


def test_survival_by_hand():
    found = circuits(
        [],
        ["input->m0", "m0->logits"],
        ["input->m0", "m0->m1", "m1->logits"],
        ["input->m0", "m0->logits"],
    )
    stay = survival(found)
    assert stay["step"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(stay["jaccard"], [np.nan, 1 / 4, 1 / 4])
    np.testing.assert_allclose(stay["kept"], [np.nan, 1 / 2, 1 / 3])
    np.testing.assert_allclose(stay["of_last"], [1, 1 / 2, 1])
    np.testing.assert_allclose(stay["jaccard_last"], [1, 1 / 4, 1])
    history = edge_history(found, "m", "ioi")
    assert history.columns.tolist() == [0, 10, 20, 30]
    assert history.index.tolist() == ["input->m0", "m0->logits", "m0->m1", "m1->logits"]
    assert history.loc["m0->logits"].tolist() == [False, True, False, True]
    assert jaccard(np.zeros(3, bool), np.zeros(3, bool)) == 0
    with pytest.raises(ValueError, match="nothing measured of m and sva"):
        edge_history(found, "m", "sva")


def test_patching_each_edge_and_node_equals_the_literal_twin(tmp_path):
    network, model = toy_model(tmp_path)
    pairs, graph = toy_pairs(), graph_of(model)
    literal, names = Literal(network), set(graph.edge_names)
    clean = literal.circuit(pairs, names).mean()
    edges, nodes = patch_each(model, pairs, "edges"), patch_each(model, pairs, "nodes")
    for name in graph.edge_names[::5]:
        expected = clean - literal.circuit(pairs, names - {name}).mean()
        assert_close(edges[graph.edge(name)], expected, rounds=100, size=clean.abs())
    for i, node in enumerate(graph.source_names):
        without = {n for n in names if not n.startswith(node + "->")}
        expected = clean - literal.circuit(pairs, without).mean()
        assert_close(nodes[i], expected, rounds=100, size=clean.abs())
    assert np.abs(nodes).max() > 0.01
    with pytest.raises(ValueError, match="cannot patch each of 'heads'"):
        patch_each(model, pairs, "heads")


def test_pictures_show_what_is_there():
    circuit = circuits(["input->m0", "m0->a1.h1<v>", "input->a1.h1<q>", "a1.h1->logits"])[0].circuit
    fig = circuit_diagram(circuit)
    texts = {text.get_text() for text in fig.axes[0].texts}
    assert {"input", "MLP 0", "1.1", "logits"} <= texts and "1.0" not in texts
    assert len(fig.axes[0].patches) == 4
    plt.close(fig)
    values = np.where(GRAPH.mask, 1.0, 0.0)
    fig = score_matrix(values, GRAPH, "score")
    assert np.ma.count(fig.axes[0].images[0].get_array()) == GRAPH.n_edges
    plt.close(fig)


def test_patterns_on_a_prompt_are_transformer_lens(tmp_path):
    _, model = toy_model(tmp_path, layers=2)
    tokens = torch.tensor([3, 1, 4, 1, 5])
    _, kept = model.bridge.run_with_cache(tokens[None])
    ours = patterns_on(model, tokens, [(1, 0), (0, 1)])
    theirs = torch.stack([kept["pattern", 1][0, 0], kept["pattern", 0][0, 1]])
    assert_close(ours, theirs, rounds=10)
    assert ours.std() > 0.05
