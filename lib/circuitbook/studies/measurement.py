"""The runner of every measurement: plan, key, load on demand, store, progress; stopped, it goes on
where it was.

    for here in at_checkpoints(suite, ["mini-s", "mini-m"], store, what="abilities"):
        frame = here.table("abilities", answers_to, task=ioi.TASK, n=200, seed=42)

A measurement is a function of a model and of keyword arguments. Its key is made of these very
arguments, of the checkpoint's weights, config.json and tokenizer, of the dtype, and of all the code
that the function can reach. So nothing that determines a number can be missing from its key. The
model is loaded when the first measurement needs it, and once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from circuitbook.circuits.not_finite import refuse_not_finite, way_out_of
from circuitbook.model.loaded import PREPEND_BOS, Model
from circuitbook.model.loading import read_model
from circuitbook.store import Key, Store, measurement_key
from circuitbook.suites import Checkpoint, Suite
from circuitbook.tasks.base import Task

Place = tuple[str, int]  # (model, step)
Steps = Mapping[str, Sequence[int]]  # of each model
PROBED = 8  # prompts on which an error looks for the layer


@dataclass(frozen=True, eq=False)
class Measurer:
    """Measures at one checkpoint, or at several together. Made by `at_checkpoints`, or by hand."""

    checkpoints: tuple[Checkpoint, ...]
    store: Store
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, or the first of several."""
        return self.checkpoints[0]

    @cached_property
    def models(self) -> tuple[Model, ...]:
        """The loaded models; what needs none of them never asks."""
        return tuple(one.load(device=self.device, dtype=self.dtype) for one in self.checkpoints)

    @cached_property
    def identities(self) -> list[dict[str, object]]:
        """Of each checkpoint: model, step, hashes of weights, config and tokenizer; and that its
        prompts begin with a begin-of-sequence token, if they do.
        """
        return [
            {"model": one.model, "step": one.step}
            | one.identity
            | ({PREPEND_BOS: True} if one.prepend_bos else {})
            for one in self.checkpoints
        ]

    def key(self, kind: str, measure: Callable, **what: object) -> Key:
        """The key of `measure(*models, **what)`."""
        alone = (
            self.identities[0] if len(self.identities) == 1 else {"checkpoints": self.identities}
        )
        return measurement_key(kind, code=(measure, read_model), dtype=self.dtype, **alone, **what)

    def arrays(
        self, kind: str, measure: Callable[..., Mapping], **what: object
    ) -> dict[str, np.ndarray]:
        """`measure(*models, **what)`, a dict of arrays (or tensors), from the store if it is there.

        Errors: FloatingPointError that names checkpoint and array if a number is not finite;
        nothing is kept then.
        """

        def measured() -> dict[str, np.ndarray]:
            made = {name: as_array(array) for name, array in measure(*self.models, **what).items()}
            refuse_arrays(self.models, kind, made, what)
            return made

        return self.store.arrays(self.key(kind, measure, **what), measured)

    def table(
        self, kind: str, measure: Callable[..., pd.DataFrame], **what: object
    ) -> pd.DataFrame:
        """`measure(*models, **what)`, a table; like `arrays` otherwise. What is absent is pd.NA,
        never NaN.
        """

        def measured() -> pd.DataFrame:
            made = measure(*self.models, **what)
            refuse_arrays(self.models, kind, _float_columns(made), what)
            return made

        return self.store.table(self.key(kind, measure, **what), measured)


def refuse_arrays(
    models: Sequence[Model],
    kind: str,
    made: Mapping[str, np.ndarray],
    what: Mapping[str, object],
) -> None:
    """FloatingPointError if an array of a measurement is not finite.

    It names checkpoints, array and task, and the layer where a prompt or a weight tells it.
    """
    for name, array in made.items():
        if array.dtype.kind != "f" or np.isfinite(array).all():
            continue
        first, task = np.argwhere(~np.isfinite(array))[0].tolist(), what.get("task")
        places = [f"{one.checkpoint.model} at step {one.checkpoint.step}" for one in models]
        where = " and ".join(places) + (f", {task.name}" if isinstance(task, Task) else "")
        for model in models:  # says more, if it is the model that does not compute
            if isinstance(task, Task):
                pairs = task.prompts(model.tokenizer, n=PROBED)
                refuse_not_finite(model, pairs, pairs.metric(model.logits(pairs.clean, pairs.end)))
        dtype = str(models[0].dtype).removeprefix("torch.")
        raise FloatingPointError(
            f"{where}: {name!r} of the {kind} is {array[tuple(first)]} at {first} in {dtype}; "
            f"{way_out_of(models[0])}"
        )


def as_array(value: object) -> np.ndarray:
    """A tensor or array as a numpy array; float32 holds 16-bit floats exactly."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach().cpu()
    return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()


def _float_columns(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of numbers that may be NaN or infinite; a pd.NA is an absence, and no number."""
    columns = {name: column for name, column in table.items() if column.dtype.kind == "f"}
    plain = {name: isinstance(column.dtype, np.dtype) for name, column in columns.items()}
    return {
        str(name): (column if plain[name] else column.dropna()).to_numpy(dtype=float)
        for name, column in columns.items()
    }


def places_of(suite: Suite, models: Iterable[str], steps: Steps | None = None) -> list[Place]:
    """(model, step) of every model at its `steps`, or at all of the suite's, in that order."""
    return [
        (model, step) for model in models for step in (steps or {}).get(model, suite.steps(model))
    ]


def at_checkpoints(
    suite: Suite,
    models: Iterable[str],
    store: Store,
    *,
    what: str,
    steps: Steps | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> Iterator[Measurer]:
    """A `Measurer` at every model and step, one after the other, behind a progress bar that says
    `what` is measured.

    `steps`: {model: steps}, default all of the suite. Ctrl-C loses at most the measurement in hand.
    """
    places = places_of(suite, models, steps)
    yield from at_places(
        suite, places, store, what=what, device=device, dtype=dtype, progress=progress
    )


def at_places(
    suite: Suite,
    places: Sequence[Place],
    store: Store,
    *,
    what: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> Iterator[Measurer]:
    """The same at these places; neighbours that are the same checkpoint share one loading of it."""
    here: Measurer | None = None
    for model, step in tqdm(places, desc=what, unit="checkpoint", disable=not progress):
        if here is None or (here.checkpoint.model, here.checkpoint.step) != (model, step):
            here = Measurer((suite.checkpoint(model, step),), store, device, dtype)
        yield here
