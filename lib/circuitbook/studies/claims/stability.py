"""Claims about stability and size (section 4.3, Figure 5), and Pythia's own numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from circuitbook.studies.circuit_tables import table
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.claims.formation import Test
from circuitbook.studies.head_scores import TITLES
from circuitbook.studies.size import Correlation, correlation, size_table

# ------------------------------------------------------------------ section 4.3 and Figure 5: stability and size


def _correlated(c: Correlation) -> tuple[str, str]:
    if np.isnan(c.pearson):
        return "can't tell", f"{c.n} sizes are too few"
    answer = (
        "holds"
        if c.p < 0.05 and c.pearson > 0
        else "does not hold"
        if c.p < 0.05 or c.high < 0.5
        else "can't tell"
    )
    between = "" if np.isnan(c.low) else f" [{c.low:.2f}, {c.high:.2f}]"
    return answer, f"r = {c.pearson:.2f}{between}, p = {c.p:.2g} over {c.n} sizes"


def _steadier(e: Evidence) -> tuple[str, str]:
    mean = (
        e.turnover[e.turnover["model"].isin(e.main)]
        .groupby(["task", "model"])["edges"]
        .mean()
        .groupby("model")
        .mean()
    )
    return _correlated(correlation([e.sizes[name] for name in mean.index], mean))


def _larger(task: str) -> Test:
    def test(e: Evidence) -> tuple[str, str]:
        sizes = size_table(table(e.circuits), e.sizes)
        row = sizes[sizes["task"] == task]
        if row.empty:
            return "can't tell", "no circuits of the task"
        return _correlated(Correlation(**row.iloc[0].drop("task").to_dict()))

    return test


def _fluctuates(e: Evidence) -> tuple[str, str]:
    frame = table(e.circuits)
    ratio = (
        frame[frame["found"]].groupby(["model", "task"])["edges"].agg(lambda s: s.max() / s.min())
    )
    if ratio.empty:
        return "can't tell", "no circuits"
    varies = (ratio > 1.5).mean()
    answer = "holds" if varies > 0.75 else "does not hold" if varies < 0.25 else "can't tell"
    return (
        answer,
        f"largest over smallest circuit of a run and task: {ratio.median():.1f} in the median, up to {ratio.max():.1f}",
    )


# ------------------------------------------------------------------ Pythia's own numbers


def _head_drops(e: Evidence) -> tuple[str, str]:
    """Head 4.6 of pythia-160m: does its largest score of a kind at 2e10 tokens and before fall to
    less than half by 4e10?
    """
    mine = [one for one in e.heads if one.model == "pythia-160m"]
    before, after = (
        [o for o in mine if o.tokens_seen <= 2e10],
        [o for o in mine if o.tokens_seen >= 4e10],
    )
    if not before or not after:
        return "can't tell", "pythia-160m is not among the models"
    row = 4 * mine[0].n_heads + 6
    falls = {}
    for kind in ("induction", "copy"):
        falls[kind] = max(o.score(kind)[row] for o in after) / max(
            max(o.score(kind)[row] for o in before), 1e-9
        )
    said = ", ".join(f"{TITLES[kind].lower()} {value:.2f}" for kind, value in falls.items())
    return (
        "holds" if min(falls.values()) < 0.5 else "does not hold"
    ), f"largest score after over before: {said}"


def _logit_difference(model: str, expected: Mapping[int, float], tolerance: float = 0.15) -> Test:
    """Is the mean IOI logit difference at these steps what the authors print, to within `tolerance`
    of it?
    """

    def test(e: Evidence) -> tuple[str, str]:
        mine = e.answers[
            (e.answers["task"] == "ioi")
            & (e.answers["model"] == model)
            & e.answers["step"].isin(expected)
        ]
        if mine.empty:
            return "can't tell", f"{model} is not among the models"
        mean = mine.groupby("step")["metric"].mean()
        off = {step: value / expected[step] - 1 for step, value in mean.items()}
        said = ", ".join(
            f"step {step}: {value:.2f} (theirs {expected[step]:g})" for step, value in mean.items()
        )
        return ("holds" if max(map(abs, off.values())) < tolerance else "does not hold"), said

    return test
