"""Claims about circuits and the algorithm (sections 2, 4.1 and 4.2, Figure 4)."""

from __future__ import annotations

import itertools

import numpy as np

from circuitbook.recipes import PAPER_SHARE
from circuitbook.stats import Verdict, all_of
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.claims.formation import SAME, Answer, Test
from circuitbook.studies.class_shares import verdict
from circuitbook.studies.head_classes import CLAIMED
from circuitbook.studies.transfer import transfer_summary

# ------------------------------------------------------------------ section 2: circuits


def small_circuits(evidence: Evidence) -> Answer:
    """Do at most 5 % of the edges suffice, wherever the task is done?"""
    circuits = [one.circuit for one in evidence.circuits if not one.circuit.not_done]
    if not circuits:
        return Verdict.OPEN, "no model does any of the tasks"
    shares = np.array([c.n_edges / c.graph.n_edges for c in circuits if c.found])
    small = (shares <= PAPER_SHARE).sum() / len(circuits)
    edges = f"{np.median(shares):.2%}, at most {shares.max():.1%}" if len(shares) else "none"
    measured = f"{small:.1%} of {len(circuits)} searches; edges in the median {edges}"
    return Verdict.HOLDS if small == 1 else Verdict.FAILS, measured


# ---- sections 4.1 and 4.2: heads change, what they do stays


def heads_change(evidence: Evidence) -> Answer:
    """Does the set of heads in some class change between two checkpoints of a run?"""
    runs = {}
    for model in dict.fromkeys(classes.model for classes in evidence.head_classes):
        training = [c.labels for c in evidence.head_classes if c.model == model and any(c.labels)]
        changes = [before != after for before, after in itertools.pairwise(training)]
        if changes:
            runs[model] = float(np.mean(changes))
    if not runs:
        return Verdict.OPEN, "no run has classified heads at two checkpoints"
    changed = sum(share > 0 for share in runs.values())
    measured = (
        f"heads enter or leave a class in {changed} of {len(runs)} runs, between "
        f"{np.mean(list(runs.values())):.0%} of neighbouring checkpoints on average"
    )
    return Verdict.HOLDS if changed else Verdict.FAILS, measured


def share_of(stage: str) -> Test:
    """Do the classes of a stage explain more of its effect than the paper says, at all times?"""

    def test(evidence: Evidence) -> Answer:
        shares = evidence.shares
        shares = shares[(shares["stage"] == stage) & (shares["form"] == "absolute")]
        models = dict.fromkeys(shares["model"])
        verdicts = {m: verdict(shares[shares["model"] == m], CLAIMED[stage]) for m in models}
        verdicts = {model: answer for model, answer in verdicts.items() if answer.checkpoints}
        if not verdicts:
            return Verdict.OPEN, "no model has such heads"
        lowest = [
            f"{model} {answer.share:.0%} [{answer.low:.0%}, {answer.high:.0%}]"
            for model, answer in verdicts.items()
        ]
        answers = all_of(answer.answer for answer in verdicts.values())
        return answers, "lowest share: " + "; ".join(lowest)

    return test


SHARES = {stage: share_of(stage) for stage in CLAIMED}

NEEDED = {  # of the IOI algorithm: what each step is, and the classes that can do it
    "name movers": ("name mover",),
    "S-inhibition": ("S-inhibition",),
    "induction or duplicate-token heads": ("induction", "duplicate token"),
}


def heads_exist(evidence: Evidence) -> Answer:
    """Has every size that does IOI, in the end, heads for each step of the algorithm?"""
    last = {
        classes.model: classes
        for classes in evidence.head_classes
        if "direct" in classes.patched and classes.model in evidence.main
    }
    if not last:
        return Verdict.OPEN, "no model does IOI"
    missing = {
        model: [step for step, names in NEEDED.items() if not any(classes.members_of(*names))]
        for model, classes in last.items()
    }
    said = "; ".join(
        f"{model} {'has all' if not steps else 'has no ' + ', no '.join(steps)}"
        for model, steps in missing.items()
    )
    return Verdict.FAILS if any(missing.values()) else Verdict.HOLDS, said


def moved(what: str, where: str) -> Test:
    """Does what is moved keep `SAME` of what the target's own keeps?

    It fails where what is moved is no nearer to the target's own than to shuffled heads.
    """

    def test(evidence: Evidence) -> Answer:
        summary = transfer_summary(evidence.transfers, evidence.seeds)
        summary = summary.set_index(["task", "what", "where"])
        if ("ioi", what, where) not in summary.index:
            return Verdict.OPEN, "there are no two such circuits"
        row = summary.loc[("ioi", what, where)]
        measured = (
            f"keeps {row['mean']:.0%} on average, {row['lowest']:.0%} at worst "
            f"({int(row['pairs'])} pairs); the target's own {row['own']:.0%}, shuffled heads "
            f"{row['null']:.0%}"
        )
        if row["mean"] >= SAME * row["own"]:
            return Verdict.HOLDS, measured
        halfway = row["null"] + 0.5 * (row["own"] - row["null"])
        return Verdict.FAILS if row["mean"] <= halfway else Verdict.OPEN, measured

    return test
