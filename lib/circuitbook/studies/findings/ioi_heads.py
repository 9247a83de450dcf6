"""Which heads solve IOI, by what they do rather than by a score: direct effects, S-inhibition."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.heads.names import Head
from circuitbook.recipes import HeadSettings
from circuitbook.studies.findings.kinds import heads_in, score_table
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.self_repair import CARRIES
from circuitbook.wording import (
    counted,
    head_label,
    in_markdown,
    listed,
    percent,
    short_number,
)

# ---- direct effects


def doing_ioi(heads: Sequence[HeadScores], last: pd.DataFrame) -> pd.DataFrame:
    """Of `last`, a row per head at the last checkpoint, the rows of models that do IOI there."""
    able = {(at.model, at.step) for at in heads if at.able}
    rows = [place in able for place in zip(last["model"], last["step"], strict=True)]
    return last[rows]


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


def role_shares(carrying: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """The share of the effect that carriers of each role make: a row per model, a column per role.

    Shares may add up to more than 1, since other heads work against these.
    """
    roles = pd.Series([role(row) for _, row in carrying.iterrows()], carrying.index, dtype=str)
    shares = (-carrying["direct"]).groupby([carrying["model"], roles]).sum().unstack(fill_value=0.0)
    return shares.reindex(models, fill_value=0.0)


def who_carries(carrying: pd.DataFrame, models: Sequence[str]) -> str:
    """Heads of which role carry most of the answer to the logits, and in how many models."""
    shares = role_shares(carrying, models)
    able = shares[shares.sum(axis=1) > 0]
    if able.empty:
        return f"No head carries as much as {percent(CARRIES)} of IOI to the logits in any model."
    said = []
    for leading, of_role in able.groupby(able.idxmax(axis=1)):
        shares_here = sorted(of_role[leading])
        span = " to ".join(dict.fromkeys(percent(shares_here[end]) for end in (0, -1)))
        few = len(of_role) < len(able) / 2
        runs = f"{len(of_role)} of {counted(len(able), 'run')}"
        where = in_markdown(*of_role.index) if few else runs
        said.append((-len(of_role), f"in {where} by heads that {leading} ({span} of the effect)"))
    return f"Most of the answer is carried {'; '.join(text for _, text in sorted(said))}."


def looks_in_words(scores: pd.DataFrame, heads: Sequence[Head]) -> str:
    """Where these heads of one model look from END, over all prompts; `scores`: a row per head."""
    said = []
    for layer, head in heads:
        row = scores[(scores["layer"] == layer) & (scores["head"] == head)].iloc[0]
        at = {"IO": row["to_IO"], "the subject": row["to_S1"] + row["to_S2"]}
        place = max(at, key=lambda name: at[name])
        said.append(f"{head_label((layer, head))} looks at {place} ({percent(at[place])})")
    return f"From END, {listed(said)}."


def copiers_in_words(last: pd.DataFrame, model: str, bar: float = 0.9) -> str:
    """How much of IOI the heads of a model carry whose copy score is at least `bar`."""
    part = last[last["model"] == model]
    if part.empty:
        return f"At its last checkpoint {in_markdown(model)} does not do IOI."
    copiers, share = part[part["copy"] >= bar], -part.loc[part["copy"] >= bar, "direct"].sum()
    if copiers.empty:
        return f"No head of {in_markdown(model)} has a copy score of {bar:g} or more."
    which = "head has" if len(copiers) == 1 else "heads have"
    text = (
        f"In {in_markdown(model)}, {len(copiers)} {which} a copy score of {bar:g} or more, "
        f"and together {percent(share)} of the direct effect"
    )
    if share < 0.1:
        return f"{text}: **a score is not a role**."
    return f"{text}: **there the score does tell the role**." if share > 0.5 else f"{text}."


# ---- S-inhibition


def scores_where_ioi_is_done(heads: Sequence[HeadScores]) -> pd.DataFrame:
    """The scores of all heads at the checkpoints that do IOI (see `HeadScores.able`)."""
    able = [at for at in heads if at.able]
    return score_table(able) if able else score_table(heads).iloc[:0]


def s_inhibition_heads(able: pd.DataFrame) -> pd.DataFrame:
    """Heads that pass the test (all three signs) with at least 1% of the logit difference."""
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
            "**There is nothing to inhibit:** no head of any checkpoint that does IOI is a name "
            "mover that helps."
        )
    with_movers = [model for model in models if model in set(movers["model"])]
    turned = able[["s_inhibition_IO", "s_inhibition_S1"]].abs().max()
    where = _checkpoints(inhibiting) if len(inhibiting) else 0
    found = f"**At {where} of {counted(_checkpoints(movers), 'checkpoint')} with name movers**"
    return (
        f"{found} a head passes the test with at least 1% of the logit difference. Name movers "
        f"(copy score above {settings.copy_bar:g}, direct effect above "
        f"{percent(settings.direct_bar)}) exist in {in_markdown(*with_movers)}; no head changes "
        f"their attention to IO by more than {percent(turned['s_inhibition_IO'])} of what it is, "
        f"or that to S1 by more than {percent(turned['s_inhibition_S1'])}."
    )


def _checkpoints(scores: pd.DataFrame) -> int:
    return scores.groupby(["model", "step"]).ngroups


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
