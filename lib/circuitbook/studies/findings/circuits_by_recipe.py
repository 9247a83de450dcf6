"""Circuits by the two recipes: how large they are, and where only one of them reports one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from circuitbook.circuits.similarity import jaccard
from circuitbook.recipes import get_recipe
from circuitbook.studies.chapter import Chapter
from circuitbook.studies.circuit_tables import table
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.wording import TASK_SHORT, counted, in_markdown


def measured_by_recipe(
    chapter: Chapter,
    models: Sequence[str],
    tasks: Sequence[str],
    steps: Mapping[str, Sequence[int]],
) -> dict[str, list[CircuitResult]]:
    """{recipe: circuits} by the chapter's recipe and by the other one."""
    others = [name for name in ("paper", "robust") if name != chapter.recipe.name]
    return {
        recipe.name: measure_circuits(
            chapter.suite, models, tasks, chapter.store, recipe, steps, **chapter.device
        )
        for recipe in (chapter.recipe, get_recipe(others[0]))
    }


def tables_by_recipe(
    chapter: Chapter,
    models: Sequence[str],
    tasks: Sequence[str],
    steps: Mapping[str, Sequence[int]],
) -> dict[str, pd.DataFrame]:
    """{recipe: `circuit_tables.table`} by the chapter's recipe and by the other one."""
    measured = measured_by_recipe(chapter, models, tasks, steps)
    return {recipe: table(circuits) for recipe, circuits in measured.items()}


def sizes_by_recipe(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Edges and faithfulness by two recipes side by side; "none" where there is no circuit.

    tables: as from `tables_by_recipe`, with one checkpoint of each model.
    """
    ours, theirs = (
        numbers[["model", "task", "edges", "faithfulness"]].rename(
            columns={name: f"{name}, {recipe}" for name in ("edges", "faithfulness")}
        )
        for recipe, numbers in tables.items()
    )
    both = ours.merge(theirs, on=["model", "task"])
    columns = [f"{name}, {recipe}" for name in ("edges", "faithfulness") for recipe in tables]
    shown = both[columns].astype(object).map(_number_or_none)
    shown.insert(0, "task", both["task"].map(TASK_SHORT))
    shown.insert(1, "model", both["model"])
    return shown


def _number_or_none(value: float) -> str:
    """Whole numbers as they are, shares with three digits."""
    if pd.isna(value):
        return "none"
    return f"{value:g}" if value >= 2 or value == int(value) else f"{value:.3f}"


def ratio_in_words(tables: Mapping[str, pd.DataFrame]) -> str:
    """How many times the edges the second recipe's circuits have; tables: see `sizes_by_recipe`."""
    (one, ours), (other, theirs) = tables.items()
    edges = ours.merge(theirs, on=["model", "task"], suffixes=("", " other"))
    ratio = (edges["edges other"] / edges["edges"]).dropna()
    if ratio.empty:
        return "No task has a circuit by both recipes."
    return (
        f"The {other} recipe's circuit has {ratio.min():.2f} to {ratio.max():.2f} times the edges "
        f"of the {one} one, {ratio.median():.2f} in the median."
    )


# ---- where only one reports a circuit


def only_by_the_other(measured: Mapping[str, Sequence[CircuitResult]]) -> pd.DataFrame:
    """Checkpoints of one model and task at which the second recipe alone reports a circuit.

    measured: of `measured_by_recipe`. Columns: tokens seen, metric, edges, and the Jaccard
    similarity of its edges with those of that recipe's last circuit.
    """
    ours, theirs = measured.values()
    found = [result for result in theirs if result.circuit.found]
    rows = [
        {
            "tokens seen": result.tokens_seen,
            "metric": result.circuit.clean,
            "edges": result.circuit.n_edges,
            "Jaccard with the last": jaccard(result.circuit.mask, found[-1].circuit.mask),
        }
        for own, result in zip(ours, theirs, strict=True)
        if result.circuit.found and not own.circuit.found
    ]
    return pd.DataFrame(rows, columns=["tokens seen", "metric", "edges", "Jaccard with the last"])


def only_in_words(measured: Mapping[str, Sequence[CircuitResult]]) -> str:
    """At how many checkpoints that is so, and whether such circuits are noise."""
    (one, ours), (other, theirs) = measured.items()
    only, last = only_by_the_other(measured), theirs[-1]
    where = f"{TASK_SHORT[last.task]} in {in_markdown(last.model)}"
    text = (
        f"{where}: `{other}` reports a circuit and `{one}` none at {len(only)} of "
        f"{counted(len(ours), 'checkpoint')}."
    )
    if only.empty:
        return text
    shared = only["Jaccard with the last"]
    if shared.min() > 0.5:
        return (
            f"{text} Its edges there are largely those of the last circuit: that is no noise, but "
            "an ability on its way, not yet beyond doubt."
        )
    if shared.max() < 0.2:
        return f"{text} Its edges there have little to do with the last circuit: it is noise."
    return f"{text} Some of these circuits share edges with the last one, others hardly any."
