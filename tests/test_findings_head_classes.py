"""The algorithm chapter's heads: their classes, readers of the answer, what is drawn of them."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from findings_by_hand import answer_readers, head_classes, head_scores

from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.model.graph import Graph
from circuitbook.recipes import get_recipe
from circuitbook.studies.chapter import open_chapter
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.class_changes import class_changes, flickers
from circuitbook.studies.classifying import mostly
from circuitbook.studies.findings.answer_readers import (
    reader_sentences,
    reader_shares,
    year_check,
    year_sentence,
)
from circuitbook.studies.findings.attention_example import (
    attention_example,
    example_sentence,
    most_classed,
)
from circuitbook.studies.findings.head_classes import (
    LETTERS,
    change_sentence,
    changes_shown,
    compare_recipes,
    final_signals,
    last_of_each,
    recipes_agree,
    signal_sentence,
    signal_table,
)
from circuitbook.studies.findings.jumps import (
    bar_sentence,
    changed_heads,
    checkpoints_around,
    direct_share,
)
from circuitbook.tasks import get_task

# ---- classes over training


def test_changes_are_counted_between_checkpoints_with_classes():
    run = [
        head_classes([0, 0], {}, step=1),  # does not count
        head_classes([0, 0], {"name mover": [0]}, step=2),
        head_classes([0, 0], {"name mover": [0]}, step=4),
        head_classes([0, 0], {"name mover": [1]}, step=8),
    ]
    alone = head_classes([0, 0], {"induction": [0]}, model="alone")
    changes = class_changes([*run, alone])
    sentence = change_sentence(changes, [*run, alone])
    assert sentence.startswith("*There are too few checkpoints to tell")
    assert "0 of 4 cells are hatched" in sentence and sentence.endswith(f"{LETTERS}.*")
    shown = changes_shown(changes).iloc[0].tolist()
    assert shown == ["m", 2, "50%", "0%", "–"]
    assert change_sentence(class_changes([alone]), [alone]) == f"*{LETTERS}.*"
    assert {model: one.step for model, one in last_of_each([*run, alone]).items()} == {
        "m": 8,
        "alone": 8,
    }


def flickering(step: int, heads: dict[int, float]):
    """In the class "name mover" each of these heads, with a probability; nobody in another."""
    one = head_classes([0, 0, 0, 0], {}, step=step)
    found = np.random.default_rng(step).random((4000, 4)) < [heads.get(i, 0) for i in range(4)]
    drawn = {name: np.zeros((4000, 4), bool) for name in one.classes} | {"name mover": found}
    classes = {name: mostly(members) for name, members in drawn.items()}
    return dataclasses.replace(one, drawn=drawn, classes=classes)


def test_what_flickers_is_no_change():
    """Two draws of a head that is in its class in half of them differ half of the time, whatever
    the checkpoints; a head that changes for good differs at that pair alone."""
    still = [flickering(step, {0: 1.0, 1: 0.5}) for step in (1, 2, 3, 4, 5)]
    row = class_changes(still, draws=4000).iloc[0]
    assert row["pairs"] == 4 and row["changed"] == pytest.approx(0.5, abs=0.03)
    assert row["redrawn"] == pytest.approx(0.5, abs=0.03) and row["low"] < 0.03
    assert flickers(still[0], "name mover").tolist() == [False, True, False, False]
    moved = [flickering(step, {step % 2: 1.0}) for step in (1, 2, 3, 4, 5)]
    row = class_changes(moved, draws=400).iloc[0]
    assert (row["changed"], row["redrawn"], row["low"]) == (1, 0, 1)
    assert changes_shown(class_changes(moved)).iloc[0, -1] == "100% to 100%"
    assert "beyond what other prompts do, in m (1 of 1 model)" in change_sentence(
        class_changes(moved), moved
    )
    said = change_sentence(class_changes(still), still)
    assert "no more between checkpoints than between two draws of prompts" in said
    # the head on the edge is in its class by a hair at some of the five, and not at the others
    hatched, cells = map(int, re.search(r"(\d+) of (\d+) cells are hatched", said).groups())
    assert cells - hatched == 5 and hatched <= 5


def test_signals_are_listed_for_s_inhibition_heads_alone():
    early = np.array([[-0.2, -0.05, -0.1], [-0.9, -0.9, -0.9]])
    late = np.array([[0.0, 0.0, 0.0], [-0.3, 0.01, -0.29]])
    run = [
        head_classes([0, 0], {"S-inhibition": [0]}, step=1, signals=early),
        head_classes([0, 0], {"S-inhibition": [1]}, step=2, tokens=1500, signals=late),
        head_classes([0, 0], {"induction": [0]}, step=3, signals=late),
    ]
    signals = signal_table(run)
    assert final_signals(signals).to_dict("records") == [
        {
            "model": "m",
            "tokens": "1.5k",
            "head": "0.1",
            "e, who the subject is, and where": "-0.300",
            "e, where the subject stood": "+0.010",
            "e, who the subject is": "-0.290",
        }
    ]
    text = signal_sentence(signals)
    assert text.startswith("**They say *who* the subject is, not where it stood**")
    assert text.endswith("effect of the person is 0.290, of the place 0.050.")
    places = signals.rename(columns={"order": "token", "token": "order"})
    assert signal_sentence(places).startswith("**They say *where* the subject stood, not who")
    even = signals.assign(order=0.2)
    assert signal_sentence(even).startswith("**They say both")
    assert "No head" in signal_sentence(signal_table(run[2:]))


def test_two_recipes_stand_side_by_side_at_the_last_checkpoint():
    ours = [
        head_classes([-0.4, -0.1], {"name mover": [1]}, step=1),
        head_classes([-0.4, -0.1], {"name mover": [0], "S-inhibition": [0, 1]}, step=2),
    ]
    row = compare_recipes(ours, [head_classes([-0.4, -0.1], {}, step=2)], ("ours", "theirs")).iloc[
        0
    ]
    assert row["classes, ours"] == "name mover: 0.0; S-inhibition: 0.0, 0.1"
    assert row["classes, theirs"] == "none"
    assert row["shares, ours"] == "B 80%, C none, D none" != row["shares, theirs"]


def test_recipes_agree_where_they_name_the_same_heads():
    ours = [
        head_classes([-0.4, -0.1], {"name mover": [0]}),
        head_classes([-0.4, -0.1], {}, model="other"),
    ]
    both = ("ours", "theirs")
    assert recipes_agree(ours, ours, both).endswith(
        "in 2 of 2 models. `theirs` finds 1 head in classes, `ours` 1."
    )
    theirs = [ours[0], head_classes([-0.4, -0.1], {"induction": [0, 1]}, model="other")]
    assert recipes_agree(ours, theirs, both).endswith(
        "in 1 of 2 models. `theirs` finds 3 heads in classes, `ours` 1."
    )


# ---- a jump


def test_a_jump_is_told_by_the_head_whose_score_crosses_the_bar():
    settings = get_recipe("robust").algorithm
    bar = settings.copy_bar
    run = [
        head_classes([-0.6, -0.4], {}, step=1, ioi=False),
        head_classes([-0.6, -0.4], {"name mover": [1]}, step=2),
        head_classes([-0.6, -0.4], {"name mover": [0, 1]}, step=4),
    ]
    copies = {2: [bar / 2 + 0.01, 0.9], 4: [bar + 0.1, 0.9]}
    scores = [head_scores(step=s, copy=copies[s], direct=[-0.6, -0.4]) for s in copies]
    neighbours = checkpoints_around(run, "m", 4)
    assert [classes.step for classes in neighbours] == [2, 4]
    assert [classes.step for classes in checkpoints_around(run, "m", 2)] == [2]
    changed = changed_heads(neighbours, scores)
    assert changed["head"].tolist() == ["0.0", "0.0"]  # the other head stays in its class
    assert changed["classes"].tolist() == ["none", "name mover"]
    np.testing.assert_allclose(changed["name mover (copy score)"], [bar / 2 + 0.01, bar + 0.1])
    np.testing.assert_allclose(changed["direct effect on ioi"], -0.6)
    lower = dataclasses.replace(settings, copy_bar=bar / 2)
    assert direct_share(neighbours[0], scores, settings) == pytest.approx(0.4)
    assert direct_share(neighbours[0], scores, lower) == pytest.approx(1.0)
    assert bar_sentence(neighbours, scores, [settings, lower]) == (
        "m, share B over all heads at these checkpoints: "
        f"with copy_bar={bar:g} 40%, then 100%; with copy_bar={bar / 2:g} 100%, then 100%."
    )


# ---- where heads look


def test_the_example_shows_the_heads_of_the_last_checkpoint(tmp_path):
    chapter = open_chapter(suite="mini", models="mini-xs", tasks=["ioi"], store=str(tmp_path))
    size = 8  # mini-xs has 2 layers of 4 heads
    classes = head_classes(
        [0] * size, {"name mover": [6], "induction": [1]}, model="mini-xs", step=3906
    )
    vars(classes)["n_heads"] = 4
    vars(chapter)["head_classes"] = [classes]
    example = attention_example(chapter)
    assert example.titles == ["1.2 (name mover)", "0.1 (induction)"]

    model = chapter.suite.checkpoint("mini-xs", 3906).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=1, seed=chapter.recipe.seed)
    model.hf_model.set_attn_implementation("eager")
    tokens = pairs.clean[:, : int(pairs.end[0]) + 1]
    attentions = model.hf_model(tokens, output_attentions=True).attentions
    for pattern, (layer, head) in zip(example.patterns, [(1, 2), (0, 1)], strict=True):
        np.testing.assert_allclose(pattern, attentions[layer][0, head].detach(), atol=1e-5)
    assert "".join(example.tokens) == model.tokenizer.decode(tokens[0])

    most = int(attentions[1][0, 2, -1].argmax())  # head 1.2 is the one that finds the subject
    assert example.places[most] == "S2"
    expected = f"1.2 at “{example.tokens[most].strip()}” (S2)"
    assert f"Heads look most from END {expected}; from S2 0.1 at" in example_sentence(example)
    informs = dataclasses.replace(
        example, titles=[title.replace("name mover", "induction") for title in example.titles]
    )
    s2 = next(position for position, place in example.places.items() if place == "S2")
    looked_at = int(example.patterns[0][s2].argmax())
    assert example.tokens[looked_at].strip() in example_sentence(informs).split("from S2 ")[1]
    assert "No head is in any class" in example_sentence(None)


def test_the_model_with_most_heads_in_classes_is_shown_and_of_equals_the_last():
    few, some = {"induction": [0]}, {"induction": [0], "name mover": [0, 1]}
    classes = [
        head_classes([0, 0], some, model="a", step=1),
        head_classes([0, 0], few, model="a", step=2),
        head_classes([0, 0], few, model="b"),
        head_classes([0, 0], some, model="seed"),
    ]
    assert most_classed(classes, ["a", "b"]).model == "b"
    assert most_classed(classes, ["a", "b", "seed"]).model == "seed"


# ---- readers of the answer


def test_the_readers_of_each_task_are_told_in_a_line():
    shares = reader_shares([answer_readers(), answer_readers("sva")])
    assert shares["readers"].tolist() == pytest.approx([0.8, 0.8])
    columns = ["task", "what", "where", "mean", "null"]
    summary = pd.DataFrame(
        [
            ("sva", "circuit", "same run", 0.7, 0.2),
            ("sva", "circuit", "other seed", 0.4, 0.2),
            ("greater_than", "classes", "same run", 0.9, 0.9),
            ("greater_than", "circuit", "other seed", 0.3, 0.1),
        ],
        columns=columns,
    )
    line = "readers do 80% of it on average (as many random heads: 50%)."
    assert reader_sentences(
        shares, summary, ["sva", "gendered_pronoun", "greater_than"]
    ).splitlines() == [
        f"- **Subject-Verb Agreement**: {line} A circuit keeps 70% at another checkpoint of its "
        "run and 40% in another seed.",
        f"- **Greater-Than**: {line} A circuit keeps 30% in another seed.",
    ]
    assert reader_sentences(shares[:0], summary, ["sva"]) == ""


def test_the_years_are_checked_at_the_last_circuit():
    graph = Graph(2, 2)
    edges = ["a0.h1->m1", "m1->logits", "a1.h1->logits"]
    mask = circuit_of(graph, edges).mask

    def result(step):
        return CircuitResult("m", step, 8_000_000, "greater_than", Circuit(graph, mask), 0.0)

    check = year_check(
        [result(4), result(8), result(16)], [answer_readers(step=4), answer_readers(step=8)]
    )
    assert check.to_dict("records") == [
        {
            "model": "m",
            "tokens seen": "8M",
            "MLPs that reach the logits": "1",
            "years after YY over others, of these": "-0.25",
            "heads into them": "0.1",
            "looks at YY": "60%",
            "says YY or YY+1": "0%",
            "of all heads, most at YY": "1.0 (100%)",
        }
    ]
    assert "in 0 of 1 model, all MLPs" in year_sentence(check)
    raising = check.assign(**{"years after YY over others, of these": "+0.25, +1.00"})
    assert "in 1 of 1 model, all MLPs" in year_sentence(raising)
    none = year_check([result(16)], [answer_readers(step=8)])
    assert none.empty and year_sentence(none).startswith("No checkpoint")
