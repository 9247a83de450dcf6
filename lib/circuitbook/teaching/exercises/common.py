"""What the exercises of all chapters share."""

from __future__ import annotations

from functools import cache

import torch

from circuitbook.suites.finding import load_suite
from circuitbook.teaching.checking import Check

CHECKS: dict[str, Check] = {}


def _register(name: str, *args, **options) -> Check:
    CHECKS[name] = Check(*args, **options)
    return CHECKS[name]


@cache
def _model(name: str):
    """The last checkpoint of a shipped model, float64: rounding shall not decide who is right."""
    suite = load_suite("mini")
    return suite.checkpoint(name, suite.steps(name)[-1]).load(dtype=torch.float64)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
