"""What the exercises of all chapters share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch

from circuitbook.model.loaded import Model
from circuitbook.suites.finding import load_suite
from circuitbook.teaching.answers import number
from circuitbook.teaching.checking import Case, Check, Mistake

CHECKS: dict[str, Check] = {}


def _register(
    name: str,
    title: str,
    takes: tuple[str, ...],
    cases: Callable[[], Sequence[Case]],
    mistakes: tuple[Mistake, ...],
    *,
    read: Callable = number,
    each: Callable[..., dict[str, int]] | None = None,
) -> None:
    """Puts a check among CHECKS; what it is made of, see `Check`."""
    CHECKS[name] = Check(name, title, takes, cases, mistakes, read=read, each=each)


@cache
def _model(name: str) -> Model:
    """The last checkpoint of a shipped model, float64: rounding shall not decide who is right."""
    suite = load_suite("mini")
    return suite.checkpoint(name, suite.steps(name)[-1]).load(dtype=torch.float64)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
