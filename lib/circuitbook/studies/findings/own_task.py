"""What the page on a task of one's own says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from circuitbook.stats import Emergence
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings.abilities import with_interval
from circuitbook.wording import TASK_SHORT, counted, in_markdown


def formed_beside(half: Mapping[str, Mapping[str, Emergence]], own: str, beside: str) -> str:
    """When one's own ability reached half of its last value in each model, and whether that is
    before the other task's."""
    lines, task, paper = [], TASK_SHORT[own], TASK_SHORT[beside]
    for model, onset in half[own].items():
        other = half[beside][model]
        if not len(onset.samples):
            found = f"no ability at the last checkpoint, with a score of {onset.final:.2f}"
        else:
            found = f"half of the last score is reached after {with_interval(onset)} tokens"
            if not len(other.samples):
                found += f"; {paper} is not an ability of this model"
            else:
                order = f"before {paper} or after, we can't tell"
                if onset.high < other.low:
                    order = f"before {paper}"
                elif onset.low > other.high:
                    order = f"after {paper}"
                found += f", {order} ({with_interval(other)})"
        lines.append(f"**{in_markdown(task)} in {in_markdown(model)}**: {found}.")
    return "\n\n".join(lines)


def last_circuit(circuits: Sequence[CircuitResult], task: str) -> CircuitResult:
    """The result at the last checkpoint of the last model."""
    mine = [result for result in circuits if result.task == task]
    return max(mine, key=lambda result: (mine[-1].model == result.model, result.step))


def circuit_in_words(result: CircuitResult, held_out: pd.DataFrame) -> str:
    """How small the circuit is, what it keeps of the task on other prompts, and its heads.

    held_out: see `measure_held_out`.
    """
    circuit, where = result.circuit, f"{in_markdown(result.model)} at step {result.step}"
    if not circuit.found:
        return f"There is no circuit in {where}: {circuit.reason}."
    text = (
        f"In {where}, {circuit.n_edges} of {circuit.graph.n_edges} edges keep "
        f"{circuit.faithfulness:.0%} of the task"
    )
    row = held_out[(held_out["model"] == result.model) & (held_out["step"] == result.step)]
    row = row[row["task"] == result.task].dropna(subset=["held_out"])
    if len(row):
        fresh = row.iloc[0]
        text += (
            f"; on {counted(int(fresh['prompts']), 'prompt')} that they were not found on, "
            f"{fresh['held_out']:.0%} [{fresh['low']:.0%}, {fresh['high']:.0%}]"
        )
    heads = [node[1:].replace("h", "") for node in circuit.nodes if node.startswith("a")]
    named = f"its heads are {', '.join(heads)}" if heads else "no head is among them"
    return f"{text}; {named}."
