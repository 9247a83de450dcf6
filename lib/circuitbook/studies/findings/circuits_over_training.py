"""How large circuits are over training, and which of their edges stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from circuitbook.recipes import get_recipe
from circuitbook.studies.chapter import Chapter
from circuitbook.studies.circuit_tables import edge_history, table
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.wording import TASK_SHORT, TASK_TITLES, counted, in_markdown, short_number

EARLY = 0.4  # of the tokens seen in training: what counts as early


def searches_in_words(circuits: Sequence[CircuitResult]) -> str:
    """How many searches found a circuit, why others did not, and how complete the scores are."""
    idle = sum(result.circuit.not_done for result in circuits)
    gaps = np.abs([result.relative_gap for result in circuits if result.circuit.found])
    failed = len(circuits) - len(gaps) - idle
    text = (
        f"{len(gaps)} of {len(circuits)} searches found a circuit; in {idle} the model does not do "
        f"the task yet, and in {failed} it does, but no circuit keeps 80 %."
    )
    if len(gaps):
        text += (
            f" The completeness gap is {np.median(gaps):.2%} of the change in the median "
            f"and {gaps.max():.1%} at worst."
        )
    return text


# ---- sizes


def last_circuits(with_circuit: pd.DataFrame) -> pd.DataFrame:
    """The last row of each task and model; with_circuit: rows of `circuit_tables.table`."""
    in_order = with_circuit.sort_values("step")
    return in_order.groupby(["task", "model"], sort=False).last().reset_index()


def sizes_at_the_end(
    with_circuit: pd.DataFrame, tasks: Sequence[str], models: Sequence[str]
) -> pd.DataFrame:
    """Edges / nodes of each model's last circuit, a row per task, a column per model."""
    last = last_circuits(with_circuit)
    sizes = [
        f"{int(edges)} / {int(nodes)}"
        for edges, nodes in zip(last["edges"], last["nodes"], strict=True)
    ]
    grid = last.assign(size=sizes).pivot(index="task", columns="model", values="size")
    grid = grid.reindex(index=tasks, columns=models).astype(object).fillna("none")
    grid = grid.rename(index=TASK_SHORT).rename_axis("edges / nodes")
    return grid.rename_axis(None, axis=1)


def size_ranges_in_words(
    with_circuit: pd.DataFrame, tasks: Sequence[str], models: Sequence[str]
) -> str:
    """By which factor circuits of one model change in size during its training, by task."""
    ranges, any_change = [], False
    for task in tasks:
        here = (with_circuit["task"] == task) & with_circuit["model"].isin(models)
        edges = with_circuit[here].groupby("model")["edges"]
        factors = edges.max() / edges.min()
        if len(factors):
            ranges.append(f"{TASK_SHORT[task]} {factors.min():.1f} to {factors.max():.1f}")
            any_change = any_change or factors.max() > 1
    if not ranges:
        return "No checkpoint has a circuit yet."
    text = "Largest over smallest circuit of one model during its training, by task: "
    text += "; ".join(ranges) + "."
    if any_change:
        text += (
            " So the size of a circuit is no constant of a model, "
            "and a single checkpoint's number says little."
        )
    return text


# ---- edges


def survival_in_words(stay: pd.DataFrame, steps: Mapping[str, Sequence[int]]) -> str:
    """Do edges stay? Early and late in training; stay: as from `survival`, steps: of each model."""
    if stay["jaccard"].isna().all():
        return "No model has a circuit at two checkpoints: there is nothing to compare."
    is_early = stay["tokens_seen"] <= EARLY * stay["tokens_seen"].max()
    early, late = stay[is_early], stay[~is_early]
    factors = neighbour_factors(steps)
    return (
        "Over all tasks and models the mean similarity with the checkpoint before is "
        f"{early['jaccard'].mean():.2f} in the first two fifths of training and "
        f"{late['jaccard'].mean():.2f} after. Of the edges of the last circuit, "
        f"{early['of_last'].mean():.0%} are there in the early circuits and "
        f"{late['of_last'].mean():.0%} in the late ones (the last one itself included). "
        f"Neighbouring checkpoints are a factor of {min(factors):.1f} to {max(factors):.1f} apart "
        "in tokens, and part of what changes is noise of the search: "
        "the chapter on turnover tells them apart."
    )


def neighbour_factors(steps: Mapping[str, Sequence[int]]) -> list[float]:
    """By which factors neighbouring checkpoints are apart; those after step 0 are left out.

    >>> neighbour_factors({"m": [0, 10, 20, 30]})
    [2.0, 1.5]
    """
    factors = [
        later / earlier
        for of_model in steps.values()
        for earlier, later in zip(of_model, of_model[1:], strict=False)
        if earlier
    ]
    return factors or [1.0]


class EdgesOverTraining(NamedTuple):
    """A circuit of one model and task; history: of `edge_history`, where there is a circuit."""

    model: str
    task: str
    history: pd.DataFrame


