"""The chapter on turnover and size: its sentences and tables, on tables with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.figures.turnover import similarity_and_bounds
from circuitbook.model.graph import Graph
from circuitbook.records.published import published
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings import circuit_sizes, edge_changes, published_series
from circuitbook.studies.findings import seed_similarity as seeds
from circuitbook.studies.findings import turnover as words
from circuitbook.studies.seeds import COMPARED
from circuitbook.studies.size import correlation, size_table
from circuitbook.studies.turnover import turnover

TASKS = ("ioi", "sva", "greater_than")


def pairs_of(rows):
    """A table as `turnover` makes it: (model, task, tokens_before, tokens_seen, edges) each."""
    columns = ["model", "task", "tokens_before", "tokens_seen", "edges"]
    table = pd.DataFrame(rows, columns=columns)
    bounds = {"edges_ceiling": 0.9, "edges_floor": 0.1, "edges_heads": 0.15, "edges_degree": 0.2}
    bounds["normalised_jaccard"] = 0.5
    return table.assign(nodes=table["edges"] + 0.1, weighted=table["edges"] - 0.1, **bounds)


NEAR = pairs_of(
    [
        ("small", "ioi", 0, 100, 0.2),
        ("small", "ioi", 100, 300, 0.4),
        ("middle", "ioi", 100, 200, 0.4),
        ("large", "ioi", 100, 200, 0.8),
        ("small", "sva", 100, 150, 0.7),
    ]
)
APART = pairs_of([("small", "ioi", 100, 200, 0.25)])
NONE = turnover([])
SIZES = {"small": 1e3, "middle": 2e3, "large": 3e3}


def circuit_rows(nodes):
    """A table as `circuit_tables.table` makes it: {(task, model): nodes at each checkpoint}."""
    rows = [
        {"task": task, "model": model, "found": not np.isnan(n), "nodes": n}
        for (task, model), numbers in nodes.items()
        for n in numbers
    ]
    return pd.DataFrame(rows)


CIRCUITS = circuit_rows(
    {
        ("ioi", "small"): [2, 4],
        ("ioi", "middle"): [4, np.nan],
        ("ioi", "large"): [8],
        ("ioi", "seed"): [99],
        ("sva", "small"): [5],
    }
)
GROWTH = size_table(CIRCUITS, SIZES)


@pytest.mark.parametrize(
    ("sizes", "counts", "text"),
    [
        ([1, 2, 3], [1, 3, 2], "r = 0.50, p = 1 (n = 3)"),
        ([1, 2], [1, 3], "too few models"),
        ([1, 2, 3], [5, 5, 5], "too few models"),
    ],
)
def test_a_correlation_in_words(sizes, counts, text):
    assert words.correlation_text(correlation(sizes, counts)) == text


def test_the_interval_of_a_correlation_is_said_from_four_models_on():
    text = words.correlation_text(correlation([1, 2, 3, 4], [1, 2, 3, 5]))
    assert text.startswith("r = 0.98 [0.") and text.endswith(", 1.00], p = 0.083 (n = 4)")


def test_the_answer():
    text = words.answer("toy", NEAR, GROWTH, models=3)
    assert "few of a circuit's edges stay: of those in either, 50% are in both, less than" in text
    more = words.answer("toy", NEAR.assign(edges=0.6), GROWTH, models=3)
    assert "most of a circuit's edges stay: of those in either, 60% are in both, less than" in more
    assert "less than other prompts alone would leave** (90%)" in text
    assert "no more than random circuits" not in text  # 20% at most
    noise = words.answer("toy", NEAR.assign(edges_ceiling=0.52), GROWTH, models=3)
    assert "as many as other prompts alone would leave** (52%)" in noise
    chance = words.answer("toy", NEAR.assign(edges_degree=0.5), GROWTH, models=3)
    assert "and no more than random circuits with busy nodes in the same places" in chance
    few = words.answer("toy", NEAR.assign(edges=0.3), GROWTH, models=3)
    assert "few of a circuit's edges stay: of those in either, 30% are in both" in few
    assert words.answer("toy", NONE, GROWTH, 3).endswith("so there is nothing to compare.**")


def test_what_could_be_beyond_chance_depends_on_the_number_of_models():
    five = GROWTH.assign(p=[0.02, np.nan], pearson=[0.9, np.nan])
    said = "Larger models have larger circuits, beyond chance at 5%, in 1 of 2 tasks."
    assert words.beyond_chance(five, 5) == said  # 2 / 5! is 0.017
    shrinking = five.assign(pearson=-0.9)
    assert words.beyond_chance(shrinking, 5).endswith("in 0 of 2 tasks.")
    assert "can't be decided here" in words.beyond_chance(five, 4)
    assert "the smallest possible p is 0.083" in words.beyond_chance(five, 4)
    assert words.beyond_chance(five, 2) == "A correlation with size needs three sizes at least."


def test_the_table_of_answers():
    table = words.answer_table(NEAR, APART, GROWTH, SIZES, TASKS, ratio=2.0)
    ioi, sva, greater_than = table.to_dict("records")
    assert list(ioi.values())[:7] == ["IOI", "0.45", "0.25", "0.90", "0.10", "0.15", "0.20"]
    assert ioi["is it steadier in larger models?"] == "r = 0.94, p = 0.33 (n = 3)"  # 0.3, 0.4, 0.8
    assert ioi["is the circuit larger in larger models?"].startswith("r = 0.94")  # 3, 4, 8
    assert sva["2 times the tokens"] == "" and sva["the checkpoint before"] == "0.70"
    assert sva["is it steadier in larger models?"] == "too few models"
    assert list(greater_than.values())[1:] == [*[""] * 6, "too few models", ""]


def test_mean_similarities_of_nodes_edges_and_scores():
    text = words.mean_similarities(NEAR)
    assert text.startswith(
        "*Of the nodes of two neighbours 60% are in both, of the edges 50%; weighted"
    )
    assert "by their scores, no more" in text  # 40%
    heavy = words.mean_similarities(NEAR.assign(weighted=0.9))
    assert "it is parts with small scores that come and go" in heavy
    assert words.mean_similarities(NONE) == f"*{words.NO_PAIRS.capitalize()}.*"
    table = words.similarity_table(NEAR, TASKS)
    assert table.to_numpy().tolist() == [
        ["IOI", "0.55", "0.45", "0.35"],
        ["SVA", "0.80", "0.70", "0.60"],
    ]


def test_where_the_similarity_lies_between_its_bounds():
    draws = pd.DataFrame(
        {"edges": [0.8, 0.6], "expected": [0.9, 0.7], "size": [10, 30], "size_again": [15, 30]}
    )
    places = NEAR["task"].map({"ioi": 0.4, "sva": 0.7})
    near = NEAR.assign(normalised_jaccard=places)
    text = words.between_floor_and_ceiling(near, draws, TASKS)
    assert "neighbours are at 70% in SVA and 40% in IOI.*" in text
    assert "70% of the edges in either are in both (resampling predicts 80%)" in text
    alone = words.between_floor_and_ceiling(near[near["task"] == "sva"], draws[:0], TASKS)
    assert alone.endswith("neighbours are at 70% in SVA.*")
    assert words.floors_table(NEAR).to_numpy().tolist() == [
        ["as many edges", "10%", "50%"],
        ["shuffled heads", "15%", "47%"],
        ["same degrees", "20%", "43%"],
    ]
    nothing = words.between_floor_and_ceiling(NONE, draws.head(0), TASKS)
    assert nothing == f"*{words.NO_PAIRS.capitalize()}.*" and words.floors_table(NONE).empty


def test_the_distance_of_checkpoints_is_compared():
    text = words.spacing_caption(NEAR, APART, 2.0)
    assert text.startswith(
        "*Checkpoints further apart are less alike: of the edges in either circuit 25% are in both "
        "at 2 times the tokens, among neighbours 50%."
    )
    assert "are no less alike" in words.spacing_caption(NEAR, APART.assign(edges=0.6), 2.0)
    assert "no two pairs" in words.spacing_caption(NEAR, NONE, 2.0)


def test_circuits_on_the_way_to_the_last_one():
    columns = ["model", "task", "step", "reference", "edges"]
    rows = [("a", "ioi", step, 8, edges) for step, edges in ((4, 0.6), (1, 0.1), (8, 1.0))]
    rows += [("b", "ioi", 2, 8, 0.3), ("b", "ioi", 8, 8, 1.0)]
    text = words.towards_the_last(pd.DataFrame(rows, columns=columns))
    assert "last circuit 20% are in both, of the last and the one before it 45%" in text
    alone = pd.DataFrame(rows[-1:], columns=columns)
    assert words.towards_the_last(alone) == f"*{words.NO_PAIRS.capitalize()}.*"


def test_spacing_leaves_step_0_out_of_the_ratios():
    table = words.spacing_table(NEAR, APART, TASKS, ratio=2.0).set_index("task")
    assert table.loc["IOI"].tolist() == ["2.33", "0.45", "0.25", 1]  # 3, 2 and 2
    assert table.loc["SVA"].tolist() == ["1.50", "0.70", "", 0]


def test_published_spacing():
    steps = [("m", "ioi", 0, 10), ("m", "ioi", 10, 30), ("n", "ioi", 100, 110)]
    jaccard = pd.DataFrame(steps, columns=["model", "task", "step", "step_next"])
    assert "are 10 to 20 steps apart." in words.published_spacing(jaccard)


def test_the_task_that_depends_on_the_spacing_most():
    table = pd.DataFrame({"difference": [0.1, -0.3, np.nan]}, index=["IOI", "SVA", "Pronoun"])
    assert words.spacing_matters_most(table) == "It depends on the spacing most in SVA."
    assert "no two pairs" in words.spacing_matters_most(table.tail(1))


# ---- sizes


def test_mean_nodes_leave_out_what_has_no_circuit_or_no_size():
    table = circuit_sizes.mean_nodes(CIRCUITS, SIZES)
    assert table.to_numpy().tolist() == [
        ["ioi", "small", 3.0, 1e3],
        ["ioi", "middle", 4.0, 2e3],
        ["ioi", "large", 8.0, 3e3],
        ["sva", "small", 5.0, 1e3],
    ]


def test_published_circuits_with_the_sizes_and_nodes_of_pythia():
    assert circuit_sizes.nodes_of_pythia()["70m"] == 1 + 6 * (8 + 1) + 1
    table = pd.DataFrame({"model": ["pythia-70m", "pythia-2.8b"], "task": "ioi", "value": [14, 9]})
    sized = circuit_sizes.with_pythia_sizes(table)
    assert sized["size"].tolist() == [70e6, 2.8e9] and sized["size_as_typed"].tolist() == [
        7e7,
        28e9,
    ]
    assert sized["share"].tolist() == [14 / 56, 9 / (1 + 32 * 33 + 1)]
    text = circuit_sizes.published_shares(sized)
    assert "shrink in numbers of nodes, and shrink as a share" in text
    assert text.endswith("from 25% (70m) to 1% (2.8b).*")
    grown = circuit_sizes.with_pythia_sizes(table.assign(value=[1, 900]))
    assert "grow in numbers of nodes, and grow as a share" in circuit_sizes.published_shares(grown)


def test_correlations_of_the_suite_stand_above_those_published():
    theirs = circuit_sizes.with_pythia_sizes(published("node_counts"))
    table = circuit_sizes.correlations("toy", GROWTH, theirs, ["ioi", "greater_than"])
    assert table["circuits of"].tolist() == [
        "suite toy",
        "Pythia, right sizes",
        "Pythia, sizes as typed",
        "Pythia, right sizes",
        "Pythia, sizes as typed",
    ]
    assert table["task"].tolist() == ["IOI"] * 3 + ["Greater-Than"] * 2
    assert table["r"].tolist()[:2] == ["0.945", "0.789"] and table["models"].tolist()[:2] == [3, 5]
    (few,) = circuit_sizes.correlations("toy", GROWTH, theirs.head(0), ["sva"]).to_dict("records")
    assert few["models"] == 1 and few["task"] == "SVA" and "r" not in few  # one size


# ---- seeds

ALIKE = pd.DataFrame(
    [
        ("ioi", COMPARED[1], 0.8),
        ("ioi", COMPARED[1], 0.9),
        ("ioi", COMPARED[2], 0.3),
        ("ioi", COMPARED[3], 0.4),
        ("ioi", COMPARED[4], 0.2),
        ("sva", COMPARED[1], 0.7),
    ],
    columns=["task", "like", "edges"],
)


def test_seeds_against_checkpoints():
    kinds = pd.DataFrame(
        [("copy", COMPARED[1], 1.0), ("copy", COMPARED[1], 0.5), ("induction", COMPARED[2], 0.25)],
        columns=["kind", "like", "heads"],
    )
    kept = pd.DataFrame(
        [
            ("ioi", "circuit", "same run", 0.9),
            ("ioi", "circuit", "other seed", 0.3),
            ("ioi", "classes", "same run", 0.1),
            ("sva", "circuit", "same run", 0.5),
        ],
        columns=["task", "what", "where", "mean"],
    )
    text = seeds.seeds_against_checkpoints(ALIKE, TASKS)
    assert text.startswith("*In 1 of 1 task a circuit is more like that of the next checkpoint")
    assert (
        "Of the edges in either seed 30% are in both; with heads matched 40%, which is more than "
        "random" in text
    )
    assert text.endswith("circuits have in 1 of 1 task.*")
    turned = ALIKE.assign(edges=1 - ALIKE["edges"])
    said = seeds.seeds_against_checkpoints(turned, TASKS)
    assert said.startswith("*In 0 of 1 task") and said.endswith("have in 0 of 1 task.*")
    assert seeds.seeds_table(ALIKE, kept, TASKS).to_numpy().tolist() == [
        ["IOI", "85%", "30%", "40%", "20%", "90%", "30%"]
    ]
    assert seeds.seeds_table(ALIKE, kept.iloc[3:], TASKS).iloc[0, -1] == "–"
    assert seeds.heads_table(kinds).to_numpy().tolist() == [
        ["name mover", "75%", "–"],
        ["induction", "–", "25%"],
    ]


def test_whether_there_are_seeds():
    assert seeds.has_seeds(ALIKE)
    assert not seeds.has_seeds(ALIKE[ALIKE["task"] == "sva"])
    assert not seeds.has_seeds(ALIKE.head(0))


# ---- the paper's series


def test_our_average_of_the_raw_series_begins_twice():
    rows = [("jaccard_raw", step, value) for step, value in ((2000, 0.5), (500, 0.1), (1000, 0.9))]
    jaccard = pd.DataFrame([*rows, ("ewma", 500, 0.4)], columns=["metric", "step", "value"])
    averages, raw = published_series.split_series(jaccard.assign(model="pythia-1.4b"))
    assert averages["value"].tolist() == [0.4]
    assert raw["step"].tolist() == [500, 1000, 2000]
    np.testing.assert_allclose(raw["ours"], [0.1, 0.5, 0.5])
    np.testing.assert_allclose(raw["late"], [np.nan, 0.9, 0.7])


def test_what_the_published_series_say():
    steps = np.arange(1000, 7000, 1000)
    raw = pd.DataFrame(
        {"step": steps, "value": 0.25, "ours": np.arange(6) / 10, "late": 0.1 + np.arange(6) / 20}
    )
    averages = pd.DataFrame(
        {
            "model": ["pythia-70m", "pythia-160m", "pythia-410m"],
            "task": "gendered_pronoun",
            "value": [0.7, 0.8, 0.9],
        }
    )
    text = published_series.what_the_series_say(published("edge_counts"), averages, raw)
    assert "has 74 to 1377 edges over training (410m, IOI)" in text
    assert "differs by 0.10 there" in text
    assert "not higher beyond chance in larger models (the pronoun task: r = 0.97, p = 0.33" in text


# ---- edges


def test_the_edges_whose_shares_differ_most():
    graph = Graph(1, 2)
    before, after = (np.zeros(graph.mask.shape) for _ in range(2))
    for name, shares in {
        "input->logits": (0.5, 0.2),
        "input->m0": (0.1, 0.5),
        "m0->logits": (0.4, 0.3),
    }.items():
        before[graph.edge(name)], after[graph.edge(name)] = shares
    table = edge_changes.largest_differences(before, after, graph, n=2)
    assert table.to_numpy().tolist() == [["input->m0", 0.1, 0.5], ["input->logits", 0.5, 0.2]]


def test_all_neighbours_have_circuits():
    graph = Graph(1, 2)
    mask = circuit_of(graph, ["input->logits"]).mask
    steps = {("m", 1): "", ("m", 2): "task not done", ("m", 3): "", ("n", 1): ""}
    run = [
        CircuitResult(
            model, step, 1000 * step, "sva", Circuit(graph, mask, mask * 1.0, reason=reason), 0.0
        )
        for (model, step), reason in steps.items()
    ]
    pairs = edge_changes.all_neighbours(run)
    assert [(before.step, after.step) for before, after in pairs] == [(1, 3)]
    text = edge_changes.weighted_similarity(*pairs[0], similarity=0.5)
    assert text.startswith("SVA in m, 1k and 3k tokens: weighted similarity 0.50.")


def test_the_title_figure_has_the_means_of_each_task():
    ax = similarity_and_bounds(NEAR, ["sva", "ioi", "greater_than"]).axes[0]
    drawn = {line.get_label().split(":")[0]: line.get_xdata().tolist() for line in ax.lines[:2]}
    assert drawn["the checkpoint before"] == pytest.approx([0.7, (0.2 + 0.4 + 0.4 + 0.8) / 4])
    assert drawn["ceiling"] == pytest.approx([0.9, 0.9])
    floors = [float(line.get_xdata()[0]) for line in ax.lines[2:]]
    assert floors == pytest.approx([0.2, 0.15, 0.1])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["SVA", "IOI"]
