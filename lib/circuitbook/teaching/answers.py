"""What a learner's function may return, and how it is told if it is something else."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable

import numpy as np
import torch


class Unreadable(Exception):
    """A value that is not of the kind that was asked for; the message finishes the sentence "it
    returns ..."."""


def number(value: object) -> float:
    """A single number: Python's, NumPy's, or a tensor with one element."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        shape = list(value.shape)
        if math.prod(shape) != 1:
            raise Unreadable(f"a {_kind(value)} of shape {shape}, and one number is wanted")
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise Unreadable(f"{_described(value)}, and one number is wanted")
    return float(value)


def series(value: object) -> np.ndarray:
    """A number for each element, float64 [n]."""
    if isinstance(value, Iterable):
        with contextlib.suppress(TypeError, Unreadable):  # a tensor without dimensions
            return np.array([number(element) for element in value], dtype=np.float64)
    raise Unreadable(f"{_described(value)}, and a list of numbers is wanted")


def names(value: object) -> frozenset[str]:
    """A collection of names, in any order."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        elements = list(value)
        if all(isinstance(element, str) for element in elements):
            return frozenset(elements)
    raise Unreadable(f"{_described(value)}, and a collection of edge names is wanted")


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return "tensor"
    return "array" if isinstance(value, np.ndarray) else type(value).__name__


def _described(value: object) -> str:
    kind = _kind(value)
    shape = f" of shape {list(value.shape)}" if hasattr(value, "shape") else ""
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}{shape}"
