"""The chapter after formation: hand-made heads whose right sentences are known, and mini-xs."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close
from handmade import scores_of

from circuitbook import get_task
from circuitbook.circuits.circuit import circuit_of
from circuitbook.figures.taken_out import (
    direct_effects_of_seeds,
    repair_on_ioi_panels,
    repair_on_text_panels,
    repair_parts_panels,
    swap_grids,
)
from circuitbook.model.graph import Graph
from circuitbook.store import Store
from circuitbook.studies.chapter import open_chapter
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings import after_formation, heads_taken_out, load_balancing
from circuitbook.studies.formation import balance, of_model, trajectories
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.self_repair import Repaired, measure_repair
from circuitbook.suites.sources import Folder


def over_time(model: str, kind: str, *checkpoints: list[float], **others) -> list[HeadScores]:
    """A model's checkpoints after 1000, 2000, ... tokens, with these scores of its four heads."""
    return [
        scores_of(model, step, **{kind: scores}, **others)
        for step, scores in enumerate(checkpoints, start=1)
    ]


FALLING = over_time(
    "m", "induction", [0, 0, 0, 0], [0.8, 0.4, 0, 0.3], [0.6, 0, 0.1, 0.25], [0.1, 0.1, 0.3, 0.3]
)
LOSES = over_time("m", "successor", [0, 0.5, 0, 0], [0, 0.1, 0.3, 0.05])


# ---- whom to follow


def suite_of(*models: str, standard: tuple[str, ...] = (), on_disk: bool = True):
    source = Folder.__new__(Folder) if on_disk else None
    return SimpleNamespace(source=source, models=models, standard=standard)


def test_the_model_to_follow_and_its_seeds_are_filled_in():
    mini = suite_of("xs", "s", "l", "s-seed2", "s-seed3")
    assert after_formation.whom_to_follow(mini, None, None, whole_family=True) == (
        "l",
        ["s", "s-seed2", "s-seed3"],
        ["l", "xs", "s", "s-seed2", "s-seed3"],
    )
    own = after_formation.whom_to_follow(mini, None, None, whole_family=False)
    assert own.model == "xs" and own.models == ["xs", "s", "s-seed2", "s-seed3"]
    asked = after_formation.whom_to_follow(mini, "s", ["xs", "l"], whole_family=False)
    assert asked == ("s", ["xs", "l"], ["s", "xs", "l"])
    alone = after_formation.whom_to_follow(mini, "s", ["xs"], whole_family=False)
    assert alone == ("s", [], ["s"])
    assert after_formation.followed_in_words(asked, 13, "robust") == (
        "Followed here: **s**, 13 checkpoints, recipe **robust**; seeds: xs, l."
    )
    assert after_formation.followed_in_words(alone, 1, "paper") == (
        "Followed here: **s**, 1 checkpoint, recipe **paper**; this suite has no seeds of one size."
    )


def test_variants_on_a_hub_have_to_be_asked_for():
    hub = suite_of("a", "a-seed1", "b", standard=("a", "b"), on_disk=False)
    assert after_formation.whom_to_follow(hub, None, None, whole_family=False) == ("a", [], ["a"])


def test_seeds_alone_are_models_of_their_own():
    seeds = suite_of("s-seed2", "s-seed3")
    followed = after_formation.whom_to_follow(seeds, None, None, whole_family=False)
    assert followed.model == "s-seed2" and followed.models == ["s-seed2"]


# ---- heads of one model


