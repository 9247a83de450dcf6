"""The chapter on circuits over training: hand-made circuits, and mini-xs."""

import numpy as np
import pandas as pd
import pytest

from circuitbook.circuits.circuit import Circuit
from circuitbook.model.graph import Graph
from circuitbook.studies import circuit_tables
from circuitbook.studies.chapter import open_chapter
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings import circuits_by_recipe
from circuitbook.studies.findings import circuits_over_training as findings

GRAPH = Graph(2, 2)
CHAIN = ["input->m0", "m0->m1", "m1->logits"]
SHORT = ["input->m0", "m0->logits"]
NOT_DONE = "the model does not do the task: its metric is 0.1"
NOT_KEPT = "no size keeps 80 %"


def circuit(model: str, step: int, task: str, edges: list[str], reason="", gap=0.01, curve=None):
    mask = np.zeros(GRAPH.mask.shape, bool)
    for name in edges:
        mask[GRAPH.edge(name)] = True
    found = Circuit(GRAPH, mask, faithfulness=0.8125, curve=curve, reason=reason)
    return CircuitResult(model, step, 1000 * step, task, found, gap)


@pytest.fixture
def circuits() -> list[CircuitResult]:
    return [
        circuit("s", 0, "ioi", [], NOT_DONE),
        circuit("s", 1, "ioi", SHORT, gap=-0.04),
        circuit("s", 5, "ioi", CHAIN, gap=0.02),
        circuit("s", 5, "sva", [], NOT_KEPT),
        circuit("l", 4, "ioi", SHORT),
        circuit("l", 5, "ioi", SHORT),
        circuit("l", 5, "sva", ["input->logits"], gap=0.005),
    ]


def with_circuit(circuits: list[CircuitResult]) -> pd.DataFrame:
    rows = circuit_tables.table(circuits)
    return rows[rows["found"]]


def test_searches_are_counted_with_their_reasons(circuits):
    assert findings.searches_in_words(circuits) == (
        "5 of 7 searches found a circuit; in 1 the model does not do the task yet; in 1 it does, "
        "but no circuit keeps 80%. The completeness gap is 1.0% of the change in the median and "
        "4.0% at worst."
    )
    assert findings.searches_in_words(circuits[:1]) == (
        "0 of 1 searches found a circuit; in 1 the model does not do the task yet."
    )
    assert findings.searches_in_words(circuits[4:6]).startswith(
        "2 of 2 searches found a circuit. The completeness gap"
    )


def test_sizes_are_those_of_the_last_circuits(circuits):
    grid = findings.sizes_at_the_end(with_circuit(circuits), ["ioi", "sva"], ["s", "l", "xl"])
    assert grid.to_dict("list") == {
        "s": ["3 / 4", "none"],
        "l": ["2 / 3", "1 / 2"],
        "xl": ["none", "none"],
    }
    assert grid.index.tolist() == ["IOI", "SVA"]


def test_ranges_of_sizes_are_of_one_model_at_a_time(circuits):
    table = with_circuit(circuits)
    assert findings.size_ranges_in_words(table, ["ioi", "sva"], ["s", "l"]) == (
        "Within one training run the largest circuit has 1.0 times the edges of the smallest in "
        "the median, and 1.5 times at most (IOI in s)."
    )
    constant = findings.size_ranges_in_words(table, ["ioi", "sva", "greater_than"], ["l"])
    assert constant.endswith("and 1.0 times at most (IOI in l).")
    nothing = findings.size_ranges_in_words(table.iloc[:0], ["ioi"], ["s"])
    assert nothing == "No checkpoint has a circuit yet."


LONG = ["input->m0", "m0->m1", "m1->logits", "input->logits"]


def told(*results: CircuitResult) -> str:
    stay = circuit_tables.survival(results)
    return findings.answer(with_circuit(list(results)), stay, ["ioi", "sva"], ["s", "l"])


