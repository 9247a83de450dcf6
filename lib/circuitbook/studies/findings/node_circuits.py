"""What edges buy over nodes: what circuits of nodes beside those of edges say."""

from __future__ import annotations

import numpy as np
import pandas as pd

from circuitbook.studies.findings.methods import interval_of_mean
from circuitbook.studies.node_circuits import KINDS
from circuitbook.wording import capitalised, counted, listed, percent

TITLES = {
    "edges": "edges, by EAP-IG",
    "sum": "nodes, by EAP-IG",
    "absolute": "nodes, by absolute scores of edges",
    "patching": "nodes, each patched",
}
OF_NODES = KINDS[1:]
LEVEL = 1 - 0.05 / (2 * len(OF_NODES))  # of every interval: all are looked at together
NUMBERS = ("cmd", "size")


def beside(table: pd.DataFrame, yardstick: str = "edges") -> pd.DataFrame:
    """Every kind of nodes but the yardstick beside it, place by place: a row per kind.

    table: of `measure_nodes`. Columns: kind; places; cmd, the mean difference of the circuit-model
    distance (above 0: further from the model); size, the factor between the circuits' numbers of
    edges (geometric mean, above 1: larger); each with _low and _high, by Student's t over the
    places; all of them together are right in 95% of cases (Bonferroni).
    """
    rows = []
    cmd, edges = (
        table.pivot(index=["model", "task"], columns="kind", values=name)
        for name in ("cmd", "edges")
    )
    for kind in OF_NODES:
        if kind == yardstick or table.empty:
            continue
        row: dict[str, object] = {"kind": kind, "places": len(cmd)}
        factor = np.log(edges[kind] / edges[yardstick])
        for name, values in (("cmd", cmd[kind] - cmd[yardstick]), ("size", factor)):
            ends = interval_of_mean(values.dropna().to_numpy(float), LEVEL)
            low, mean, high = np.exp(ends) if name == "size" else ends
            row |= {name: float(mean), f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    columns = [f"{name}{end}" for name in NUMBERS for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["kind", "places", *columns])


def nodes_in_words(table: pd.DataFrame, threshold: float) -> str:
    """What edges buy over nodes in the order of the same scores; `threshold` of the search."""
    if table.empty or table["edges"].isna().all():
        return "**No model has a circuit at its last checkpoint, so there is nothing to compare.**"
    row = beside(table).set_index("kind").loc["sum"]
    size, cmd = _with_interval(row, "size"), _with_interval(row, "cmd")
    kept = f"To keep {percent(threshold)} of the behaviour"
    if row["size_low"] > 1:
        first = f"{kept}, a circuit of nodes needs {size} times as many edges."
    elif row["size_high"] < 1:
        first = f"{kept}, a circuit of nodes needs fewer edges, {size} times as many."
    else:
        first = f"Whether nodes need more edges than edges chosen one by one, we can't tell: {size}"
        first += " times as many."
    parts = [
        f"**{first}**",
        f"That is over {counted(int(row['places']), 'pair')} of a model and a task.",
    ]
    if row["cmd_low"] > 0:
        parts.append(
            f"At equal numbers of edges nodes stay further from the model: CMD is {cmd} more."
        )
    elif row["cmd_high"] < 0:
        parts.append(
            f"At equal numbers of edges nodes come closer to the model: CMD changes by {cmd}."
        )
    else:
        parts.append(
            f"At equal numbers of edges we can't tell who is closer: CMD changes by {cmd}."
        )
    nodes = table.groupby("kind")["nodes"].median()
    parts.append(
        f"In a circuit of edges {nodes['edges']:g} nodes have an edge, `input` and `logits` among "
        f"them; a circuit of nodes has {nodes['sum']:g} (medians)."
    )
    return " ".join(parts)


def nodes_caption(table: pd.DataFrame) -> str:
    """Caption of the figure, in italics: how far apart circuits of edges and of nodes are."""
    medians = table.groupby("kind")[["edges", "cmd"]].median()
    (edges, near), (more, far) = (medians.loc[kind] for kind in ("edges", "sum"))
    return (
        f"*In the median a circuit of edges has {edges:g} of them and one of nodes {more:g}, and "
        f"their CMD is {near:.3f} and {far:.3f}.*"
    )


def orders_in_words(table: pd.DataFrame) -> str:
    """Whether it matters by what score nodes are put in order."""
    if table.empty:
        return ""
    rows = beside(table, "sum").set_index("kind")
    by = {"absolute": "absolute scores of edges", "patching": "patching each of them"}
    worse = [k for k in by if rows.loc[k, "cmd_low"] > 0 or rows.loc[k, "size_low"] > 1]
    better = [k for k in by if rows.loc[k, "cmd_high"] < 0 or rows.loc[k, "size_high"] < 1]
    better = [k for k in better if k not in worse]  # closer, but larger: not better
    parts = [f"nodes in order by {listed(by[k] for k in better)} make better"] if better else []
    parts += [f"nodes in order by {listed(by[k] for k in worse)} make worse"] if worse else []
    if parts:
        said = capitalised(" circuits, and ".join(parts))
        return f"{said} circuits than in order of their own attribution."
    return (
        "By what score nodes are put in order makes no difference that we can tell: against their "
        "own attribution, CMD changes by "
        + listed(f"{_with_interval(rows.loc[k], 'cmd')} by {by[k]}" for k in by)
        + "."
    )


def node_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row per kind, medians over the places, as text."""
    formats = {
        "nodes": ("nodes", "{:g}"),
        "edges": ("edges", "{:g}"),
        "cpr": ("CPR", "{:.3f}"),
        "cmd": ("CMD", "{:.3f}"),
        "fresh": ("faithfulness on fresh prompts", "{:.2f}"),
        "seconds": ("seconds for the scores", "{:.1f}"),
    }
    medians = table.groupby("kind", sort=False)[list(formats)].median()
    out = pd.DataFrame({"circuit": [TITLES[str(kind)] for kind in medians.index]})
    for name, (title, how) in formats.items():
        out[title] = ["none" if pd.isna(v) else how.format(v) for v in medians[name]]
    return out


def _with_interval(row: pd.Series, name: str) -> str:
    """_with_interval(row, "size") -> "2.6 [2.1, 3.3]" """
    digits = 1 if name == "size" else 3
    middle, low, high = (
        f"{round(float(row[f'{name}{end}']), digits) + 0.0:.{digits}f}"
        for end in ("", "_low", "_high")
    )
    return f"{middle} [{low}, {high}]"