def test_heads_in_colour_passed_the_bar_and_were_in_a_circuit():
    histories = {"induction": trajectories(FALLING, "m", "induction")}
    passed = after_formation.past_the_bar(histories)
    assert passed == {"induction": [(0, 0), (0, 1), (1, 0), (1, 1)]}
    circuit = circuit_of(
        Graph(2, 2), ["input->a0.h1<v>", "a0.h1->logits", "input->a0.h0<v>", "a0.h0->logits"]
    )
    circuits = [CircuitResult("m", 1, 1000, "ioi", circuit, 0.0)]
    shown = after_formation.best_in_circuits(histories, circuits, "m", ["ioi", "greater_than"])
    assert shown == {"induction": [(0, 0), (0, 1)]}
    best = after_formation.best_in_circuits(histories, circuits, "m", ["ioi"], most=1)
    assert best == {"induction": [(0, 0)]}
    assert after_formation.figure_3_in_words(passed, shown, "m") == (
        "At some checkpoint m has 4 induction heads; 2 of these stand in colour, since they were "
        "in a circuit."
    )
    passed, shown = {"copy": [(0, 0)], "induction": []}, {"copy": [], "induction": []}
    assert after_formation.figure_3_in_words(passed, shown, "m") == (
        "At some checkpoint m has 1 name mover and 0 induction heads; 0 of these stand in colour, "
        "since they were in a circuit."
    )


def test_kinds_without_a_text_are_left_out():
    assert "copy_suppression" in after_formation.measured_kinds(FALLING, "m")
    without = scores_of("m", 1)
    del without.arrays["cspa_kept"]
    assert "copy_suppression" not in after_formation.measured_kinds([without], "m")


# ---- who keeps, who loses


def test_fates_are_counted_by_kind():
    fates = after_formation.fates_of_all(FALLING, ["m"], ["induction", "copy"])
    counts = after_formation.fate_counts(fates, ["induction", "copy"])
    assert counts.loc["Induction"].to_dict() == {"keeps it": 2, "loses it": 2}
    assert counts.loc["Name mover"].sum() == 0


def test_the_largest_losses_come_first_with_their_heirs():
    heads = [*LOSES, *over_time("n", "successor", [0.9, 0, 0, 0], [0, 0, 0.05, 0])]
    fates = after_formation.fates_of_all(heads, ["m", "n"], ["successor"])
    head, _, first, second = after_formation.losses_in_words(heads, fates).splitlines()
    assert head.startswith(
        "2 heads lose their function. **In 1 of these cases another head gains in the meantime.**"
    )
    assert first == (
        "- n, head 0.0, successor: from 0.90 after 1k tokens to 0.00 at the end; "
        "no other head gains as much as 0.1."
    )
    assert second == (
        "- m, head 0.1, successor: from 0.50 after 1k tokens to 0.10 at the end; "
        "meanwhile 1.0 goes from 0.00 to 0.30."
    )
    assert after_formation.head_to_try(fates) == (
        "Head 0.0 of n is a successor head after 1k tokens. What is it at the end?"
    )
    one = after_formation.losses_in_words(heads, fates, most=1)
    assert one.startswith("2 heads lose") and len(one.splitlines()) == 3
    kept = after_formation.fates_of_all(LOSES[:1], ["m"], ["successor"])
    assert "No head that passed a bar falls below half" in after_formation.losses_in_words(
        LOSES[:1], kept
    )
    assert after_formation.head_to_try(kept) == "No head loses its function here."


def fates_of(**kinds: str) -> pd.DataFrame:
    """A head for each letter: k keeps it, l loses it, f fades."""
    words = {"k": "keeps it", "l": "loses it", "f": "fades"}
    rows = [(kind, words[letter]) for kind, letters in kinds.items() for letter in letters]
    return pd.DataFrame(rows, columns=["kind", "fate"])


@pytest.mark.parametrize(
    ("fates", "said"),
    [
        (
            fates_of(induction="kkk", copy="kkl", successor="lllk"),
            "**Induction heads (3 of 3) and name movers (2 of 3) keep their function to the end; "
            "most successor heads (3 of 4) lose it.**",
        ),
        (
            fates_of(induction="ll", copy="kl", successor="k"),
            "**Successor heads (1 of 1) keep their function to the end; most induction heads "
            "(2 of 2) lose it; name movers do neither as a rule.**",
        ),
        (fates_of(copy="l"), "**Most name movers (1 of 1) lose theirs.**"),
        (fates_of(), "**No head passes the bar of a kind, so there is no function to keep.**"),
    ],
)
def test_the_answer_says_which_kinds_keep_their_function(fates, said):
    assert after_formation.answer(fates, ["induction", "copy", "successor"], 13) == said
    assert "One checkpoint" in after_formation.answer(fates, ["induction"], 1)


