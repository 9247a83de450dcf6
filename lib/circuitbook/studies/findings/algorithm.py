"""The algorithm chapter's answer: the paper's claims, and what a circuit keeps elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.studies.class_shares import verdict
from circuitbook.studies.head_classes import CLAIMED, PANELS, HeadClasses
from circuitbook.wording import counted, in_markdown

NEARLY = 0.9  # of what the target's own circuit keeps: "about as well"
NO_BETTER = 0.05  # above what shuffled heads keep: "no better"

STAGE_TITLES = {
    "direct": "name movers and copy suppression, of the direct effect",
    "steering": "S-inhibition, of what steers those",
    "tertiary": "induction and duplicate-token heads, of what informs these",
}
MOVES = {  # (what is moved, where to): the row of the table
    ("circuit", "same run"): "the same circuit, in another checkpoint of the run",
    ("circuit", "other seed"): "the same circuit, in another seed",
    ("classes", "same run"): "the same classes, other heads, in another checkpoint",
    ("classes", "other seed"): "the same classes, other heads, in another seed",
    ("classes", "other size"): "the same classes, other heads, in another size",
}
HEADLINES = {  # those the chapter begins with
    ("circuit", "same run"): "a circuit from another checkpoint of the same run works",
    ("circuit", "other seed"): "one from another seed works",
    ("classes", "other size"): "a pattern of classes from another size works",
}


def answer(suite: str, head_classes: Sequence[HeadClasses], summary: pd.DataFrame) -> str:
    """The chapter's answer in a sentence, as markdown. `summary`: see `transfer_summary`."""
    able = sum("direct" in classes.patched for classes in head_classes)
    checkpoints = counted(able, "checkpoint")
    parts = []
    for (what, where), beginning in HEADLINES.items():
        row = ioi_row(summary, what, where)
        if row is not None:
            parts.append(f"{beginning} {compared(row)}")
    conclusion = "; ".join(parts) or "nothing to compare"
    return (
        f"**The answer of suite {in_markdown(suite)}** ({checkpoints} that do IOI): {conclusion}."
    )


def claims_table(shares: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Figure 4's three claims, then what circuits and classes keep elsewhere: a row each, in words.

    shares: see `share_table`; summary: see `transfer_summary`.
    """
    columns = ["what", "the paper, of Pythia", "here (in brackets each model's lowest share)"]
    claims = [
        (
            f"{panel}: {STAGE_TITLES[stage]}",
            f"above {CLAIMED[stage]:.0%}",
            claim_at_models(shares, stage),
        )
        for stage, panel in PANELS.items()
    ]
    moves = [(title, "", kept(ioi_row(summary, *move))) for move, title in MOVES.items()]
    return pd.DataFrame(claims + moves, columns=columns)


def claim_at_models(shares: pd.DataFrame, stage: str) -> str:
    """Where the paper's claim of a stage holds: "holds: mini-xs (100%); no such heads: mini-s"."""
    of_stage = shares[(shares["stage"] == stage) & (shares["form"] == "absolute")]
    models_by_answer: dict[str, list[str]] = {}
    for model, of_model in of_stage.groupby("model", sort=False):
        decided = verdict(of_model, CLAIMED[stage])
        if decided.checkpoints:
            models = models_by_answer.setdefault(decided.answer, [])
            models.append(f"{model} ({decided.share:.0%})")
        else:
            models_by_answer.setdefault("no such heads", []).append(str(model))
    return "; ".join(
        f"{answer}: {', '.join(models)}" for answer, models in models_by_answer.items()
    )


def ioi_row(summary: pd.DataFrame, what: str, where: str) -> pd.Series | None:
    """The row of `transfer_summary` about IOI and this move; None where there are no such pairs."""
    rows = summary[
        (summary["task"] == "ioi") & (summary["what"] == what) & (summary["where"] == where)
    ]
    return None if rows.empty else rows.iloc[0]


def kept(row: pd.Series | None) -> str:
    """What is left of the behaviour after a move, in numbers."""
    if row is None:
        return "nothing to compare"
    return (
        f"keeps {row['mean']:.0%} ({row['lowest']:.0%} at worst); "
        f"the target's own {row['own']:.0%}, shuffled heads {row['null']:.0%}"
    )


def compared(row: pd.Series) -> str:
    """The same in words: as well as the target's own, no better than shuffled heads, or between."""
    if row["mean"] >= NEARLY * row["own"]:
        return "about as well as its own"
    if row["mean"] <= row["null"] + NO_BETTER:
        return "no better than one with shuffled heads"
    return "less well than its own, and better than one with shuffled heads"
