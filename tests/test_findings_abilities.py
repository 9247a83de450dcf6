"""What "Abilities over training" computes and says, where the right words are known."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from circuitbook import get_task
from circuitbook.figures.emergence import (
    agreement_panels,
    measure_grid,
    ours_and_the_papers,
)
from circuitbook.stats import Emergence, Verdict
from circuitbook.studies.abilities import OnsetComparison
from circuitbook.studies.chapter import open_chapter
from circuitbook.studies.findings import abilities as findings
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
        "Half of the final value is reached, by the median over sizes, in this order: "
        "Subject-Verb Agreement (1M tokens); Indirect Object Identification (3M tokens).\n\n"
        "**What did not emerge:** Subject-Verb Agreement in b (final score 0.04); "
        "Repeated random words in a (final score 0.04); "
        "Repeated random words in b (final score 0.04)."
    )


def test_everything_or_nothing_emerges():
    text = findings.what_forms_when({"ioi": {"a": onset(2.5e6)}}, ["a"])
    assert text.endswith("(2.5M tokens).\n\nEvery ability is there at the end, in every model.")
    text = findings.what_forms_when({"ioi": {"a": NONE}}, ["a"])
    assert text == (
        "**What did not emerge:** Indirect Object Identification in a (final score 0.04)."
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
    assert findings.groups_to_compare(models, ["mini-xs", "mini-s", "mini-m"]) == {
        "without the smallest": ["mini-s", "mini-m"],
        "all sizes": ["mini-xs", "mini-s", "mini-m"],
        "seeds of mini-s": ["mini-s", "mini-s-seed2"],
    }


def test_groups_are_compared_by_their_own_models():
    half = {"ioi": {"xs": onset(8e6), "s": onset(1e6), "m": onset(1.2e6), "other": onset(1e9)}}
    groups = {"all sizes": ["xs", "s", "m"], "without the smallest": ["s", "m"], "one": ["s"]}
    compared = findings.compare_groups(half, groups, ["ioi"])
    assert compared["ioi", "all sizes"].ratio == pytest.approx(8)
    assert compared["ioi", "without the smallest"].ratio == pytest.approx(1.2)
    table = findings.comparison_table(compared)
    assert table["the same?"].tolist() == ["no", "yes", "can't tell"]
    assert table["slowest / quickest"].tolist() == ["8.00  [8.00, 8.00]", "1.20  [1.20, 1.20]", ""]


@pytest.mark.parametrize(
    ("tokens", "trend"),
    [
        ((4, 3, 2, 1), "Larger models are always earlier."),
        ((4, 3, 1, 2), "Larger models tend to be earlier."),
        ((4, 3, 3, 2), "Larger models tend to be earlier."),
        ((1, 3, 2, 4), "Larger models tend to be later."),
        ((2, 4, 1, 3), "There is no trend with size."),
        ((2, 2, 2, 2), ""),
        ((4, 1, None, None), ""),
        ((4, None, 2, 1), "Larger models are always earlier."),
    ],
)
def test_trends_with_size(tokens, trend):
    sizes = ["xs", "s", "m", "l"]
    onsets = {
        name: NONE if count is None else onset(count * 1e6)
        for name, count in zip(sizes, tokens, strict=True)
    }
    # the dictionary's order is not the order of sizes
    assert findings.trend_with_size(dict(reversed(onsets.items())), sizes) == trend


def test_the_papers_claim_is_answered_task_by_task():
    sizes = ["xs", "s", "m"]
    half = {
        "ioi": {"xs": onset(4e6), "s": onset(2e6), "m": onset(1e6)},
        "sva": dict.fromkeys(sizes, NONE),
    }
    comparisons = {
        ("ioi", "all sizes"): OnsetComparison(4.0, 3.5, 4.5, Verdict.FAILS),
        ("ioi", "without the smallest"): OnsetComparison(2.0, 1.5, 2.5, Verdict.OPEN),
        ("sva", "all sizes"): OnsetComparison(np.nan, np.nan, np.nan, Verdict.OPEN),
        ("sva", "without the smallest"): OnsetComparison(np.nan, np.nan, np.nan, Verdict.OPEN),
    }
    text = findings.same_at_every_size(comparisons, half, ["ioi", "sva"], sizes)
    assert text == (
        "**The paper's claim, in this suite.** Is the number of tokens the same at every size "
        "(the smallest left out, as in the paper), within a factor of two?\n\n"
        "- **Indirect Object Identification**: can't tell (ratio 2.00, interval 1.50 to 2.50); "
        "with the smallest no (ratio 4.00, interval 3.50 to 4.50). "
        "Larger models are always earlier.\n"
        "- **Subject-Verb Agreement**: can't tell; with the smallest can't tell."
    )


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
    assert text.startswith("The lowest point on the left is -0.30 [-0.40, -0.20], mini-m after 2k")
    assert "the model agrees with the *nearest* noun, and is wrong more often" in text
    text = findings.wrong_rule(curves_of(0.2, -0.001, 0.5))
    assert text.startswith("The lowest point on the left is 0.00 [-0.10, 0.10], mini-m after 2k")
    assert "not below zero beyond doubt" in text


# ------------------------------------------------------------------ figures


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


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
