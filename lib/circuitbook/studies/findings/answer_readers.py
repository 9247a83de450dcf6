"""Heads that read the answer where it stands (tasks other than IOI), in tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.studies.answer_readers import AnswerReaders, year_circuit
from circuitbook.studies.circuits import CircuitResult
from circuitbook.wording import TASK_TITLES, counted, head_label, percent, short_number

COLUMNS = ["task", "model", "step", "tokens_seen", "MLPs", "readers", "random", "helping"]


def reader_shares(readers: Sequence[AnswerReaders]) -> pd.DataFrame:
    """A row per checkpoint and task: task, model, step, tokens_seen, and `AnswerReaders.shares`."""
    rows = [
        {"task": one.task, "model": one.model, "step": one.step, "tokens_seen": one.tokens_seen}
        | one.shares()
        for one in readers
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def reader_sentences(shares: pd.DataFrame, summary: pd.DataFrame, tasks: Sequence[str]) -> str:
    """How much of the heads' direct effect is of readers, and what a circuit keeps elsewhere.

    A line per task, as markdown, in the order of `tasks`. shares: see `reader_shares`; summary: see
    `transfer_summary`.
    """
    lines = []
    for task in tasks:
        of_task = shares[shares["task"] == task]
        if of_task.empty:
            continue
        readers, random = of_task["readers"].mean(), of_task["random"].mean()
        lines.append(
            f"- **{TASK_TITLES[task]}**: readers do {percent(readers)} of it on average (as many "
            f"random heads: {percent(random)}).{_kept_elsewhere(summary, task)}"
        )
    return "\n".join(lines)


def _kept_elsewhere(summary: pd.DataFrame, task: str) -> str:
    """A sentence about circuits put to another checkpoint of the run and to another seed."""
    of_circuits = summary[(summary["task"] == task) & (summary["what"] == "circuit")]
    means = of_circuits.set_index("where")["mean"]
    places = {"same run": "at another checkpoint of its run", "other seed": "in another seed"}
    parts = [
        f"{percent(means[where])} {place}" for where, place in places.items() if where in means
    ]
    return f" A circuit keeps {' and '.join(parts)}." if parts else ""


# ---- the authors' check of Greater-Than


def year_check(circuits: Sequence[CircuitResult], readers: Sequence[AnswerReaders]) -> pd.DataFrame:
    """The authors' Greater-Than check, in words: a row per model, at its last such circuit."""
    measured = {(one.model, one.step): one for one in readers if one.task == "greater_than"}
    last: dict[str, CircuitResult] = {}
    for result in circuits:
        if result.task == "greater_than" and (result.model, result.step) in measured:
            last[result.model] = max(
                result, last.get(result.model, result), key=lambda one: one.step
            )
    return pd.DataFrame(
        [_year_row(result, measured[result.model, result.step]) for result in last.values()]
    )


def _year_row(result: CircuitResult, readers: AnswerReaders) -> dict[str, str]:
    mlps, rows = year_circuit(result)
    peaks, says_year, above = (readers.arrays[name].mean(1) for name in ("peaks", "year", "above"))
    best = int(np.argmax(peaks))

    def label(row: int) -> str:
        return head_label(divmod(row, readers.n_heads))

    return {
        "model": readers.model,
        "tokens seen": short_number(readers.tokens_seen),
        "MLPs that reach the logits": ", ".join(map(str, mlps)) or "none",
        "years after YY over others, of these": ", ".join(f"{above[mlp]:+.2f}" for mlp in mlps),
        "heads into them": ", ".join(map(label, rows)) or "none",
        "looks at YY": ", ".join(f"{peaks[row]:.0%}" for row in rows),
        "says YY or YY+1": ", ".join(f"{says_year[row]:.0%}" for row in rows),
        "of all heads, most at YY": f"{label(best)} ({peaks[best]:.0%})",
    }


def year_sentence(check: pd.DataFrame) -> str:
    """What `year_check` found, in a sentence."""
    if check.empty:
        return "No checkpoint has a circuit for Greater-Than."
    raising = sum(
        all(float(value) > 0 for value in row.split(", ") if value)
        for row in check["years after YY over others, of these"]
        if row
    )
    return (
        f"The authors' check of Greater-Than at the last checkpoint: in {raising} of "
        f"{counted(len(check), 'model')}, all MLPs of the circuit that write to the logits raise "
        "the years after $YY$. (The authors' code takes the seventh token from the end for $YY$, "
        "in every prompt; ours takes $YY$.)"
    )
