"""How much of each stage's effect the classes explain: Figure 4 B, C and D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from circuitbook.stats import Verdict, all_of, bootstrap_draws, decide, interval
from circuitbook.studies.head_classes import FORMS, STAGES, HeadClasses
from circuitbook.studies.head_scores import HeadScores

SHARE_COLUMNS = [
    *("model", "step", "tokens_seen", "stage", "form", "share", "nodes", "members"),
    *("low", "high", "null", "null_low", "null_high", "beats", "why"),
]


def share_table(
    head_classes: Sequence[HeadClasses], forms: Sequence[str] = tuple(FORMS), draws: int = 1000
) -> pd.DataFrame:
    """One row per checkpoint, stage and form: model, step, tokens_seen, stage, form, share with low
    and high (95% over prompts), null with null_low and null_high (random heads, as many), members
    (k) of nodes, `beats` (the share of random draws that explain less), and why there is no share.
    """
    rows = [
        _share_row(classes, stage, form, draws)
        for classes in head_classes
        for stage in STAGES
        for form in forms
    ]
    return pd.DataFrame(rows, columns=SHARE_COLUMNS)


def _share_row(classes: HeadClasses, stage: str, form: str, draws: int) -> dict:
    row = {"model": classes.model, "step": classes.step, "tokens_seen": classes.tokens_seen}
    counted, share = classes.counted(stage, form), float(classes.share(stage, form))
    row |= {"stage": stage, "form": form, "share": share, "nodes": 0, "members": 0}
    row["why"] = classes.why.get(stage, "")
    if counted is None:
        no_circuit = form != "all heads" and not classes.in_circuit.any()
        row["why"] = row["why"] or ("no circuit" if no_circuit else "no head matters")
    else:
        row["nodes"] = int(counted.sum())
        row["members"] = int((counted & classes.members(stage)).sum())
    if not np.isnan(share):
        weights = bootstrap_draws(classes.prompts, draws)
        samples = np.asarray(classes.share(stage, form, weights))
        row["low"], row["high"] = map(float, interval(samples))
        null = classes.null_shares(stage, form, draws)
        row["null_low"], row["null_high"] = map(float, interval(null))
        row |= {"null": float(null.mean()), "beats": float((null < share - 1e-12).mean())}
    return row


FUNCTIONS = ("look at the indirect object", "look at the subject", "look elsewhere")


def function_shares(head_scores: Sequence[HeadScores], bar: float = 0.5) -> pd.DataFrame:
    """Who helps directly, told by where it looks on the prompts themselves, not by a score: a row
    per checkpoint that does the task.

    Columns: model, step, tokens_seen and, for each of `FUNCTIONS`, that share of the direct effects
    that help. A head looks at what gets more of its attention from END (the subject: S1 and S2
    together), if the names together get more than `bar`.
    """
    rows = []
    for scores in head_scores:
        if not scores.able:
            continue
        helps = np.clip(-scores.score("direct"), 0, None)
        io, subject = scores.score("to_IO"), scores.score("to_S1") + scores.score("to_S2")
        at_names = io + subject > bar
        looks = (at_names & (io > subject), at_names & (io <= subject), ~at_names)
        shares = [helps[heads].sum() / helps.sum() for heads in looks]
        rows.append((scores.model, scores.step, scores.tokens_seen, *shares))
    return pd.DataFrame(rows, columns=["model", "step", "tokens_seen", *FUNCTIONS])


@dataclass(frozen=True)
class ShareVerdict:
    """What the suite at hand says of a claim about shares."""

    answer: Verdict
    share: float  # the lowest of the checkpoints
    low: float
    high: float
    checkpoints: int


def verdict(shares: pd.DataFrame, claimed: float) -> ShareVerdict:
    """Is the share above `claimed` at all these checkpoints? Rows of `share_table`, one form and
    stage.

    It is not where the interval of some share lies below, it is where all lie above; else we can't
    tell.
    """
    shares = shares.dropna(subset=["share"])
    if shares.empty:
        return ShareVerdict(Verdict.OPEN, np.nan, np.nan, np.nan, 0)
    bounds = zip(shares["low"], shares["high"], strict=True)
    answer = all_of(decide(low, high, claimed) for low, high in bounds)
    worst = shares.loc[shares["share"].idxmin()]
    share, low, high = (float(worst[name]) for name in ("share", "low", "high"))
    return ShareVerdict(answer, share, low, high, len(shares))
