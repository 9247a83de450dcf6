"""What circuits are enough for: the measurement against its parts, and words on known tables."""

import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close

from circuitbook import evaluate_circuit
from circuitbook.circuits.ablations import resampled
from circuitbook.circuits.circuit import Circuit
from circuitbook.figures.enough import enough_matrices
from circuitbook.model.graph import Graph, graph_of
from circuitbook.stats import Verdict
from circuitbook.studies import enough as study
from circuitbook.studies.chapter import open_chapter
from circuitbook.studies.findings import enough as words
from circuitbook.studies.found_under import FOUND_COLUMNS
from circuitbook.studies.held_out import next_prompts
from circuitbook.tasks import get_task


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    store = str(tmp_path_factory.mktemp("store"))
    where = {"models": ["mini-xs"], "steps": [0, 3906], "tasks": ["ioi", "sva"]}
    return open_chapter(suite="mini", store=store, device="cpu", **where)


def test_a_row_is_what_its_parts_give(chapter):
    enough, task = chapter.enough, get_task("ioi")
    assert list(enough.columns) == study.COLUMNS
    assert enough.groupby("task").size().to_dict() == {"ioi": 4, "sva": 4}
    model = chapter.suite.checkpoint("mini-xs", 3906).load()
    result = next(r for r in chapter.circuits if r.step == 3906 and r.task == "ioi")
    n, seed = chapter.recipe.prompts["ioi"], chapter.recipe.seed
    pairs = next_prompts(task, model.tokenizer, n, seed)
    reference = task.prompts(model.tokenizer, n=4 * n, seed=seed + 1)
    empty = Circuit(graph_of(model), np.zeros_like(result.circuit.mask))
    clean = pairs.metric(model.logits(pairs.clean, pairs.end)).mean()
    for name, on in (("swap", pairs), ("resample", resampled(pairs, reference, seed))):
        row = enough[(enough["task"] == "ioi") & (enough["ablation"] == name)].iloc[0]
        kept, lost = (
            evaluate_circuit(model, on, Circuit(graph_of(model), c.mask)).mean()
            for c in (result.circuit, empty)
        )
        by_hand = float((kept - lost) / (clean - lost))
        assert_close(row["faithfulness"], by_hand, rounds=400, dtype=torch.float32, size=2.0)
        assert row["held_out"] and row["prompts"] == len(pairs) == n
        assert row["faithfulness_low"] < row["faithfulness"] < row["faithfulness_high"]
    abc = enough[(enough["task"] == "ioi") & (enough["ablation"] == "resample")].iloc[0]
    assert abc["top1"] < 0.2 < 0.8 < abc["model_top1"] and abc["kl"] > 0.5  # names nobody


def test_other_searches_are_compared_with_the_own_circuit(chapter):
    alike, found = chapter.found_under
    assert list(alike.columns) == FOUND_COLUMNS
    assert alike.groupby("task")["under"].agg(list).to_dict() == {
        "ioi": ["resample", "kl", "both"],
        "sva": ["resample", "kl"],
    }
    there = alike.dropna(subset=["edges"])
    assert len(there) and there[["jaccard", "at_size", "shared"]].stack().between(0, 1).all()
    # nested in one order, the smaller over the larger is the Jaccard
    nested = there[(there["under"] == "kl") & (there["at_size"] == 1)]
    sizes = nested[["edges", "own_edges"]]
    assert_close(nested["jaccard"], sizes.min(1) / sizes.max(1), rounds=1)
    assert set(found["ablation"]) == {"swap", "resample"} and len(nested)
    assert set(zip(found["task"], found["under"], strict=True)) == set(
        zip(there["task"], there["under"], strict=True)
    )


def test_where_no_model_does_the_task_the_page_says_so(chapter):
    untrained = chapter.variant(steps={"mini-xs": (0,)})
    assert untrained.enough.empty and list(untrained.enough.columns) == study.COLUMNS
    alike, found = untrained.found_under
    for text in (
        words.enough_sentence(untrained.enough),
        words.enough_caption(untrained.enough),
        words.inputs_sentence(untrained.enough),
        words.same_edges(alike),
    ):
        assert text == words.NO_CIRCUIT
    for table in (
        words.enough_table(untrained.enough),
        words.inputs_table(untrained.enough),
        words.found_table(alike),
        words.does_table(untrained.enough, found),
    ):
        assert table.empty and len(table.columns)
    assert words.trade_sentence(untrained.enough, found).startswith("No circuit of IOI")
    assert enough_matrices(untrained.enough).axes


def test_edges_into_inputs_are_counted():
    graph = Graph(2, 2)
    mask = np.zeros(graph.mask.shape, bool)
    for name in ("input->a0.h1<q>", "m0->a1.h0<q>", "m0->a1.h0<k>", "m0->a1.h1<v>", "m0->logits"):
        mask[graph.edge(name)] = True
    assert [study.into(mask, graph, kind) for kind in "qkv"] == [2, 1, 1]
    with pytest.raises(ValueError, match="no input 'z'"):
        study.into(mask, graph, "z")


# ------------------------------------------------------------------ words, on known tables


def row(task="ioi", model="a", ablation="swap", *, keeps=0.9, top1=0.9, kl=0.1, wide=0.01, **more):
    numbers = {"faithfulness": keeps, "top1": top1, "kl": kl}
    ends = {f"{k}_low": v - wide for k, v in numbers.items()}
    ends |= {f"{k}_high": v + wide for k, v in numbers.items()}
    about = {"model": model, "step": 5, "task": task, "under": "swap", "edges": 10}
    about |= {"queries": 0, "keys": 0, "ablation": ablation, "nats": 1.0, "model_top1": 1.0}
    return about | {"prompts": 48, "held_out": True} | numbers | ends | more