# ---- load balancing


def test_heads_that_jump_together_or_take_turns_are_told_apart():
    ups = (0.5, 0.9, 0.4, 0.9, 0.5, 0.9, 0.4)
    jump = [[x, x, 0, 0] for x in ups]
    turns = [[0.9 - x, x, 0, 0] for x in (0.0, 0.9, 0.1, 0.8, 0.2, 0.7)]
    heads = [*over_time("jump", "induction", *jump), *over_time("turns", "induction", *turns)]
    balanced = load_balancing.balance_table(heads, ["jump", "turns"], ["induction", "copy"])
    assert balanced["they"].tolist() == ["move together", "balance"]
    assert balanced["balance"].tolist() == pytest.approx([2, 0], abs=1e-9)
    assert balanced[["heads", "checkpoints"]].values.tolist() == [[2, 7], [2, 6]]
    assert load_balancing.balance_in_words(balanced) == (
        "**In 1 of 2 cases (a kind in a model) heads balance each other**; in 1 they rise and fall "
        "together."
    )
    unsure = balanced.assign(they=["can't tell"] * 2)
    assert load_balancing.balance_in_words(unsure) == (
        "**In 0 of 2 cases (a kind in a model) heads balance each other**; in 2 we can't tell."
    )


def test_a_trend_that_all_heads_share_is_no_moving_together():
    """Heads that all grow with the logarithm of tokens, each with noise of its own."""
    rng = np.random.default_rng(0)
    tokens = 2.0 ** np.arange(12)
    wrong = {"plain": 0, "about the trend": 0}
    for repeat in range(40):
        noise = 0.02 * rng.standard_normal((12, 3))
        scores = pd.DataFrame(0.05 * np.log(tokens)[:, None] + noise, index=tokens)
        left = load_balancing.without_shared_trend(scores)
        assert np.abs(np.log(tokens) @ left.sum(1)) < 1e-9  # the sum has no slope any more
        low, high = load_balancing.balance_by_chance(scores, draws=400, seed=repeat)
        wrong["plain"] += balance(scores) > high
        wrong["about the trend"] += not low <= balance(left) <= high
    assert wrong["plain"] == 40 and wrong["about the trend"] <= 6


def test_a_slow_hand_over_balances():
    rng, tokens = np.random.default_rng(0), 2.0 ** np.arange(10)
    way = np.arange(10) / 9
    scores = pd.DataFrame({"a": 0.8 - 0.6 * way, "b": 0.2 + 0.6 * way}, index=tokens)
    scores += 0.01 * rng.standard_normal((10, 2))
    low, _ = load_balancing.balance_by_chance(scores)
    assert balance(load_balancing.without_shared_trend(scores)) < low


def test_three_checkpoints_say_nothing_of_balance():
    heads = over_time("m", "induction", [0.5, 0.5, 0, 0], [0.6, 0.6, 0, 0], [0.4, 0.7, 0, 0])
    balanced = load_balancing.balance_table(heads, ["m"], ["induction"])
    assert balanced.empty
    assert "No kind has two heads" in load_balancing.balance_in_words(balanced)


def test_chance_shuffles_what_is_left_of_each_head():
    rng = np.random.default_rng(3)
    many = pd.DataFrame(rng.random((12, 3)), index=2.0 ** np.arange(12))
    low, high = load_balancing.balance_by_chance(many, draws=2000)
    assert 0.2 < low < 1 < high < 2.2
    assert (low, high) != load_balancing.balance_by_chance(many, draws=2000, seed=1)
    line = pd.DataFrame({"a": np.arange(5.0), "b": np.arange(5.0)}, index=np.exp(np.arange(5.0)))
    assert load_balancing.balance_by_chance(line, draws=50) == (0, 0)  # nothing is left of it


