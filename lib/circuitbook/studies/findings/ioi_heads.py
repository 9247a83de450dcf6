"""Which heads solve IOI, by what they do rather than by a score: direct effects, S-inhibition."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.recipes import HeadSettings
from circuitbook.studies.findings.kinds import heads_in, score_table
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.self_repair import CARRIES
from circuitbook.wording import bullets, head_label, in_markdown, short_number

# ---- direct effects


def carrying_heads(last: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Heads whose direct effect is beyond `CARRIES`, model by model, the largest effect first.

    last: a row per head at the last checkpoint; negative direct effects help.
    """
    carrying = last[last["direct"] < -CARRIES].sort_values("direct", kind="stable")
    return carrying.sort_values(
        "model", key=lambda names: names.map([*models].index), kind="stable"
    )


def carriers_table(carrying: pd.DataFrame) -> pd.DataFrame:
    """What these heads do, in the chapter's words: effect, where they look from END, scores."""
    return pd.DataFrame(
        {
            "model": carrying["model"],
            "head": [head_label(head) for head in heads_in(carrying)],
            "direct effect": -carrying["direct"],
            "looks at IO": carrying["to_IO"],
            "at S": carrying["to_S1"] + carrying["to_S2"],
            "copies": carrying["copy"],
            "lowers": carrying["negative_copy"],
            "CSPA": carrying["copy_suppression"],
        }
    )


def role(row: pd.Series) -> str:
    """Where a head looks most from END, and what it writes there, as in "heads that ..."."""
    to_subject = row["to_S1"] + row["to_S2"]
    if row["to_IO"] > to_subject and row["copy"] > 0.5:
        return "look at the indirect object and copy it"
    if to_subject > row["to_IO"] and row["negative_copy"] > row["copy"]:
        return "look at the subject and lower it"
    if to_subject > row["to_IO"]:
        return "look at the subject"
    return "look elsewhere"


def carriers_in_words(carrying: pd.DataFrame, models: Sequence[str]) -> str:
    """How much of the effect heads of each role make, a line per model."""
    lines = []
    for model in models:
        part = carrying[carrying["model"] == model]
        roles = pd.Series([role(row) for _, row in part.iterrows()], part.index, dtype=str)
        effects = part["direct"].groupby(roles).sum().sort_values()
        shares = [
            f"{-effect:.0%} of the effect by heads that {what}" for what, effect in effects.items()
        ]
        lines.append(
            f"**{in_markdown(model)}**: {'; '.join(shares) or 'no head makes 5 % of the effect'}."
        )
    return bullets(lines)


# ---- S-inhibition


def scores_where_ioi_is_done(heads: Sequence[HeadScores]) -> pd.DataFrame:
    """The scores of all heads at the checkpoints that do IOI (see `HeadScores.does_ioi`)."""
    able = [at for at in heads if at.does_ioi]
    return score_table(able) if able else score_table(heads).iloc[:0]


def s_inhibition_heads(able: pd.DataFrame) -> pd.DataFrame:
    """Heads that pass the test (all three signs) with at least 1 % of the logit difference."""
    return able[
        (able["s_inhibition_logit_difference"] < -0.01)
        & (able["s_inhibition_IO"] < 0)
        & (able["s_inhibition_S1"] > 0)
    ]


def s_inhibition_in_words(
    able: pd.DataFrame, inhibiting: pd.DataFrame, models: Sequence[str], settings: HeadSettings
) -> str:
    """Where name movers exist, how many heads keep them from the subject, and how strongly."""
    movers = able[able["mover"]]
    if movers.empty:
        return (
            "No head of any checkpoint that does IOI is a name mover that helps, "
            "so there is nothing to inhibit."
        )
    with_movers = [model for model in models if model in set(movers["model"])]
    turned = able[["s_inhibition_IO", "s_inhibition_S1"]].abs().max()
    return (
        f"Name movers (copy score above {settings.copy_bar:g}, direct effect helping by more than "
        f"{settings.direct_bar:.0%}) exist at {_checkpoints(movers)} of the {_checkpoints(able)} "
        f"checkpoints that do IOI, in {in_markdown(*with_movers)}. "
        f"{_how_many_inhibit(inhibiting)}. The largest change of the movers' attention by any "
        f"head: {turned['s_inhibition_IO']:.0%} to IO, {turned['s_inhibition_S1']:.0%} to S1 "
        f"(of what it is without)."
    )


def _checkpoints(scores: pd.DataFrame) -> int:
    return scores.groupby(["model", "step"]).ngroups


def _how_many_inhibit(inhibiting: pd.DataFrame) -> str:
    if inhibiting.empty:
        return (
            "No head passes the test of S-inhibition with as much as 1 % of the logit difference "
            "at any checkpoint"
        )
    return (
        "Heads that pass the test of S-inhibition with at least 1 % of the logit difference: "
        f"{len(inhibiting)} in {_checkpoints(inhibiting)} checkpoints"
    )


def s_inhibition_table(inhibiting: pd.DataFrame, largest: int = 8) -> pd.DataFrame:
    """Those that lower the logit difference most, with what they do to the movers' attention."""
    strongest = inhibiting.sort_values("s_inhibition_logit_difference").head(largest)
    return pd.DataFrame(
        {
            "model": strongest["model"],
            "tokens": strongest["tokens_seen"].map(short_number),
            "head": [head_label(head) for head in heads_in(strongest)],
            "logit difference": strongest["s_inhibition_logit_difference"].map("{:+.1%}".format),
            "attention to IO": strongest["s_inhibition_IO"].map("{:+.1%}".format),
            "to S1": strongest["s_inhibition_S1"].map("{:+.1%}".format),
            "own attention to S2": strongest["to_S2"].map("{:.2f}".format),
        }
    )
