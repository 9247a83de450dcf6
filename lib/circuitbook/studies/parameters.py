"""A notebook's parameters, checked before anything long starts.

Parameters come from papermill, a shell or a student: plain strings, numbers and lists. `select`
turns them into what the library works with, or says in one line which one is wrong and what there
is instead.
"""

from __future__ import annotations

import numbers
import os
import re
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from circuitbook.model.devices import check_device
from circuitbook.suites.finding import load_suite
from circuitbook.suites.integrity import announced, duplicate_weights
from circuitbook.suites.sources import Folder
from circuitbook.suites.suite import Suite, check_tokens_per_step
from circuitbook.tasks.registry import FURTHER, TASKS

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


@dataclass(frozen=True)
class Selection:
    """Checked parameters of a notebook."""

    suite: Suite
    models: tuple[str, ...]
    steps: dict[str, tuple[int, ...]]  # of each model, ascending
    tasks: tuple[str, ...]
    device: str
    dtype: torch.dtype
    left_out: dict[str, dict[int, int]] = field(
        default_factory=dict
    )  # of each model: steps that have another step's weights

    @property
    def checkpoints(self) -> int:
        return sum(len(steps) for steps in self.steps.values())


def _listed(name: str, value: Any, everything: Sequence, known: Container = ()) -> tuple:
    """What a parameter names, each thing once and in that order; None and "all" are everything.

    A list may be given as text, as from a shell: "mini-s,mini-m" or "[10, 20]". What is `known` is
    one name, whatever characters it has.
    """
    value = [value] if isinstance(value, (str, numbers.Number)) else value
    if value is None:
        value = ["all"]
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise ValueError(f"{name} is a list, or None for all, not {value!r}")
    items: list = []
    for item in value:
        if isinstance(item, bool) or not isinstance(item, Hashable):
            raise ValueError(f"{name} names {item!r}, which is none")
        items += _parts(item) if isinstance(item, str) and item not in known else [item]
    if items == ["all"]:
        return tuple(everything)
    if not items:
        raise ValueError(f"no {name.lower()} are named: {name} takes at least one, or None for all")
    return tuple(dict.fromkeys(items))


def _parts(text: str) -> list[str]:
    """_parts("[mini-s, mini-m]") -> ["mini-s", "mini-m"]"""
    if not re.search(r"[,\[\]]", text):
        return [text]
    parts = (part.strip(" \"'") for part in text.strip("[]() ").split(","))
    return [part for part in parts if part]


def _steps(suite: Suite, model: str, steps: Any) -> tuple[int, ...]:
    """The steps of a model, ascending: those of a schedule, or those that are named."""
    if isinstance(steps, str) and not re.fullmatch(r"[\s\d,.()\[\]+-]+", steps):
        return tuple(suite.schedule(model, steps or "all"))
    numbers_typed = (
        int(step) if isinstance(step, str) and re.fullmatch(r"\d{1,18}", step) else step
        for step in _listed("STEPS", steps, suite.steps(model))
    )
    return tuple(sorted({suite.checkpoint(model, step).step for step in numbers_typed}))


def select(
    suite: str,
    models: str | Sequence[str] | None = None,
    steps: str | Sequence[int] | None = None,
    tasks: str | Sequence[str] | None = None,
    device: str = "auto",
    dtype: str = "float32",
    tokens_per_step: int | None = None,
    keep_doubles: bool = False,
    prepend_bos: bool = False,
) -> Selection:
    """Checks parameters and fills in what is left open.

    `models`, `tasks`: a name, several, or None for all (of a hub's models the standard ones:
    Pythia's variants by the dozen have to be asked for). `steps`: step numbers, a schedule's name
    ("paper", "sparse", ...; see `Suite.schedule`), or None for all; every model must have them.
    What is named twice counts once.
    `device`: "auto" takes a GPU where there is one. `tokens_per_step`: for a suite that does not
    say so itself. Steps whose weights are those of another step (see `integrity`) are left out,
    unless `keep_doubles`, which then asks no hub. `prepend_bos`: see `Suite`. Errors: ValueError or
    the suite's own, one line each, naming the parameter.
    """
    if not isinstance(suite, (str, os.PathLike)) or not os.fspath(suite):
        raise ValueError(f"SUITE is the name of a suite, or a folder, not {suite!r}")
    if not isinstance(prepend_bos, bool):  # "False" would be true
        raise ValueError(f"PREPEND_BOS is True or False, not {prepend_bos!r}")
    chosen = load_suite(suite)
    if tokens_per_step is not None:
        tokens = check_tokens_per_step(tokens_per_step, "TOKENS_PER_STEP")
        chosen = replace(chosen, tokens_per_step=tokens, tokens_per_step_of={})
    if prepend_bos:
        chosen = replace(chosen, prepend_bos=True)
    everything = chosen.models if isinstance(chosen.source, Folder) else chosen.standard
    names = _listed("MODELS", models, everything, chosen.models)
    known = [name for name in names if name in chosen.models]  # others are refused below
    if None in (chosen.tokens_per_step_of.get(name, chosen.tokens_per_step) for name in known):
        raise ValueError(
            f"suite {chosen.name} does not say how many tokens a training step has: give "
            "TOKENS_PER_STEP, or, "
            'in a folder, a suite.json with {"tokens_per_step": ...}'
        )
    picked: dict[str, tuple[int, ...]] = {}
    for name in names:
        picked[name] = _steps(chosen, name, steps)
        if not picked[name]:
            raise ValueError(
                "no steps are left to measure: pass step numbers, a schedule's name, or None "
                "for all"
            )
    left_out = (
        {}
        if keep_doubles
        else {
            name: found
            for name, steps in picked.items()
            if (
                found := {
                    step: other
                    for step, other in duplicate_weights(announced(chosen, name, steps)).items()
                    if step in steps
                }
            )
        }
    )
    for name, found in left_out.items():
        picked[name] = tuple(step for step in picked[name] if step not in found)
        if not picked[name]:
            raise ValueError(
                f"every step of {name} that was asked for has the weights of another step, "
                f"{sorted(set(found.values()))}"
            )
    wanted = _listed("TASKS", tasks, tuple(TASKS), TASKS)
    for task in wanted:
        if task not in TASKS and task not in FURTHER:
            there = ", ".join([*TASKS, *FURTHER])
            raise ValueError(f"unknown task {task!r}; there are: {there}")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; there are: {', '.join(DTYPES)}")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return Selection(
        chosen, names, picked, wanted, str(check_device(where)), DTYPES[dtype], left_out
    )
