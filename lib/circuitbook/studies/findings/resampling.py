"""What is left of IOI when heads are resampled, in a table and a sentence."""

from __future__ import annotations

import pandas as pd

from circuitbook.studies.resampling import SCRUBS
from circuitbook.wording import counted, percent


def final_scrub_table(scrubs: pd.DataFrame) -> pd.DataFrame:
    """What each of `SCRUBS` leaves, with intervals: a row per model, at its last checkpoint.

    scrubs: see `measure_scrubs`. The last columns are resampled from prompts with other names.
    """
    final = scrubs[scrubs["step"] == scrubs.groupby("model")["step"].transform("max")]
    rows = []
    for model, of_model in final.groupby("model", sort=False):
        left = of_model.set_index(["corruption", "scrub"])
        row = {"model": model}
        for scrub in ("heads", "roles", "without"):
            row[SCRUBS[scrub]] = _with_interval(left.loc[("swap", scrub)])
        row["as many random heads"] = f"{left.loc[('swap', 'heads'), 'random']:.0%}"
        for scrub in ("heads", "roles"):
            row[f"{SCRUBS[scrub]} (other names)"] = _with_interval(left.loc[("abc", scrub)])
        rows.append(row)
    return pd.DataFrame(rows)


def _with_interval(row: pd.Series) -> str:
    return f"{row['faithfulness']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"


def scrub_sentence(scrubs: pd.DataFrame) -> str:
    """What the table shows, and the means over all checkpoints."""
    if scrubs.empty:
        return "No head of any checkpoint is in a class, so there is nothing to keep."
    swapped = scrubs[scrubs["corruption"] == "swap"]
    left = swapped.groupby("scrub")["faithfulness"].mean()
    random = swapped.loc[swapped["scrub"] == "heads", "random"].mean()
    checkpoints = counted(len(scrubs[["model", "step"]].drop_duplicates()), "checkpoint")
    return (
        f"**The classes alone keep {percent(left['heads'])} of the behaviour, as many random heads "
        f"{percent(random)}** (the mean over {checkpoints} with heads in classes). Only in their "
        f"roles, they keep {percent(left['roles'])}; all other heads together keep "
        f"{percent(left['without'])}."
    )
