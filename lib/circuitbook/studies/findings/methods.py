"""Which method to take: what the comparison of methods says."""

from __future__ import annotations

import numpy as np
import pandas as pd

from circuitbook.stats import bootstrap_draws, interval
from circuitbook.studies.methods import METHODS
from circuitbook.wording import counted, listed

TITLES = {
    "patching": "every edge patched",
    "eap": "EAP",
    "relp": "RelP",
    "gim": "GIM",
    "eap-ig": "EAP-IG",
    "random": "random",
}
YARDSTICK = "eap-ig"
ESTIMATES = tuple(method for method in METHODS if method not in ("patching", "random"))
LEVEL = 1 - 0.05 / (2 * (len(METHODS) - 1))  # of every interval: all are looked at together


def against_yardstick(table: pd.DataFrame) -> pd.DataFrame:
    """Every method but EAP-IG itself beside it, place by place: a row per method.

    table: of `measure_methods`. Columns: method; places; cmd, the mean difference of the
    circuit-model distance (above 0: further from the model); size, the factor between the circuits'
    numbers of edges (geometric mean, above 1: larger); each with _low and _high, over the places
    drawn with replacement; all of them together are right in 95% of cases (Bonferroni).
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
            low, mean, high = _mean_with_interval(known)
            row |= {name: of(mean), f"{name}_low": of(low), f"{name}_high": of(high)}
        rows.append(row)
    numbers = [f"{name}{end}" for name in ("cmd", "size") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["method", "places", *numbers])


def _mean_with_interval(values: np.ndarray) -> tuple[float, float, float]:
    if len(values) < 2:
        mean = float(values.mean()) if len(values) else np.nan
        return -np.inf, mean, np.inf
    low, high = interval(bootstrap_draws(len(values)) @ values, LEVEL)
    return float(low), float(values.mean()), float(high)


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
    gradients = table[table["method"] == YARDSTICK]["gradients"]
    cost = f"{gradients.min():.0f}"
    if gradients.max() > gradients.min():
        cost += f" to {gradients.max():.0f}"
    n = table.groupby(["model", "task"]).ngroups
    if better:
        finds = "finds" if len(better) == 1 else "find"
        first = f"{_names(better)} {finds} circuits that are closer to the model, or smaller"
    elif worse and even:
        first = f"EAP-IG is the safe choice; {_names(even)} may do as well for less"
    elif worse:
        first = "Take EAP-IG"
    else:
        first = "Take EAP: we can't tell its circuits from EAP-IG's"
    parts = [f"**{first}.**"]
    if worse:
        parts.append(
            f"On {counted(n, 'pair')} of a model and a task, {_names(worse)} "
            f"{'leads' if len(worse) == 1 else 'lead'} to circuits that are surely larger or "
            "further from the model than EAP-IG's."
        )
    if cheap := better or (even if worse else []):
        parts.append(
            f"{_names(cheap)} take{'s' if len(cheap) == 1 else ''} one gradient a prompt, EAP-IG "
            f"{cost}."
        )
    elif even:
        parts.append(f"It takes one gradient a prompt, EAP-IG {cost}.")
    patching = beside.loc["patching"]
    if patching["cmd_high"] < 0:
        parts.append(
            "Patching every edge comes closer still, for a forward pass an edge: CMD falls by "
            f"{-patching['cmd']:.3f} [{-patching['cmd_high']:.3f}, {-patching['cmd_low']:.3f}], "
            "the mean of the paired differences."
        )
    return " ".join(parts)


def _names(methods: list[str]) -> str:
    return listed(TITLES[method] for method in methods)


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """A row per method, medians over the places, as text: what it costs, and what comes of it."""
    formats = {
        "gradients": ("gradients a prompt", "{:.0f}"),
        "cpr": ("CPR", "{:.3f}"),
        "cmd": ("CMD", "{:.3f}"),
        "edges": ("edges", "{:.0f}"),
        "fresh": ("faithfulness on fresh prompts", "{:.2f}"),
        "rank": ("rank correlation with patching", "{:.2f}"),
    }
    medians = table.groupby("method", sort=False)[list(formats)].median()
    out = pd.DataFrame({"method": [TITLES[str(method)] for method in medians.index]})
    for name, (title, how) in formats.items():
        out[title] = [how.format(value) for value in medians[name]]
    none = out["method"].isin([TITLES["patching"], TITLES["random"]])
    out.loc[none, "gradients a prompt"] = "\u2013"
    return out


def patching_in_words(table: pd.DataFrame) -> str:
    """Whether the estimate that orders edges most like patching leads to the best circuits, too."""
    if table.empty:
        return ""
    medians = table[table["method"].isin(ESTIMATES)].groupby("method")[["rank", "cmd"]].median()
    closest, best = str(medians["rank"].idxmax()), str(medians["cmd"].idxmin())
    ranks = f"{medians.loc[closest, 'rank']:.2f}"
    if closest == best:
        return (
            f"{TITLES[best]} orders the edges most as patching each of them does (rank correlation "
            f"{ranks}), and its circuits are closest to the model."
        )
    return (
        f"Of the estimates, {TITLES[closest]} orders all edges most as patching each of them does "
        f"(rank correlation {ranks}; {TITLES[best]} {medians.loc[best, 'rank']:.2f}). Yet it is "
        f"the circuits of {TITLES[best]} that have the smallest median distance: most edges do "
        "next to nothing, and only the order of the others matters to a circuit."
    )
