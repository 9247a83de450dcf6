"""Other circuits that pass the same threshold, and what is said of them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from circuitbook import get_recipe, get_task, load_suite
from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.circuit import circuit_of
from circuitbook.circuits.pruning import MetricOfCircuits
from circuitbook.figures.circuit_tests import others_panels
from circuitbook.model.graph import Graph
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.findings import other_circuits as findings
from circuitbook.studies.other_circuits import (
    METHODS,
    Others,
    different,
    disjoint_circuits,
    measure_others,
    pruned_circuits,
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    suite, store = load_suite("mini"), Store(tmp_path_factory.mktemp("store"))
    steps = {"mini-xs": suite.steps("mini-xs")[-1:]}
    circuits = measure_circuits(suite, ["mini-xs"], ["sva"], store, steps=steps, progress=False)
    others = measure_others(suite, circuits, store, draws=3, progress=False)
    return suite.checkpoint("mini-xs", steps["mini-xs"][0]).load(), circuits[0], others


def test_what_is_found_passes_where_it_was_found(measured):
    model, result, (others,) = measured
    pairs = get_task("sva").prompts(model.tokenizer, n=48)
    half = MetricOfCircuits(model, pairs.subset(slice(None, None, 2)))
    assert len(others.pruned) == 3
    for mask, kept in others.pruned:
        assert half.kept([mask])[0] >= 0.8 and 0.4 < kept < 1.3
    few = MetricOfCircuits(model, get_task("sva").prompts(model.tokenizer, n=16))
    assert set(others.methods) == set(METHODS)
    for mask, _ in others.methods.values():
        assert few.kept([mask])[0] >= 0.8
    for mask, _ in others.disjoint:
        assert not (mask & result.circuit.mask).any()
    assert others.n == 48 and others.kept > 0.7


def test_disjoint_circuits_are_found_where_they_are(measured):
    """What is said to be none is none for want of a circuit: with a low bar there are some."""
    model, result, _ = measured
    pairs = get_task("sva").prompts(model.tokenizer, n=16)
    scores = attribute(model, pairs, rule="midpoint", points=4)
    mask = result.circuit.mask.copy()
    mask[:, -1] = False  # one edge into the logits is in every circuit that passes
    search = get_recipe("robust").circuit("sva") | {"threshold": 0.02}
    found = disjoint_circuits(model, pairs, scores, mask, search)
    assert found
    used = mask.copy()
    for circuit in found:
        assert not (circuit & used).any()
        used |= circuit


def test_nothing_is_pruned_where_nothing_passes(measured):
    model, result, _ = measured
    metric = MetricOfCircuits(model, get_task("sva").prompts(model.tokenizer, n=4))
    rng = np.random.default_rng(0)
    assert pruned_circuits(metric, result.circuit.scores, 5, 99.0, 2, rng) == []


def test_the_most_circuits_that_differ():
    graph = Graph(1, 2)
    names = graph.edge_names
    masks = [
        circuit_of(graph, some).mask for some in (names[:4], names[:4], names[4:8], names[2:6])
    ]
    assert different(masks) in ([0, 2, 3], [1, 2, 3])  # 1/3 is below one half
    assert different(masks, below=0.2) in ([0, 2], [1, 2])
    assert different([]) == []


GRAPH = Graph(1, 2)
FIRST = ["input->a0.h0<v>", "a0.h0->logits"]
OTHER = ["input->m0", "m0->logits"]


def others(kept=0.9, disjoint=(), pruned=(), methods=None, n=48) -> Others:
    circuit = circuit_of(GRAPH, FIRST)
    result = CircuitResult("m", 8, 8000, "ioi", circuit, 0.0)

    def masks(some):
        return [(circuit_of(GRAPH, names).mask, value) for names, value in some]

    methods = {"eap-ig": (FIRST, 0.9), "exact": (OTHER, 0.5)} if methods is None else methods
    by_method = dict(zip(methods, masks(methods.values()), strict=True))
    return Others(
        result=result,
        n=n,
        kept=kept,
        disjoint=masks(disjoint),
        pruned=masks(pruned),
        methods=by_method,
    )


def test_whether_a_circuit_is_the_only_one():
    alone = others(pruned=[(FIRST, 0.9)])
    two = others(disjoint=[(OTHER, 0.85)], pruned=[(FIRST, 0.7), (OTHER, 0.85)])
    neither = others(kept=0.5, pruned=[(OTHER, 0.5)])
    table = findings.others_table([alone, two, neither], 0.8)
    assert table["different"].tolist() == [1, 2, 0]
    assert table["disjoint"].tolist() == [0, 1, 0]
    assert table["pruned pass"].tolist() == [1, 1, 0]
    assert table["alike"].tolist() == pytest.approx([1, 1 / 3, 0])
    said = findings.others_in_words([alone, two, neither], 0.8)
    assert "none of the first one's edges exists** in 1 of 3" in said
    assert "2 of 4 circuits still keep 80%, the first one in 2 of 3" in said
    assert "on fresh prompts in 1 of 3 cases; in 1 no circuit does" in said
    caption = findings.others_caption([alone, two, neither], 0.8)
    assert caption.startswith("*2 of 5 other circuits share less than 50% of their edges with")
    assert "No search found a circuit without" in findings.others_in_words([alone], 0.8)
    assert "No circuit was found beside" in findings.others_in_words([others(n=2)], 0.8)


def test_what_other_methods_find():
    table = findings.methods_table([others()])
    assert table["method"].tolist() == [METHODS["eap-ig"], METHODS["exact"]]
    assert table["jaccard"].tolist() == [1, 0]
    said = findings.methods_in_words([others()])
    assert said.startswith("- **every edge patched** (1 circuit): 1.00 times as many edges")
    assert "on the same prompts (Jaccard 0%)" in said
    assert "keeps 50%, EAP-IG 90%" in said and "ACDC" not in said
    assert "No graph here is small enough" in findings.methods_in_words([others(methods={})])
    fig = others_panels([others(pruned=[(OTHER, 0.7)])], 0.8)
    assert [line.get_ydata()[0] for line in fig.axes[0].lines[:2]] == [0.9, 0.7]
    plt.close(fig)
