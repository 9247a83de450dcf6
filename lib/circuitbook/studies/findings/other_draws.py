"""A real model on other draws of prompts, and beside a small model: what a record says of it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from circuitbook.records.real_model import Draw, recorded_draws, recorded_real_model
from circuitbook.studies.chapter import Chapter, open_chapter
from circuitbook.studies.findings.algorithm import STAGE_TITLES
from circuitbook.studies.findings.real_model import absolute_share, with_interval
from circuitbook.studies.head_classes import CLASSES, PANELS
from circuitbook.wording import TASK_SHORT, counted, head_label, head_labels

Members = Mapping[str, Sequence[tuple[int, int]]]  # {class: its heads}
Record = Mapping[str, Any]
ALIKE = 0.1  # sizes of circuits that differ by less are about the same


def recorded(chapter: Chapter) -> Record | None:
    """The record that comes with the library, if it is of this chapter's model; else None."""
    record = recorded_real_model()
    return record if (record["model"], record["step"]) == chapter.places[-1] else None


def draws_of(record: Record | None) -> list[Draw]:
    return recorded_draws(record) if record else []


def about_record(record: Record | None) -> str:
    """When, on what and on how many prompts the record was made."""
    if record is None:
        return "Of this model nothing was recorded."
    date = datetime.date.fromisoformat(record["date"])
    minutes = sum(record["seconds"]) / 60
    prompts = ", ".join(f"{TASK_SHORT[task]} {n}" for task, n in record["prompts"].items())
    return (
        f"Recorded on {date.day} {date:%B %Y} on {_machine(record['machine'])} in {minutes:.0f} "
        "minutes, with torch "
        f"{record['versions']['torch']} and the library's code {record['code']}: "
        f"{counted(len(record['draws']), 'draw')} of prompts ({prompts}). "
        "`python -m circuitbook record smollm2` makes the record again."
    )


def _machine(machine: Mapping[str, Any]) -> str:
    return machine.get("gpu") or f"{machine['cores']} cores ({machine['cpu']})"


def mini_shares(model: str | None, store: str | Path) -> pd.DataFrame | None:
    """`share_table` of a model of the mini suite at its last checkpoint; None for no model."""
    if model is None:
        return None
    chapter = open_chapter(suite="mini", models=[model], tasks=["ioi"], store=str(store))
    return chapter.variant(steps=chapter.last_steps).shares


def share_tables(
    chapter: Chapter, record: Record | None, beside: pd.DataFrame | None, name: str | None
) -> dict[str, pd.DataFrame]:
    """{title: `share_table`}: measured here, on the recorded draws, and of another model."""
    n = chapter.recipe.heads.prompts
    tables = {f"{n} prompts": chapter.shares}
    for i, draw in enumerate(draws_of(record), 1):
        assert record is not None
        tables[f"{record['prompts']['ioi']} prompts, draw {i}"] = draw.shares
    if beside is not None:
        tables[str(name)] = beside
    return tables


def stays_table(draws: Sequence[Members]) -> pd.DataFrame:
    """A row per class: the heads that are in it in every draw of prompts, and those in some."""
    rows = []
    for name in CLASSES:
        counts = Counter(head for draw in draws for head in draw.get(name, ()))
        if not counts:
            continue
        always = sorted(head for head, times in counts.items() if times == len(draws))
        some = [
            f"{head_label(head)} ({times} of {len(draws)})"
            for head, times in sorted(counts.items())
            if times < len(draws)
        ]
        every = head_labels(always) or "none"
        rows.append({"class": name, "in every draw": every, "in some": ", ".join(some) or "none"})
    return pd.DataFrame(rows, columns=["class", "in every draw", "in some"])


def stays_sentence(draws: Sequence[Members]) -> str:
    """How many placements of a head in a class are in every draw."""
    counts = Counter(
        (name, head) for draw in draws for name, heads in draw.items() for head in heads
    )
    always = sum(times == len(draws) for times in counts.values())
    return (
        f"**{always} of {len(counts)} placements of a head in a class are the same on all "
        f"{counted(len(draws), 'draw')} of prompts.**"
    )


def draws_table(here: pd.DataFrame, draws: Sequence[Draw]) -> pd.DataFrame:
    """The shares of the stages on the prompts of this page, and on all recorded draws: their mean,
    the lowest and the highest."""
    rows = []
    for stage, panel in PANELS.items():
        row = {"stage": f"{panel}: {STAGE_TITLES[stage]}"}
        row["here"] = with_interval(absolute_share(here, stage))
        if draws:
            found = [absolute_share(draw.shares, stage) for draw in draws]
            shares = pd.Series([np.nan if one is None else one["share"] for one in found])
            mean = "none" if shares.isna().all() else f"{shares.mean():.0%}"
            row[_on(draws)] = f"{mean}{_range(shares.dropna(), '{:.0%}')}"
        rows.append(row)
    return pd.DataFrame(rows)


def sizes_table(here: pd.DataFrame, draws: Sequence[Draw]) -> pd.DataFrame:
    """The circuit of each task: its edges, and what it keeps on fresh prompts, here and on all
    recorded draws (the middle one, the lowest and the highest).

    here: see `measure_held_out`, of one checkpoint.
    """
    every = pd.concat([draw.circuits for draw in draws]) if draws else here.iloc[:0]
    rows = []
    for _, circuit in here.iterrows():
        task = circuit["task"]
        row = {"task": TASK_SHORT[task], "edges here": f"{int(circuit['edges']):,}"}
        row["keeps"] = "" if pd.isna(circuit["held_out"]) else f"{circuit['held_out']:.0%}"
        if draws:
            part = every[every["task"] == task]
            on, kept = f"edges on {_on(draws)}", part["held_out"].dropna()
            row[on] = f"{int(part['edges'].median()):,}" if len(part) else "none"
            row[on] += _range(part["edges"], "{:,.0f}")
            row["keep"] = f"{kept.median():.0%}{_range(kept, '{:.0%}')}" if len(kept) else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _on(draws: Sequence[Draw]) -> str:
    return counted(len(draws), "recorded draw")


def _range(values: pd.Series, form: str) -> str:
    """ " (lowest to highest)", of two values or more."""
    if len(values) < 2:
        return ""
    return f" ({form.format(values.min())} to {form.format(values.max())})"


def sizes_sentence(here: pd.DataFrame, draws: Sequence[Draw]) -> str:
    """How much the size of each circuit depends on the draw of prompts; nothing without draws."""
    if not draws:
        return ""
    edges = pd.concat([here, *(draw.circuits for draw in draws)]).groupby("task", sort=False)[
        "edges"
    ]
    ratio = edges.max() / edges.min()
    task, most = str(ratio.idxmax()), ratio.max()
    if most < 1 + ALIKE:
        return "The size of a circuit hardly depends on the draw of prompts."
    return (
        f"The size of a circuit depends on the draw of prompts: the largest is up to {most:.1f} "
        f"times the smallest ({TASK_SHORT[task]}). So the size on one draw is not a property of "
        "the model alone."
    )
