"""The replication report: its rules at values on both sides, and a whole report over two real
models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from findings_by_hand import head_classes

from circuitbook import load_suite
from circuitbook.stats import Verdict
from circuitbook.store.disk import Store
from circuitbook.studies.abilities import REPETITION
from circuitbook.studies.claims.algorithm import heads_exist, moved, share_of
from circuitbook.studies.claims.evidence import Claim, measure_evidence
from circuitbook.studies.claims.formation import ability
from circuitbook.studies.claims.report import (
    AT_ONE_CHECKPOINT,
    CLAIMS,
    NEEDS_CHECKPOINTS,
    about_pythia,
    report,
    table,
)
from circuitbook.studies.claims.stability import correlated, logit_difference
from circuitbook.studies.size import Correlation, correlation
from circuitbook.studies.transfer import transfer_summary
from circuitbook.suites.suite import Suite
from circuitbook.tasks.registry import TASKS


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    suite = load_suite("mini")
    steps = {name: (2896, 3906) for name in ("mini-xs", "mini-s", "mini-s-seed2")}
    return measure_evidence(
        suite,
        ["mini-xs", "mini-s"],
        Store(tmp_path_factory.mktemp("store")),
        seeds=[["mini-s", "mini-s-seed2"]],
        tasks=["ioi", "sva"],
        steps=steps,
        progress=False,
    )


def test_a_single_checkpoint_answers_what_it_can(evidence):
    assert evidence.along_training
    last = evidence.answers[evidence.answers["step"] == 3906]
    one = dataclasses.replace(evidence, answers=last)
    found = table(report(one))
    asked = found[found["measured"] != NEEDS_CHECKPOINTS]
    assert len(asked) == len(AT_ONE_CHECKPOINT) == 6
    assert set(found["answer"][found["measured"] == NEEDS_CHECKPOINTS]) == {"can't tell"}
    along = table(report(evidence)).set_index("claim")
    assert (asked.set_index("claim") == along.loc[asked["claim"]]).all(None)


def test_every_step_of_the_algorithm_needs_a_head(evidence):
    def answer(*classed):
        return heads_exist(dataclasses.replace(evidence, main=("a", "b"), head_classes=classed))

    whole = {"name mover": [0], "S-inhibition": [1], "duplicate token": [2]}
    part = {"name mover": [0], "induction": [1]}
    effects = [-0.5, -0.1, 0.0, 0.0]
    assert answer(head_classes(effects, whole, model="a")) == (Verdict.HOLDS, "a has all")
    assert answer(
        head_classes(effects, whole, model="a"),
        head_classes(effects, {}, model="b"),
        head_classes(effects, part, model="b", step=9),  # the last counts
        head_classes(effects, {}, model="c"),  # is not among the sizes
    ) == (Verdict.FAILS, "a has all; b has no S-inhibition")
    assert answer(head_classes(effects, {}, model="a", ioi=False))[0] is Verdict.OPEN


def test_a_report_answers_every_claim_with_a_number(evidence):
    found = table(report(evidence)).set_index("claim")
    assert (
        len(found) == len(CLAIMS)
        and set(found["answer"]) <= set(list(Verdict))
        and (found["measured"].str.len() > 5).all()
    )
    pythia = found[found.index.str.contains("pythia|billion")]
    assert len(pythia) == 8 and set(pythia["answer"]) == {"can't tell"}
    moved = found.loc["The IOI circuit of one checkpoint works at another of the run"]
    summary = transfer_summary(evidence.transfers, evidence.seeds)
    row = summary[
        (summary["task"] == "ioi")
        & (summary["what"] == "circuit")
        & (summary["where"] == "same run")
    ].iloc[0]
    assert moved["answer"] == "holds" and f"{row['mean']:.0%} on average" in moved["measured"]
    assert (
        found.loc["Greater-Than: the circuit grows with the model", "measured"]
        == "no circuits of the task"
    )
    assert "2 sizes are too few" in found.loc["SVA: the circuit grows with the model", "measured"]
    assert found["chapter"].str.startswith("/notebooks/").all()


def test_shares_hold_only_where_all_models_do(evidence):
    test = share_of("direct")

    def with_share(*shares):
        rows = [
            {
                "model": f"m{i}",
                "stage": "direct",
                "form": "absolute",
                "share": s,
                "low": s - 0.02,
                "high": s + 0.02,
            }
            for i, s in enumerate(shares)
        ]
        return test(dataclasses.replace(evidence, shares=pd.DataFrame(rows)))

    assert (
        with_share(0.9, 0.8)[0] == "holds"
        and with_share(0.9, 0.71)[0] == "can't tell"
        and with_share(0.9, 0.5)[0] == "does not hold"
    )
    assert (
        with_share(np.nan) == ("can't tell", "no model has such heads")
        and "m1 50% [48%, 52%]" in with_share(0.9, 0.5)[1]
    )


def test_correlations_need_more_than_four_sizes():
    def c(r, p, high):
        return Correlation(5, r, r - 0.5, high, p, r, r)

    assert (
        correlated(c(0.9, 0.02, 0.99))[0] == "holds"
        and correlated(c(0.9, 0.1, 0.99))[0] == "can't tell"
    )
    assert (
        correlated(c(-0.9, 0.02, -0.5))[0] == "does not hold"
        and correlated(c(-0.2, 0.8, 0.4))[0] == "does not hold"
    )
    assert correlated(correlation([1, 2], [1, 2])) == ("can't tell", "2 sizes are too few")


def test_what_is_moved_must_keep_nearly_all(evidence):
    def kept(value):
        rows = [
            ("m", 1, "m", 1, "circuit", 1.0),
            ("m", 2, "m", 2, "circuit", 1.0),
            ("m", 1, "m", 2, "circuit", value),
            ("m", 2, "m", 2, "shuffled", 0.2),
        ]
        frame = pd.DataFrame(
            rows, columns=["source", "source_step", "target", "target_step", "what", "faithfulness"]
        ).assign(task="ioi")
        return moved("circuit", "same run")(dataclasses.replace(evidence, transfers=frame))[0]

    assert [kept(value) for value in (0.95, 0.7, 0.5)] == ["holds", "can't tell", "does not hold"]
    none = pd.DataFrame(
        columns=["task", "source", "source_step", "target", "target_step", "what", "faithfulness"]
    )
    assert (
        moved("circuit", "same run")(dataclasses.replace(evidence, transfers=none))[0]
        == "can't tell"
    )


def test_pythias_own_numbers_are_asked_of_pythia(evidence):
    def answers(model, value, step=143000):
        return dataclasses.replace(
            evidence,
            answers=pd.DataFrame(
                {
                    "task": ["ioi"] * 4,
                    "model": model,
                    "step": step,
                    "metric": [value - 0.1, value + 0.1] * 2,
                }
            ),
        )

    test = logit_difference("pythia-160m", {143000: 4.134})
    assert test(answers("pythia-160m", 4.2)) == ("holds", "step 143000: 4.20 (theirs 4.134)")
    assert (
        test(answers("pythia-160m", 2.0))[0] == "does not hold"
        and test(answers("pythia-70m", 4.2))[0] == "can't tell"
    )
    assert not evidence.is_pythia
    pythia = dataclasses.replace(
        evidence, suite=load_suite("pythia"), main=("pythia-70m", "pythia-160m")
    )
    assert pythia.is_pythia and isinstance(pythia.suite, Suite)


def test_similar_token_counts_by_the_interval(evidence):
    test = ability("ioi")

    def answers(shift):
        rows = []
        for name, at in (("mini-xs", 4), ("mini-s", 4 * shift)):
            for tokens in (1, 2, 4, 8, 16, 32):
                rows += [
                    {
                        "model": name,
                        "task": "ioi",
                        "tokens_seen": tokens,
                        "step": tokens,
                        "prompt": i,
                        "metric": 4.0 if tokens >= at else 0.0,
                    }
                    for i in range(9)
                ]
        return test(dataclasses.replace(evidence, answers=pd.DataFrame(rows)))[0]

    assert answers(1) == "holds" and answers(4) == "does not hold"
    assert ability("greater_than")(evidence) == ("can't tell", "the task was not measured")
    assert set(evidence.answers["task"]) == {"ioi", "sva", REPETITION} and set(TASKS) >= {
        "ioi",
        "sva",
    }


def test_claims_about_pythia_are_counted_apart():
    def one(answer, measured):
        return Claim("c", "s", "/notebooks/abilities", answer, measured)

    assert (
        about_pythia(
            table(
                [
                    one("can't tell", "the tokens are Pythia's; here mini-s 2M"),
                    one("can't tell", "pythia-160m is not among the models"),
                    one("holds", "pythia-160m is not among the models"),
                    one("can't tell", "4 sizes are too few"),
                ]
            )
        )
        == 2
    )
