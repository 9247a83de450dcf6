"""The chapter on components: hand-made heads whose right sentences are known, and mini-xs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from handmade import ITEMS, scores_of

from circuitbook import load_suite
from circuitbook.circuits.circuit import circuit_of
from circuitbook.figures.formation import (
    attention_on,
    dates_of_heads_and_abilities,
    effect_against_copying,
    every_head,
)
from circuitbook.model.graph import Graph
from circuitbook.recipes import get_recipe
from circuitbook.stats import Emergence
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings import components, heads_and_abilities, ioi_heads
from circuitbook.studies.findings.heads_and_abilities import HeadAndAbility
from circuitbook.studies.findings.kinds import (
    at_last_checkpoint,
    best_heads,
    best_in_words,
    browser_tables,
    browser_titles,
    heads_in,
    score_table,
)
from circuitbook.studies.head_scores import HeadScores, measure_heads
from circuitbook.tasks.sequences import repeated_sequences

NAMES = ("m-s", "m-l")


@pytest.fixture
def heads() -> list[HeadScores]:
    """In a small model 0.1 becomes an induction head, in a large one 1.0 and 1.1 do."""
    return [
        scores_of("m-s", 1, induction=[0, 0.1, 0, 0]),
        scores_of("m-s", 4, induction=[0, 0.8, 0, 0], copy=[0, 0, 0, 1.0]),
        scores_of("m-l", 1, induction=[0, 0, 0.2, 0.9]),
        scores_of("m-l", 2, induction=[0, 0, 0.6, 0.3], copy=[0.4, 0, 0, 0]),
    ]


def date(*tokens: float, absent: float = 8e6) -> Emergence:
    """An emergence whose bootstrap samples these are; without any it is not there by `absent`."""
    samples = np.array(tokens, dtype=float)
    if not len(samples):
        return Emergence.undated(0.5, 0.0, absent)
    return Emergence(
        share=0.5,
        final=1.0,
        tokens=float(np.median(samples)),
        low=samples.min(),
        high=samples.max(),
        samples=samples,
    )


# ---- scores


def test_tables_of_scores_are_read_row_by_row(heads):
    scores = score_table(heads)
    assert len(scores) == 16 and heads_in(scores)[:5] == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0)]
    last = at_last_checkpoint(scores)
    assert last.groupby("model")["step"].unique().str[0].to_dict() == {"m-s": 4, "m-l": 2}
    of_large = last[last["model"] == "m-l"]
    assert best_heads(of_large, ["induction", "copy"]) == [(1, 0), (0, 0)]
    assert best_heads(of_large, ["induction", "induction"]) == [(1, 0)]


def test_the_best_heads_are_told_with_their_scores(heads):
    last = at_last_checkpoint(score_table(heads))
    assert best_in_words(last[last["model"] == "m-l"], ["induction", "copy"]) == (
        "The strongest heads of m-l, with their scores: induction 1.0 (0.60) and "
        "name mover 0.0 (0.40)."
    )


def test_the_browser_shows_what_is_measured_and_no_score_below_zero(heads):
    scores = score_table(heads)
    assert "copy_suppression" in browser_titles(scores)
    below = browser_tables(scores.assign(copy_suppression=-3.0))
    assert list(below) == ["m-s", "m-l"] and set(below["m-s"]["copy_suppression"]) == {0}
    assert "copy_suppression" not in browser_titles(scores.assign(copy_suppression=np.nan))


def test_the_curves_are_those_of_the_heads_that_were_chosen(heads):
    circuit = circuit_of(Graph(2, 2), ["input->a1.h1<v>", "a1.h1->logits"])
    circuits = [CircuitResult("m-l", 2, 2000, "greater_than", circuit, 0.0)]
    chosen = components.figure_2_heads(heads, circuits, NAMES)
    assert chosen == {("induction", "m-l"): (1, 1)}
    curves = components.curves_of(score_table(heads), chosen)
    curve = curves["induction"]["m-l"]
    assert curve["tokens_seen"].tolist() == [1000, 2000]
    assert curve["score"].tolist() == pytest.approx([0.9, 0.3])
    assert curves["copy"] == {} and list(curves) == list(components.BARS)


def test_the_highest_score_may_pass_from_one_head_to_another(heads):
    highest = components.highest_scores(score_table(heads))["induction"]
    assert highest["m-l"]["score"].tolist() == pytest.approx([0.9, 0.6])
    assert highest["m-s"]["tokens_seen"].tolist() == [1000, 4000]
    without_text = score_table(heads).assign(copy_suppression=np.nan)
    assert components.highest_scores(without_text)["copy_suppression"] == {}


def test_the_strongest_heads_stand_beside_the_chosen_ones(heads):
    last = at_last_checkpoint(score_table(heads)).assign(copy_suppression=np.nan)
    table = components.strongest_heads(last, NAMES, {("induction", "m-l"): (1, 1)})
    assert table.loc["m-l", "induction"] == "1.0: 0.60 (1.1)"
    assert table.loc["m-s", "induction"] == "0.1: 0.80 (none)"
    assert table.loc["m-s", "name mover"] == "1.1: 1.00 (none)"
    assert table.loc["m-s", "copy suppression"] == "no text"


# ---- dates


def test_dates_come_from_heads_and_answers(heads):
    rows = [
        {"model": name, "task": task, "tokens_seen": tokens, "prompt": prompt, "metric": metric}
        for name in NAMES
        for task in ("repetition", "ioi", "greater_than")
        for tokens, metric in ((1000, 0.0), (2000, 8.0))
        for prompt in range(ITEMS)
    ]
    answers = pd.DataFrame(rows)
    dates = {
        (pair.kind, pair.model): pair
        for pair in heads_and_abilities.date_heads_and_abilities(heads, answers, NAMES)
    }
    assert len(dates) == 8
    early, late = dates["induction", "m-l"], dates["induction", "m-s"]
    assert early.head.tokens == pytest.approx(1000) and early.lead.answer == "before"
    # 0.4 of 0.8 lies 3/7 of the way from 0.1, in log tokens between 1000 and 4000
    assert late.head.tokens == pytest.approx(1000 * 4 ** (3 / 7))
    assert late.ability.tokens == pytest.approx(1000 * 2**0.5) and late.lead.ratio > 1
    assert late.lead.answer == "can't tell"  # both lie behind 1000, nobody knows how far
    assert dates["copy", "m-s"].lead.answer == "can't tell"
    assert dates["successor", "m-s"].lead.answer == "no such head"
    most = heads_and_abilities.date_heads_and_abilities(heads, answers, NAMES, share=1.0)
    assert most[2].kind == "induction" and most[2].head.tokens == pytest.approx(4000)


def test_dates_are_written_with_their_ratio_or_as_missing():
    table = heads_and_abilities.dates_table(
        [
            HeadAndAbility("copy", "m-s", date(1e6, 1e6), date(2e6, 4e6)),
            HeadAndAbility("copy", "m-l", date(), date(2e6, 4e6)),
            HeadAndAbility("copy", "m-xl", date(absent=np.nan), date(2e6, 4e6)),
        ]
    )
    assert table.loc["Name mover", "m-s"].tolist() == [
        "1M",
        "3M",
        "0.33 [0.25, 0.50]",
        "before",
    ]
    assert table.loc["Name mover", "m-l"].tolist() == ["none", "3M", "", "no such head"]
    unsure = table.loc["Name mover", "m-xl"].tolist()
    assert unsure == ["unsure", "3M", "", "perhaps no such head"]


EARLY, LATE, NEVER = date(1, 1), date(4, 4), date()
MIXED = [
    HeadAndAbility("induction", "m-s", EARLY, LATE),
    HeadAndAbility("induction", "m-l", LATE, EARLY),
    HeadAndAbility("induction", "m-l-seed2", EARLY, date(0.5, 2)),
    HeadAndAbility("successor", "m-s", NEVER, EARLY),
    HeadAndAbility("successor", "m-l", NEVER, EARLY),
    HeadAndAbility("copy", "m-s", EARLY, LATE),
    HeadAndAbility("copy", "m-l", NEVER, LATE),
]


def test_the_order_is_counted_and_sizes_are_compared_over_their_seeds():
    table = heads_and_abilities.order_table(MIXED, ["m-s", "m-l"]).set_index("heads")
    counts = ["before", "after", "can't tell", "nothing to date"]
    assert table.loc["induction heads", counts].tolist() == [1, 1, 1, 0]
    assert table.loc["successor heads", counts].tolist() == [0, 0, 0, 2]
    assert table.loc["name movers", counts].tolist() == [1, 0, 0, 1]
    sizes = table.loc["induction heads", ["slowest / quickest size", "the same?"]]
    assert sizes.tolist() == ["2.00 [1.00, 5.33]", "can't tell"]


def pairs(kind: str, head: Emergence, ability: Emergence, n: int = 3) -> list[HeadAndAbility]:
    return [HeadAndAbility(kind, f"m-{i}", head, ability) for i in range(n)]


def test_the_answer_says_which_kinds_come_before_their_ability():
    unsure = pairs("induction", date(1, 4), date(2, 2))
    assert heads_and_abilities.answer([*pairs("copy", EARLY, LATE), *unsure]) == (
        "**Name movers form before Indirect Object Identification in 3 of 3 runs; for induction "
        "heads we can't tell which comes first in most runs.** "
        "None of them comes after the ability beyond doubt."
    )
    assert heads_and_abilities.answer(
        [*pairs("copy", LATE, EARLY), *pairs("successor", NEVER, EARLY)]
    ) == ("**Name movers form after Indirect Object Identification in 3 of 3 runs.**")
    assert heads_and_abilities.answer(MIXED[:3]) == (
        "**Induction heads form before the ability in some runs and after it in others.**"
    )
    nothing = heads_and_abilities.answer(pairs("copy", NEVER, EARLY))
    assert nothing == "**No head and the ability that it serves both form in any model here.**"


def test_kinds_are_told_in_the_order_of_their_dates():
    dates = [*pairs("copy", date(4e6, 4e6), LATE), *pairs("induction", date(1e6, 1e6), LATE, 2)]
    assert heads_and_abilities.when_in_words(dates) == (
        "They form in this order, by the median over runs: induction heads (1M tokens) and name "
        "movers (4M tokens)."
    )
    assert "No head passes" in heads_and_abilities.when_in_words(pairs("copy", NEVER, LATE))


def test_sizes_are_the_same_or_not_or_we_cannot_tell():
    def sizes(*heads):
        dates = [HeadAndAbility("copy", f"m-{i}", head, LATE) for i, head in enumerate(heads)]
        return heads_and_abilities.sizes_in_words(dates, [f"m-{i}" for i in range(len(heads))])

    same, other = sizes(date(9, 9), date(1, 1), date(1.1, 1.1)), sizes(date(1, 1), date(9, 9))
    assert same == (
        "Within a factor of two, name movers form after the same number of tokens at every size "
        "but the smallest."
    )
    assert other == "Name movers need more than twice the tokens at the slowest size."
    assert sizes(date(1, 1), date(1, 9)).startswith("We can't tell whether name movers form after")
    assert sizes(date(1, 1)) == ""


def test_heads_that_pass_the_bar_are_named_in_the_order_of_passing():
    columns = pd.MultiIndex.from_tuples([(0, 0), (0, 1), (1, 0)])
    scored = pd.DataFrame([[0, 0.4, 0.1], [0.3, 0.1, 0.1]], index=[1000, 2000], columns=columns)
    assert components.passing_in_words(scored, 0.25, "m-s") == (
        "2 of 3 heads of m-s pass the bar: 0.1 after 1k; 0.0 after 2k tokens."
    )
    assert components.passing_in_words(scored, 0.9, "m-s") == (
        "None of the 3 heads of m-s passes the bar."
    )


# ---- recipes, and what is missing


def test_recipes_are_compared_head_by_head(heads):
    last = at_last_checkpoint(score_table(heads))
    assert last["induction"].tolist() == pytest.approx([0, 0.8, 0, 0, 0, 0, 0.6, 0.3])
    other = last.assign(induction=[0, 0.6, 0, 0, 0, 0, 0.3, 0.4], to_IO=0.5, copy_suppression=-7.0)
    compared = components.compare_recipes(last, other, NAMES).set_index("score")
    assert compared.loc["Induction", "mean difference"] == pytest.approx(0.6 / 8)
    assert compared.loc["Induction", "largest"] == pytest.approx(0.3)
    assert compared.loc["Induction", "same strongest head"] == "1 of 2"
    assert compared.loc["Attention to IO", "mean difference"] == pytest.approx(0.5)
    assert compared.loc["Copy suppression", "mean difference"] == 0  # below 0 is 0
    assert components.disagreement_in_words(compared.reset_index(), NAMES) == (
        "Over all heads of 2 models the recipes differ most in attention to IO: by 0.50 on average "
        "and 0.50 at most."
    )
    alike = components.compare_recipes(last, last, NAMES)
    assert "give the same scores" in components.disagreement_in_words(alike, NAMES)
    without = components.compare_recipes(last.assign(copy_suppression=np.nan), other, ["m-s"])
    assert "Copy suppression" not in set(without["score"]) and len(without) == 5


def test_a_kind_that_never_appears_is_named_with_its_best_head(heads):
    missing = components.missing_in_words(score_table(heads), NAMES).splitlines()
    assert missing[0] == (
        "- **Successor** (bar 0.4): in no model; the nearest is m-s (largest 0.00, head 0.0 after "
        "1k)."
    )
    some = score_table(heads)
    some["successor"] = (some["model"] == "m-l") * 1.0
    assert "- **Successor** (bar 0.4): never in m-s (largest" in components.missing_in_words(
        some, NAMES
    )
    assert not [line for line in missing if "Induction" in line or "Name mover" in line]
    scores = score_table(heads).assign(copy_suppression=np.nan)
    assert (
        "- Copy suppression: not measured, since there is no text"
        in components.missing_in_words(scores, NAMES)
    )
    kinds = dict.fromkeys([*components.BARS, "duplicate"], 1.0)
    everything = components.missing_in_words(scores.assign(**kinds), NAMES)
    assert everything == "Every kind of head appears in every model."


# ---- who solves IOI


@pytest.fixture
def last() -> pd.DataFrame:
    """In m-l 0.0 looks at S and lowers it, 0.1 copies IO, 1.0 looks at S, 1.1 harms."""
    large = scores_of(
        "m-l",
        2,
        direct=[0.5, 0.3, 0.1, -0.2],
        to_IO=[0, 0.9, 0.1, 0.3],
        to_S1=[0.5, 0, 0.2, 0.3],
        to_S2=[0.4, 0, 0, 0],
        copy=[0, 1, 0, 1],
        negative_copy=[0.8, 0, 0, 0],
    )
    small = scores_of("m-s", 2, direct=[0, 0.2, 0, 0.6], copy=[0, 0, 0, 0.4], to_IO=[0, 0, 0, 1])
    return score_table([large, small, scores_of("m-xs", 2)])


def test_carriers_are_listed_by_model_and_effect(last):
    carrying = ioi_heads.carrying_heads(last, ["m-s", "m-l", "m-xs"])
    table = ioi_heads.carriers_table(carrying)
    assert table[["model", "head"]].values.tolist() == [
        ["m-s", "1.1"],
        ["m-s", "0.1"],
        ["m-l", "0.0"],
        ["m-l", "0.1"],
        ["m-l", "1.0"],
    ]
    assert table["direct effect"].tolist() == pytest.approx([0.6, 0.2, 0.5, 0.3, 0.1])
    assert table["at S"].tolist() == pytest.approx([0, 0, 0.9, 0, 0.2])


def test_roles_say_where_heads_look_and_what_they_write(last):
    carrying = ioi_heads.carrying_heads(last, ["m-l", "m-s", "m-xs"])
    shares = ioi_heads.role_shares(carrying, ["m-l", "m-s", "m-xs"])
    assert shares.loc["m-l"].to_dict() == pytest.approx(
        {
            "look at the subject and lower it": 0.5,
            "look at the indirect object and copy it": 0.3,
            "look at the subject": 0.1,
            "look elsewhere": 0,
        }
    )
    assert (
        shares.loc["m-s", "look elsewhere"] == pytest.approx(0.8) and not shares.loc["m-xs"].any()
    )


def carriers(**models: dict[str, float]) -> pd.DataFrame:
    """Heads that look at IO and copy it, or at S and lower it, with these effects."""
    look = {"copy": {"to_IO": 1.0, "copy": 1.0}, "lower": {"to_S1": 1.0, "negative_copy": 1.0}}
    zeros = dict.fromkeys(("to_IO", "to_S1", "to_S2", "copy", "negative_copy"), 0.0)
    rows = [
        zeros | look[kind] | {"model": model, "direct": -effect}
        for model, effects in models.items()
        for kind, effect in effects.items()
    ]
    return pd.DataFrame(rows)


def test_who_carries_ioi_is_told_by_the_leading_role():
    lowers, copies = {"lower": 1.07, "copy": 0.1}, {"lower": 0.4, "copy": 0.54}
    most = carriers(a=lowers, b={"lower": 0.7}, c=copies)
    assert ioi_heads.who_carries(most, ["a", "b", "c", "none"]) == (
        "Most of the answer is carried in 2 of 3 runs by heads that look at the subject and lower "
        "it (70% to 107% of the effect); in c by heads that look at the indirect object and copy "
        "it (54% of the effect)."
    )
    assert ioi_heads.who_carries(carriers(c=copies), ["c"]) == (
        "Most of the answer is carried in 1 of 1 run by heads that look at the indirect object and "
        "copy it (54% of the effect)."
    )
    assert "No head carries as much as 5%" in ioi_heads.who_carries(most.iloc[:0], ["a"])


def test_where_heads_look_is_told(last):
    of_large = last[last["model"] == "m-l"]
    assert ioi_heads.looks_in_words(of_large, [(0, 0), (0, 1)]) == (
        "From END, 0.0 looks at the subject (90%) and 0.1 looks at IO (90%)."
    )


def test_copiers_carry_it_or_do_not(last):
    idle = last.assign(direct=[-share for share in last["copy"] * 0.01])
    assert ioi_heads.copiers_in_words(idle, "m-l") == (
        "In m-l, 2 heads have a copy score of 0.9 or more, and together 2% of the direct effect: "
        "**a score is not a role**."
    )
    busy = last.assign(direct=-0.4 * last["copy"])
    assert "80% of the direct effect: **there the score does" in ioi_heads.copiers_in_words(
        busy, "m-l"
    )
    assert "No head of m-s has a copy score of 0.9" in ioi_heads.copiers_in_words(last, "m-s")
    assert "m-xxl does not do IOI" in ioi_heads.copiers_in_words(last, "m-xxl")


def test_models_that_do_not_do_ioi_are_left_out():
    heads = [scores_of("able", 3, direct=[0.5, 0, 0, 0]), scores_of("unable", 3, clean=[-1.0])]
    last = at_last_checkpoint(score_table(heads))
    assert set(ioi_heads.doing_ioi(heads, last)["model"]) == {"able"}


def test_s_inhibition_asks_for_all_three_signs():
    settings = get_recipe("robust").heads
    #                through_q, logit difference, IO, S1, S2
    effects = [
        [0, -0.20, -0.1, 0.3, 0],
        [0, -0.2, 0.1, 0.3, 0],
        [0, 0, 0, 0, 0],
        [0, -0.005, -1, 1, 0],
    ]
    with_movers = scores_of("m", 3, s_inhibition=effects, movers=[0, 1, 0, 0], to_S2=[0.7, 0, 0, 0])
    unable = scores_of("m", 1, clean=[-1.0], s_inhibition=effects)
    able = ioi_heads.scores_where_ioi_is_done([unable, with_movers, scores_of("n", 3)])
    assert set(able["step"]) == {3}
    inhibiting = ioi_heads.s_inhibition_heads(able)
    assert heads_in(inhibiting) == [(0, 0)]
    said = ioi_heads.s_inhibition_in_words(able, inhibiting, ["m", "n"], settings)
    assert said.startswith("**At 1 of 1 checkpoint with name movers** a head passes the test")
    assert "exist in m; no head" in said
    assert said.endswith("to IO by more than 100% of what it is, or that to S1 by more than 100%.")
    row = ioi_heads.s_inhibition_table(inhibiting).iloc[0].tolist()
    assert row == ["m", "3k", "0.0", "-20.0%", "-10.0%", "+30.0%", "0.70"]
    nobody = ioi_heads.s_inhibition_in_words(able, inhibiting.iloc[:0], ["m"], settings)
    assert nobody.startswith("**At 0 of 1 checkpoint with name movers** a head passes")
    none = ioi_heads.scores_where_ioi_is_done([unable])
    assert none.empty and "nothing to inhibit:" in ioi_heads.s_inhibition_in_words(
        none, ioi_heads.s_inhibition_heads(none), ["m"], settings
    )


# ---- figures


def test_figures_draw_dates_effects_and_heads(last):
    dates = [
        HeadAndAbility("induction", "m-s", date(1e6, 2e6), date(4e6, 4e6)),
        HeadAndAbility("induction", "m-l", date(), date(5e6, 5e6)),
    ]
    fig = dates_of_heads_and_abilities(dates)
    points = [line.get_xdata() for line in fig.axes[0].lines if line.get_marker() in "os"]
    assert [float(np.ravel(x)[0]) for x in points] == [1.5e6, 4e6, 5e6]
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["m-s", "m-l"]
    titles = [fig.axes[0].get_title(loc=place) for place in ("left", "center")]
    assert "Induction and Repeated random words" in titles
    plt.close(fig)
    fig = effect_against_copying(last, ["m-s", "m-l"])
    named = [{text.get_text() for text in ax.texts} for ax in fig.axes]
    assert named == [{"0.1", "1.1"}, {"0.0", "0.1", "1.0"}]
    assert fig.axes[1].collections[0].get_offsets().tolist()[0] == pytest.approx([-0.8, 0.5])
    plt.close(fig)
    columns = pd.MultiIndex.from_tuples([(0, 0), (0, 1)])
    fig = every_head(pd.DataFrame([[0, 0.4], [0.1, 0.2]], [10, 20], columns), 0.25, "score")
    assert [line.get_color() for line in fig.axes[0].lines[:2]] == ["#bbbbbb", "#0072b2"]
    plt.close(fig)


# ---- on mini-xs


def test_a_measured_checkpoint_is_read_as_the_literal_loops_do(tmp_path):
    suite = load_suite("mini")
    measured = measure_heads(
        suite, ["mini-xs"], Store(tmp_path), steps={"mini-xs": (3906,)}, progress=False
    )
    (at,) = measured
    last = at_last_checkpoint(score_table(measured))
    strongest = at.heads[int(np.argmax(at.score("induction")))]
    assert best_heads(last, ["induction"]) == [strongest]
    carrying = ioi_heads.carrying_heads(last, ["mini-xs"])
    expected = [
        head for head, share in zip(at.heads, at.score("direct"), strict=True) if share < -0.05
    ]
    assert set(heads_in(carrying)) == set(expected) and expected
    layer, head = strongest
    shown = components.strongest_heads(last, ["mini-xs"], {})
    assert shown.loc["mini-xs", "induction"].startswith(f"{layer}.{head}: ")
    model = suite.checkpoint("mini-xs", 3906).load()
    view = attention_on(model, repeated_sequences(model, 1, 4)[0], [strongest])
    assert f"Attention patterns of heads {layer}.{head}" in view.data
