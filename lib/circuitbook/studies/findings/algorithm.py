"""The algorithm chapter's answer: the paper's claims, and what a circuit keeps elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.stats import Verdict
from circuitbook.studies.class_shares import verdict
from circuitbook.studies.head_classes import CLAIMED, PANELS, HeadClasses
from circuitbook.wording import capitalised, counted, in_markdown, percent

NEARLY = 0.9  # of what the target's own circuit keeps, on average: it works
MOST = 0.5  # the same of the worst place: it works everywhere
NO_BETTER = 0.05  # above what shuffled heads keep: "no better"

HEADLINES = {  # (what is moved, where to): what the chapter begins with, by `works`
    ("circuit", "same run"): {
        "well": "within a run a circuit goes on working, on average",
        "mostly": "within a run a circuit mostly goes on working",
        "in part": "within a run a circuit goes on working only in part",
        "not": "even within a run a circuit does not go on working",
    },
    ("circuit", "other seed"): {
        "well": "it works in another seed, too",
        "mostly": "it works in most other seeds",
        "in part": "in another seed it works only in part",
        "not": "in another seed it does not work",
    },
    ("classes", "other seed"): {
        "well": "the pattern of its heads' classes works there",
        "mostly": "the pattern of its heads' classes works in most seeds",
        "in part": "the pattern of its heads' classes works there in part",
        "not": "the pattern of its heads' classes does not work there",
    },
}
PLACED = {
    ("circuit", "same run"): "a circuit put at another checkpoint of its run",
    ("circuit", "other seed"): "one put into another seed",
    ("classes", "other seed"): "a pattern of classes put there",
}

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


def answer(suite: str, head_classes: Sequence[HeadClasses], summary: pd.DataFrame) -> str:
    """The chapter's answer, as markdown: in words, then in numbers. `summary`: see
    `transfer_summary`.
    """
    able = sum("direct" in classes.patched for classes in head_classes)
    rows = [ioi_row(summary, *move) for move in HEADLINES]
    compared = [(move, row) for move, row in zip(HEADLINES, rows, strict=True) if row is not None]
    if not compared:
        return f"**There is no second place to put a circuit to in {in_markdown(suite)}.**"
    words = "; ".join(HEADLINES[move][works(row)] for move, row in compared)
    numbers = "; ".join(f"{PLACED[move]} keeps {percent(row['mean'])}" for move, row in compared)
    return (
        f"**{capitalised(words)}.** On average, {numbers} of the behaviour "
        f"({in_markdown(suite)}, {counted(able, 'checkpoint')} with IOI)."
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


def claim_caption(shares: pd.DataFrame, stage: str = "direct") -> str:
    """In how many models the paper's claim of a stage holds, as a caption begins: in italics."""
    of_stage = shares[(shares["stage"] == stage) & (shares["form"] == "absolute")]
    answers = [
        verdict(part, CLAIMED[stage]).answer for _, part in of_stage.groupby("model", sort=False)
    ]
    holds = answers.count(Verdict.HOLDS)
    return (
        f"*In {holds} of {counted(len(answers), 'model')} the classes of stage "
        f"{PANELS[stage]} explain more than {percent(CLAIMED[stage])} at every checkpoint that "
        "has a circuit with such heads (where there is one head only, so would any other), as the "
        "paper reports of Pythia (its Figure 4 B, C and D, for this suite). Left: the share in the "
        "circuit; middle: its signed sum; right: over all heads. Solid: the classes; dashed: other "
        "seeds. Dotted: as many heads drawn at random. Grey bar: the paper's bound. No curve: no "
        "heads whose inputs the stage patches, or no effect to explain.*"
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


def works(row: pd.Series) -> str:
    """How well something works where it was put: "well", "mostly" (well on average, and at worst
    less than half as well), "in part", or "not" (no better than with shuffled heads).
    """
    if row["mean"] <= row["null"] + NO_BETTER:
        return "not"
    if row["mean"] < NEARLY * row["own"]:
        return "in part"
    return "well" if row["lowest"] >= MOST * row["own"] else "mostly"
