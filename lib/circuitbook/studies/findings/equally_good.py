"""Which edges, if several do: what exact selection and minimal circuits say."""

from __future__ import annotations

import numpy as np
import pandas as pd

from circuitbook.studies.exact_selections import LARGEST, SELECTIONS
from circuitbook.wording import TASK_SHORT, counted, percent, two_digits

PLACE = ["model", "task"]
SMALLEST = 5  # edges from which sums are compared: of fewer, greedy may have no circuit at all


# ------------------------------------------------------------------ exact selection


def selection_table(selections: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """A row per model and task, of `measure_selections`.

    Columns: model, task; exact, greedy, top: edges of the smallest circuit that keeps the
    threshold, nan where none does; share, worst: greedy's sum of scores over the exact one, mean
    and smallest over the sizes from `SMALLEST` on; gap: the largest.
    """
    rows = []
    for (model, task), part in selections.groupby(PLACE, sort=False):
        row: dict[str, object] = {"model": model, "task": task}
        for selection in SELECTIONS:
            passing = part[(part["selection"] == selection) & (part["kept"] >= threshold)]
            row[selection] = passing["edges"].min() if len(passing) else np.nan
        total = part.pivot(index="n", columns="selection", values="total").loc[SMALLEST:]
        share = total["greedy"] / total["exact"]
        row |= {"share": share.mean(), "worst": share.min(), "gap": part["gap"].max()}
        rows.append(row)
    return pd.DataFrame(rows, columns=[*PLACE, *SELECTIONS, "share", "worst", "gap"])


def selection_in_words(selections: pd.DataFrame, threshold: float) -> str:
    """Whether the exact best edges make smaller circuits than the greedy ones."""
    table = selection_table(selections, threshold)
    if table.empty:
        return "No circuit was found, so there is nothing to select from."
    both = table.dropna(subset=["exact", "greedy"])
    fewer = int((both["exact"] < both["greedy"]).sum())
    more = int((both["exact"] > both["greedy"]).sum())
    n = len(both)
    lost = 1 - table["share"].mean()
    said = (
        f"Greedy selection leaves {percent(lost, 1)} of the sum of scores behind in the mean over "
        f"sizes, and {percent(1 - table['worst'].min(), 1)} at worst. "
    )
    if both.empty:
        said += (
            f"No circuit of {LARGEST} edges or fewer keeps {percent(threshold)} by both, so we "
            "can't compare circuits."
        )
    elif fewer > more:
        said += (
            f"**The exact best edges make smaller circuits**: in {fewer} of {n} they keep "
            f"{percent(threshold)} with fewer edges than the greedy ones, in {more} with more."
        )
    elif more or fewer:
        said += (
            "**A larger sum is not a better circuit**: to keep "
            f"{percent(threshold)}, the exact best edges need fewer than the greedy ones in "
            f"{fewer} of {n} and more in {more}."
        )
    else:
        said += (
            f"**It makes no difference to the circuit**: in all {n} both keep "
            f"{percent(threshold)} with the same number of edges."
        )
    open_ones = int((selections.groupby([*PLACE, "n"])["gap"].max() > 1e-6).sum())
    programs = selections.groupby([*PLACE, "n"]).ngroups
    if open_ones:
        return f"{said} Of {programs} programs {open_ones} ran out of time: see the gap."
    return f"{said} All {programs} programs were solved to the end."


def selection_shown(selections: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """`selection_table` as text."""
    table = selection_table(selections, threshold)
    out = pd.DataFrame(
        {"model": table["model"], "task": [TASK_SHORT[name] for name in table["task"]]}
    )
    for selection, title in (("exact", "exact"), ("greedy", "greedy"), ("top", "first n")):
        out[title] = ["none" if pd.isna(n) else f"{n:.0f}" for n in table[selection]]
    for column, title in (("share", "greedy's sum, mean"), ("worst", "at worst")):
        out[title] = [percent(value, 1) for value in table[column]]
    out["gap"] = [percent(value, 1) for value in table["gap"]]
    return out


# ------------------------------------------------------------------ minimal circuits


def minimal_in_words(table: pd.DataFrame, threshold: float) -> str:
    """How different circuits that keep as much can be. table: of `minimal_table`."""
    if table.empty:
        return "No circuit was found, so no others can be set beside it."
    alike = table["furthest"] == 1  # of all, those that were made to differ too
    single, several = table[alike], table[~alike]
    if several.empty:
        return (
            f"**Every order of removal leads to the same circuit** in all {len(table)} pairs of a "
            f"model and a task: sampling finds no second one that keeps {percent(threshold)}."
        )
    iou, chance = several["iou"], several["chance"]
    parts = [
        f"**Of the edges of two minimal circuits that keep {percent(threshold)}, {_range(iou)} are "
        f"in both in the mean**, of two random ones {_range(chance)}, of the two furthest apart "
        f"{_range(several['furthest'])}."
    ]
    core = several["core"] / several["edges"]
    parts.append(f"{_range(core)} of a circuit's edges are in all of them.")
    if len(single):
        places = [f"{TASK_SHORT[row.task]} in {row.model}" for row in single.itertuples()]
        parts.append(f"Every order leads to the same circuit for {', '.join(places)}.")
    parts.append(
        f"Of the edges of one and of the search's circuit {_range(several['found'])} are in both."
    )
    return " ".join(parts)


def fresh_in_words(table: pd.DataFrame, threshold: float) -> str:
    """What is left of the minimal circuits on prompts that they were not found on."""
    known = table.dropna(subset=["fresh"])
    if known.empty:
        return "No prompts are left that the circuits were not found on."
    below = int((known["fresh"] < threshold).sum())
    n, worse = len(known), int((known["fresh"] < known["fresh_found"]).sum())
    random = known["fresh_random"].max()
    said = (
        f"On fresh prompts the median minimal circuit keeps {_range(known['fresh'])}, below "
        f"{percent(threshold)} in {below} of {n}; the circuit of the search keeps "
        f"{_range(known['fresh_found'])}, more than the minimal ones in {worse}."
    )
    if random < threshold / 2:
        return f"{said} Random circuits of the same size keep {percent(random)} at most (median)."
    return (
        f"{said} But random circuits of the same size keep up to {percent(random)} (median), so "
        "that little is special about any of them."
    )


def _range(values: pd.Series) -> str:
    low, high = percent(values.min()), percent(values.max())
    return low if low == high else f"{low} to {high}"


def minimal_shown(table: pd.DataFrame) -> pd.DataFrame:
    """`minimal_table` as text."""
    out = pd.DataFrame(
        {
            "model": table["model"],
            "task": [TASK_SHORT[name] for name in table["task"]],
            "circuits": [
                f"{row.different} of {counted(row.draws, 'draw')}" for row in table.itertuples()
            ],
            "edges": [f"{row.edges:g} ({row.least} to {row.most})" for row in table.itertuples()],
            "in all": table["core"],
            "in any": table["some"],
        }
    )
    columns = {
        "iou": "Jaccard of two",
        "furthest": "furthest two",
        "chance": "random two",
        "found": "with the search's",
        "fresh": "kept, fresh",
        "fresh_found": "search's, fresh",
        "fresh_random": "random, fresh",
    }
    for column, title in columns.items():
        out[title] = ["" if pd.isna(value) else two_digits(value) for value in table[column]]
    return out
