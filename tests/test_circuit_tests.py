"""The field's tests of circuits: what is measured, by brute force; what is said, on made-up trials
of which the answer is known."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from closeness import assert_close

from circuitbook import evaluate_circuit, get_task, load_suite
from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.circuits.node_sets import class_sets, node_sets, without_nodes
from circuitbook.figures.circuit_tests import completeness_panels, floors_dots
from circuitbook.model.graph import Graph, graph_of
from circuitbook.stats import Verdict
from circuitbook.store import Store
from circuitbook.studies.circuit_tests import Trial, measure_trials
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.findings import circuit_hypotheses as hypotheses
from circuitbook.studies.findings import circuit_tests as findings
from circuitbook.studies.held_out import next_prompts

N = 40
EDGES = ["input->a0.h0<v>", "a0.h0->logits", "input->m0", "m0->logits"]
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=N) * 0.02


# ---- what is measured


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    suite, store = load_suite("mini"), Store(tmp_path_factory.mktemp("store"))
    steps = {"mini-xs": suite.steps("mini-xs")[-1:]}
    circuits = measure_circuits(suite, ["mini-xs"], ["sva"], store, steps=steps, progress=False)
    trials = measure_trials(suite, circuits, store, draws=3, inflations=4, progress=False)
    model = suite.checkpoint("mini-xs", steps["mini-xs"][0]).load()
    return model, circuits[0], trials


def test_a_trial_is_each_circuit_evaluated_by_itself_on_held_out_prompts(measured):
    model, result, (trial,) = measured
    pairs = next_prompts(get_task("sva"), model.tokenizer, 48, 42)
    graph, mask = graph_of(model), result.circuit.mask

    def metric(edges):
        return evaluate_circuit(model, pairs, Circuit(graph, edges)).double().numpy()

    size = 2.0
    assert trial.n == len(pairs) and len(trial.single) == len(trial.edges) == mask.sum()
    assert_close(trial.circuit, metric(mask), rounds=100, dtype=model.dtype, size=size)
    assert_close(trial.clean, metric(graph.mask), rounds=100, dtype=model.dtype, size=size)
    complement = metric(graph.mask & ~mask)
    assert_close(trial.complement, complement, rounds=100, dtype=model.dtype, size=size)
    for row, (src, dst) in enumerate(np.argwhere(mask)[:3]):
        less = mask.copy()
        less[src, dst] = False
        assert_close(trial.single[row], metric(less), rounds=100, dtype=model.dtype, size=size)
    nodes = [graph.source(0), graph.source(1)]
    both = trial.removed["all its nodes"]
    everything = np.flatnonzero(mask.any(1))[1:]
    for got, whole in zip(both, (mask, graph.mask), strict=True):
        expected = metric(without_nodes(whole, everything))
        assert_close(got, expected, rounds=100, dtype=model.dtype, size=size)
    assert not without_nodes(mask, nodes)[nodes].any() and mask[nodes].any()
    kept = trial.kept(trial.circuit)
    assert kept == pytest.approx(
        (trial.circuit.mean() - trial.corrupted.mean()) / (trial.clean - trial.corrupted).mean()
    )
    assert set(trial.floors) >= {"random edges", "same degrees", "10% replaced"}
    # with an edge taken out of the best K something changes; a random path changes little
    assert np.abs(trial.at_best[:, 0] - trial.at_best[:, 1]).mean() > 0.01
    assert trial.random_edges.shape == (4, 2, trial.n)


def test_its_tables_and_figures_are_made(measured):
    trials = measured[2]
    table = findings.floors_table(trials)
    assert table["model"].tolist() == ["mini-xs"] and table["circuit"].item() > 0.7
    assert abs(table["complement"].item()) < 0.1
    for say in (
        findings.floors_in_words,
        findings.completeness_in_words,
        findings.minimality_in_words,
        hypotheses.hypotheses_in_words,
    ):
        assert "nan" not in say(trials)
    fig = floors_dots(table)
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["mini-xs, SVA"]
    plt.close(fig)
    fig = completeness_panels(trials)
    assert len(fig.axes[0].lines[0].get_xdata()) == len(trials[0].removed)
    plt.close(fig)


def test_sets_of_nodes():
    graph, rng = Graph(2, 2), np.random.default_rng(0)
    small = circuit_of(graph, ["input->a0.h0<v>", "a0.h0->m1", "input->m0", "m0->m1", "m1->logits"])
    sets = node_sets(small.mask, graph, rng)
    assert sets["all its nodes"] == [1, 3, 6] and sets["a0.h0"] == [1]
    assert len(sets) == 7  # every set of three nodes but none
    few = node_sets(graph.mask, graph, rng, draws=4)
    assert 2 <= len(few) <= 5 and "all its nodes" in few
    assert all(0 not in members for members in few.values())
    classes = {"name mover": [(0, 0), (1, 1)], "induction": [(1, 0)]}
    assert class_sets(small.mask, graph, classes) == {"name mover heads": [1]}
    assert node_sets(np.zeros_like(graph.mask), graph, rng) == {}


# ---- what is said


def trial(task="sva", n=N, **changes) -> Trial:
    """A circuit of four edges that keeps .9 of clean 1 and corrupted 0, complete and minimal."""
    circuit = circuit_of(Graph(1, 2), EDGES)
    result = CircuitResult("m", 8, 8000, task, circuit, 0.0)
    noise = NOISE[:n]
    half = np.array([0.45 + noise, 0.5 + noise])
    given = {
        "clean": 1 + noise,
        "corrupted": np.zeros(n),
        "circuit": 0.9 + noise,
        "complement": 0.0 + RNG.normal(size=n) * 0.01,
        "floors": {
            "random edges": np.zeros((3, n)),
            "same degrees": np.zeros((0, n)),
            "10% replaced": np.full((3, n), 0.45),
        },
        "removed": {"all its nodes": np.zeros((2, n)), "a0.h0": half},
        "single": np.tile(0.5 + noise, (4, 1)),
        "at_best": np.tile(np.array([0.9 + noise, 0.4 + noise]), (4, 1, 1)),
        "random_edges": np.array([[0.9 + noise, 0.9 + noise + 0.01 * i] for i in range(30)]),
    }
    return Trial(result=result, **(given | changes))


def swinging(mean):
    """Per prompt far from the mean on either side, so that the mean is not known."""
    return mean + np.where(np.arange(N) % 2, 1.0, -1.0) * (1 + np.abs(NOISE))


def test_a_circuit_is_complete_or_not_or_we_cannot_tell():
    complete = trial()
    lacks = trial(removed={"a0.h0": np.array([np.zeros(N), np.full(N, 0.7)])})
    unsure = trial(removed={"a0.h0": np.array([swinging(0.3), np.full(N, 0.3)])})
    table = findings.completeness_table([complete, lacks])
    assert table["worst"].tolist() == pytest.approx([0.05, 0.7], abs=0.01)
    assert table["K"].tolist() == ["a0.h0", "a0.h0"]
    assert table["M less K"].tolist() == pytest.approx([0.5, 0.7], abs=0.02)
    assert table["model"].tolist() == ["m", "m"]
    said = findings.completeness_in_words([complete, lacks, lacks, unsure])
    assert said.startswith(
        "*1 of 4 circuits stay within 20% of the model for every $K$ that was tried; 2 do not; of 1"
    )
    answer = findings.answer([complete, lacks, lacks, unsure])
    assert answer.startswith("**Not quite: only some of these circuits are complete.** 1 of 4")
    assert "2 are not, and of 1 we can't tell" in answer
    assert findings.answer([complete]).startswith(
        "**Yes: these circuits are complete, with no edge too many shown.** 1 of 1 circuit"
    )
    assert findings.answer([lacks]).startswith("**No: none of these circuits is shown to be")
    single = complete.single.copy()
    single[1] = complete.circuit
    spare = findings.answer([trial(single=single)])
    assert "complete, and some have edges too many.**" in spare and "in 0 no edge is shown" in spare


def test_an_edge_matters_or_not_or_we_cannot_tell():
    base = trial().at_best
    no = np.array([0.9 + NOISE, 0.9 + NOISE])
    unsure = np.array([swinging(0.9), np.full(N, 0.9)])
    negative = np.array([0.4 + NOISE, 0.9 + NOISE])  # an edge that harms matters, too
    some = trial(at_best=np.array([base[0], no, unsure, negative]))
    assert findings.edges_that_matter(some) == [
        Verdict.HOLDS,
        Verdict.FAILS,
        Verdict.OPEN,
        Verdict.HOLDS,
    ]
    table = findings.minimality_table([some])
    assert table[["matter", "do not", "can't tell", "superfluous"]].values.tolist() == [
        [2, 1, 1, 0]
    ]
    assert "0 of 1 circuit have no edge that fails" in findings.minimality_in_words([some])
    assert "100% change at least 1% of the behaviour**" in findings.minimality_in_words([trial()])


def test_an_edge_that_does_less_than_random_ones_is_superfluous():
    single = trial().single.copy()
    single[1] = trial().circuit
    p = findings.superfluous_edges(trial(single=single))
    assert p[1] < 1e-6 and (p[[0, 2, 3]] > 0.9).all()
    assert findings.minimality_table([trial(single=single)])["superfluous"].item() == 1
    without = trial(random_edges=np.empty((0, 2, N)))  # a circuit of all edges
    assert np.isnan(findings.superfluous_edges(without)).all()
    assert findings.minimality_table([without])["superfluous"].isna().all()


def test_equivalence_and_independence_of_circuits():
    rng = np.random.default_rng(1)
    model = rng.normal(size=N)
    same = trial(clean=model, circuit=model + np.where(np.arange(N) % 2, 0.1, -0.1))
    worse = trial(clean=model, circuit=model - 0.01)
    leaks = trial(clean=model, circuit=model - 0.01, complement=0.001 * model)
    by_prompt = replace(leaks, corrupted=0.1 * model)
    table = hypotheses.hypothesis_table([same, worse, leaks, by_prompt])
    assert table["wins"].tolist() == [0.5, 0, 0, 0]
    assert (table["p equivalence"] <= 0.05).tolist() == [False, True, True, True]
    assert (table["p independence"] <= 0.05).tolist() == [False, False, True, True]
    assert (table["p no edge"] <= 0.05).tolist() == [False, False, False, True]
    said = hypotheses.hypotheses_in_words([same, worse, leaks, by_prompt])
    assert "rejected for 3 of 4 circuits" in said and "3 do worse" in said
    assert "**Independence** is rejected for 2" in said and "For 1 of these" in said


def test_equivalence_is_shown_by_the_interval_alone():
    assert hypotheses.equivalence_verdict(0.45, 0.55) is Verdict.HOLDS
    assert hypotheses.equivalence_verdict(0.45, 0.65) is Verdict.OPEN
    assert hypotheses.equivalence_verdict(0.7, 0.9) is Verdict.FAILS
    assert hypotheses.equivalence_verdict(0.0, 0.3) is Verdict.FAILS


def test_floors_are_told_as_measured():
    said = findings.floors_in_words([trial(), trial(complement=np.full(N, 0.3))])
    assert "keep 0% in the median of 6 draws; 0% of the draws keep more than a tenth" in said
    assert "in 1 case a tenth or more is left" in said
    assert "50% with 10%" in said
    assert "for 2 of 2" in said and "Rewired" not in said
    assert "nothing of the behaviour is left" in findings.floors_in_words([trial()])
    table = findings.floors_table([trial()])
    assert np.isnan(table["same degrees"].item()) and table["10% replaced"].item() == pytest.approx(
        0.45, abs=0.01
    )


def test_few_or_no_prompts_are_said_and_not_tested():
    few = trial(
        n=2,
        floors={"random edges": np.zeros((3, 2))},
    )
    assert "Fewer than 10 are left for m SVA: it is" in findings.left_out_in_words([few])
    assert findings.left_out_in_words([trial()]).endswith("fresh prompts.")
    for say in (findings.completeness_in_words, findings.minimality_in_words):
        assert say([few]) == findings.NO_PROMPTS
    assert findings.answer([few]) == f"**{findings.NO_PROMPTS}**"
    assert hypotheses.hypotheses_in_words([]) == findings.NO_PROMPTS
    none = np.empty(0)
    nothing = trial(
        n=0,
        floors={"random edges": np.empty((3, 0))},
        removed={"a0.h0": np.empty((2, 0))},
    )
    nothing = replace(nothing, clean=none, corrupted=none)
    assert findings.floors_table([nothing])[["circuit", "random edges"]].isna().all(axis=None)
    assert findings.completeness_table([nothing]).empty
