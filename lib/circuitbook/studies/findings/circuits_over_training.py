"""How large circuits are over training, and which of their edges stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from circuitbook.studies.circuit_tables import edge_history, table
from circuitbook.studies.circuits import CircuitResult
from circuitbook.wording import (
    TASK_SHORT,
    TASK_TITLES,
    counted,
    in_markdown,
    percent,
    short_number,
)

EARLY = 0.4  # of the tokens seen in training: what counts as early


def searches_in_words(circuits: Sequence[CircuitResult]) -> str:
    """How many searches found a circuit, why others did not, and how complete the scores are."""
    idle = sum(result.circuit.not_done for result in circuits)
    gaps = np.abs([result.relative_gap for result in circuits if result.circuit.found])
    failed = len(circuits) - len(gaps) - idle
    text = f"{len(gaps)} of {len(circuits)} searches found a circuit"
    if idle:
        text += f"; in {idle} the model does not do the task yet"
    if failed:
        text += f"; in {failed} it does, but no circuit keeps 80%"
    if len(gaps):
        text += (
            f". The completeness gap is {percent(np.median(gaps), 1)} of the change in the median "
            f"and {percent(gaps.max(), 1)} at worst"
        )
    return text + "."


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


def answer(
    with_circuit: pd.DataFrame, stay: pd.DataFrame, tasks: Sequence[str], models: Sequence[str]
) -> str:
    """The chapter's answer: do circuits grow or shrink, and do their edges settle?

    with_circuit: rows of `circuit_tables.table`; stay: as from `survival`; both of all models.
    """
    here = with_circuit[with_circuit["task"].isin(tasks) & with_circuit["model"].isin(models)]
    if here.empty:
        return "**No checkpoint has a circuit yet.**"
    edges = f"{int(here['edges'].min())} to {int(here['edges'].max())} edges"
    changes = size_changes(here)
    if not changes:
        return f"**The circuits have {edges}.** One checkpoint does not tell whether they grow."
    grown, shrunk = sum(ratio > 1.25 for ratio in changes), sum(ratio < 0.8 for ratio in changes)
    most = 0.75 * len(changes)
    if grown >= most:
        rule = "Circuits grow"
    elif shrunk >= most:
        rule = "Circuits shrink"
    elif len(changes) - grown - shrunk >= most:
        rule = "Circuits keep their size"
    else:
        rule = "Circuits neither grow nor shrink as a rule"
    return (
        f"**{rule}, {_edges_settle(stay)}.** {counted(len(changes), 'case')} (a task in a size of "
        f"model) {'has' if len(changes) == 1 else 'have'} a circuit at two checkpoints or more. "
        f"From the first to the last, {grown} grow by more than a quarter and {shrunk} shrink by "
        f"more than a fifth. Over all checkpoints, circuits have {edges}."
    )


def first_and_last_in_words(circuits: Sequence[CircuitResult], model: str, task: str) -> str:
    """With how many edges the circuit of one model and task begins, and ends."""
    mine = [result for result in circuits if (result.model, result.task) == (model, task)]
    found = [result for result in mine if result.circuit.found]
    which = f"The {TASK_SHORT[task]} circuit of {in_markdown(model)}"
    if not found:
        return f"There is no {TASK_SHORT[task]} circuit of {in_markdown(model)} yet."
    begins, ends = (
        f"{counted(result.circuit.n_edges, 'edge')} at {short_number(result.tokens_seen)} tokens"
        for result in (found[0], found[-1])
    )
    if len(found) == 1:
        return f"{which} has {begins}."
    return f"{which} begins with {begins} and ends with {ends}."


def size_changes(with_circuit: pd.DataFrame) -> list[float]:
    """Edges of the last circuit over those of the first, of each task and model that has two."""
    groups = with_circuit.sort_values("step").groupby(["task", "model"])["edges"]
    ratios = (groups.last() / groups.first())[groups.size() > 1]
    return [float(ratio) for ratio in ratios]


def _edges_settle(stay: pd.DataFrame) -> str:
    early, late = early_and_late(stay, "jaccard")
    if np.isnan(early) or np.isnan(late):
        return "and too few checkpoints have one to say whether edges stay"
    shares = (
        f"of those of two neighbouring checkpoints {percent(early)} are in both early in training"
    )
    if late > early + 0.05:
        return f"but their edges settle: {shares} and {percent(late)} later"
    if late < early - 0.05:
        return f"and their edges change more and more: {shares} and {percent(late)} later"
    return f"and their edges change as much late as early: {shares}, {percent(late)} later"


def early_and_late(stay: pd.DataFrame, column: str) -> tuple[float, float]:
    """The mean of a column of `survival` in the first two fifths of training, and after."""
    is_early = stay["tokens_seen"] <= EARLY * stay["tokens_seen"].max()
    return float(stay.loc[is_early, column].mean()), float(stay.loc[~is_early, column].mean())


def size_ranges_in_words(
    with_circuit: pd.DataFrame, tasks: Sequence[str], models: Sequence[str]
) -> str:
    """By which factor circuits of one model change in size during its training."""
    here = with_circuit[with_circuit["task"].isin(tasks) & with_circuit["model"].isin(models)]
    if here.empty:
        return "No checkpoint has a circuit yet."
    edges = here.groupby(["task", "model"])["edges"]
    factors = edges.max() / edges.min()
    task, model = factors.idxmax()
    return (
        f"Within one training run the largest circuit has {factors.median():.1f} times the edges "
        f"of the smallest in the median, and {factors.max():.1f} times at most "
        f"({TASK_SHORT[task]} in {in_markdown(model)})."
    )


# ---- edges


def survival_in_words(stay: pd.DataFrame, steps: Mapping[str, Sequence[int]]) -> str:
    """Do edges stay? Early and late in training; stay: as from `survival`, steps: of each model."""
    if stay["jaccard"].isna().all():
        return "No model has a circuit at two checkpoints: there is nothing to compare."
    early, late = early_and_late(stay, "jaccard")
    factors = neighbour_factors(steps)
    return (
        f"In the first two fifths of training a circuit and the one before have a Jaccard "
        f"similarity of {early:.2f} on average, and of {late:.2f} later; they are a factor of "
        f"{min(factors):.1f} to {max(factors):.1f} apart in tokens."
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


def history_in_words(shown: EdgesOverTraining | None) -> str:
    """How many of the edges are there at every checkpoint that has a circuit."""
    if shown is None:
        return "No checkpoint has a circuit yet."
    always = int(shown.history.all(axis=1).sum())
    return (
        f"Of {len(shown.history)} edges that were ever in the {TASK_SHORT[shown.task]} circuit of "
        f"{in_markdown(shown.model)}, {always} are there at every checkpoint that has one."
    )


# ---- on fresh prompts


def fresh_prompts_table(held_out: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Faithfulness on the prompts of the search and on fresh ones, over all circuits of a task.

    held_out: see `measure_held_out`. Columns say how many there are, the means, the range on fresh
    prompts, and how many lie beyond doubt below the threshold there (95% over prompts).
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
    lie = "circuit lies" if below == 1 else "circuits lie"
    return (
        f"On fresh prompts {counted(len(tested), 'circuit')} keep "
        f"{percent(tested['held_out'].mean())} on average, and "
        f"{percent(tested['found_on'].mean())} where they were found. {below} {lie} beyond doubt "
        f"below {percent(threshold)}; about {expected:.0f} would by chance if all kept just that. "
        f"The least is {percent(worst['held_out'])}: {TASK_SHORT[worst['task']]} in "
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