# ---- swaps


def test_carriers_are_swapped_and_controls_come_from_their_layers():
    groups = heads_taken_out.swap_groups(scores_of("m", 1, direct=[0.3, -0.2, 0.06, 0.01]))
    assert groups == {"carriers of IOI": [(0, 0), (1, 0)], "control": [(0, 1), (1, 1)]}
    weak = heads_taken_out.swap_groups(scores_of("m", 1, direct=[0.01, 0.02, 0.03, -0.01]))
    assert weak == {"carriers of IOI": [(1, 0)], "control": [(1, 1)]}
    full = heads_taken_out.swap_groups(scores_of("m", 1, direct=[0.3, 0.2, 0.1, 0]), most=1)
    assert full["carriers of IOI"] == [(0, 0)]


SWAPS = pd.DataFrame(
    [
        ("carriers", 1000, 2000, 0.5, 0.0),  # does no IOI yet
        ("carriers", 2000, 3000, 3.0, 2.0),
        ("carriers", 2000, 4000, 5.0, 2.0),
        ("carriers", 3000, 4000, 2.0, 3.0),
        ("control", 1000, 2000, 0.0, 0.0),
        ("control", 2000, 3000, 2.5, 2.0),
        ("control", 3000, 4000, 3.5, 3.0),
    ],
    columns=["group", "target", "source", "metric", "own"],
)


def test_swaps_are_averaged_where_the_target_does_ioi():
    assert heads_taken_out.swaps_in_words(SWAPS) == (
        "Later carriers help models that do IOI already: the logit difference changes by, on "
        "average, carriers 0.00 from the next checkpoint and +1.00 from the last; control +0.50 "
        "from the next checkpoint and +0.50 from the last."
    )
    turned = SWAPS.assign(metric=2 * SWAPS["own"] - SWAPS["metric"])
    assert heads_taken_out.swaps_in_words(turned).startswith("Later carriers harm models")
    unmoved = SWAPS.assign(metric=SWAPS["own"])
    assert "carriers neither help nor harm" in heads_taken_out.swaps_in_words(unmoved)
    assert "nothing to compare" in heads_taken_out.swaps_in_words(SWAPS.iloc[:1])
    assert "need two checkpoints" in heads_taken_out.swaps_in_words(pd.DataFrame())


def test_the_grid_of_swaps_has_the_changes():
    groups = {"carriers": [(0, 0)], "control": [(1, 1), (0, 1)]}
    fig = swap_grids(SWAPS, groups)
    grid = fig.axes[0].images[0].get_array()
    assert grid.shape == (3, 3) and grid[1].tolist() == [None, 1.0, 3.0]
    assert fig.axes[0].images[0].get_clim() == (-3, 3)
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["1k", "2k", "3k"]
    plt.close(fig)


# ---- self-repair


def repaired(step: int, before: float, expected: float, after: float, change=None) -> Repaired:
    """Head 0.1 of four taken out; the direct effects of all change by `change` [2, 2]."""
    change = np.zeros((2, 2)) if change is None else np.array(change, dtype=float)
    ioi = {"before": before, "expected": expected, "after": after}
    ioi = {name: np.array([value - 1, value + 1]) for name, value in ioi.items()}
    ioi["direct_before"] = np.ones((2, 2, 3))
    ioi["direct_after"] = 1 + np.repeat(change[..., None], 3, -1)
    text = {"direct": np.array([1.0, 2.0, 3.0, 4.0]), "total": np.array([0.5, 1.0, 6.0, 0.5])}
    return Repaired("m", step, 1000 * step, [(0, 1)], ioi, text)


def nothing_taken_out(step: int = 1) -> Repaired:
    return Repaired("m", step, 1000 * step, [], {}, {})