def circuit_to_show(
    circuits: Sequence[CircuitResult], task: str, models: Sequence[str]
) -> EdgesOverTraining | None:
    """The largest of the models' last circuits: of `task` if it has one, else of any task."""
    rows = table(circuits)
    last = last_circuits(rows[rows["found"]])
    last = last[last["model"].isin(models)].sort_values("edges")
    if last.empty:
        return None
    of_task = last[last["task"] == task]
    largest = (of_task if len(of_task) else last).iloc[-1]
    history = edge_history(circuits, largest["model"], largest["task"])
    return EdgesOverTraining(largest["model"], largest["task"], history.loc[:, history.any()])


def history_in_words(shown: EdgesOverTraining | None, most: int = 40) -> str:
    """How many of the edges are there at every checkpoint, where a figure shows `most` of them."""
    if shown is None:
        return "No checkpoint has a circuit yet."
    always = int(shown.history.all(axis=1).sum())
    longest = f" (the {most} that stay longest)" if len(shown.history) > most else ""
    return (
        f"Every edge that was ever in the {TASK_SHORT[shown.task]} circuit of "
        f"{in_markdown(shown.model)}"
        f"{longest}, in the order in which they come in: {always} of "
        f"{len(shown.history)} are there at every checkpoint that has a circuit."
    )


# ---- recipes


def tables_by_recipe(
    chapter: Chapter,
    models: Sequence[str],
    tasks: Sequence[str],
    steps: Mapping[str, Sequence[int]],
) -> dict[str, pd.DataFrame]:
    """{recipe: `circuit_tables.table`} by the chapter's recipe and by the other one."""
    others = [name for name in ("paper", "robust") if name != chapter.recipe.name]
    tables = {}
    for recipe in (chapter.recipe, get_recipe(others[0])):
        measured = measure_circuits(
            chapter.suite, models, tasks, chapter.store, recipe, steps, **chapter.device
        )
        tables[recipe.name] = table(measured)
    return tables


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


# ---- on fresh prompts


def fresh_prompts_table(held_out: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Faithfulness on the prompts of the search and on fresh ones, over all circuits of a task.

    held_out: see `measure_held_out`. Columns say how many there are, the means, the range on fresh
    prompts, and how many lie beyond doubt below the threshold there (95 % over prompts).
    """
    rows = []
    for task in TASK_TITLES:
        part = held_out[(held_out["task"] == task) & held_out["held_out"].notna()]
        if part.empty:
            continue
        fresh = part["held_out"]
        rows.append(
            {
                "task": TASK_TITLES[task],
                "circuits": len(part),
                "where found": f"{part['found_on'].mean():.0%}",
                "on fresh prompts": f"{fresh.mean():.0%} ({fresh.min():.0%} to {fresh.max():.0%})",
                f"surely below {threshold:.0%}": int((part["high"] < threshold).sum()),
            }
        )
    return pd.DataFrame(rows)


def fresh_prompts_in_words(held_out: pd.DataFrame, threshold: float) -> str:
    """Do circuits keep on fresh prompts what they keep where they were found?"""
    tested = held_out.dropna(subset=["held_out"])
    if tested.empty:
        return "No circuit was found, so there is none to try."
    below = int((tested["high"] < threshold).sum())
    expected = 0.025 * len(tested)
    worst = tested.loc[tested["held_out"].idxmin()]
    return (
        f"Where they were found, {counted(len(tested), 'circuit')} keep "
        f"{tested['found_on'].mean():.1%} on average; on as many fresh prompts "
        f"{tested['held_out'].mean():.1%}. "
        f"{below} of them lie beyond doubt below {threshold:.0%} there; about {expected:.0f} would "
        "by chance if all kept just that. "
        f"The least is {worst['held_out']:.0%}: {TASK_SHORT[worst['task']]} in "
        f"{in_markdown(worst['model'])} at {short_number(worst['tokens_seen'])} tokens."
    )


# ---- flat curves of faithfulness


def largest_jump(circuits: Sequence[CircuitResult]) -> list[CircuitResult]:
    """Circuits of the two neighbouring checkpoints between which the size jumps most.

    Of the model and task whose sizes differ most over training. A single circuit if there is but
    one; an empty list if there is none.
    """
    with_circuit = [result for result in circuits if result.circuit.found]
    if not with_circuit:
        return []
    rows = pd.DataFrame([result.row for result in with_circuit])
    edges = rows.groupby(["model", "task"])["edges"]
    model, task = (edges.max() / edges.min()).idxmax()
    group = [result for result in with_circuit if (result.model, result.task) == (model, task)]
    sizes = np.log([result.circuit.n_edges for result in group])
    jump = int(np.abs(np.diff(sizes)).argmax()) if len(group) > 1 else 0
    return group[jump : jump + 2]


def edges_for_bars(
    results: Sequence[CircuitResult], form: str, bars: Sequence[float]
) -> pd.DataFrame:
    """The fewest edges that keep so much, a row per checkpoint; form: "ratio" or "normalised"."""
    rows = {}
    for result in results:
        curve = result.circuit.curve
        assert curve is not None  # a search that found a circuit keeps its curve
        rows[short_number(result.tokens_seen)] = {
            f"{bar:.0%}": curve.loc[curve[form] >= bar, "edges"].min() for bar in bars
        }
    return pd.DataFrame(rows).T
