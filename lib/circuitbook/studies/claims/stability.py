"""Claims about stability and size (section 4.3, Figure 5), and Pythia's own numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from circuitbook.stats import Verdict
from circuitbook.studies.circuit_tables import table
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.claims.formation import Answer, Test
from circuitbook.studies.head_scores import TITLES
from circuitbook.studies.size import Correlation, correlation, size_table

# ---- section 4.3 and Figure 5: stability and size


def correlated(found: Correlation) -> Answer:
    """Is the correlation beyond chance and positive? It is not where it is beyond chance and
    negative, or where no strong one is left in its interval.
    """
    if np.isnan(found.pearson):
        return Verdict.OPEN, f"{found.n} sizes are too few"
    between = "" if np.isnan(found.low) else f" [{found.low:.2f}, {found.high:.2f}]"
    measured = f"r = {found.pearson:.2f}{between}, p = {found.p:.2g} over {found.n} sizes"
    beyond_chance = found.p < 0.05
    if beyond_chance and found.pearson > 0:
        return Verdict.HOLDS, measured
    return Verdict.FAILS if beyond_chance or found.high < 0.5 else Verdict.OPEN, measured


def steadier(evidence: Evidence) -> Answer:
    """Are circuits of larger models more like those of the checkpoint before?"""
    turnover = evidence.turnover[evidence.turnover["model"].isin(evidence.main)]
    by_task = turnover.groupby(["task", "model"])["edges"].mean()
    mean = by_task.groupby("model").mean()
    return correlated(correlation([evidence.sizes[name] for name in mean.index], mean))


def larger(task: str) -> Test:
    """Does the circuit of a task grow with the model?"""

    def test(evidence: Evidence) -> Answer:
        sizes = size_table(table(evidence.circuits), evidence.sizes).set_index("task")
        if task not in sizes.index:
            return Verdict.OPEN, "no circuits of the task"
        numbers = sizes.loc[task].to_dict()
        return correlated(Correlation(**numbers | {"n": int(numbers["n"])}))

    return test


def fluctuates(evidence: Evidence) -> Answer:
    """Is the largest circuit of most runs half as large again as the smallest, or more?"""
    circuits = table(evidence.circuits)
    edges = circuits[circuits["found"]].groupby(["model", "task"])["edges"]
    ratio = edges.max() / edges.min()
    if ratio.empty:
        return Verdict.OPEN, "no circuits"
    measured = (
        f"largest over smallest circuit of a run and task: {ratio.median():.1f} in the median, up "
        f"to {ratio.max():.1f}"
    )
    varies = (ratio > 1.5).mean()
    if varies > 0.75:
        return Verdict.HOLDS, measured
    return Verdict.FAILS if varies < 0.25 else Verdict.OPEN, measured


# ------------------------------------------------------------------ Pythia's own numbers


def head_drops(evidence: Evidence) -> Answer:
    """Head 4.6 of pythia-160m: does its largest score of a kind at 2e10 tokens and before fall to
    less than half by 4e10?
    """
    training = [scores for scores in evidence.heads if scores.model == "pythia-160m"]
    before = [scores for scores in training if scores.tokens_seen <= 2e10]
    after = [scores for scores in training if scores.tokens_seen >= 4e10]
    if not before or not after:
        return Verdict.OPEN, "pythia-160m is not among the models"
    row = 4 * training[0].n_heads + 6
    falls = {}
    for kind in ("induction", "copy"):
        largest = max(scores.score(kind)[row] for scores in before)
        falls[kind] = max(scores.score(kind)[row] for scores in after) / max(largest, 1e-9)
    ratios = ", ".join(f"{TITLES[kind].lower()} {value:.2f}" for kind, value in falls.items())
    verdict = Verdict.HOLDS if min(falls.values()) < 0.5 else Verdict.FAILS
    return verdict, f"largest score after over before: {ratios}"


def logit_difference(model: str, expected: Mapping[int, float], tolerance: float = 0.15) -> Test:
    """Is the mean IOI logit difference at these steps what the authors print, to within `tolerance`
    of it?
    """

    def test(evidence: Evidence) -> Answer:
        answers = evidence.answers
        answers = answers[(answers["task"] == "ioi") & (answers["model"] == model)]
        answers = answers[answers["step"].isin(expected)]
        if answers.empty:
            return Verdict.OPEN, f"{model} is not among the models"
        mean = answers.groupby("step")["metric"].mean()
        off = max(abs(value / expected[step] - 1) for step, value in mean.items())
        values = [
            f"step {step}: {value:.2f} (theirs {expected[step]:g})" for step, value in mean.items()
        ]
        return Verdict.HOLDS if off < tolerance else Verdict.FAILS, ", ".join(values)

    return test
