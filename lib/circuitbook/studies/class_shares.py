"""How much of each stage's effect the classes explain: Figure 4 B, C and D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from circuitbook.stats import bootstrap_draws, interval
from circuitbook.studies.head_classes import FORMS, STAGES, HeadClasses
from circuitbook.studies.head_scores import HeadScores


def share_table(
    anatomies: Sequence[HeadClasses], forms: Sequence[str] = tuple(FORMS), draws: int = 1000
) -> pd.DataFrame:
    """One row per checkpoint, stage and form: model, step, tokens_seen, stage, form, share with low
    and high (95 % over prompts), null with null_low and null_high (random heads, as many), members
    (k) of nodes, `beats` (the share of random draws that explain less), and why there is no share.
    """
    rows = []
    for one in anatomies:
        weights = bootstrap_draws(len(one.clean), draws)
        for stage in STAGES:
            for form in forms:
                nodes, share = one.counted(stage, form), float(one.share(stage, form))
                row = {
                    "model": one.model,
                    "step": one.step,
                    "tokens_seen": one.tokens_seen,
                    "stage": stage,
                    "form": form,
                    "share": share,
                    "nodes": 0 if nodes is None else int(nodes.sum()),
                    "members": 0 if nodes is None else int((nodes & one.members(stage)).sum()),
                }
                numbers = dict.fromkeys(
                    ("low", "high", "null", "null_low", "null_high", "beats"), np.nan
                )
                if not np.isnan(share):
                    null = one.null_shares(stage, form, draws)
                    low, high = interval(one.share(stage, form, weights))
                    null_low, null_high = interval(null)
                    numbers = {
                        "low": float(low),
                        "high": float(high),
                        "null": float(null.mean()),
                        "null_low": float(null_low),
                        "null_high": float(null_high),
                        "beats": float((null < share - 1e-12).mean()),
                    }
                why = one.why.get(stage) or (
                    ""
                    if nodes is not None
                    else "no circuit"
                    if form != "all heads" and not one.in_circuit.any()
                    else "no head matters"
                )
                rows.append(row | numbers | {"why": why})
    return pd.DataFrame(rows)


FUNCTIONS = ("look at the indirect object", "look at the subject", "look elsewhere")


def function_shares(found: Sequence[HeadScores], bar: float = 0.5) -> pd.DataFrame:
    """Who helps directly, told by where it looks on the prompts themselves, not by a score: a row
    per checkpoint that does IOI.

    Columns: model, step, tokens_seen and, for each of `FUNCTIONS`, that share of the direct effects
    that help. A head looks at what gets more of its attention from END (the subject: S1 and S2
    together), if the names together get more than `bar`.
    """
    rows = []
    for one in (scores for scores in found if scores.does_ioi):
        helps = np.clip(-one.score("direct"), 0, None)
        io, subject = one.score("to_IO"), one.score("to_S1") + one.score("to_S2")
        where = np.where(io + subject <= bar, 2, np.where(io > subject, 0, 1))
        shares = [helps[where == i].sum() / helps.sum() for i in range(len(FUNCTIONS))]
        rows.append(
            {
                "model": one.model,
                "step": one.step,
                "tokens_seen": one.tokens_seen,
                **dict(zip(FUNCTIONS, shares)),
            }
        )
    return pd.DataFrame(rows, columns=["model", "step", "tokens_seen", *FUNCTIONS])


@dataclass(frozen=True)
class ShareVerdict:
    """What the suite at hand says of one claim."""

    answer: str  # "holds", "does not hold", "can't tell"
    share: float  # the lowest of the checkpoints
    low: float
    high: float
    checkpoints: int


def verdict(shares: pd.DataFrame, claimed: float) -> ShareVerdict:
    """Is the share above `claimed` at all these checkpoints? Rows of `share_table`, one form and
    stage.

    "does not hold" where the interval of some share lies below, "holds" where all lie above, else
    "can't tell".
    """
    there = shares.dropna(subset=["share"])
    if there.empty:
        return ShareVerdict("can't tell", np.nan, np.nan, np.nan, 0)
    worst = there.loc[there["share"].idxmin()]
    answer = (
        "does not hold"
        if (there["high"] < claimed).any()
        else "holds"
        if (there["low"] > claimed).all()
        else "can't tell"
    )
    return ShareVerdict(
        answer, float(worst["share"]), float(worst["low"]), float(worst["high"]), len(there)
    )
