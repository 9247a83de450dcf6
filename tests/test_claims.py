"""The replication report: its one rule at values on both sides, known faults that must not come
back, and a whole report over two real models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from claims_by_hand import (
    CASES,
    PYTHIA,
    SIZES,
    TOKENS,
    answers,
    classes_of,
    dates,
    even,
    evidence,
    forming,
    head_46,
    searched,
)
from handmade import scores_of

from circuitbook import load_suite
from circuitbook.circuits.circuit import Circuit
from circuitbook.model.graph import Graph
from circuitbook.stats import Verdict
from circuitbook.store.disk import Store
from circuitbook.studies.claims.algorithm import heads_exist, moved, pair_weights, share_of
from circuitbook.studies.claims.changes import _halves, edges_needed, fluctuates, heads_change
from circuitbook.studies.claims.deciding import Answer, Part, corrected
from circuitbook.studies.claims.evidence import measure_evidence
from circuitbook.studies.claims.formation import ability, component, fading, suppression_helps
from circuitbook.studies.claims.report import NEEDS_CHECKPOINTS, report
from circuitbook.studies.claims.stability import larger, logit_difference
from circuitbook.studies.claims.table import CLAIMS
from circuitbook.studies.runs import Estimate, but_smallest, over_runs
from circuitbook.studies.transfer import places_moved, transfer_summary

BY_KEY = {claim.key: claim for claim in CLAIMS}


def normal(mean, deviation=1.0, draws=4000, seed=0):
    values = np.random.default_rng(seed).normal(mean, deviation, draws)
    return Estimate(float(mean), values)


# ------------------------------------------------------------------ the rule


def test_a_claim_of_several_holds_where_all_do_and_fails_where_one_surely_does():
    above, below, about = (
        Part(name, normal(mean), 0.0) for name, mean in zip("abc", (5, -5, 1), strict=True)
    )
    assert Answer((above, above)).verdict is Verdict.HOLDS
    assert Answer((above, about)).verdict is Verdict.OPEN
    assert Answer((above, below)).verdict is Verdict.FAILS
    assert Answer((above,), missing="d").verdict is Verdict.OPEN  # never dropped
    assert Answer((below,), missing="d").verdict is Verdict.FAILS
    assert Answer.open("nothing").verdict is Verdict.OPEN and np.isnan(Answer.open("").p)
    opposite = Part("a", normal(-5), 0.0, above=False)
    assert Answer((opposite,)).verdict is Verdict.HOLDS


def test_a_doubt_says_what_it_rests_on():
    """Nothing where it is decided; else who is missing, or what reaches across the bound."""
    above, below, about = (Part("a", normal(mean), 0.0) for mean in (9.0, -9.0, 0.1))
    few = Part("a", normal(9.0), 0.0, smallest_p=2 / 24)
    assert Answer((above,)).doubt == Answer((below, about)).doubt == Answer().doubt == ""
    assert Answer((about,)).doubt == "the interval reaches across the bound"
    assert Answer((above, about)).doubt == "1 of 2 intervals reaches across the bound"
    assert Answer((above,), missing="d").doubt == "nothing can be said of d"
    assert Answer((few,)).doubt == "so few sizes cannot show a trend beyond chance"


def test_of_many_parts_that_are_true_one_is_below_by_chance_rarely():
    def fails(seed):
        means = np.random.default_rng(seed).normal(0, 1, 40)
        parts = tuple(Part(str(i), normal(mean, seed=i), 0.0) for i, mean in enumerate(means))
        return Answer(parts).verdict is Verdict.FAILS

    # each at its bound exactly; without the correction one of 40 would be below in 64 % of draws
    assert np.mean([fails(seed) for seed in range(60)]) < 0.1


def test_a_design_that_cannot_be_significant_tells_nothing():
    strong = Part("r", normal(5), 0.0, smallest_p=2 / 24)
    assert strong.verdict(0.95) is Verdict.OPEN and strong.p(holds=True) == 2 / 24
    assert dataclasses.replace(strong, smallest_p=2 / 120).verdict(0.95) is Verdict.HOLDS


def test_verdicts_and_p_agree():
    for mean in np.linspace(-4, 4, 33):
        answer = Answer((Part("a", normal(mean), 0.0),))
        if abs(answer.p - 0.05) > 0.01:
            assert (answer.verdict is not Verdict.OPEN) == (answer.p < 0.05)


def test_asked_at_once_some_verdicts_no_longer_stand():
    sure, hardly = Answer((Part("a", normal(9), 0.0),)), Answer((Part("b", normal(2.2), 0.0),))
    assert hardly.verdict is Verdict.HOLDS and 0.01 < hardly.p < 0.05
    assert corrected([sure, hardly]) == [Verdict.HOLDS, Verdict.HOLDS]  # the last step asks p < 5 %
    many = corrected([sure, *[hardly] * 5, Answer.open("not asked")])
    assert many == [Verdict.HOLDS, *[Verdict.OPEN] * 6]
    alone = corrected([hardly, *[Answer.open("not asked")] * 20])
    assert alone[0] is Verdict.HOLDS  # what is not asked does not count


# ------------------------------------------------------------------ sizes and seeds


def test_seeds_that_differ_leave_open_what_sizes_would_tell():
    of_runs = {
        name: Estimate.exact(value, 500) for name, value in zip("sml", (0.0, 1.0, 1.0), strict=True)
    }
    alone = over_runs(of_runs, ["s", "m", "l"], [])
    assert {name: one.value for name, one in alone.items()} == {"s": 0, "m": 1, "l": 1}
    assert all(np.ptp(one.samples) == 0 for one in alone.values())
    seeds = of_runs | {"s2": Estimate.exact(2.0, 500)}
    both = over_runs(seeds, ["s", "m", "l"], [["s", "s2"], ["m"], ["l"]])
    assert both["s"].value == 1 and set(both["s"].samples) == {0.0, 1.0, 2.0}
    deviations = set(np.round(both["m"].samples, 9))  # borrowed: 1 off, times the root of 2
    assert deviations == {np.round(1 - 2**0.5, 9), np.round(1 + 2**0.5, 9)}
    assert over_runs({"m": of_runs["m"]}, ["s", "m"], []).keys() == {"m"}


def test_the_smallest_is_left_out_where_two_others_are_left():
    assert but_smallest("abcd") == ("b", "c", "d") and but_smallest("ab") == ("a", "b")
    found = ability("ioi")(CASES["ability ioi"]("yes"))
    assert found.verdict is Verdict.HOLDS and "size1" not in found.shown
    assert "with the smallest" in found.measured and "does not hold" in found.measured
    two = evidence(answers=answers("ioi", dates("yes")), main=SIZES[:2])
    assert ability("ioi")(two).verdict is Verdict.FAILS


def test_the_smallest_models_schedule_is_said():
    suite = load_suite("mini")
    mini = dict(zip(suite.standard, (1500.0, 100.0, 100.0, 100.0), strict=True))
    found = evidence(answers=answers("ioi", mini), main=suite.standard)
    assert "mini-xs: another learning-rate schedule" in ability("ioi")(found).measured


def test_seeds_count_in_when():
    runs = dates("yes") | {"size2-seed2": 600.0, "size2-seed3": 40.0}
    seeds = [["size2", "size2-seed2", "size2-seed3"]]
    of_answers = answers("ioi", runs)
    assert ability("ioi")(evidence(answers=of_answers)).verdict is Verdict.HOLDS
    with_seeds = ability("ioi")(evidence(answers=of_answers, seeds=seeds))
    assert with_seeds.verdict is Verdict.OPEN


def test_a_size_without_such_heads_is_not_dropped():
    late = {SIZES[1]: 100.0, SIZES[2]: 100.0, SIZES[3]: 1e9}  # size4 has none by the end
    heads = forming("induction", late)
    found = component("induction")(evidence(heads=heads, main=SIZES[:4]))
    assert found.verdict is Verdict.FAILS and "not there in size4" in found.measured
    near_the_end = {SIZES[1]: TOKENS[-3], SIZES[2]: TOKENS[-3], SIZES[3]: 1e9}
    found = component("induction")(
        evidence(heads=forming("induction", near_the_end), main=SIZES[:4])
    )
    assert found.verdict is Verdict.OPEN  # it may still come


# ------------------------------------------------------------------ known faults


def test_a_head_that_never_copied_and_keeps_induction_loses_no_job():
    found = BY_KEY["head drops"].test(head_46("no"))
    assert found.verdict is Verdict.FAILS
    assert "copy score) 0.00 before, 0.00 after" in found.measured


def test_a_largest_score_is_no_decline():
    """Scores go up and down around a mean: the last is below the largest, and nothing fades."""
    rng = np.random.default_rng(0)
    levels = 0.7 + 0.1 * rng.standard_normal(30)
    training = [scores_of("m", i, successor=[0.0, x, 0, 0]) for i, x in enumerate(levels)]
    assert levels[-1] / levels.max() < 0.9
    found = fading(training, "successor")
    assert found.value == pytest.approx(1, abs=0.1)
    assert np.quantile(found.samples, 0.975) > 0.9


def test_noise_around_the_bar_is_no_job_lost():
    """Of many heads at the bar the best is above it once and below it once, by chance alone."""
    rng = np.random.default_rng(0)
    heads = []
    for step in range(12):
        scores = scores_of("m", step, induction=[0.0] * 4)
        scores.arrays["induction"] = 0.25 + rng.normal(0, 0.1, (4, 20))
        heads.append(scores)
    best = np.array([at.score("induction") for at in heads])
    assert ((best[:6] > 0.25).any(0) & (best[6:] < 0.25).any(0)).any()
    found = heads_change(evidence(heads=heads, main=("m",)))
    assert found.verdict is Verdict.OPEN
    first, second = _halves(5, draws=50)
    assert (
        (first * second == 0).all()
        and np.allclose(first.sum(1), 1)
        and np.allclose(second.sum(1), 1)
    )


def test_a_run_without_a_stage_does_not_test_it():
    whole = {"steering": even(-0.5, 0, 0, 0), "direct": even(-0.5, 0, 0, 0)}
    members = {"S-inhibition": [0], "name mover": [0]}
    there = classes_of("size1", 1, members, **whole)
    without = classes_of("size2", 1, {}, direct=even(-0.5, 0, 0, 0))
    found = share_of("steering")(evidence(head_classes=[there, without], main=SIZES[:2]))
    assert found.verdict is Verdict.HOLDS and "nothing to explain in size2" in found.measured
    alone = share_of("steering")(evidence(head_classes=[there], main=SIZES[:1]))
    assert alone.verdict is Verdict.HOLDS
    nowhere = share_of("steering")(evidence(head_classes=[without], main=SIZES[1:2]))
    assert nowhere.parts == () and "not tested" in nowhere.measured
    lists = classes_of("lists", 1, members, **whole)
    other = evidence(head_classes=[without], main=SIZES[1:2], elsewhere=[lists])
    found = share_of("steering")(other)
    assert found.verdict is Verdict.HOLDS and "lists: runs on ordered lists" in found.measured
    assert "lists" not in share_of("direct")(other).measured
    # Where it is lost again, it explains nothing
    later = classes_of("size1", 2, {}, direct=even(-0.5, 0, 0, 0))
    lost = share_of("steering")(evidence(head_classes=[there, later], main=SIZES[:1]))
    assert lost.verdict is Verdict.FAILS
    hidden = dataclasses.replace(there, in_circuit=np.zeros(4, bool))
    assert share_of("steering")(evidence(head_classes=[hidden], main=SIZES[:1])).parts == ()


def test_suppression_that_some_sizes_lack_does_not_hold_of_all():
    helps = classes_of("size1", 1, {"copy suppression": [1]}, direct=even(0, -0.3, 0, 0))
    lacks = classes_of("size2", 1, {}, direct=even(0, -0.3, 0, 0))
    found = suppression_helps(evidence(head_classes=[helps, lacks], main=SIZES[:2]))
    assert found.verdict is Verdict.OPEN and "no such head" in found.measured
    assert (
        suppression_helps(evidence(head_classes=[helps], main=SIZES[:1])).verdict is Verdict.HOLDS
    )


def test_every_step_of_the_algorithm_needs_a_head():
    whole = {"name mover": [3], "S-inhibition": [2], "duplicate token": [1]}
    stages = {stage: even(-0.4, -0.4, -0.4, -0.4) for stage in ("direct", "steering", "tertiary")}
    a = classes_of("size1", 1, whole, **stages)
    part = classes_of("size2", 9, {"name mover": [3], "induction": [1]}, **stages)
    early = classes_of("size2", 1, whole, **stages)  # the last counts
    other = classes_of("elsewhere", 1, {}, **stages)  # is not among the sizes
    found = heads_exist(evidence(head_classes=[a, early, part, other], main=SIZES[:2]))
    assert found.verdict is Verdict.FAILS
    assert found.measured == "size1 has all; size2 has no S-inhibition"
    alone = heads_exist(evidence(head_classes=[a], main=SIZES[:1]))
    assert alone.verdict is Verdict.HOLDS and alone.measured == "size1 has all"


@pytest.mark.parametrize("every", [5, 2])
def test_a_good_mean_is_not_enough_where_some_pairs_keep_nothing(every):
    made = CASES["algorithm moves"]("yes")
    table = made.transfers.copy()
    stays = (table["source"] == table["target"]) & (table["source_step"] == table["target_step"])
    others = table.index[~stays & (table["what"] == "classes")]
    table.loc[others[::every], "faithfulness"] = 0.0
    table.loc[others[1::every], "faithfulness"] = 2.0  # so that the mean stays
    found = moved("classes", "same run")(dataclasses.replace(made, transfers=table))
    mean, lowest = found.parts
    assert mean.number.value > 0.9 and lowest.number.value < 0
    assert mean.verdict(0.95) is not Verdict.FAILS and found.verdict is not Verdict.HOLDS


def test_pairs_are_drawn_by_their_ends():
    made = CASES["circuit moves"]("yes")
    pairs = places_moved(made.transfers, "ioi", "circuit")
    assert len(pairs) == 36 and set(pairs["where"]) == {"same run"} and (pairs["null"] == 0.2).all()
    weights = pair_weights(pairs, made)
    runs = pairs["target"].to_numpy()
    drawn = np.stack([(weights[:, runs == name] > 0).any(1) for name in SIZES], 1)
    assert 0.5 < drawn.mean() < 0.75  # a size is left out of a third of the draws
    summary = transfer_summary(made.transfers).set_index("what")
    assert summary.loc["circuit", "mean"] == pytest.approx(pairs["faithfulness"].mean())


def test_sizes_that_differ_by_the_noise_of_prompts_do_not_fluctuate():
    """Circuits whose size other prompts change as much as checkpoints do."""
    graph = Graph(4, 4)
    rng, results = np.random.default_rng(0), []
    sizes = np.arange(5, 30)
    for name in SIZES[:2]:
        for step in range(1, 20):
            at = 0.8 + 0.02 * (sizes - 14.0 - 4 * rng.standard_normal())
            curve = pd.DataFrame({"edges": sizes, "normalised": at, "low": at - 0.157})
            curve = curve.assign(ratio=at, high=at + 0.157)  # an error of 4 edges' worth
            mask = np.zeros(graph.mask.shape, bool)
            for src, dst in list(graph.edges)[: sizes[np.argmax(at >= 0.8)]]:
                mask[src, dst] = True
            results.append(searched(name, step, Circuit(graph, mask, curve=curve)))
    noisy = evidence(circuits=results, main=SIZES[:2])
    assert np.std(np.log([one.circuit.n_edges for one in results])) > 0.2
    certain = [
        dataclasses.replace(one, circuit=dataclasses.replace(one.circuit, curve=None))
        for one in results
    ]
    of_certain = fluctuates(dataclasses.replace(noisy, circuits=certain))
    for part, blind in zip(fluctuates(noisy).parts, of_certain.parts, strict=True):
        assert blind.number.value > 0.15 and part.number.value < 0.6 * blind.number.value
        assert part.verdict(0.95) is not Verdict.HOLDS


def test_how_many_edges_other_prompts_need():
    graph = Graph(2, 2)
    mask = np.zeros(graph.mask.shape, bool)
    mask.ravel()[:4] = True
    curve = pd.DataFrame({"edges": [2, 4, 6], "normalised": [0.7, 0.8, 0.9]})
    curve = curve.assign(
        ratio=0.0, low=curve["normalised"] - 0.196, high=curve["normalised"] + 0.196
    )
    found = Circuit(graph, mask, curve=curve)  # the standard error is 0.1
    assert edges_needed(found, np.array([0.0, 1.01, -0.5, -3.0])).tolist() == [
        4,
        2,
        6,
        graph.n_edges,
    ]
    assert edges_needed(dataclasses.replace(found, curve=None), np.zeros(2)).tolist() == [4, 4]


def test_three_sizes_are_too_few_for_a_correlation():
    made = CASES["larger ioi"]("yes")
    few = dataclasses.replace(made, main=SIZES[-4:])
    found = larger("ioi")(few)
    assert found.verdict is Verdict.OPEN and "3 sizes are too few" in found.measured
    assert "with the smallest: r over 4 sizes" in found.measured
    assert larger("sva")(few).measured == "no circuits of the task"


def test_printed_numbers_are_asked_at_every_step():
    made = CASES["printed pythia-410m"]("yes")
    one = dataclasses.replace(made, answers=made.answers[made.answers["step"] != 4000])
    found = logit_difference("pythia-410m", {4000: 1.81, 5000: 3.28})(one)
    assert found.verdict is Verdict.OPEN and "step 4000" in found.measured
    assert logit_difference("pythia-70m", {4000: 1})(made).measured.endswith("not among the models")


# ------------------------------------------------------------------ a report


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    steps = {name: (2896, 3906) for name in ("mini-xs", "mini-s", "mini-s-seed2")}
    return measure_evidence(
        load_suite("mini"),
        ["mini-xs", "mini-s"],
        Store(tmp_path_factory.mktemp("store")),
        seeds=[["mini-s", "mini-s-seed2"]],
        tasks=["ioi", "sva"],
        steps=steps,
        progress=False,
    )


def test_a_single_checkpoint_answers_what_it_can(measured):
    assert measured.along_training
    last = measured.answers[measured.answers["step"] == 3906]
    found = report(dataclasses.replace(measured, answers=last))
    asked = found[found["measured"] != NEEDS_CHECKPOINTS]
    assert len(asked) == sum(claim.at_one_checkpoint for claim in CLAIMS) == 6
    assert set(found["verdict"][found["measured"] == NEEDS_CHECKPOINTS]) == {"can't tell"}
    along = report(measured).set_index("key").loc[asked["key"]]
    same = ["interval", "measured", "verdict"]  # what is corrected for is another matter
    assert (asked.set_index("key")[same] == along[same]).all(None)


def test_a_report_answers_every_claim(measured):
    found = report(measured).set_index("key")
    assert list(found.index) == [claim.key for claim in CLAIMS]
    assert set(found["verdict"]) | set(found["corrected"]) <= set(map(str, Verdict))
    assert (found["measured"] + found["interval"]).str.len().gt(5).all()
    pythia = found[found["about_pythia"]]
    assert (
        len(pythia) == 8 and set(pythia["verdict"]) == {"can't tell"} and not pythia["asked"].any()
    )
    summary = transfer_summary(measured.transfers, measured.seeds)
    row = summary.set_index(["task", "what", "where"]).loc["ioi", "circuit", "same run"]
    assert f"{row['mean']:.0%} on average" in found.loc["circuit moves", "measured"]
    assert found.loc["larger greater_than", "measured"] == "no circuits of the task"
    assert found.loc["ability greater_than", "measured"] == "the task was not measured"
    stands = found["verdict"] == found["corrected"]
    assert (stands | (found["corrected"] == "can't tell")).all()  # a correction turns nothing round


def test_pythia_is_known_by_its_tokens(measured):
    assert not measured.is_pythia
    assert dataclasses.replace(measured, suite=load_suite("pythia"), main=PYTHIA).is_pythia
