"""The circuits of several tasks in one model: on other prompts, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from circuitbook.circuits.random_circuits import random_circuit
from circuitbook.circuits.similarity import jaccard
from circuitbook.heads.names import head_name
from circuitbook.model.graph import Graph
from circuitbook.recipes import PAPER_SHARE
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_classes import CLASSES, HeadClasses
from circuitbook.wording import TASK_SHORT, TASK_TITLES, counted, head_label, percent


def circuits_table(held_out: pd.DataFrame) -> pd.DataFrame:
    """The circuit of each task in words. held_out: see `measure_held_out`, of one checkpoint."""
    fresh = [
        "no prompts left"
        if np.isnan(row.held_out)
        else f"{row.held_out:.0%} [{row.low:.0%}, {row.high:.0%}]"
        for row in held_out.itertuples()
    ]
    return pd.DataFrame(
        {
            "task": held_out["task"].map(TASK_TITLES),
            "edges": held_out["edges"].map("{:,}".format),
            "of all": held_out["share"].map("{:.2%}".format),
            "keeps, where it was found": held_out["found_on"].map("{:.0%}".format),
            "keeps, on other prompts": fresh,
        }
    )


def circuits_sentence(held_out: pd.DataFrame, threshold: float) -> str:
    """Do small circuits keep what they keep on prompts that they were not found on?"""
    tested = held_out.dropna(subset=["held_out"])
    small = int((held_out["share"] <= PAPER_SHARE).sum())
    circuits = counted(len(held_out), "circuit")
    size = f"{small} of {circuits} have at most {percent(PAPER_SHARE)} of the edges."
    if tested.empty:
        return size
    below = tested[tested["high"] < threshold]
    worst = tested.loc[tested["held_out"].idxmin()]
    if below.empty:
        verdict_ = f"none falls beyond doubt below {percent(threshold)}"
    else:
        named = " and ".join(below["task"].map(TASK_SHORT))
        verdict_ = f"{named} {'falls' if len(below) == 1 else 'fall'} beyond doubt below "
        verdict_ += percent(threshold)
    return (
        f"{size} On fresh prompts {verdict_}; the lowest is {TASK_SHORT[worst['task']]} with "
        f"{percent(worst['held_out'])}."
    )


def sharing_table(
    circuits: Sequence[CircuitResult], draws: int = 20, seed: int = 0
) -> pd.DataFrame:
    """What the circuits of every two tasks share, beside random circuits of as many edges.

    Columns: tasks, edges_shared, edges (Jaccard), edges_null (of random circuits of as many edges),
    heads_shared, heads (the share of the smaller set that is in the other), heads_null (expected of
    as many heads drawn at random).
    """
    found = [result.circuit for result in circuits if result.circuit.found]
    names = [result.task for result in circuits if result.circuit.found]
    rng = np.random.default_rng(seed)
    chance = [
        [random_circuit(circuit.graph, circuit.n_edges, rng) for _ in range(draws)]
        for circuit in found
    ]
    rows = []
    for i, j in combinations(range(len(found)), 2):
        graph, a, b = found[i].graph, found[i].mask, found[j].mask
        first, second = _heads_of(graph, a), _heads_of(graph, b)
        smaller, larger = sorted((first, second), key=len)
        random_pairs = zip(chance[i], chance[j], strict=True)
        rows.append(
            {
                "tasks": (names[i], names[j]),
                "edges_shared": int((a & b).sum()),
                "edges": jaccard(a, b),
                "edges_null": float(np.mean([jaccard(x, y) for x, y in random_pairs])),
                "heads_shared": len(first & second),
                "heads": len(first & second) / max(1, len(smaller)),
                "heads_null": len(larger) / (graph.n_layers * graph.n_heads),
            }
        )
    return pd.DataFrame(rows)


def _heads_of(graph: Graph, mask: np.ndarray) -> set[str]:
    """The names of the heads in a circuit."""
    inside = graph.nodes_of(mask)
    names = zip(graph.node_names, inside, strict=True)
    return {name for name, is_in in names if is_in and name.startswith("a")}


def sharing_shown(sharing: pd.DataFrame) -> pd.DataFrame:
    """A `sharing_table` in words."""
    return pd.DataFrame(
        {
            "tasks": [" and ".join(TASK_SHORT[task] for task in pair) for pair in sharing["tasks"]],
            "edges in both": sharing["edges_shared"],
            "Jaccard": sharing["edges"].map("{:.2f}".format),
            "random": sharing["edges_null"].map("{:.3f}".format),
            "heads in both": sharing["heads_shared"],
            "of the smaller set": sharing["heads"].map("{:.0%}".format),
            "random ": sharing["heads_null"].map("{:.0%}".format),
        }
    )


def sharing_sentence(sharing: pd.DataFrame) -> str:
    """Which two tasks share most, which least, beside what random circuits share."""
    if sharing.empty:
        return "There are no two circuits to compare."
    by_edges = sharing.sort_values("edges")
    least, most = (by_edges.iloc[i] for i in (0, -1))
    ends = [most] if len(by_edges) == 1 else [most, least]
    named = [
        f"{' and '.join(TASK_SHORT[task] for task in row['tasks'])} ({percent(row['edges'])})"
        for row in ends
    ]
    if len(named) == 1:
        what = f"Edges in common: {named[0]}"
    else:
        what = f"{named[0]} have the most edges in common, {named[1]} the fewest"
    heads, chance = sharing["heads"].mean(), sharing["heads_null"].mean()
    shared = "most" if heads > 0.5 else "less than half"
    return (
        f"**Two circuits share {shared} of the smaller one's heads: {percent(heads)} on average**; "
        f"as many random heads would share {percent(chance)}. {what}."
    )


def without_circuit(circuits: Sequence[CircuitResult]) -> str:
    """Which tasks have no circuit, and why; nothing where all have one."""
    missing = [result for result in circuits if not result.circuit.found]
    return " ".join(
        f"No circuit of {TASK_TITLES[result.task]}: {result.circuit.reason}." for result in missing
    )


def classed_elsewhere(classes: HeadClasses, circuits: Sequence[CircuitResult], task: str) -> str:
    """Which heads in IOI's classes are in the circuit of another task."""
    found = next((one.circuit for one in circuits if one.task == task and one.circuit.found), None)
    if found is None:
        return f"There is no circuit of {TASK_TITLES[task]}."
    there = _heads_of(found.graph, found.mask)
    rows = [row for row, labels in enumerate(classes.labels) if labels]
    shared = [row for row in rows if head_name(classes.heads[row]) in there]
    listed = [
        f"{head_label(classes.heads[row])} "
        f"({', '.join(name for name in CLASSES if name in classes.labels[row])})"
        for row in shared
    ]
    return (
        f"Of the {counted(len(rows), 'head')} in IOI's classes, {len(shared)} "
        f"{'is' if len(shared) == 1 else 'are'} in the circuit of {TASK_TITLES[task]}, which has "
        f"{counted(len(there), 'head')}" + (f": {', '.join(listed)}." if listed else ".")
    )
