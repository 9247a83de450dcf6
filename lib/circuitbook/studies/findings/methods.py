"""Which method to take: what the comparison of methods says."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from circuitbook.studies.methods import METHODS
from circuitbook.wording import TASK_SHORT, counted, in_markdown, listed

TITLES = {
    "patching": "every edge patched",
    "eap": "EAP",
    "eap-qk": "EAP with QK fix",
    "atp*": "AtP*",
    "relp": "RelP",
    "gim": "GIM",
    "clean-corrupted": "EAP at both ends",
    "eap-ig": "EAP-IG",
    "stable": "EAP-IG with stable signs",
    "eap-ig-activations": "EAP-IG on activations",
    "ifr": "IFR",
    "random": "random",
}
YARDSTICK = "eap-ig"
ESTIMATES = tuple(method for method in METHODS if method not in ("patching", "random"))
LEVEL = 1 - 0.05 / (2 * (len(METHODS) - 1))  # of every interval: all are looked at together


def against_yardstick(table: pd.DataFrame) -> pd.DataFrame:
    """Every method but EAP-IG itself beside it, place by place: a row per method.

    table: of `measure_methods`. Columns: method; places; cmd, the mean difference of the
    circuit-model distance (above 0: further from the model); size, the factor between the circuits'
    numbers of edges (geometric mean, above 1: larger); each with _low and _high, by Student's t
    over the places; all of them together are right in 95% of cases (Bonferroni).
    """
    wide = {
        name: table.pivot(index=["model", "task"], columns="method", values=name)
        for name in ("cmd", "edges")
    }
    rows = []
    for method in METHODS:
        if method == YARDSTICK or table.empty:
            continue
        difference = wide["cmd"][method] - wide["cmd"][YARDSTICK]
        factor = np.log(wide["edges"][method] / wide["edges"][YARDSTICK])
        row: dict[str, object] = {"method": method, "places": len(difference)}
        for name, values, of in (("cmd", difference, float), ("size", factor, np.exp)):
            known = values.dropna().to_numpy(float)
            low, mean, high = interval_of_mean(known, LEVEL)
            row |= {name: of(mean), f"{name}_low": of(low), f"{name}_high": of(high)}
        rows.append(row)
    numbers = [f"{name}{end}" for name in ("cmd", "size") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["method", "places", *numbers])


def interval_of_mean(values: np.ndarray, level: float) -> tuple[float, float, float]:
    """(low, mean, high) by Student's t: places are few, and a bootstrap over eight of them is far
    too sure of itself."""
    mean = float(values.mean()) if len(values) else np.nan
    if len(values) < 2:
        return -np.inf, mean, np.inf
    error = values.std(ddof=1) / len(values) ** 0.5
    if error == 0:  # the same everywhere
        return mean, mean, mean
    low, high = student_t.interval(level, len(values) - 1, mean, error)
    return float(low), mean, float(high)


def answer(table: pd.DataFrame) -> str:
    """The page's answer, in bold: which method to take, and what the others cost or lose."""
    if table.empty:
        return "**No model has a circuit at its last checkpoint, so there is nothing to compare.**"
    beside = against_yardstick(table).set_index("method")
    others = [method for method in ESTIMATES if method != YARDSTICK]
    worse = [m for m in others if beside.loc[m, "cmd_low"] > 0 or beside.loc[m, "size_low"] > 1]
    better = [m for m in others if beside.loc[m, "cmd_high"] < 0 or beside.loc[m, "size_high"] < 1]
    even = [m for m in others if m not in worse and m not in better]
    better = [m for m in better if m not in worse]  # closer, but larger: not better
    gradients = table.pivot(index=["model", "task"], columns="method", values="gradients")
    cheap = [m for m in even if (gradients[m] < gradients[YARDSTICK]).all()]
    if better:
        finds = "finds" if len(better) == 1 else "find"
        first = f"{_names(better)} {finds} circuits that are closer to the model, or smaller"
    elif worse and cheap:
        first = f"EAP-IG is the safe choice; {_names(cheap)} may do as well for less"
    elif cheap:
        cheapest = min(cheap, key=lambda method: gradients[method].max())
        first = f"Take {_names([cheapest])}: we can't tell its circuits from EAP-IG's"
    else:
        first = "Take EAP-IG"
    parts = [f"**{first}.**"]
    if worse:
        parts.append(
            f"On {counted(len(gradients), 'pair')} of a model and a task, {_names(worse)} "
            f"{'leads' if len(worse) == 1 else 'lead'} to circuits that are surely larger or "
            "further from the model than EAP-IG's."
        )
    if named := better or cheap:
        parts.append(
            f"{_names(named)} {'takes' if len(named) == 1 else 'take'} "
            f"{_gradients(gradients[named])} a prompt, EAP-IG {_span(gradients[[YARDSTICK]])}."
        )
    if worse and len(cheap) > 1 and not better:
        parts.append(_closest(beside.loc[cheap]))
    if dear := [m for m in even if (gradients[m] > gradients[YARDSTICK]).all()]:
        parts.append(
            f"{_names(dear)} {'takes' if len(dear) == 1 else 'take'} "
            f"{_span(gradients[dear])}, and we can't tell what that gains."
        )
    patching = beside.loc["patching"]
    if patching["cmd_high"] < 0:
        parts.append(
            "Patching every edge comes closer still, for a forward pass an edge: CMD falls by "
            f"{-patching['cmd']:.3f} [{-patching['cmd_high']:.3f}, {-patching['cmd_low']:.3f}], "
            "the mean of the paired differences."
        )
    return " ".join(parts)


