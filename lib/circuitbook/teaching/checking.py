"""How an exercise is checked: the learner's function runs on several inputs, and its values are
compared with the library's.

A check knows the typical mistakes, each as the function that makes it. Values that are a mistake's
on every input are told by name; any other wrong value is only told to be wrong. A check says one
sentence, raises nothing, and never says the answer.
"""

from __future__ import annotations

import copy
import inspect
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from circuitbook.teaching.answers import Unreadable, _described, names, number, series

TOLERANCE = 1e-4  # of the largest value; the library's own float32 is far below


@dataclass(frozen=True)
class Feedback:
    """What a check says. `right`: True, False, or None where nothing was written yet."""

    right: bool | None
    says: str

    def __bool__(self) -> bool:
        return self.right is True

    @property
    def word(self) -> str:
        return {True: "Right", False: "Not right yet", None: "Not solved yet"}[self.right]

    def __repr__(self) -> str:
        return f"{self.word}: {self.says}"

    def _repr_markdown_(self) -> str:  # in a notebook and in the book: a sentence that wraps
        return f"**{self.word}:** " + re.sub(r"([\\`*_<>$|~])", r"\\\1", self.says)


@dataclass(frozen=True)
class Case:
    """One input, what it is, and the library's value for it."""

    about: str
    inputs: tuple
    right: object


@dataclass(frozen=True)
class Mistake:
    """A typical mistake: how it is told, and the function that makes it."""

    says: str
    gives: Callable


# ------------------------------------------------------------------ a check


@dataclass(frozen=True)
class Check:
    """`takes`: the inputs, for people. `cases()`: made at the first use, since some need a model.
    `each`: {what: its number in these inputs}, to tell a value per prompt from a mean over
    prompts."""

    title: str
    takes: tuple[str, ...]
    cases: Callable[[], Sequence[Case]]
    mistakes: tuple[Mistake, ...]
    read: Callable = number
    each: Callable[..., dict[str, int]] = lambda *inputs: {}

    def of(self, function: Callable) -> Feedback:
        """What is wrong with the learner's function, in one sentence."""
        if not callable(function):
            return Feedback(
                False,
                f"this is {_described(function)}, not a function; pass the function itself, without a call.",
            )
        name = getattr(function, "__name__", "your function")
        if wrong := self._signature(function, name):
            return Feedback(False, wrong)
        cases, values = list(self.cases()), []
        for case in cases:
            value, wrong = self._called(function, name, case)
            if wrong is not None:
                return wrong
            values.append(value)
        return self._judged(name, cases, values)

    def _signature(self, function: Callable, name: str) -> str:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # some functions written in C tell nothing: try them
            return ""
        try:
            signature.bind(*self.takes)
        except TypeError:
            return (
                f"{name}{signature} cannot be called with the {len(self.takes)} inputs of this exercise, which are "
                f"({', '.join(self.takes)}), in this order."
            )
        return ""

    def _called(self, function: Callable, name: str, case: Case) -> tuple[object, Feedback | None]:
        """(the value, None), or (None, what is wrong)."""
        try:
            value = function(
                *copy.deepcopy(case.inputs)
            )  # what it writes into its inputs is its own affair
        except NotImplementedError:
            return None, Feedback(
                None, f"{name} raises NotImplementedError; write it, and run the check again."
            )
        except Exception as error:  # whatever a learner's function raises is told, not raised
            where = [
                frame
                for frame in traceback.extract_tb(error.__traceback__)
                if frame.filename != __file__
            ]
            line = f" in its line {where[0].line!r}" if where and where[0].line else ""
            said = str(error).strip().splitlines()
            return None, Feedback(
                False,
                f"{name} stops{line} with {type(error).__name__}{': ' + said[0] if said else ''}; "
                f"the input was {case.about}.",
            )
        if value is None or value is Ellipsis:
            return None, Feedback(
                None,
                f"{name} returns nothing; write it (or is the return missing?), and run the check again.",
            )
        try:
            read = self.read(value)
        except Unreadable as wrong:
            return None, Feedback(
                False,
                f"{name} returns {wrong}{self._missing_mean(value, case)}; the input was {case.about}.",
            )
        wrong = ""
        if self.read is not names and not np.isfinite(read).all():
            wrong = f"gives {'nan' if np.isnan(read).any() else 'infinity'}"
        elif self.read is series and len(read) != len(case.right):
            wrong = f"returns {len(read)} numbers where {len(case.right)} are wanted"
        if wrong:
            return None, Feedback(False, f"{name} {wrong}; the input was {case.about}.")
        return read, None

    def _missing_mean(self, value: object, case: Case) -> str:
        shape = (
            list(value.shape)
            if hasattr(value, "shape")
            else [len(value)]
            if isinstance(value, (list, tuple))
            else []
        )
        whose = [what for what, size in self.each(*case.inputs).items() if shape == [size]]
        return (
            f": one for each {whose[0]}, so that the mean over the {whose[0]}s is missing"
            if whose
            else ""
        )

    def _judged(self, name: str, cases: Sequence[Case], values: Sequence[object]) -> Feedback:
        good = [same(value, case.right) for value, case in zip(values, cases)]
        where = "; ".join(case.about for case in cases)
        if all(good):
            return Feedback(
                True, f"{name} gives what the library gives on {len(cases)} inputs ({where})."
            )
        for mistake in self.mistakes:
            if all(same(value, made(mistake, case)) for value, case in zip(values, cases)):
                return Feedback(False, f"{mistake.says} (Seen on {len(cases)} inputs.)")
        bad = [case.about for case, fine in zip(cases, good) if not fine]
        if any(good):
            return Feedback(
                False,
                f"{name} is right on {sum(good)} of {len(cases)} inputs, but not on {'; '.join(bad)}.",
            )
        if self.read is number and _proportional(values, [case.right for case in cases]):
            return Feedback(
                False,
                f"the values of {name} are off by one constant factor on all {len(cases)} inputs ({where}).",
            )
        return Feedback(
            False,
            f"{name} differs from the library on all {len(cases)} inputs ({where}), and by no mistake that "
            "this check knows; try it on an input small enough to do by hand.",
        )


def same(value: object, other: object) -> bool:
    """Equal, for numbers and series up to rounding."""
    if isinstance(other, frozenset) or isinstance(value, frozenset):
        return value == other
    value, other = np.asarray(value, dtype=float), np.asarray(other, dtype=float)
    slack = 1e-9 + TOLERANCE * np.abs(other).max(initial=0)
    return value.shape == other.shape and bool(
        np.allclose(value, other, rtol=TOLERANCE, atol=slack)
    )


def made(mistake: Mistake, case: Case) -> object:
    """The mistake's value, read as the learner's is; nan where the mistake cannot be made on this
    input."""
    with np.errstate(all="ignore"):
        try:
            value = mistake.gives(*copy.deepcopy(case.inputs))
        except ZeroDivisionError:
            return float("nan")
    read = {frozenset: names, np.ndarray: series}.get(type(case.right), number)
    return read(value)


def _proportional(values: Sequence[float], right: Sequence[float]) -> bool:
    values, right = np.asarray(values), np.asarray(right)
    if (
        len(values) < 2
        or min(np.abs(right).min(), np.abs(values).min()) < 1e-9
        or same(right, np.full(len(right), right[0]))
    ):
        return False
    ratio = values / right
    return same(ratio, np.full(len(ratio), ratio[0]))