def table_of(*rows):
    return pd.DataFrame(rows, columns=study.COLUMNS)


@pytest.mark.parametrize(
    ("measure", "numbers", "said"),
    [
        ("faithfulness", {"keeps": 0.85}, Verdict.HOLDS),
        ("faithfulness", {"keeps": 0.805}, Verdict.OPEN),
        ("faithfulness", {"keeps": 0.7}, Verdict.FAILS),
        ("top1", {"top1": 0.5, "model_top1": 0.6}, Verdict.HOLDS),  # of the model's own
        ("top1", {"top1": 0.5}, Verdict.FAILS),
        ("kl", {"kl": 0.1}, Verdict.HOLDS),
        ("kl", {"kl": 0.205}, Verdict.OPEN),
        ("kl", {"kl": 0.8}, Verdict.FAILS),
    ],
)
def test_a_circuit_is_enough_or_not_or_cannot_be_told(measure, numbers, said):
    assert words.verdict(table_of(row(**numbers)).iloc[0], measure) is said


TWO = table_of(
    row(keeps=0.9, top1=0.95),
    row(ablation="resample", keeps=0.6, top1=0.0, kl=0.9),
    row(model="b", keeps=0.8, queries=3),
    row(model="b", ablation="resample", keeps=0.9, top1=0.1, kl=0.7, queries=3),
    row("sva", "a", "resample", keeps=0.9, held_out=False),
)


def test_the_table_counts_yes_open_and_no():
    table = words.enough_table(TWO).set_index(["task", "enough for"])
    assert table.loc[("IOI", "the metric's difference"), "swap"] == "0.80 to 0.90; 1 / 1 / 0"
    other = words.ABLATION_TITLES["resample"]
    assert table.loc[("IOI", "naming the answer"), other] == "0.00 to 0.10; 0 / 0 / 2"
    assert table.loc[("IOI", "the distribution"), other] == "0.10 to 0.30; 0 / 0 / 2"
    assert table.loc[("IOI", "the distribution"), "mean"] == ""
    assert "except for SVA, which has no such prompts left" in words.enough_caption(TWO)
    assert words.enough_caption(TWO.iloc[:4]).endswith("were not found on.")


def test_the_sentence_has_the_tasks_that_fail():
    assert words.enough_sentence(TWO) == (
        "**A circuit can keep the difference between two answers and not be enough to give the "
        "answer:** with three other names (abc) on the other edges, 2 of 2 IOI circuits no longer "
        "name the answer (on "
        "0% to 10% of the prompts; the model on 100%). By the usual measure, the 2 circuits of the "
        "last checkpoints keep 85% in the median."
    )
    good = words.enough_sentence(TWO.assign(top1=0.95, top1_low=0.9, top1_high=1.0))
    assert good.startswith("**A circuit that keeps the difference between right and wrong answers")
    assert words.inputs_sentence(TWO).startswith("**1 of 2 circuits have no edge into a query or")
    inputs = words.inputs_table(TWO).iloc[0]
    assert (inputs["into queries"], inputs["into keys"], inputs["with neither"]) == (
        "0 to 3",
        "0",
        1,
    )


def test_the_figure_has_a_row_per_circuit_in_the_order_of_tasks():
    frames = words.per_circuit(TWO.iloc[::-1])
    assert frames["the distribution"].index.tolist() == ["IOI, b", "IOI, a", "SVA, a"]
    assert_close(frames["the distribution"].loc["IOI, b", "other"], 0.3, rounds=4)
    assert frames["naming the answer"].columns[0] == "model"
    assert len(enough_matrices(TWO).axes) == 4


def alike_row(under="resample", *, edges=20.0, jaccard=0.5, at_size=0.9, ceiling=0.9, model="a"):
    about = {"model": model, "step": 5, "task": "ioi", "under": under, "edges": edges}
    about |= {"own_edges": 10, "queries": 0, "keys": 0, "shared": 1.0}
    return about | {"jaccard": jaccard, "ceiling": ceiling, "at_size": at_size}


def test_same_edges_are_told_by_the_order_and_not_by_the_size():
    nothing = dict.fromkeys(("edges", "jaccard", "at_size"), np.nan)
    alike = pd.DataFrame(
        [alike_row(), alike_row("kl", at_size=0.3), alike_row("both", **nothing)],
        columns=FOUND_COLUMNS,
    )
    first, second, third, _, why = words.same_edges(alike).split("\n")
    assert "about the same first edges" in first and "2.0 times as many of them" in first
    assert "other edges, beyond what other prompts change" in second and "30%" in second
    assert third.endswith("no circuit is found.") and why.startswith("Where no circuit is found")
    table = words.found_table(alike)
    assert table["edges"].tolist() == ["20", "20", "none"]
    assert table["found"].tolist() == ["1 of 1", "1 of 1", "0 of 1"]


def test_what_the_search_by_both_gives_up():
    found = table_of(
        row(ablation="resample", under="both", keeps=0.2, top1=0.5, kl=0.2),
        row(ablation="swap", under="both", keeps=0.3),
    )
    said = words.trade_sentence(TWO, found)
    assert "on 50% of the prompts (this book's on" in said
    assert "but keep 20% of the difference between the two names (this book's 60%)" in said
    table = words.does_table(TWO, found)
    assert table["searched by"].tolist()[:2] == ["swap, metric (this book's)", "abc, KL"]
    assert_close(table["distribution, other"].iloc[1], 0.8, rounds=4)