def test_repair_is_read_from_the_last_checkpoint_with_carriers():
    results = [nothing_taken_out(), repaired(2, 6, 2, 3, [[0.5, -9], [-0.2, 0]])]
    numbers = heads_taken_out.repair_on_ioi(results)
    assert numbers.values.tolist() == [["m", 2000, "0.1", 6, 2, 3]]
    reacting = heads_taken_out.reactions(results)
    assert reacting.to_dict() == pytest.approx({"0.0": 0.5, "1.0": -0.2, "1.1": 0})
    assert heads_taken_out.repair_in_words(numbers, reacting, "m", "zero") == (
        "**The rest of the model makes up for part of it:** with head 0.1 of m silenced, the logit "
        "difference falls by 3.00; directly written were 4.00. The direct effects of all other "
        "heads change by +0.30 together."
    )


@pytest.mark.parametrize(
    ("after", "verdict"), [(2.3, "Nobody reacts"), (1.0, "Nothing is made up for; more is lost")]
)
def test_a_tenth_more_or_less_is_no_reaction(after, verdict):
    results = [repaired(1, 6, 2, after)]
    numbers = heads_taken_out.repair_on_ioi(results)
    said = heads_taken_out.repair_in_words(
        numbers, heads_taken_out.reactions(results), "m", "resample"
    )
    assert f"**{verdict}" in said and "given the corrupted prompt's output" in said


def test_without_a_carrier_there_is_nothing_to_take_out():
    results = [nothing_taken_out()]
    numbers, reacting = heads_taken_out.repair_on_ioi(results), heads_taken_out.reactions(results)
    assert numbers.empty and reacting.empty
    assert heads_taken_out.repair_in_words(numbers, reacting, "m", "zero") == (
        "No checkpoint of m does IOI with a head that carries it: there is nothing to take out."
    )
    table = heads_taken_out.repair_of_seeds([*results, repaired(2, 6, 2, 3)])
    assert table.iloc[0].tolist() == ["none", "", "", "", ""]
    assert table.iloc[1].tolist() == ["0.1", "6.00", "2.00", "3.00", "20%"]


def test_the_share_repaired_on_text_is_over_all_heads_or_some():
    at = repaired(1, 6, 2, 3)
    assert heads_taken_out.repaired_share(at) == pytest.approx(1 - 8 / 10)
    upper = np.array([False, False, True, True])
    assert heads_taken_out.repaired_share(at, upper) == pytest.approx(1 - 6.5 / 7)
    assert heads_taken_out.text_repair_in_words([at]) == (
        "Summed over all heads of m, 20% of what is lost directly is repaired at the last "
        "checkpoint; 3 of 4 heads lie below the diagonal."
    )
    at.text["total"][2] = 18.0
    assert "of m, 100% more is lost in all than directly" in heads_taken_out.text_repair_in_words(
        [at]
    )
    assert "No text was given" in heads_taken_out.text_repair_in_words([])


def with_parts(at: Repaired, ioi: tuple, text: tuple) -> Repaired:
    """The same with what heads, MLPs and the norm make up for, on each prompt and for each head."""
    for name, on_ioi, on_text in zip(heads_taken_out.PARTS, ioi, text, strict=True):
        at.ioi[name], at.text[name] = np.full(2, float(on_ioi)), np.full(4, float(on_text))
    return at