def test_the_answer_says_whether_circuits_grow_and_settle():
    grows = told(circuit("s", 1, "ioi", SHORT), circuit("s", 5, "ioi", LONG))
    assert grows.startswith("**Circuits grow, and too few checkpoints have one")
    assert grows.endswith(
        "1 case (a task in a size of model) has a circuit at two checkpoints or more. From the "
        "first to the last, 1 grow by more than a quarter and 0 shrink by more than a fifth. Over "
        "all checkpoints, circuits have 2 to 4 edges."
    )
    shrinks = told(circuit("s", 1, "ioi", LONG), circuit("s", 5, "ioi", SHORT))
    assert shrinks.startswith("**Circuits shrink, ")
    both = told(
        *(circuit("s", step, "ioi", edges) for step, edges in ((1, SHORT), (2, LONG), (5, LONG))),
        *(circuit("l", step, "ioi", edges) for step, edges in ((1, LONG), (2, SHORT), (5, SHORT))),
    )
    assert both.startswith(
        "**Circuits neither grow nor shrink as a rule, but their edges settle: of those of "
        "two neighbouring checkpoints 20% are in both early in training and 100% later.**"
    )
    loosen = told(
        *(circuit("s", step, "ioi", edges) for step, edges in ((1, CHAIN), (2, CHAIN), (5, CHAIN))),
        *(circuit("l", step, "ioi", edges) for step, edges in ((1, LONG), (2, LONG), (5, SHORT))),
    )
    assert loosen.startswith(
        "**Circuits neither grow nor shrink as a rule, and their edges change more and more: "
        "of those of two neighbouring checkpoints 100% are in both early"
    )
    same = told(*(circuit("s", step, "ioi", CHAIN) for step in (1, 2, 5)))
    assert same.startswith(
        "**Circuits keep their size, and their edges change as much late as early: "
    )
    assert told(circuit("s", 5, "ioi", CHAIN)) == (
        "**The circuits have 3 to 3 edges.** One checkpoint does not tell whether they grow."
    )
    assert told(circuit("s", 5, "ioi", [], NOT_DONE)) == "**No checkpoint has a circuit yet.**"


def test_where_a_circuit_begins_and_ends(circuits):
    def said(model, task):
        return findings.first_and_last_in_words(circuits, model, task)

    assert said("s", "ioi") == (
        "The IOI circuit of s begins with 2 edges at 1k tokens and ends with 3 edges at 5k tokens."
    )
    assert said("l", "sva") == "The SVA circuit of l has 1 edge at 5k tokens."
    assert said("s", "sva") == "There is no SVA circuit of s yet."


def test_edges_that_stay_are_told_early_and_late(circuits):
    stay = circuit_tables.survival([*circuits, circuit("l", 1, "sva", SHORT)])
    early_and_late = findings.survival_in_words(
        circuit_tables.survival(
            [
                circuit("s", 1, "ioi", SHORT),
                circuit("s", 2, "ioi", SHORT),
                circuit("s", 4, "ioi", CHAIN),
                circuit("s", 5, "ioi", CHAIN),
            ]
        ),
        {"s": (0, 1, 2, 4, 5)},
    )
    assert early_and_late.startswith(
        "In the first two fifths of training a circuit and the one before have a Jaccard "
        "similarity of 1.00 on average, and of 0.62 later; they are a factor of 1.2 to 2.0 apart "
        "in tokens."
    )
    single = stay.groupby(["model", "task"]).head(1)
    assert "there is nothing to compare" in findings.survival_in_words(single, {"s": (5,)})
    assert findings.neighbour_factors({"s": (0,)}) == [1.0]


def test_the_largest_circuit_of_the_first_task_is_shown(circuits):
    def shown(task, *models):
        return findings.circuit_to_show(circuits, task, models)[:2]

    assert shown("ioi", "s", "l") == ("s", "ioi") and shown("ioi", "l") == ("l", "ioi")
    assert shown("greater_than", "l") == ("l", "ioi") and shown("sva", "s", "l") == ("l", "sva")
    assert findings.circuit_to_show(circuits, "ioi", ["xl"]) is None
    largest = findings.circuit_to_show(circuits, "ioi", ["s"])
    assert largest.history.columns.tolist() == [1000, 5000]  # where there is a circuit
    assert findings.history_in_words(largest) == (
        "Of 4 edges that were ever in the IOI circuit of s, 1 are there at every checkpoint that "
        "has one."
    )
    assert findings.history_in_words(None) == "No checkpoint has a circuit yet."


def test_recipes_stand_side_by_side(circuits):
    ours = circuit_tables.table(circuits[2:4])
    theirs = ours.assign(edges=[6.0, 2.0], faithfulness=[1.0, 0.7])
    tables = {"robust": ours, "paper": theirs}
    shown = circuits_by_recipe.sizes_by_recipe(tables)
    assert shown.columns.tolist() == [
        "task",
        "model",
        "edges, robust",
        "edges, paper",
        "faithfulness, robust",
        "faithfulness, paper",
    ]
    assert shown.values.tolist() == [
        ["IOI", "s", "3", "6", "0.812", "1"],
        ["SVA", "s", "none", "2", "none", "0.700"],
    ]
    assert circuits_by_recipe.ratio_in_words(tables) == (
        "The paper recipe's circuit has 2.00 to 2.00 times the edges of the robust one, "
        "2.00 in the median."
    )
    without = {"robust": ours.iloc[1:], "paper": theirs.iloc[1:]}
    assert circuits_by_recipe.ratio_in_words(without) == "No task has a circuit by both recipes."


