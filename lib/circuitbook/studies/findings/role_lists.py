"""What the runs say in which the giver is called by a role, and has to be looked up: whether they
learn it, by which algorithm, and where it is told who has the role.

The table is that of `records.list_runs.ROLES`, the algorithms are those of `two_algorithms`.
"""

from __future__ import annotations

import pandas as pd

from circuitbook.model.graph import HEAD_INPUTS
from circuitbook.studies.findings.two_algorithms import (
    FETCH,
    MOVE,
    SOLVED,
    UNSOLVED,
    seeds_table,
)
from circuitbook.wording import counted, listed, short_number

WAYS = {  # input of the head that chooses: what it means that the role's bearer is told through it
    "k": "its keys (the names in the list are marked with roles)",
    "q": "its queries (who has the role is looked up, and then the receiver)",
    "v": "its values (the receiver is looked up elsewhere, and fetched)",
}


def told_through(last: pd.DataFrame) -> pd.Series:
    """Of each run, the input of the head that chooses through which heads tell most of who has the
    role: "q", "k" or "v"; "" where lists are not solved, or nothing is told.

    last: `two_algorithms.last_of_runs` of the table of roles.
    """
    sums = last[[f"tag_{kind}" for kind in HEAD_INPUTS]].fillna(0.0)
    strongest = sums.idxmin(axis=1).str.removeprefix("tag_")
    return strongest.where((sums.min(axis=1) < 0) & (last["algorithm"] != UNSOLVED), "")


def passes_on(last: pd.DataFrame) -> pd.Series:
    """Of each run, whether the head that carries the choice looks at neither name, and a name mover
    tells it most through its values."""
    told = [
        row["chooser_by_v"] != "" and row["chooser_by_v"] in row["movers"].split()
        for _, row in last.iterrows()
    ]
    return last["solved"] & (last["algorithm"] == UNSOLVED) & pd.Series(told, last.index, bool)


def roles_answer(last: pd.DataFrame) -> str:
    """How many runs learn to look the giver up, and by which algorithm."""
    if last.empty:
        return "No run whose givers are called by their roles has ended."
    counts = last["algorithm"].value_counts()
    moves, fetches = (int(counts.get(name, 0)) for name in (MOVE, FETCH))
    parts = [
        f"{n} {what}" for n, what in ((moves, "find and move"), (fetches, "look up and fetch"))
    ]
    solved = int(last["solved"].sum())
    said = (
        f"Of {counted(len(last), 'run')} whose givers are called by a role, {solved} learn all "
        "lists"
    )
    if moves + fetches:
        said += f": {listed(parts)}"
    passed = int(passes_on(last).sum())
    if passed:
        said += f"; in {passed} a head that looks at neither name passes on what a name mover found"
    if other := solved - moves - fetches - passed:
        said += (
            f"; in {other} no single head, or one that looks at neither name, carries the choice"
        )
    return said + "."


def roles_sentence(table: pd.DataFrame, last: pd.DataFrame) -> str:
    """`roles_answer`, when, and through what it is told who has the role."""
    said = roles_answer(last)
    solved = last[last["solved"]]
    if solved.empty:
        return said
    first = [
        float(rows.loc[rows["top_2"] > SOLVED, "tokens_seen"].min())
        for _, rows in table[table["run"].isin(solved["run"])].groupby("run", sort=False)
    ]
    said += f" Lists of two are right after {_from_to(first)} tokens."
    movers = solved[solved["algorithm"] == MOVE]
    if len(movers):
        n = int(movers["inhibited"].sum())
        said += (
            f" Of those that find and move, {n} {'has' if n == 1 else 'have'} S-inhibition; what "
            "tells its heads who gives is a role now, no name."
        )
    through = told_through(solved)
    parts = [
        f"in {int((through == kind).sum())} mostly through {what}"
        for kind, what in WAYS.items()
        if (through == kind).any()
    ]
    if parts:
        said += f" Who has that role reaches the head that chooses {listed(parts)}."
    return said


def _from_to(values: list[float]) -> str:
    """The smallest and the largest number, or the one."""
    ends = dict.fromkeys(short_number(value) for value in (min(values), max(values)))
    return " to ".join(ends)


def roles_table(last: pd.DataFrame) -> pd.DataFrame:
    """`seeds_table`, and per run: who has the role is told through which input, by which head
    most, and its effect."""
    rows = last.sort_values(["layers", "seed"]).reset_index(drop=True)
    through = told_through(rows)
    table = seeds_table(last)
    table["role told through"] = through.map({"q": "queries", "k": "keys", "v": "values"}).fillna(
        "-"
    )
    heads = [
        (row[f"tag_by_{kind}"], row[f"tag_by_{kind}_effect"]) if kind else ("", float("nan"))
        for kind, (_, row) in zip(through, rows.iterrows(), strict=True)
    ]
    table["by"], table["effect of that"] = zip(*heads, strict=True) if heads else ([], [])
    return table