def test_what_is_made_up_for_is_split_by_who_does_it():
    results = [
        nothing_taken_out(),
        with_parts(repaired(2, 6, 2, 3), (1.2, -0.4, 0.2), (0.1, 0.0, 0.4)),
        with_parts(repaired(3, 6, 2, 1), (0, -0.6, -0.4), (-1, 0, 0.5)),
    ]
    on_ioi, on_text = (heads_taken_out.repair_parts(results, where) for where in ("ioi", "text"))
    assert on_ioi["direct"].tolist() == [4, 4] and on_text["direct"].tolist() == [10, 10]
    titles = list(heads_taken_out.PARTS.values())
    assert on_ioi[titles].iloc[0].tolist() == pytest.approx([0.3, -0.1, 0.05])
    for row, at in zip(on_ioi["all"], results[1:], strict=True):  # of what is lost directly
        made_up = (at.ioi["after"] - at.ioi["expected"]).mean()
        assert row == pytest.approx(made_up / 4)
    assert on_text["all"].tolist() == pytest.approx([0.2, -0.2])
    first = heads_taken_out.parts_in_words(on_ioi.iloc[:1], on_text.iloc[:1])
    assert "On IOI, 25% of what is lost directly is made up for, most of it by later heads" in first
    assert "text, 20% of what is lost directly is made up for, most of it by the last norm" in first
    assert "(later heads +4%, later MLPs 0%, the last norm +16%)" in first
    last = heads_taken_out.parts_in_words(on_ioi, on_text.iloc[:0])
    assert last == (
        "On IOI, nothing is made up for: 25% more is lost than directly, most of it by later "
        "MLPs (later heads 0%, later MLPs -15%, the last norm -10%)."
    )
    assert heads_taken_out.repair_caption(on_ioi).startswith(
        "*At 1 of 2 checkpoints more is lost than these heads wrote, at 1 less.*"
    )
    empty = heads_taken_out.repair_parts([nothing_taken_out()], "ioi")
    assert empty.empty and "Nothing was taken out" in heads_taken_out.parts_in_words(empty, empty)
    fig = repair_parts_panels(on_ioi, on_text)
    assert fig.axes[0].lines[0].get_ydata().tolist() == pytest.approx([0.3, 0])
    assert fig.axes[1].lines[3].get_ydata().tolist() == pytest.approx([0.2, -0.2])
    plt.close(fig)
    fig = repair_parts_panels(on_ioi, empty)
    assert len(fig.axes) == 1
    plt.close(fig)


def test_figures_of_repair_draw_numbers_and_the_strongest_reactions():
    results = [repaired(1, 6, 2, 3), repaired(2, 7, 2, 3, [[0.5, -9], [-0.7, 0]])]
    numbers, reacting = heads_taken_out.repair_on_ioi(results), heads_taken_out.reactions(results)
    fig = repair_on_ioi_panels(numbers, reacting, most=2)
    assert fig.axes[0].lines[0].get_ydata().tolist() == [6, 7]
    assert [text.get_text() for text in fig.axes[1].get_yticklabels()] == ["0.0", "1.0"]
    assert [bar.get_width() for bar in fig.axes[1].patches] == pytest.approx([0.5, -0.7])
    plt.close(fig)
    fig = repair_on_text_panels(results, [(0, 0), (0, 1), (1, 0), (1, 1)])
    assert fig.axes[0].collections[0].get_offsets().tolist()[1] == [2.0, 1.0]
    everyone, upper = fig.axes[1].lines[:2]
    assert everyone.get_ydata() == pytest.approx([0.2, 0.2])
    assert upper.get_ydata() == pytest.approx([1 - 6.5 / 7] * 2)
    plt.close(fig)


# ---- seeds


def test_seeds_are_compared_by_their_strongest_heads():
    places = {"to_IO": [0, 0.9, 0, 0], "to_S1": [0.2, 0, 0, 0.6], "copy": [0, 1, 0, 0]}
    heads = [
        *over_time("a", "direct", [0, 0, 0, 0], [-0.1, 0.3, 0, 0.5], **places),
        *over_time("b", "direct", [0.4, 0, 0, 0.04], **places),
    ]
    table = heads_taken_out.heads_of_seeds(heads, ["a", "b"])
    assert table.loc["a", ["first for IOI", "second"]].tolist() == [
        "1.1: 50%, at S",
        "0.1: 30%, at IO",
    ]
    assert table.loc["b", "first for IOI"] == "0.0: 40%, at S"
    assert table.loc["a", "name mover"] == "0.1: 1.00"
    assert heads_taken_out.seeds_in_words(heads, ["a", "b"]) == (
        "Of the heads that carry IOI at the end, so many look at the subject rather than at the "
        "indirect object: 1 of 2 in a and 1 of 1 in b."
    )
    fig = direct_effects_of_seeds(heads, ["a", "b"])
    named = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in fig.axes]
    assert named == [["0.1", "1.1"], ["0.0"]]
    plt.close(fig)


