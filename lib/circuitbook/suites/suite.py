"""Checkpoints, and the suites that they make up."""

from __future__ import annotations

import difflib
import json
from bisect import bisect_left
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitbook.suites.sources import Source
from circuitbook.weights.files import CONFIG, join_ids
from circuitbook.weights.json_files import shown

if TYPE_CHECKING:
    import torch

    from circuitbook.model.loaded import Model


_MOST_TOKENS = 10**12  # what was seen after a million such steps still is a number of 64 bits


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One model at one training step."""

    suite: str
    model: str
    step: int
    tokens_seen: int | None
    """Tokens that the model was trained on until then; None where the suite does not say."""
    source: Source = field(repr=False)
    prepend_bos: bool = False
    """As `Suite.prepend_bos`."""

    def fetch(self) -> Path:
        """Local folder with config.json, weights and tokenizer, downloaded first, or HubError."""
        return self.source.fetch(self.model, self.step)

    @property
    def weights_hash(self) -> str:
        """sha256 of the file that holds the weights (of shards: of their hashes).

        Changes when any weight changes. A file is read again only where it has changed; for a hub
        it is the announced hash, without a download.
        """
        return self.source.weights_hash(self.model, self.step)

    @property
    def identity(self) -> dict[str, str]:
        """What determines this checkpoint's numbers: hashes of weights, config.json, tokenizer.

        Part of every measurement's key. From a hub as announced: nothing large is downloaded.
        """
        files = self.source.settings(self.model, self.step)
        config = {name: file_id for name, file_id in files.items() if name == CONFIG}
        tokenizer = {name: file_id for name, file_id in files.items() if name != CONFIG}
        return {
            "weights": self.weights_hash,
            "config": join_ids(config),
            "tokenizer": join_ids(tokenizer),
        }

    @property
    def prefer(self) -> str:
        """Which weights are read where there are several: "safetensors" or "pickle"."""
        return self.source.prefer

    def load(self, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Model:
        """The model, ready to run: see `model.loading.load_model`; float32 by default."""
        # Here, since torch and transformers take seconds to import, and listing needs neither.
        from circuitbook.model.loading import load_model

        return load_model(self, device, dtype)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A family of models with their checkpoints."""

    name: str
    standard: tuple[str, ...]
    """The models that differ in size, small to large."""
    source: Source = field(repr=False)
    tokens_per_step: int | None = None
    """None where it is unknown."""
    variants: tuple[str, ...] = field(default=(), repr=False)
    """The other models: seeds, data, dropout."""
    description: str = field(default="", repr=False)
    schedules: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)
    """Steps by the name of their schedule, besides "all"."""
    prepend_bos: bool = False
    """Whether the prompts of tasks get the tokenizer's begin-of-sequence token in front, as models
    are used that were trained with one. Off, as in the paper."""
    notes: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Of single models, what a comparison with the others must know."""
    tokens_per_step_of: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    """Of single models, where they differ."""

    def __post_init__(self) -> None:
        if self.tokens_per_step is not None:
            check_tokens_per_step(self.tokens_per_step, f"tokens_per_step of suite {self.name}")
        for model, tokens in self.tokens_per_step_of.items():
            check_tokens_per_step(tokens, f"tokens_per_step of {model} in suite {self.name}")

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models: the standard ones, small to large, then the variants."""
        return self.standard + self.variants

    def steps(self, model: str) -> tuple[int, ...]:
        """Training steps at which `model` was saved, ascending."""
        self._check_model(model)
        return self.source.steps(model)

    def checkpoint(self, model: str, step: int) -> Checkpoint:
        """`model` after `step` training steps."""
        steps = self.steps(model)
        if step not in steps:
            raise ValueError(
                f"step {step} of {model} does not exist; {_nearest(step, steps)} "
                f"(see suite.steps({json.dumps(model)}))"
            )
        step = int(step)  # a numpy integer would overflow below
        per_step = self.tokens_per_step_of.get(model, self.tokens_per_step)
        tokens = None if per_step is None else step * per_step
        return Checkpoint(
            suite=self.name,
            model=model,
            step=step,
            tokens_seen=tokens,
            source=self.source,
            prepend_bos=self.prepend_bos,
        )

    def schedule(self, model: str, name: str = "all") -> tuple[int, ...]:
        """The steps of a named schedule, ascending: "all" in every suite, more for Pythia."""
        steps = self.steps(model)
        if name != "all" and name not in self.schedules:
            names = ", ".join(dict.fromkeys(("all", *self.schedules)))
            raise ValueError(f"schedule {name!r} is unknown in suite {self.name}; it has: {names}")
        return steps if name == "all" else self.schedules[name]

    def _check_model(self, model: str) -> None:
        if model not in self.models:
            close = difflib.get_close_matches(str(model), self.models, n=3, cutoff=0.6)
            hint = f"it has: {', '.join(self.standard)}"
            if close:
                hint = f"did you mean {' or '.join(close)}?"
            raise ValueError(
                f"model {model!r} is unknown in suite {self.name}; {hint} (see suite.models)"
            )


def check_tokens_per_step(value: Any, where: object) -> int:
    """The value, if a training step can have so many tokens.

    ValueError that names `where` it stands if not: text, true, 0, 1.5, infinity.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not 0 < value <= _MOST_TOKENS:
        raise ValueError(
            f"{where} is {shown(value)}: the tokens of one training step are expected, a whole "
            f"number from 1 to {_MOST_TOKENS:,}"
        )
    return int(value)


def _nearest(step: int, steps: tuple[int, ...]) -> str:
    """The end of an error about a step that does not exist.

    >>> _nearest(1001, (512, 1000, 2000))
    'nearest are 1000 and 2000'
    """
    if not steps:
        return "there are none"
    try:
        place = bisect_left(steps, step)
    except TypeError:
        return "a step is a whole number"
    near = steps[max(0, place - 1) : place + 1]
    return f"nearest are {near[0]} and {near[1]}" if len(near) == 2 else f"nearest is {near[0]}"
