"""The algorithm chapter's tables and sentences, on shares and transfers with known words."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from findings_by_hand import head_classes

from circuitbook.circuits.circuit import Circuit
from circuitbook.model.graph import Graph, graph_of
from circuitbook.studies.chapter import open_chapter
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.class_shares import FUNCTIONS, share_table
from circuitbook.studies.findings.algorithm import (
    answer,
    claim_at_models,
    claim_caption,
    claims_table,
    works,
)
from circuitbook.studies.findings.class_shares import (
    final_share_table,
    function_caption,
    function_sentence,
    largest_jump,
    nothing_to_share,
    share_sentences,
)
from circuitbook.studies.findings.resampling import final_scrub_table, scrub_sentence
from circuitbook.studies.findings.transfers import (
    ioi_summary,
    kept_by,
    last_ioi_circuits,
    names_sentence,
    patterns_elsewhere,
    patterns_shown,
    same_circuit_sentence,
    spare_sentence,
    who_runs_the_same,
    without_each,
)
from circuitbook.studies.transfer import transfer_summary

SUMMARY_COLUMNS = ["task", "what", "where", "pairs", "mean", "lowest", "own", "null"]


def summary(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


# ---- the paper's claims


def test_a_claim_is_answered_for_each_model_by_its_lowest_share():
    shares = pd.DataFrame(
        [
            ("big", "direct", "absolute", 0.95, 0.9, 0.99),
            ("big", "direct", "absolute", 0.85, 0.8, 0.9),
            ("small", "direct", "absolute", 0.4, 0.3, 0.5),
            ("small", "direct", "all heads", 0.99, 0.99, 0.99),  # another form does not count
            ("tiny", "direct", "absolute", np.nan, np.nan, np.nan),
            ("wide", "direct", "absolute", 0.75, 0.6, 0.8),
        ],
        columns=["model", "stage", "form", "share", "low", "high"],
    )
    assert claim_caption(shares).startswith("*In 1 of 4 models the classes of stage B explain more")
    assert claim_caption(shares[2:]).startswith("*In 0 of 3 models")
    assert claim_at_models(shares, "direct") == (
        "holds: big (85%); does not hold: small (40%); no such heads: tiny; can't tell: wide (75%)"
    )


@pytest.mark.parametrize(
    "mean, words",
    [
        (0.82, "well"),  # own 0.9
        (0.78, "in part"),
        (0.36, "in part"),
        (0.34, "not"),  # null 0.3
    ],
)
def test_what_is_kept_is_compared_with_the_own_circuit_and_with_shuffled_heads(mean, words):
    row = summary(("ioi", "circuit", "same run", 2, mean, mean, 0.9, 0.3)).iloc[0]
    assert works(row) == words


def test_what_fails_at_one_place_works_mostly():
    row = summary(("ioi", "circuit", "same run", 9, 0.85, 0.0, 0.9, 0.3)).iloc[0]
    assert works(row) == "mostly"
    assert works(row.replace(0.0, 0.46)) == "well"


def test_the_answer_names_only_what_was_compared():
    able, unable = head_classes([-0.5, 0.1], {"name mover": [0]}), head_classes([], {}, ioi=False)
    moves = summary(
        ("sva", "circuit", "other seed", 2, 0.9, 0.9, 0.9, 0.1),
        ("ioi", "circuit", "other seed", 2, 0.2, 0.1, 0.9, 0.3),
    )
    assert answer("mini", [able, unable], moves) == (
        "**In another seed it does not work.** On average, one put into another seed keeps 20% of "
        "the behaviour (mini, 1 checkpoint with IOI)."
    )
    assert answer("mini", [able, able], summary()) == (
        "**There is no second place to put a circuit to in mini.**"
    )
    table = claims_table(share_table([able], draws=50), moves).set_index("what").iloc[:, 1]
    assert table["the same circuit, in another seed"] == (
        "keeps 20% (10% at worst); the target's own 90%, shuffled heads 30%"
    )
    assert table["the same circuit, in another checkpoint of the run"] == "nothing to compare"
    assert table["B: name movers and copy suppression, of the direct effect"] == "holds: m (83%)"


# ---- shares


def test_the_share_table_shows_the_last_checkpoint_beside_random_heads():
    first = head_classes([-0.5, 0.0, 0.0, -0.5], {"name mover": [0]}, step=1)
    last = head_classes(
        [-0.5, 0.1, -0.2, -0.2], {"name mover": [0], "negative name mover": [1]}, step=8
    )
    outside = head_classes([-0.3, 0.1], {}, model="other", in_circuit=[False, False])
    table = final_share_table(share_table([first, last, outside], draws=3000))
    assert list(table["model"]) == ["m", "other"] and set(table["stage"]) == {"B: direct"}
    ours, other = table.iloc[0], table.iloc[1]
    assert ours["all heads"] == "60% [60%, 60%]" == ours["in the circuit"]
    chance, heads = ours["random, all heads"].split("% ")
    # of those that help, one of three; of those that harm, the only one
    assert heads == "(2 of 4)" and int(chance) == pytest.approx(40, abs=2)
    assert (other["in the circuit"], other["random, in the circuit"]) == ("none: no circuit", "")
    assert other["all heads"] == "0% [0%, 0%]"


def test_the_share_sentences_count_what_the_table_leaves_out():
    run = [
        head_classes([-0.5, -0.5], {"name mover": [0]}, step=1, tokens=1000),
        head_classes([-0.9, -0.1], {"name mover": [0]}, step=2, tokens=2000),
        head_classes([-0.6, -0.4], {}, step=4, tokens=4000),
    ]
    other = head_classes([-0.6, -0.4], {"name mover": [0, 1]}, model="other")
    shares = share_table([*run, other], draws=4000)
    jump = largest_jump(shares)  # 50 %, 90 %, 0 %
    assert (jump["model"], jump["step"], jump["change"]) == ("m", 4, pytest.approx(0.9))
    assert nothing_to_share(shares) == (
        "Nothing to share: C in m, other (no receivers); D in m, other (no receivers)."
    )
    text = share_sentences(shares)
    assert "At 1 checkpoint the model does IOI with no head in a class of stage B (m)." in text
    assert "jumps most in m at 4k tokens, by 90 points." in text
    explained = "explain 80% of the effect of all heads on average; as many random heads explain 6"
    assert re.search(f"{explained}[67]%", text)  # (50 + 50 + 100) / 3
    assert largest_jump(share_table([other], draws=50)) is None
    assert "jumps most" not in share_sentences(share_table([other], draws=50))


def test_where_helping_heads_look_is_told_of_the_last_checkpoint():
    columns = ["model", "step", "tokens_seen", *FUNCTIONS]
    functions = pd.DataFrame(
        [("a", 1, 1, 0.1, 0.6, 0.3), ("a", 2, 2, 0.2, 0.8, 0.0), ("b", 2, 2, 0.7, 0.3, 0.0)],
        columns=columns,
    )
    assert function_sentence(functions) == (
        "**At the end, 1 of 2 models suppress the subject more than they copy the indirect "
        "object.**"
    )
    assert function_caption(functions) == (
        "*Heads that look at the subject make 30% (b) to 80% (a) of what helps; within a run this "
        "changes by 20 points at most.*"
    )
    assert "make 30% of what" in function_caption(functions[2:])
    assert "0 of 1 model " in function_sentence(functions[2:])  # b copies
    assert function_sentence(functions[:0]) == "No checkpoint does IOI."
    assert function_caption(functions[:0]) == ""


# ---- resampling


def test_what_resampling_leaves():
    rows = []
    for step, left in ((1, 0.5), (2, 0.7)):
        for corruption, off in (("swap", 0.0), ("abc", 0.1)):
            for scrub, less in (("without", 0.6), ("heads", 0.0), ("roles", 0.2)):
                value = left - less + off
                random = 0.3 * step if (corruption, scrub) == ("swap", "heads") else np.nan
                row = ("m", step, corruption, scrub, value, value - 0.05, value + 0.05, random)
                rows.append(row)
    columns = ["model", "step", "corruption", "scrub", "faithfulness", "low", "high", "random"]
    scrubs = pd.DataFrame(rows, columns=columns)
    assert final_scrub_table(scrubs).iloc[0].to_dict() == {
        "model": "m",
        "the classes alone": "70% [65%, 75%]",
        "the classes, in their roles alone": "50% [45%, 55%]",
        "all but the classes": "10% [5%, 15%]",
        "as many random heads": "60%",
        "the classes alone (other names)": "80% [75%, 85%]",
        "the classes, in their roles alone (other names)": "60% [55%, 65%]",
    }
    assert scrub_sentence(scrubs) == (
        "**The classes alone keep 60% of the behaviour, as many random heads 45%** (the mean over "
        "2 checkpoints with heads in classes). Only in their roles, they keep 40%; all other heads "
        "together keep 0%."
    )
    assert "nothing to keep" in scrub_sentence(scrubs[:0])


# ---- transfers


def transfers(rows) -> pd.DataFrame:
    """Patterns of classes between the last checkpoints: (source, target, faithfulness)."""
    table = pd.DataFrame(rows, columns=["source", "target", "faithfulness"])
    return table.assign(
        task="ioi", what="classes", source_step=9, target_step=9, source_tokens=9, target_tokens=9
    )


def test_a_pattern_works_elsewhere_if_it_keeps_four_fifths():
    table = transfers(
        [
            ("a", "a", 0.9),
            ("b", "a", 0.73),  # four fifths of 0.9 are 0.72
            ("c", "a", 0.71),
            ("a", "b", 0.6),
            ("b", "b", 0.5),
            ("c", "b", 0.7),
            ("c", "c", 0.2),
        ]
    )
    patterns = patterns_elsewhere(table)
    assert patterns.to_dict("records") == [
        {"model": "a", "own": 0.9, "others": 2, "work": ["b"], "worst": "c", "keeps": 0.71},
        {"model": "b", "own": 0.5, "others": 2, "work": ["a", "c"], "worst": "a", "keeps": 0.6},
    ]
    said = who_runs_the_same(patterns)
    assert said.startswith("*Of 4 patterns of classes put to another model, 3 keep at least four")
    assert patterns_shown(patterns)["worst"].tolist() == ["c (71%)", "a (60%)"]
    none = patterns_elsewhere(table[:1])
    assert who_runs_the_same(none) == "There are no two models with classes to compare."
    assert patterns_shown(none).empty


def test_sentences_about_moves_that_were_not_made_are_not_there():
    seed = ("ioi", "circuit", "other seed", 2, 0.27, 0.04, 0.9, 0.34)
    run = ("ioi", "circuit", "same run", 8, 0.86, 0.48, 0.89, 0.27)
    assert "keeps 86% on average and 48% at worst" in same_circuit_sentence(summary(run, seed))
    assert same_circuit_sentence(summary(seed)) == "No run has a circuit at two checkpoints."
    shown = ioi_summary(summary(run, ("sva", *run[1:])))
    assert len(shown) == 1 and shown.iloc[0]["shuffled"] == 0.27
    assert shown.iloc[0]["what"] == "circuit, edge by edge" and "task" not in shown


def test_class_edges_are_sorted_by_what_they_change():
    pattern = [("a", "b", "q"), ("b", "logits", ""), ("a", "logits", "")]
    table = without_each(pattern, 0.6, [0.58, 0.9, 0.0])
    assert table["without"].tolist() == ["a to logits", "b to logits", "a to b <q>"]
    assert table["keeps"].tolist() == [0.0, 0.9, 0.58]
    text = spare_sentence("m", 0.6, [0.58, 0.9, 0.0])
    assert text.startswith("The pattern of m has 3 class edges and keeps 60%. 1 of them can go")
    text = names_sentence("m", "m-seed2", as_found=0.2, best=0.5, own=0.8)
    assert "new numbers close 50% of the gap" in text and "m-seed2's own circuit 80%" in text
    assert text.endswith("so we can't say how much is the search.")
    text = names_sentence("m", "m-seed2", as_found=0.2, best=0.8, own=0.8, rewired=[0.3, 0.4])
    assert "new numbers close 100% of the gap" in text
    assert "keeps 35% in its own best order" in text
    assert text.endswith("with the wrong edges, the search still closes 25%.")
    text = names_sentence("m", "m-seed2", as_found=0.2, best=0.8, own=0.8, rewired=[0.1])
    assert text.endswith("with the wrong edges, the search closes nothing.")
    text = names_sentence("m", "m-seed2", as_found=0.8, best=0.8, own=0.8)
    assert text.endswith("There is no gap to close.")


def test_the_last_circuits_are_those_of_the_last_step():
    graph = Graph(1, 1)

    def result(model, step, task="ioi", reason=""):
        circuit = Circuit(graph, graph.mask, reason=reason)
        return CircuitResult(model, step, step, task, circuit, 0.0)

    circuits = [result("a", 1), result("a", 2), result("a", 3, "sva"), result("b", 1)]
    last = last_ioi_circuits([*circuits, result("b", 2, reason="no circuit of that size")])
    assert {model: end.step for model, end in last.items()} == {"a": 2}


def test_all_edges_keep_all_of_the_behaviour_and_none_keep_nothing(tmp_path):
    chapter = open_chapter(suite="mini", models="mini-xs", tasks=["ioi"], store=str(tmp_path))
    graph = graph_of(chapter.suite.checkpoint("mini-xs", 3906).load())
    end = CircuitResult("mini-xs", 3906, 1, "ioi", Circuit(graph, graph.mask), 0.0)
    half = graph.mask.copy()
    half[graph.heads(1)] = False  # no head of the second layer
    kept = kept_by(chapter, end, [graph.mask, np.zeros_like(graph.mask), half])
    np.testing.assert_allclose(kept[:2], [1, 0], atol=1e-4)
    assert abs(kept[2]) < 0.5  # the head that carries IOI is in that layer


def test_a_variant_changes_what_is_asked_for_and_keeps_the_rest():
    chapter = open_chapter(suite="mini", tasks=["ioi", "sva"], recipe="robust")
    other = chapter.variant(models=["mini-xs"], steps=chapter.last_steps, recipe="paper")
    assert other.places == [("mini-xs", 3906)] and other.recipe.name == "paper"
    assert other.tasks == chapter.tasks and other.store is chapter.store
    assert chapter.recipe.name == "robust" and len(chapter.models) > 1
    assert transfer_summary(transfers([("a", "a", 0.9)])).empty  # nothing was moved