# ---- on mini-xs


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    """mini-xs in the middle and at the end of its training."""
    return open_chapter(
        suite="mini",
        models=["mini-xs"],
        steps=[724, 3906],
        store=str(tmp_path_factory.mktemp("store")),
        device="cpu",
    )


def test_a_head_is_seen_then_and_now(chapter):
    fates = after_formation.fates_of_all(chapter.heads, ["mini-xs"], ["successor"])
    losses = after_formation.largest_losses(fates)
    head = after_formation.head_then_and_now(chapter, fates)
    expected = losses if len(losses) else fates.sort_values("final", ascending=False)
    assert (head.label, head.loses) == (expected.iloc[0]["head"], len(losses) > 0)
    assert len(head.patterns) == 2 and list(head.patterns)[-1] == "8M tokens"
    model = chapter.suite.checkpoint("mini-xs", 3906).load()
    model.hf_model.set_attn_implementation("eager")
    pairs = get_task("greater_than").prompts(model.tokenizer, n=1, seed=chapter.recipe.seed)
    tokens = pairs.clean[:, : int(pairs.end[0]) + 1]
    layer, one = map(int, head.label.split("."))
    theirs = model.hf_model(tokens, output_attentions=True).attentions[layer][0, one].detach()
    assert_close(head.patterns["8M tokens"], theirs.numpy(), rounds=100)
    assert len(head.words) == tokens.shape[1]
    for pattern in head.patterns.values():
        assert pattern.shape == (len(head.words),) * 2
        assert_close(pattern.sum(-1), 1.0, rounds=100, dtype=torch.float32)
    assert head.in_words.startswith(f"Head {head.label} of mini-xs, which ")
    assert "(successor), looks from END most at “" in head.in_words
    assert f"after 8M tokens ({head.patterns['8M tokens'][-1].max():.0%})." in head.in_words
    assert after_formation.head_then_and_now(chapter, fates.iloc[:0]) is None


def test_what_is_taken_out_of_mini_xs_is_what_its_scores_name(chapter):
    last = of_model(chapter.heads, "mini-xs")[-1]
    groups = heads_taken_out.swap_groups(last)
    (at,) = measure_repair(chapter.suite, [last], chapter.store, "zero", prompts=8, texts=2)
    assert set(groups["carriers of IOI"]) == set(at.carriers)
    numbers, reacting = heads_taken_out.repair_on_ioi([at]), heads_taken_out.reactions([at])
    assert numbers["after"].item() == pytest.approx(float(at.ioi["after"].mean()))
    assert len(reacting) == len(last.heads) - len(at.carriers)
    said = heads_taken_out.repair_in_words(numbers, reacting, "mini-xs", "zero")
    lost = float((at.ioi["before"] - at.ioi["after"]).mean())
    assert f"of mini-xs silenced, the logit difference falls by {lost:.2f}" in said
    parts = heads_taken_out.repair_parts([at], "ioi").iloc[0]
    lost = at.ioi["before"] - at.ioi["expected"]
    assert parts["all"] == pytest.approx(
        ((at.ioi["after"] - at.ioi["expected"]).mean() / lost.mean()), abs=1e-5
    )
    on_text = heads_taken_out.repair_parts([at], "text").iloc[0]
    assert on_text["all"] == pytest.approx(heads_taken_out.repaired_share(at), abs=1e-4)
    assert isinstance(chapter.store, Store)
