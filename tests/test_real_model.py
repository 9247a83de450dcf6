"""The chapter on a real language model: circuits on other prompts, next words, what it says."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from findings_by_hand import head_classes

from circuitbook import evaluate_circuit, get_recipe, get_task, load_suite
from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.figures.real_model import stage_dots
from circuitbook.model.graph import Graph
from circuitbook.recipes import FEW_PROMPTS
from circuitbook.records.passages import PASSAGES
from circuitbook.records.real_model import (
    PARTS,
    Draw,
    recorded_draws,
    recorded_real_model,
)
from circuitbook.store import Store
from circuitbook.studies.chapter import open_chapter
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.class_shares import SHARE_COLUMNS, share_table
from circuitbook.studies.findings import four_circuits, other_draws, real_model
from circuitbook.studies.findings.algorithm import STAGE_TITLES
from circuitbook.studies.findings.attention_example import leading_rows
from circuitbook.studies.head_classes import class_members
from circuitbook.studies.held_out import measure_held_out, next_prompts
from circuitbook.studies.next_words import best_next_words
from circuitbook.tasks.sequences import documents

GRAPH = Graph(2, 2)


@pytest.fixture(scope="module")
def mini():
    return load_suite("mini").checkpoint("mini-s", 3906).load()


# ------------------------------------------------------------------ recipes on other prompts


def test_a_recipe_on_other_prompts_and_draws():
    robust = get_recipe("robust")
    few = robust.with_prompts({"ioi": 16, "sva": 60})
    assert few.prompts == robust.prompts | {"ioi": 16, "sva": 60} and few.heads.prompts == 16
    assert robust.with_prompts({"sva": 60}).heads == robust.heads
    assert set(robust.with_prompts(9).prompts.values()) == {9}
    assert robust.with_seed(7) == dataclasses.replace(robust, seed=7) != robust
    with pytest.raises(ValueError, match="sva: 1 prompts"):
        robust.with_prompts({"sva": 1})
    with pytest.raises(ValueError, match="ioy"):
        robust.with_prompts({"ioy": 8})
    short = robust.shortened()
    assert short.prompts == FEW_PROMPTS and set(FEW_PROMPTS) == set(robust.prompts)
    assert short.heads.prompts == 24 > FEW_PROMPTS["ioi"] and short.heads.evaluated == 3
    assert open_chapter(suite="mini", models="mini-s", prompts="few").recipe == short
    assert open_chapter(suite="mini", models="mini-s", prompts=9).recipe == robust.with_prompts(9)


# ------------------------------------------------------------------ held-out prompts


@pytest.mark.parametrize("task, n", [("ioi", 12), ("gendered_pronoun", 20), ("sva", 20)])
def test_no_prompt_is_used_twice(mini, task, n):
    first = get_task(task).prompts(mini.tokenizer, n=n, seed=3)
    fresh = next_prompts(get_task(task), mini.tokenizer, n, 3)
    assert 0 < len(fresh) <= n
    assert not set(first.table["clean"]) & set(fresh.table["clean"])
    both = get_task(task).prompts(mini.tokenizer, n=2 * n, seed=3)
    assert set(fresh.table["clean"]) == set(both.table["clean"]) - set(first.table["clean"])


def test_a_task_that_has_no_more_items_has_none_held_out(mini):
    assert next_prompts(get_task("gendered_pronoun"), mini.tokenizer, 120, 3) is None


def test_circuits_are_tried_on_prompts_they_were_not_found_on(mini, tmp_path):
    suite, store = load_suite("mini"), Store(tmp_path)
    recipe = get_recipe("robust").with_prompts(12)
    where = {"steps": {"mini-s": [0, 3906]}, "progress": False}
    circuits = measure_circuits(suite, ["mini-s"], ["ioi"], store, recipe, **where)
    assert [result.circuit.found for result in circuits] == [False, True]
    table = measure_held_out(suite, circuits, store, recipe, progress=False)
    (row,) = table.to_dict("records")
    fresh = next_prompts(get_task("ioi"), mini.tokenizer, 12, recipe.seed)
    metric = [
        evaluate_circuit(mini, fresh, circuits[1].circuit),
        fresh.metric(mini.logits(fresh.clean, fresh.end)),
        fresh.metric(mini.logits(fresh.corrupted, fresh.end)),
    ]
    means = [float(part.double().mean()) for part in metric]
    assert row["held_out"] == pytest.approx(faithfulness(*means, recipe.form), abs=1e-5)
    assert row["low"] < row["held_out"] < row["high"] and row["prompts"] == len(fresh)
    assert row["found_on"] == circuits[1].circuit.faithfulness != row["held_out"]
    shown = four_circuits.circuits_table(table)
    assert shown["keeps, on other prompts"][0].startswith(f"{row['held_out']:.0%} [")


def held_out(*rows):
    columns = ["task", "edges", "share", "found_on", "held_out", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def test_what_is_said_of_held_out_prompts():
    table = held_out(
        ("ioi", 3000, 0.01, 0.81, 0.79, 0.7, 0.9),
        ("sva", 90, 0.06, 0.8, 0.5, 0.4, 0.7),
        ("greater_than", 9, 0.001, 0.8, np.nan, np.nan, np.nan),
    )
    assert four_circuits.circuits_sentence(table, 0.8) == (
        "2 of 3 circuits have at most 5% of the edges. On fresh prompts SVA falls beyond doubt "
        "below 80%; the lowest is SVA with 50%."
    )
    assert "none falls beyond doubt below 80%" in four_circuits.circuits_sentence(table[:1], 0.8)
    assert four_circuits.circuits_sentence(table[2:], 0.8).endswith("5% of the edges.")
    shown = four_circuits.circuits_table(table)
    assert shown["edges"].tolist() == ["3,000", "90", "9"]
    assert shown["keeps, on other prompts"].tolist() == [
        "79% [70%, 90%]",
        "50% [40%, 70%]",
        "no prompts left",
    ]


# ------------------------------------------------------------------ next words


def test_next_words_are_the_most_probable_tokens(mini):
    pairs = get_task("ioi").prompts(mini.tokenizer, n=2, seed=5)
    words = best_next_words(mini, task=get_task("ioi"), prompts=2, seed=5, k=3)
    assert len(words) == 2 * 2 * 3 and set(words["of"]) == {"clean", "corrupted"}
    for of, tokens in (("clean", pairs.clean), ("corrupted", pairs.corrupted)):
        p = mini.logits(tokens, pairs.end).softmax(-1)
        part = words[(words["of"] == of) & (words["prompt"] == 1)].sort_values("rank")
        best = p[1].argsort(descending=True)[:3]
        assert part["word"].tolist() == [mini.tokenizer.decode([token]) for token in best.tolist()]
        assert part["probability"].tolist() == pytest.approx(p[1][best].tolist())
        assert (part[of] == pairs.table[of][1]).all()
    shown = real_model.next_words_table(words.assign(task="ioi"))
    assert shown["prompt"].tolist() == ["clean", "clean", "corrupted", "corrupted"]
    assert shown["text"][0] == pairs.table["clean"][0] and shown["next"][0].count("%") == 3


def test_where_no_word_is_left_out_that_is_said(mini):
    said = real_model.left_out_sentence(mini.tokenizer, ["ioi", "sva"])
    assert said == "Of the tasks' words none had to be left out."


@pytest.mark.slow
def test_words_that_the_real_tokenizer_lacks_are_named(smollm2):
    said = real_model.left_out_sentence(smollm2.tokenizer, ["ioi", "greater_than", "sva"])
    lost = ("Brandon", "Connor", "Kyle")
    for name in lost:  # by the tokenizer itself
        assert len(smollm2.tokenizer(f" {name}", add_special_tokens=False)["input_ids"]) > 1
    assert f"IOI, 3 of people ({', '.join(lost)}). SVA, " in said and "Greater-Than" not in said


# ------------------------------------------------------------------ what circuits share


def result(task, edges, reason=""):
    circuit = circuit_of(GRAPH, edges)
    if reason:
        circuit = Circuit(GRAPH, np.zeros(GRAPH.mask.shape, bool), reason=reason)
    return CircuitResult("m", 8, 8, task, circuit, 0.0)


IOI = ["input->a0.h0<q>", "a0.h0->a1.h1<v>", "a1.h1->logits", "input->a0.h1<v>", "a0.h1->logits"]
SVA = ["input->a0.h0<q>", "a0.h0->logits", "input->m0", "m0->logits"]


def test_what_two_circuits_share():
    sharing = four_circuits.sharing_table([result("ioi", IOI), result("sva", SVA)])
    (row,) = sharing.to_dict("records")
    assert row["tasks"] == ("ioi", "sva")
    assert (row["edges_shared"], row["edges"]) == (1, 1 / 8)
    # heads 0.0, 0.1, 1.1 and 0.0: of the one, all; at random, three of four
    assert (row["heads_shared"], row["heads"], row["heads_null"]) == (1, 1.0, 3 / 4)
    assert 0 < row["edges_null"] < 1
    shown = four_circuits.sharing_shown(sharing).iloc[0]
    assert shown["tasks"] == "IOI and SVA" and shown["of the smaller set"] == "100%"
    said = four_circuits.sharing_sentence(sharing)
    assert said == (
        "**Two circuits share most of the smaller one's heads: 100% on average**; as many random "
        "heads would share 75%. Edges in common: IOI and SVA (12%)."
    )
    apart = four_circuits.sharing_sentence(sharing.assign(heads=0.2))
    assert apart.startswith("**Two circuits share less than half of the smaller one's heads: 20%")
    more = pd.concat([sharing, sharing.assign(tasks=[("ioi", "greater_than")], edges=0.05)])
    said = four_circuits.sharing_sentence(more)
    assert said.endswith(
        "IOI and SVA (12%) have the most edges in common, IOI and Greater-Than (5%) the fewest."
    )
    none = four_circuits.sharing_table([result("ioi", IOI), result("sva", [], "not done")])
    assert none.empty and "no two circuits" in four_circuits.sharing_sentence(none)


def test_tasks_without_a_circuit_say_why():
    assert four_circuits.without_circuit([result("ioi", IOI)]) == ""
    said = four_circuits.without_circuit([result("sva", [], "the model does not do it")])
    assert said == "No circuit of Subject-Verb Agreement: the model does not do it."


def test_classes_at_work_in_another_task():
    classes = head_classes([-0.5, -0.1, 0.0, -0.2], {"name mover": [0, 3], "S-inhibition": [0]})
    circuits = [result("ioi", IOI), result("sva", SVA)]
    assert four_circuits.classed_elsewhere(classes, circuits, "sva") == (
        "Of the 2 heads in IOI's classes, 1 is in the circuit of Subject-Verb Agreement, which "
        "has 1 head: 0.0 (name mover, S-inhibition)."
    )
    assert four_circuits.classed_elsewhere(classes, circuits, "greater_than") == (
        "There is no circuit of Greater-Than."
    )


# ------------------------------------------------------------------ the algorithm


CLASSED = head_classes([-0.6, -0.1, 0.0, -0.3], {"name mover": [0, 3], "S-inhibition": [1]})


def test_the_answer_names_what_is_there_and_what_is_missing():
    shares = share_table([CLASSED], draws=50)
    said = real_model.answer(CLASSED, shares, held_out(("ioi", 1200, 0.002, 0.81, 0.75, 0.7, 0.8)))
    assert said.startswith(
        "**m has part of the paper's IOI algorithm: no induction or duplicate-token heads.** Its "
        "heads that answer explain 90% of the direct effect."
    )
    assert said.count("explain") == 1 and said.endswith(
        "Its circuit is 1,200 of 600,000 edges and keeps 75% of the behaviour on fresh prompts."
    )
    whole = head_classes(
        [-0.6, -0.1, 0.0, -0.3], {"name mover": [0], "S-inhibition": [1], "induction": [2]}
    )
    said = real_model.answer(whole, share_table([whole], draws=50), held_out())
    assert said.startswith("**m has heads for each step of the paper's IOI algorithm, but none in")
    assert (
        "classes copy suppression, negative name mover, negative copy suppression and duplicate "
        "token.**" in said
    )
    both = head_classes([-0.6, -0.2, 0.0, -0.2], {"name mover": [0], "negative name mover": [1, 3]})
    said = real_model.answer(both, share_table([both], draws=50), held_out())
    assert "100% of the direct effect (40% of that is of negative name movers)." in said
    nothing = head_classes([0.0, 0.0], {}, ioi=False)
    said = real_model.answer(nothing, share_table([nothing], draws=50), held_out())
    assert said == "**m has no head for any step of the paper's IOI algorithm.**"


def test_stages_beside_random_heads_and_another_model():
    shares = share_table([CLASSED], draws=50)
    table = real_model.stage_table(shares, {"small": shares}).set_index("stage")
    row = table.loc["B: " + STAGE_TITLES["direct"]]
    assert row["here"] == row["small"] and row["here"].startswith("90% [")
    assert row["heads"] == "2 of 4" and row["the paper, of Pythia"] == "above 70%"
    assert table["here"].tolist()[1:] == ["none", "none"]
    said = real_model.share_caption(shares)
    assert said.startswith(
        "*The classes explain more than the paper's bound (in brackets) in B (70%). There are"
    )
    assert "no such heads for C (50%) and D (50%). The test is" in said
    lower = head_classes([-0.1, -0.6, 0.0, -0.1], {"name mover": [0]})
    said = real_model.share_caption(share_table([lower], draws=50))
    assert said.startswith("*The classes stay below the paper's bound (in brackets) in B (70%).")
    figure = stage_dots({"here": shares, "small": shares})
    assert [ax.get_title() for ax in figure.axes] == ["B: direct", "C: steering", "D: tertiary"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["here", "small"]
    assert len(figure.axes[1].texts) == 2  # says that there are no such heads


def test_classes_are_listed_by_their_effect():
    table = real_model.class_table(CLASSED)
    assert table.values.tolist() == [["B", "name mover", "0.0 (-60%), 1.1 (-30%)"]]
    assert real_model.order_of_layers(CLASSED).startswith("Mean layer of the heads")


def test_a_picture_has_the_strongest_of_every_class_first():
    classes = head_classes(
        [-0.1, -0.6, -0.3, -0.2], {"name mover": [0, 1, 2], "copy suppression": [3]}
    )
    assert leading_rows(classes, 1) == [1]
    assert leading_rows(classes, 2) == [1, 3]
    assert leading_rows(classes, 3) == [1, 2, 3]
    assert leading_rows(classes, 9) == [0, 1, 2, 3]


def test_abilities_in_a_sentence():
    answers = pd.DataFrame({"task": ["ioi", "ioi", "sva"], "accuracy": [1.0, 0.5, 0.9]})
    assert real_model.abilities_sentence(answers, ["ioi", "sva"]) == (
        "The right answer is ahead of the wrong one on 75% (IOI) to 90% (SVA) of the prompts."
    )
    alone = real_model.abilities_sentence(answers[:2], ["ioi", "sva"])
    assert alone.endswith("on 75% (IOI) of the prompts.")


def test_kinds_of_prompts_with_little_mass_are_named():
    answers = pd.DataFrame(
        {
            "task": "sva",
            "kind": ["simple", "simple", "vp_coordination"],
            "answer_mass": [0.02, 0.04, 0.5],
        }
    )
    assert "after simple (3%)" in real_model.little_mass(answers)
    assert "at least 50%" in real_model.little_mass(answers[2:])


# ------------------------------------------------------------------ other draws


def test_heads_that_stay_in_their_class():
    first = {"name mover": [(0, 0), (1, 1)], "induction": [(0, 1)]}
    second = {"name mover": [(0, 0)], "S-inhibition": [(1, 0)]}
    table = other_draws.stays_table([first, second]).set_index("class")
    assert table.loc["name mover"].tolist() == ["0.0", "1.1 (1 of 2)"]
    assert table.loc["induction"].tolist() == ["none", "0.1 (1 of 2)"]
    assert other_draws.stays_sentence([first, second]) == (
        "**1 of 4 placements of a head in a class are the same on all 2 draws of prompts.**"
    )
    assert class_members(CLASSED) == {"name mover": [(0, 0), (1, 1)], "S-inhibition": [(0, 1)]}


def test_the_record_that_comes_with_the_library():
    record = recorded_real_model()
    assert record["model"] == "SmolLM2-135M-Instruct" and len(record["draws"]) >= 2
    assert "host" not in record["machine"]
    for draw in recorded_draws(record):
        assert set(draw.shares) == set(SHARE_COLUMNS) and len(draw.circuits) > 0
        heads = [head for heads in draw.members.values() for head in heads]
        assert all(0 <= layer < 30 and 0 <= head < 9 for layer, head in heads)
    assert "draws of prompts" in other_draws.about_record(record)
    assert "nothing was recorded" in other_draws.about_record(None)
    table = other_draws.draws_table(share_table([CLASSED], draws=20), recorded_draws(record))
    draws = len(record["draws"])
    assert list(table) == ["stage", "here", f"{draws} recorded draws"]
    of_b = [
        real_model.absolute_share(draw.shares, "direct")["share"] for draw in recorded_draws(record)
    ]
    low, high = min(of_b), max(of_b)
    assert table.iloc[0, 2] == f"{np.mean(of_b):.0%} ({low:.0%} to {high:.0%})"
    assert low > 0.5 and high - low < 0.1


def test_sizes_on_other_draws():
    here = held_out(("ioi", 300, 0.01, 0.8, 0.7, 0.6, 0.8), ("sva", 90, 0.01, 0.8, np.nan, 0, 0))
    other = held_out(("ioi", 1200, 0.01, 0.8, 0.9, 0.8, 1.0))
    draw = Draw(seed=1, members={}, shares=pd.DataFrame(), circuits=other)
    table = other_draws.sizes_table(here, [draw])
    assert table.values.tolist() == [
        ["IOI", "300", "70%", "1,200", "90%"],
        ["SVA", "90", "", "none", ""],
    ]
    less = Draw(seed=2, members={}, shares=pd.DataFrame(), circuits=here)
    table = other_draws.sizes_table(here, [draw, less])
    assert table["edges on 2 recorded draws"].tolist() == ["750 (300 to 1,200)", "90"]
    assert table["keep"].tolist() == ["80% (70% to 90%)", ""]
    assert list(other_draws.sizes_table(here, [])) == ["task", "edges here", "keeps"]
    said = other_draws.sizes_sentence(here, [draw])
    assert "the largest is up to 4.0 times the smallest (IOI)" in said
    same = here[here["task"] == "sva"]
    alike = Draw(seed=3, members={}, shares=pd.DataFrame(), circuits=same)
    assert "hardly depends" in other_draws.sizes_sentence(same, [alike])
    assert other_draws.sizes_sentence(here, []) == ""


def test_what_is_no_record_is_refused(tmp_path):
    file = tmp_path / "record.json"
    with pytest.raises(ValueError, match="is no record of a real model"):
        recorded_real_model(file)
    file.write_text(json.dumps(dict.fromkeys(PARTS - {"draws"})))
    with pytest.raises(ValueError, match="lacks draws"):
        recorded_real_model(file)


def test_the_passages_are_enough_for_copy_suppression(mini):
    settings = get_recipe("robust").heads
    with open(PASSAGES, encoding="utf8") as file:
        passages = file.read().split("\n\n")
    assert len(passages) == len(set(passages)) >= settings.documents
    assert all(passage.isascii() for passage in passages)


@pytest.mark.slow
def test_the_passages_are_long_enough_for_the_real_tokenizer(smollm2):
    settings = get_recipe("robust").heads
    tokens = documents(smollm2, settings.documents, settings.positions, PASSAGES)
    assert tokens.shape == (settings.documents, settings.positions) and tokens.dtype == torch.int64
