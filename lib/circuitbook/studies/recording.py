"""Measurements that take longer than the book's build may: made by a command, kept as a record.

    python -m circuitbook record smollm2 --prompts 70 --seeds 42 7
    python -m circuitbook record methods

Everything goes through the store, so that the command can be stopped and goes on.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from circuitbook.records.passages import PASSAGES
from circuitbook.store.code import code_hash
from circuitbook.store.files import write_atomically
from circuitbook.store.provenance import machine, versions
from circuitbook.studies.chapter import Chapter, open_chapter
from circuitbook.studies.head_classes import class_members
from circuitbook.studies.measurement import at_places
from circuitbook.studies.methods import COLUMNS as METHOD_COLUMNS
from circuitbook.studies.methods import METHODS, compare_methods, method_rows
from circuitbook.tasks import get_task

TASKS = ("ioi", "gendered_pronoun", "greater_than", "sva")


# As many of IOI as in the paper; half of the items of Gendered Pronoun, so that as many are left;
# of the others whole rounds through their years and kinds.
PROMPTS = {"ioi": 70, "gendered_pronoun": 50, "greater_than": 48, "sva": 60}


def record_smollm2(
    prompts: Mapping[str, int],
    seeds: Sequence[int],
    store: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """The record of `records.real_model`: classes, shares and circuits on each draw of prompts."""
    chapter = open_chapter(
        suite="smollm2", tasks=TASKS, prompts="few", text=PASSAGES, device=device, store=store
    )
    chapter = replace(chapter, recipe=chapter.recipe.with_prompts(prompts))
    draws, seconds = [], []
    for seed in seeds:
        begun = time.perf_counter()
        draws.append(_draw(chapter.variant(seed=seed), seed))
        seconds.append(round(time.perf_counter() - begun, 1))
    model, step = chapter.places[0]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {name: part for name, part in machine().items() if name != "host"},
        "versions": versions(),
        "code": code_hash(record_smollm2),
        "model": model,
        "step": step,
        "prompts": chapter.recipe.prompts,
        "seconds": seconds,
        "draws": draws,
    }


OF_METHODS = tuple(m for m in METHODS if m not in ("patching", "eap-ig-activations"))
"""What a laptop does in minutes on a real model: not a pass for each edge, nor gradients for each
place of activations."""


def record_methods(
    tasks: Sequence[str] = ("ioi", "greater_than"), store: str | None = None, device: str = "auto"
) -> dict[str, Any]:
    """The record of `records.real_model.recorded_methods`: methods compared on SmolLM2."""
    chapter = open_chapter(suite="smollm2", tasks=tasks, prompts="few", device=device, store=store)
    (model, step), recipe = chapter.places[0], chapter.recipe
    rows = []
    places = [(model, step)] * len(tasks)
    here = at_places(chapter.suite, places, chapter.store, what="methods", **chapter.device)
    for task, measurer in zip(tasks, here, strict=True):
        arrays = measurer.arrays(
            "methods",
            compare_methods,
            task=get_task(task),
            prompts=recipe.prompts[task],
            seed=recipe.seed,
            attribution=recipe.attribution,
            search=recipe.circuit(task),
            methods=OF_METHODS,
        )
        about = {"model": model, "step": step, "task": task}
        rows += method_rows(about, OF_METHODS, arrays)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {name: part for name, part in machine().items() if name != "host"},
        "versions": versions(),
        "code": code_hash(record_methods),
        "model": model,
        "step": step,
        "prompts": {task: recipe.prompts[task] for task in tasks},
        "methods": _rows(pd.DataFrame(rows, columns=METHOD_COLUMNS)),
    }


def _draw(chapter: Chapter, seed: int) -> dict[str, Any]:
    classes = chapter.head_classes[0]
    return {
        "seed": seed,
        "members": class_members(classes),
        "shares": _rows(chapter.shares),
        "circuits": _rows(chapter.held_out),
    }


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as JSON can hold it: what is absent is null."""
    return json.loads(table.to_json(orient="records", double_precision=6))


def write_record(record: dict[str, Any], path: Path) -> None:
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
