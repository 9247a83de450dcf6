"""What "Abilities over training" computes and says, where the right words are known."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from circuitbook import get_task
from circuitbook.figures.emergence import (
    agreement_panels,
    measure_grid,
    onset_ratios,
    ours_and_the_papers,
)
from circuitbook.stats import Emergence, Verdict
from circuitbook.studies.abilities import OnsetComparison
from circuitbook.studies.chapter import open_chapter
from circuitbook.studies.findings import abilities as findings
from circuitbook.studies.findings import onsets_by_size as by_size
from circuitbook.suites import load_suite


def onset(tokens, spread=0.1, final=5.0):
    samples = tokens * np.linspace(1 - spread, 1 + spread, 50)
    return Emergence(
        share=0.5, final=final, tokens=tokens, low=samples[0], high=samples[-1], samples=samples
    )


NONE = Emergence(share=0.5, final=0.04, tokens=np.nan, low=np.nan, high=np.nan, samples=np.empty(0))


def test_what_is_measured_counts_the_chosen_checkpoints(tmp_path):
    chapter = open_chapter(
        suite="mini", models=["mini-xs", "mini-s"], steps=[0, 128, 3906], store=str(tmp_path)
    )
    assert findings.what_is_measured(chapter, 20) == (
        "Measured here: suite **mini**, models mini-xs, mini-s; 6 checkpoints, 20 prompts per task."
    )


def test_example_prompts_are_the_first_of_each_task():
    suite = load_suite("mini")
    model = suite.checkpoint("mini-xs", suite.steps("mini-xs")[-1]).load()
    table = findings.example_prompts(model, ["ioi", "greater_than"], n=5, seed=42)
    assert table["task"].tolist() == ["Indirect Object Identification", "Greater-Than"]
    assert table["metric"].tolist() == ["logit difference", "probability difference"]
    assert table["prompts"].tolist() == [5, 5]
    for i, task in enumerate(["ioi", "greater_than"]):
        first = get_task(task).prompts(model.tokenizer, n=5, seed=42).table.iloc[0]
        assert (table["clean"][i], table["corrupted"][i]) == (first["clean"], first["corrupted"])


def test_tasks_come_in_the_order_of_their_medians():
    half = {
        "ioi": {"a": onset(4e6), "b": onset(2e6), "c": onset(9e6)},
        "sva": {"a": onset(1e6), "b": NONE, "c": onset(3e6)},
        "repetition": {"a": NONE, "b": NONE, "c": onset(1e3)},
    }
    order = findings.order_of_tasks(half, ["a", "b"])
    assert order.to_dict() == {"sva": 1e6, "ioi": 3e6} and list(order.index) == ["sva", "ioi"]
    assert findings.what_forms_when(half, ["a", "b"]) == (
        "Half of the final score is there, in the median over sizes, in this order: "
        "Subject-Verb Agreement (1M tokens) and Indirect Object Identification (3M tokens)."
    )
    assert findings.what_is_not_learned(half) == (
        "**Not learned by the last checkpoint:** Subject-Verb Agreement in b (final score 0.04); "
        "Repeated random words in a (final score 0.04); "
        "Repeated random words in b (final score 0.04)."
    )


def test_everything_or_nothing_emerges():
    everything, nothing = {"ioi": {"a": onset(2.5e6)}}, {"ioi": {"a": NONE}}
    assert findings.what_forms_when(everything, ["a"]).endswith("(2.5M tokens).")
    assert findings.what_is_not_learned(everything) == ""
    assert findings.what_forms_when(nothing, ["a"]) == (
        "No task is learned by the last checkpoint."
    )


def test_onsets_in_a_table():
    half, most = {"ioi": {"a": onset(1e6), "b": NONE}}, {"ioi": {"a": onset(2e6), "b": NONE}}
    table = findings.onset_table(half, most, ["ioi"])
    assert table.loc[("IOI", "a")].tolist() == ["5.00", "1M  [900k, 1.1M]", "2M  [1.8M, 2.2M]"]
    assert table.loc[("IOI", "b")].tolist() == ["0.04", "no ability", "no ability"]


def test_dates_by_another_measure_need_the_ability_itself():
    by_accuracy = {"a": onset(2e5), "b": onset(3e5), "c": NONE}
    able = {"a": onset(1e6), "b": NONE, "c": onset(1e6)}
    assert findings.dates(by_accuracy, able) == {"a": "200k", "b": "no ability", "c": "no ability"}


def test_groups_are_sizes_and_seeds():
    models = ["mini-xs", "mini-s", "mini-s-seed2", "mini-m"]
    assert by_size.groups_to_compare(models, ["mini-xs", "mini-s", "mini-m"]) == {
        "without the smallest": ["mini-s", "mini-m"],
        "all sizes": ["mini-xs", "mini-s", "mini-m"],
        "seeds of mini-s": ["mini-s", "mini-s-seed2"],
    }


def test_groups_are_compared_by_their_own_models():
    half = {"ioi": {"xs": onset(8e6), "s": onset(1e6), "m": onset(1.2e6), "other": onset(1e9)}}
    groups = {"all sizes": ["xs", "s", "m"], "without the smallest": ["s", "m"], "one": ["s"]}
    compared = by_size.compare_groups(half, groups, ["ioi"])
    assert compared["ioi", "all sizes"].ratio == pytest.approx(8)
    assert compared["ioi", "without the smallest"].ratio == pytest.approx(1.2)
    table = by_size.comparison_table(compared)
    assert table["the same?"].tolist() == ["no", "yes", "can't tell"]
    assert table["slowest / quickest"].tolist() == ["8.00  [8.00, 8.00]", "1.20  [1.20, 1.20]", ""]


def dated(sizes, tokens, spread=0.1):
    pairs = zip(sizes, tokens, strict=True)
    onsets = {name: onset(n * 1e6, spread) if n else NONE for name, n in pairs}
    return dict(reversed(onsets.items()))  # the dictionary's order is not the order of sizes


@pytest.mark.parametrize(
    ("tokens", "spread", "trend"),
    [
        ((4, 3, 2, 1), 0.1, "earlier"),
        ((1, 3, 2, 4), 0.1, "later"),
        ((2, 4, 1, 3), 0.1, "no trend"),
        ((4, 1, None, None), 0.1, ""),
        ((4, None, 2, 1), 0.1, "earlier"),
    ],
)
def test_trends_with_size(tokens, spread, trend):
    sizes = ["xs", "s", "m", "l"]
    assert by_size.trend_with_size(dated(sizes, tokens, spread), sizes) == trend


def test_a_trend_of_points_with_overlapping_intervals_is_none():
    rng = np.random.default_rng(0)
    onsets = {
        name: Emergence(
            share=0.5, final=5.0, tokens=tokens, low=0.0, high=9.0, samples=rng.uniform(1, 9, 400)
        )
        for name, tokens in zip("abcd", (4.0, 3.0, 2.0, 1.0), strict=True)
    }
    assert by_size.trend_with_size(onsets, "abcd") == "no trend"


def test_a_trend_within_the_spread_of_seeds_is_none():
    onsets = dated("abcd", (4, 3, 2, 1), 0) | {"a-seed2": onset(1e6, 0), "a-seed3": onset(16e6, 0)}
    seeds = [["a", "a-seed2", "a-seed3"]]
    assert by_size.trend_with_size(onsets, "abcd") == "earlier"
    assert by_size.trend_with_size(onsets, "abcd", seeds) == "no trend"


def test_trends_are_told_task_by_task():
    half = {"ioi": dated("abc", (4, 2, 1)), "sva": dated("abc", (1, 1, 1))}
    groups = {"all sizes": "abc"}
    assert by_size.trends_in_words(half, ["ioi", "sva"], groups) == (
        "Over all sizes, larger models learn Indirect Object Identification earlier; "
        "for the rest there is no trend beyond doubt."
    )
    assert by_size.trends_in_words(half, ["sva"], groups) == (
        "For no task are larger models earlier, or later, beyond doubt."
    )
    assert by_size.trends_in_words(half, ["sva"], {"all sizes": "ab"}) == ""


SAME = OnsetComparison(1.1, 1.0, 1.5, Verdict.HOLDS)
OTHER = OnsetComparison(4.0, 3.5, 4.5, Verdict.FAILS)
UNSURE = OnsetComparison(2.0, 1.5, 2.5, Verdict.OPEN)


@pytest.mark.parametrize(
    ("ioi", "sva", "bold"),
    [
        (
            SAME,
            UNSURE,
            "Within a factor of two, every size but the smallest learns Indirect Object "
            "Identification after the same number of tokens; for Subject-Verb Agreement we can't "
            "tell",
        ),
        (
            OTHER,
            SAME,
            "Within a factor of two, every size but the smallest learns Subject-Verb Agreement "
            "after the same number of tokens; for Indirect Object Identification the slowest size "
            "needs more than twice the tokens of the quickest",
        ),
        (
            UNSURE,
            UNSURE,
            "We can't tell whether every size but the smallest learns Indirect Object "
            "Identification and Subject-Verb Agreement after the same number of tokens, within a "
            "factor of two",
        ),
    ],
)
def test_the_answer_is_that_of_the_verdicts(ioi, sva, bold):
    half = {"ioi": dated("abc", (8, 4, 4)), "sva": dated("abc", (1, 1, 1))}
    group = "without the smallest"
    answer = by_size.answer({("ioi", group): ioi, ("sva", group): sva}, half, ["ioi", "sva"], "abc")
    assert answer == (
        f"**{bold}.** Subject-Verb Agreement is learned first, after 1M tokens, and Indirect "
        "Object Identification last, after 4M (medians over sizes)."
    )


def test_one_size_or_none_that_learns_has_an_answer_too():
    assert by_size.answer({}, {"ioi": {"a": onset(2e6)}}, ["ioi"], ["a"]) == (
        "**Indirect Object Identification is learned, after 2M tokens.** "
        "That is a, the only size measured here."
    )
    nothing = by_size.answer({}, {"ioi": {"a": NONE, "b": NONE}}, ["ioi"], ["a", "b"])
    assert nothing == "**None of the tasks is learned by the last checkpoint of a, b.**"


def test_sizes_are_told_beside_seeds():
    groups = {"all sizes": "xabc", "without the smallest": "abc", "seeds of a": ["a", "a2", "a3"]}
    near, far = (OnsetComparison(ratio, 1.0, 9.0, Verdict.OPEN) for ratio in (1.2, 3.0))
    sizes, seeds = ("ioi", "without the smallest"), ("ioi", "seeds of a")
    assert by_size.sizes_and_seeds({sizes: near, seeds: far}, groups, ["ioi"]) == (
        "The slowest of 3 sizes needs 1.2 times the tokens of the quickest; the slowest of 3 seeds "
        "of one size, 3.0 times. In 1 of 1 task the seeds lie at least as far apart as the sizes: "
        "**the seed matters as much as the size**."
    )
    other = by_size.sizes_and_seeds({sizes: far, seeds: near}, groups, ["ioi"])
    assert "In 0 of 1 task" in other and other.endswith("**size matters more than seed**.")
    assert by_size.sizes_and_seeds({}, {"without the smallest": "ab"}, ["ioi"]) == ""


def test_fewer_prompts_may_change_a_verdict_either_way():
    columns = ["task", "prompts", "ratio", "low", "high", "the same?"]
    rows = [
        ("IOI", 200, 1.4, 1.0, 2.2, "can't tell"),
        ("IOI", 50, 1.3, 1.0, 1.9, "yes"),
        ("SVA", 200, 1.1, 1.0, 1.5, "yes"),
        ("SVA", 50, 1.1, 1.0, 2.5, "can't tell"),
    ]
    verdicts = pd.DataFrame(rows, columns=columns)
    assert by_size.fewer_prompts_in_words(verdicts) == (
        "The interval is wider for 1 of 2 tasks, and the verdict changes for IOI (from can't tell "
        "to yes) and SVA (from yes to can't tell)."
    )
    assert by_size.fewer_prompts_in_words(verdicts[verdicts["prompts"] == 200]) == (
        "The interval is wider for 0 of 2 tasks, and no verdict changes."
    )
    steps = pd.DataFrame(
        {
            "model": np.repeat(["a", "b"], 16),
            "task": "ioi",
            "tokens_seen": np.tile(np.repeat([0, 1e6], 8), 2),
            "prompt": np.tile(np.arange(8), 4),
            "metric": np.tile(np.repeat([0.0, 5.0], 8), 2),
        }
    )
    table = by_size.verdicts_by_prompts(steps, ["ioi"], (8, 4))
    assert table["prompts"].tolist() == [8, 4] and table["ratio"].tolist() == pytest.approx([1, 1])


# ------------------------------------------------------------------ answers


def answers_of(**columns):
    return pd.DataFrame({"model": "a", "step": 1, "tokens_seen": 2048, "task": "sva"} | columns)


def test_rank_zero_is_the_share_of_best_answers():
    measured = {name: [0.5, 0.5, 0.5, 0.5] for name in findings.MEASURES if name != "rank_zero"}
    answers = answers_of(rank=[0, 3, 0, 0], **measured)
    tables = findings.by_measure(answers, ["sva"])
    assert tuple(tables) == findings.MEASURES
    assert tables["rank_zero"]["mean"].tolist() == [0.75]
    assert tables["accuracy"]["mean"].tolist() == [0.5]
    assert len(findings.by_measure(answers.assign(task="other"), ["sva"])["accuracy"]) == 0


def test_agreement_is_parted_by_the_attractors_number():
    answers = answers_of(
        metric=[-0.4, -0.2, 0.9, 0.7, 5.0],
        attractor=["cars", "cars", "car", "car", None],
        attractor_mismatch=[True, True, False, False, None],
    )
    parted = findings.agreement_by_attractor(answers, ["a"])
    assert parted[True]["mean"].tolist() == pytest.approx([-0.3])
    assert parted[False]["mean"].tolist() == pytest.approx([0.8])
    assert not len(findings.agreement_by_attractor(answers, ["b"])[True])


def curves_of(*means, half_width=0.1):
    return pd.DataFrame(
        {
            "model": "mini-m",
            "task": "ioi",
            "tokens_seen": [1000 * (k + 1) for k in range(len(means))],
            "mean": means,
            "low": [mean - half_width for mean in means],
            "high": [mean + half_width for mean in means],
        }
    )


def test_a_wrong_rule_needs_an_interval_below_zero():
    text = findings.wrong_rule(curves_of(0.2, -0.3, 0.5))
    assert text.startswith("Yes, the wrong rule comes first: the lowest point of the left panel is")
    assert "is -0.30 [-0.40, -0.20], in mini-m after 2k tokens, which is worse than" in text
    text = findings.wrong_rule(curves_of(0.2, -0.001, 0.5))
    assert text.startswith("No, or it is over before our checkpoints see it: the lowest point")
    assert "is 0.00 [-0.10, 0.10], in mini-m after 2k tokens, which is not worse" in text
    untrained = curves_of(-0.4, 0.5).assign(tokens_seen=[0, 1000])
    assert "is 0.50 [0.40, 0.60]" in findings.wrong_rule(untrained)
    assert "No checkpoint" in findings.wrong_rule(untrained.iloc[:1])


@pytest.mark.parametrize(
    ("mass", "said"),
    [
        ((0, 1, 1, 1), "first learns which kind of word comes next, then which word."),
        ((0, 0, 0, 1), "a model learns the word no later than the kind of word."),
    ],
)
def test_the_kind_of_word_comes_first_or_does_not(mass, said):
    answers = pd.DataFrame(
        {
            "model": "a",
            "task": "ioi",
            "tokens_seen": np.repeat([1e6, 2e6, 3e6, 4e6], 5),
            "prompt": np.tile(np.arange(5), 4),
            "answer_mass": np.repeat(np.array(mass, float), 5),
        }
    )
    half = {"ioi": {"a": onset(2.5e6), "b": NONE}}
    text = findings.kind_before_answer(answers, half, ["a", "b"])
    assert text.startswith(f"In {int(mass[1])} of 1 cases") and text.endswith(said)
    assert "nothing to compare" in findings.kind_before_answer(answers, half, ["b"])


def test_our_tokens_stand_beside_the_papers():
    ours, theirs = pd.DataFrame({"tokens_seen": [0, 8]}), pd.DataFrame({"tokens_seen": [24000]})
    assert "see 3,000 times as many tokens as ours" in findings.tokens_beside_the_papers(
        ours, theirs
    )
    assert "Our models see 3,000 times" in findings.tokens_beside_the_papers(theirs, ours)
    assert "about as many" in findings.tokens_beside_the_papers(ours, ours)


# ------------------------------------------------------------------ figures


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def test_ratios_are_drawn_with_their_intervals():
    comparisons = {("ioi", "all sizes"): UNSURE, ("sva", "all sizes"): SAME}
    comparisons["sva", "seeds of a"] = comparisons["ioi", "seeds of a"] = OnsetComparison(
        np.nan, np.nan, np.nan, Verdict.OPEN
    )
    ax = onset_ratios(comparisons).axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["SVA", "IOI"]
    drawn = [line.get_xdata() for line in ax.lines if len(np.ravel(line.get_xdata()))]
    assert [np.ravel(x).tolist() for x in drawn] == [[1, 1.5], [1.1], [1.5, 2.5], [2], [2, 2]]


def test_our_curves_are_left_and_the_papers_right():
    paper = pd.DataFrame(
        {"model": "pythia-160m", "step": [2, 1], "tokens_seen": [2e6, 1e6], "value": [4.0, 3.0]}
    )
    ours, theirs = ours_and_the_papers(curves_of(1.0, 2.0), ["mini-m"], paper).axes
    assert ours.get_legend_handles_labels()[1] == ["mini-m"]
    assert theirs.lines[0].get_ydata().tolist() == [3.0, 4.0]  # in the order of steps
    ours, _ = ours_and_the_papers(curves_of(1.0).assign(task="sva"), ["mini-m"], paper).axes
    assert ours.get_legend_handles_labels()[1] == []


def test_the_grid_has_measures_in_rows_and_tasks_in_columns():
    measures = {"accuracy": curves_of(0.5, 0.9), "rank_zero": curves_of(0.1, 0.2)}
    axes = measure_grid(measures, ["ioi"], ["mini-m"]).axes
    assert [ax.get_ylabel() for ax in axes] == ["accuracy", "answer is \nthe argmax"]
    assert [ax.lines[0].get_ydata().tolist() for ax in axes] == [[0.5, 0.9], [0.1, 0.2]]
    assert [ax.get_xlabel() for ax in axes] == ["", "tokens seen"]
    assert axes[0].get_title() == "IOI"


def test_the_other_number_is_left():
    left, right = agreement_panels(curves_of(-0.5), curves_of(0.5), ["mini-m"]).axes
    assert left.lines[0].get_ydata().tolist() == [-0.5] and "other number" in left.get_title()
    assert right.lines[0].get_ydata().tolist() == [0.5] and "same number" in right.get_title()