def _closest(beside: pd.DataFrame) -> str:
    """Of cheap methods that may do as well, the one that loses least at worst."""
    method = str(beside["cmd_high"].idxmin())
    return (
        f"The least is risked with {_names([method])}, whose CMD lies "
        f"{beside.loc[method, 'cmd_high']:.3f} above EAP-IG's at worst."
    )


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"


def _span(gradients: pd.DataFrame) -> str:
    """How many, at the least and at the most.

    >>> _span(pd.DataFrame({"eap-ig": [5.0, 15.0]}))
    '5 to 15'
    """
    low, high = int(gradients.min().min()), int(gradients.max().max())
    return f"{low}" if low == high else f"{low} to {high}"


def _gradients(gradients: pd.DataFrame) -> str:
    span = _span(gradients)
    return {"0": "no gradient", "1": "one gradient"}.get(span, f"{span} gradients")


def signs_in_words(table: pd.DataFrame) -> str:
    """What it does to put edges with stable signs first."""
    if table.empty:
        return ""
    row = against_yardstick(table).set_index("method").loc["stable"]
    by = f"{_signed(row['cmd'])} [{_signed(row['cmd_low'])}, {_signed(row['cmd_high'])}]"
    if row["cmd_high"] < 0:
        return f"Edges with stable signs first: the circuits come closer to the model, CMD by {by}."
    if row["cmd_low"] > 0:
        return (
            f"Edges with stable signs first: the circuits are further from the model, CMD by {by}."
        )
    return (
        "Whether it helps to take edges with stable signs first, we can't tell: CMD changes by "
        f"{by}, and the smallest circuits have {row['size']:.2f} times the edges "
        f"[{row['size_low']:.2f}, {row['size_high']:.2f}]."
    )


def _names(methods: list[str]) -> str:
    return listed(in_markdown(TITLES[method]) for method in methods)


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """A row per method, medians over the places, as text: what it costs, and what comes of it.

    The time is that of scoring all edges, over EAP's at the same place. Without patching there is
    nothing to correlate with, and no such column.
    """
    formats = {
        "gradients": ("gradients a prompt", "{:.0f}"),
        "time": ("time, EAP's = 1", "{:.1f}"),
        "cpr": ("CPR", "{:.3f}"),
        "cmd": ("CMD", "{:.3f}"),
        "edges": ("edges", "{:.0f}"),
        "fresh": ("faithfulness on fresh prompts", "{:.2f}"),
        "rank": ("rank correlation with patching", "{:.2f}"),
    }
    eap = table[table["method"] == "eap"].set_index(["model", "task"])["seconds"]
    places = pd.MultiIndex.from_frame(table[["model", "task"]])
    timed = table.assign(time=table["seconds"].to_numpy() / eap.loc[places].to_numpy())
    medians = timed.groupby("method", sort=False)[list(formats)].median()
    out = pd.DataFrame({"method": [TITLES[str(method)] for method in medians.index]})
    for name, (title, how) in formats.items():
        if medians[name].notna().any() or table.empty:
            out[title] = ["none" if pd.isna(v) else how.format(v) for v in medians[name]]
    none = out["method"].isin([TITLES["patching"], TITLES["random"]])
    out.loc[none, "gradients a prompt"] = "\u2013"
    out.loc[out["method"] == TITLES["random"], "time, EAP's = 1"] = "\u2013"
    return out


def on_the_real_model(record: Mapping[str, Any]) -> str:
    """Which method comes closest, and which leads to the smallest circuits, on a real model.

    record: of `recorded_methods`. Tasks are too few for intervals, and it says so.
    """
    table = record["methods"]
    table = table[table["method"] != "random"]
    tasks = table["task"].unique()
    closest = _ahead(table, "cmd")
    smallest = _ahead(table, "edges")
    date, prompts = datetime.date.fromisoformat(record["date"]), record["prompts"]
    return (
        f"**On {in_markdown(record['model'])} {closest} the smallest distance, and {smallest} the "
        f"fewest edges.** Recorded on {date.day} {date:%B %Y} on "
        f"{listed(f'{prompts[task]} prompts of {TASK_SHORT[task]}' for task in tasks)}, "
        "too few tasks to say how sure that is. `python -m circuitbook record methods` makes the "
        "record again."
    )


def _ahead(table: pd.DataFrame, column: str) -> str:
    """The methods with the least of it, task by task, and how often."""
    known = table.dropna(subset=[column])
    best = known.loc[known.groupby("task", sort=False)[column].idxmin(), "method"].value_counts()
    tasks = best.sum()
    if len(best) == 1:
        which = {1: "", 2: ", on both tasks,"}.get(int(tasks), f", on all {tasks} tasks,")
        return f"{_names([str(best.index[0])])} has{which}"
    parts = [f"{_names([str(method)])} (on {n} of {tasks} tasks)" for method, n in best.items()]
    return f"{listed(parts)} have"


def patching_in_words(table: pd.DataFrame) -> str:
    """Whether the estimate that orders edges most like patching leads to the best circuits, too."""
    if table.empty:
        return ""
    estimates = table[table["method"].isin(ESTIMATES)]
    medians = estimates.groupby("method", sort=False)[["rank", "cmd"]].median()
    closest, best = str(medians["rank"].idxmax()), str(medians["cmd"].idxmin())
    ranks = f"{medians.loc[closest, 'rank']:.2f}"
    if closest == best:
        return (
            f"{_names([best])} orders the edges most as patching each of them does (rank "
            f"correlation {ranks}), and its circuits are closest to the model."
        )
    return (
        f"Of the estimates, {_names([closest])} orders all edges most as patching each of them "
        f"does (rank correlation {ranks}; {_names([best])} {medians.loc[best, 'rank']:.2f}). Yet "
        f"the circuits of {_names([best])} have the smallest median distance: most edges do next "
        "to nothing, and only the order of the others matters to a circuit."
    )