def test_a_circuit_that_one_recipe_alone_reports_is_noise_or_not():
    ours = [circuit("s", step, "ioi", [], NOT_DONE) for step in (1, 2)]
    ours.append(circuit("s", 5, "ioi", CHAIN))
    last = circuit("s", 5, "ioi", CHAIN)

    def said(*theirs):
        both = {"robust": ours, "paper": [*theirs, last]}
        return circuits_by_recipe.only_by_the_other(both), circuits_by_recipe.only_in_words(both)

    none = circuit("s", 1, "ioi", [], NOT_KEPT)
    table, words = said(none, circuit("s", 2, "ioi", CHAIN))
    assert table.iloc[0].tolist()[::2] == [2000, 3] and table.iloc[0].iloc[-1] == 1
    assert words.startswith("IOI in s: `paper` reports a circuit and `robust` none at 1 of 3 ch")
    assert "that is no noise" in words
    table, words = said(circuit("s", 1, "ioi", ["input->logits"]), none)
    assert table.iloc[0].iloc[-1] == 0 and words.endswith("the last circuit: it is noise.")
    _, words = said(circuit("s", 1, "ioi", ["input->logits"]), circuit("s", 2, "ioi", CHAIN))
    assert words.endswith(
        "Some of these circuits share edges with the last one, others hardly any."
    )
    table, words = said(none, none)
    assert table.empty and words.endswith("at 0 of 3 checkpoints.")


def test_the_largest_jump_is_between_neighbours():
    flat = pd.DataFrame({"edges": [1, 2, 3], "normalised": [0.5, 0.82, 0.79]})
    circuits = [
        circuit("s", 1, "ioi", SHORT, curve=flat),
        circuit("s", 2, "ioi", CHAIN, curve=flat.assign(edges=[2, 4, 8])),
        circuit("s", 3, "ioi", CHAIN, curve=flat),
        circuit("l", 3, "ioi", CHAIN, curve=flat),
    ]
    jump = findings.largest_jump(circuits)
    assert [(result.model, result.step) for result in jump] == [("s", 1), ("s", 2)]
    edges = findings.edges_for_bars(jump, "normalised", (0.5, 0.8, 0.9))
    assert edges.index.tolist() == ["1k", "2k"] and edges.columns.tolist() == ["50%", "80%", "90%"]
    np.testing.assert_equal(edges.to_numpy(), [[1, 2, np.nan], [2, 4, np.nan]])
    assert findings.largest_jump(circuits[3:]) == circuits[3:] and findings.largest_jump([]) == []


def test_both_recipes_search_the_same_checkpoints_of_mini_xs(tmp_path):
    chapter = open_chapter(
        suite="mini",
        models=["mini-xs"],
        steps=[3906],
        tasks=["ioi"],
        store=str(tmp_path),
        device="cpu",
    )
    tables = circuits_by_recipe.tables_by_recipe(
        chapter, chapter.models, chapter.tasks, chapter.steps
    )
    assert list(tables) == ["robust", "paper"]
    ours = circuit_tables.table(chapter.circuits)
    pd.testing.assert_frame_equal(tables["robust"], ours)
    ratio = tables["paper"]["edges"].item() / ours["edges"].item()
    said = circuits_by_recipe.ratio_in_words(tables)
    assert f"{ratio:.2f} in the median" in said and said.startswith("The paper recipe's circuit")
    (result,) = chapter.circuits
    edges = findings.edges_for_bars([result], chapter.recipe.form, (0.8,))
    assert edges.loc["8M", "80%"] == result.circuit.n_edges


def test_fresh_prompts_are_told_beside_those_of_the_search():
    columns = ["model", "step", "tokens_seen", "task", "found_on", "held_out", "low", "high"]
    rows = [
        ("s", 1, 1000, "ioi", 0.81, 0.79, 0.74, 0.84),
        ("s", 5, 5000, "ioi", 0.83, 0.61, 0.55, 0.70),
        ("l", 5, 5000, "sva", 0.80, 0.80, 0.75, 0.85),
        ("l", 5, 5000, "gendered_pronoun", 0.80, np.nan, np.nan, np.nan),
    ]
    fresh = pd.DataFrame(rows, columns=columns)
    table = findings.fresh_prompts_table(fresh, 0.8).set_index("task")
    assert list(table.index) == ["Indirect Object Identification", "Subject-Verb Agreement"]
    assert table.iloc[0].tolist() == [2, "82%", "70% (61% to 79%)", 1]
    said = findings.fresh_prompts_in_words(fresh, 0.8)
    assert "On fresh prompts 3 circuits keep 73% on average, and 81% where they were" in said
    assert "1 circuit lies beyond doubt below 80%" in said
    assert said.endswith("The least is 61%: IOI in s at 5k tokens.")
    assert "none to try" in findings.fresh_prompts_in_words(fresh[3:], 0.8)
