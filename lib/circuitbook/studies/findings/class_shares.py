"""How much the classes explain, in a table and sentences: what stands beside Figure 4."""

from __future__ import annotations

import pandas as pd

from circuitbook.studies.class_shares import FUNCTIONS
from circuitbook.studies.head_classes import PANELS
from circuitbook.wording import counted, in_markdown, percent, short_number

WHICH_HEADS = {"absolute": "in the circuit", "all heads": "all heads"}  # form: column of the table


def last_shares(shares: pd.DataFrame) -> pd.DataFrame:
    """The rows of `share_table` that are about each model's last checkpoint."""
    return shares[shares["step"] == shares.groupby("model")["step"].transform("max")]


def final_share_table(shares: pd.DataFrame) -> pd.DataFrame:
    """Shares at each model's last checkpoint, in words, beside what as many random heads explain.

    A row per model and stage that has effects to share; columns for the circuit and for all heads.
    """
    rows = []
    for (model, stage), part in last_shares(shares).groupby(["model", "stage"], sort=False):
        by_form = part.set_index("form")
        if pd.isna(by_form.loc["all heads", "share"]):
            continue
        row = {"model": model, "stage": f"{PANELS[stage]}: {stage}"}
        for form, which in WHICH_HEADS.items():
            row[which], row[f"random, {which}"] = _share_cells(by_form.loc[form])
        rows.append(row)
    return pd.DataFrame(rows)


def _share_cells(row: pd.Series) -> tuple[str, str]:
    """A share with its interval, and the share of random heads; where there is none, why."""
    if pd.isna(row["share"]):
        return f"none: {row['why']}", ""
    share = f"{row['share']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"
    return share, f"{row['null']:.0%} ({row['members']} of {row['nodes']})"


def share_sentences(shares: pd.DataFrame) -> str:
    """What all checkpoints together say."""
    sentences = [against_random_heads(shares), without_classes(shares), jump_sentence(shares)]
    return " ".join(sentence for sentence in sentences if sentence)


def nothing_to_share(shares: pd.DataFrame) -> str:
    """Which stages of which models have no effect to share at the last checkpoint, and why."""
    final = last_shares(shares)
    missing = final[(final["form"] == "all heads") & final["share"].isna()]
    parts = [
        f"{PANELS[stage]} in {in_markdown(*part['model'])} ({why})"
        for (stage, why), part in missing.groupby(["stage", "why"], sort=False)
    ]
    return f"Nothing to share: {'; '.join(parts)}." if parts else ""


def against_random_heads(shares: pd.DataFrame) -> str:
    """Shares of all heads on average, beside those of as many random heads."""
    with_members = shares[
        (shares["form"] == "all heads") & shares["share"].notna() & (shares["members"] > 0)
    ]
    if with_members.empty:
        return ""
    return (
        "Where a stage has heads in its classes, these explain "
        f"{percent(with_members['share'].mean())} of the effect of all heads on average; as many "
        f"random heads explain {percent(with_members['null'].mean())}."
    )


def without_classes(shares: pd.DataFrame) -> str:
    """At how many checkpoints the model does IOI with no head in a class of stage B."""
    direct = _direct_over_all_heads(shares)
    unclassed = direct[direct["members"] == 0]
    if unclassed.empty:
        return ""
    checkpoints = counted(len(unclassed), "checkpoint")
    models = in_markdown(*dict.fromkeys(unclassed["model"]))
    return f"At {checkpoints} the model does IOI with no head in a class of stage B ({models})."


def largest_jump(shares: pd.DataFrame) -> pd.Series | None:
    """The row of `shares` where B over all heads has changed most since the checkpoint before.

    With a column `change`; None where no model has two checkpoints.
    """
    direct = _direct_over_all_heads(shares).sort_values(["model", "step"])
    changes = direct.groupby("model")["share"].diff().abs()
    jumps = direct.assign(change=changes).dropna(subset=["change"])
    return None if jumps.empty else jumps.loc[jumps["change"].idxmax()]


def jump_sentence(shares: pd.DataFrame) -> str:
    jump = largest_jump(shares)
    if jump is None:
        return ""
    return (
        f"The share of B jumps most in {in_markdown(jump['model'])} at "
        f"{short_number(jump['tokens_seen'])} tokens, by {round(100 * jump['change'])} points."
    )


def _direct_over_all_heads(shares: pd.DataFrame) -> pd.DataFrame:
    return shares[
        (shares["stage"] == "direct") & (shares["form"] == "all heads") & shares["share"].notna()
    ]


def function_sentence(functions: pd.DataFrame) -> str:
    """What most models do at the end: suppress the subject, or copy the indirect object.

    functions: see `function_shares`.
    """
    if functions.empty:
        return "No checkpoint does IOI."
    at_io, at_subject, _ = FUNCTIONS
    final = _at_the_end(functions)
    ahead = final.index[final[at_subject] > final[at_io]]
    return (
        f"**At the end, {len(ahead)} of {counted(len(final), 'model')} suppress the subject more "
        "than they copy the indirect object.**"
    )


def function_caption(functions: pd.DataFrame) -> str:
    """How much of what helps comes from heads that look at the subject: a caption, in italics.

    functions: see `function_shares`.
    """
    if functions.empty:
        return ""
    _, at_subject, _ = FUNCTIONS
    by_model, final = functions.groupby("model", sort=False), _at_the_end(functions)
    change = by_model[at_subject].max() - by_model[at_subject].min()
    lowest, highest = final[at_subject].idxmin(), final[at_subject].idxmax()
    if lowest != highest:
        spread = (
            f"{percent(final.loc[lowest, at_subject])} ({in_markdown(lowest)}) "
            f"to {percent(final.loc[highest, at_subject])} ({in_markdown(highest)})"
        )
    else:
        spread = percent(final.loc[lowest, at_subject])
    return (
        f"*Heads that look at the subject make {spread} of what helps; within a run this changes "
        f"by {round(100 * change.max())} points at most.*"
    )


def _at_the_end(functions: pd.DataFrame) -> pd.DataFrame:
    """[model]"""
    by_model = functions.groupby("model", sort=False)
    return functions.loc[by_model["step"].idxmax()].set_index("model")
