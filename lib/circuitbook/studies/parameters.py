"""A notebook's parameters, checked before anything long starts.

Parameters come from papermill, a shell or a student: plain strings, numbers and lists. `select`
turns them into what the library works with, or says in one line which one is wrong and what there
is instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from circuitbook.model.devices import check_device
from circuitbook.suites.finding import load_suite
from circuitbook.suites.integrity import announced, duplicate_weights
from circuitbook.suites.sources import Folder
from circuitbook.suites.suite import Suite, check_tokens_per_step
from circuitbook.tasks.registry import TASKS

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


def _as_tuple(value: str | Sequence | None, everything: Sequence) -> tuple:
    if value is None or value == "all":
        return tuple(everything)
    return (value,) if isinstance(value, (str, int)) else tuple(value)


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
    `device`: "auto" takes a GPU where there is one. `tokens_per_step`: for a suite that does not
    say so itself. Steps whose weights are those of another step (see `integrity`) are left out,
    unless `keep_doubles`, which then asks no hub. `prepend_bos`: see `Suite`. Errors: ValueError or
    the suite's own, one line each, naming the parameter.
    """
    chosen = load_suite(suite)
    if tokens_per_step is not None:
        tokens = check_tokens_per_step(tokens_per_step, "TOKENS_PER_STEP")
        chosen = replace(chosen, tokens_per_step=tokens)
    if prepend_bos:
        chosen = replace(chosen, prepend_bos=True)
    if chosen.tokens_per_step is None:
        raise ValueError(
            f"suite {chosen.name} does not say how many tokens a training step has: give "
            "TOKENS_PER_STEP, or, "
            'in a folder, a suite.json with {"tokens_per_step": ...}'
        )
    names = _as_tuple(
        models, chosen.models if isinstance(chosen.source, Folder) else chosen.standard
    )
    picked: dict[str, tuple[int, ...]] = {}
    for name in names:
        if steps is None or isinstance(steps, str):
            picked[name] = tuple(chosen.schedule(name, steps or "all"))
        else:
            picked[name] = tuple(
                sorted(chosen.checkpoint(name, step).step for step in _as_tuple(steps, ()))
            )
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
    wanted = _as_tuple(tasks, tuple(TASKS))
    for task in wanted:
        if task not in TASKS:
            raise ValueError(f"unknown task {task!r}; there are: {', '.join(TASKS)}")
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; there are: {', '.join(DTYPES)}")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return Selection(
        chosen, names, picked, wanted, str(check_device(where)), DTYPES[dtype], left_out
    )
