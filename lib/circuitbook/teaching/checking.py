"""How an exercise is checked: the learner's function runs on several inputs, and its values are
compared with the library's.

A check knows the typical mistakes, each as the function that makes it. Values that are a mistake's
on every input are told by name; any other wrong value is only told to be wrong. A check says one
sentence, raises nothing, and never says the answer.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitbook.teaching.answers import Unreadable, _described, names, number, series
from circuitbook.wording import in_markdown

RECORD = "CIRCUITBOOK_CHECKS"  # names a file to which every check adds what it has said
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
        return f"**{self.word}:** {in_markdown(self.says)}"


@dataclass(frozen=True)
class Case:
    """One input, what it is, and the library's value for it."""

    about: str
    inputs: tuple
    right: Any


@dataclass(frozen=True)
class Mistake:
    """A typical mistake: how it is told, and the function that makes it."""

    says: str
    gives: Callable


@dataclass(frozen=True)
class Check:
    """An exercise's check.

    name: as in `check_NAME`. takes: the inputs, for people. cases(): made at the first use, since
    some need a model. read: makes of what the function returns what is compared. each(*inputs):
    {what: its number in these inputs}, to tell a value per prompt from a mean over prompts.
    """

    name: str
    title: str
    takes: tuple[str, ...]
    cases: Callable[[], Sequence[Case]]
    mistakes: tuple[Mistake, ...]
    read: Callable = number
    each: Callable[..., dict[str, int]] | None = None

    def of(self, function: Callable) -> Feedback:
        """What is wrong with the learner's function, in one sentence. While marks are given (see
        `grading`), it is also written down for them."""
        feedback = self._looked_at(function)
        if record := os.environ.get(RECORD):
            line = {"check": self.name, "right": feedback.right, "says": feedback.says}
            with open(record, "a", encoding="utf8") as file:
                file.write(json.dumps(line) + "\n")
        return feedback

    def _looked_at(self, function: Callable) -> Feedback:
        if not callable(function):
            return Feedback(
                False,
                f"this is {_described(function)}, not a function; "
                "pass the function itself, without a call.",
            )
        name = getattr(function, "__name__", "your function")
        if misfit := self._misfit(function, name):
            return Feedback(False, misfit)
        cases = list(self.cases())
        values = []
        for case in cases:
            value = self._called(function, name, case)
            if isinstance(value, Feedback):
                return value
            values.append(value)
        return self._judged(name, cases, values)

    def _misfit(self, function: Callable, name: str) -> str:
        """Why the function cannot take the inputs; "" if it can."""
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # some functions written in C tell nothing: try them
            return ""
        try:
            signature.bind(*self.takes)
        except TypeError:
            return (
                f"{name}{signature} cannot be called with the {len(self.takes)} inputs of this "
                f"exercise, which are ({', '.join(self.takes)}), in this order."
            )
        return ""

    def _called(self, function: Callable, name: str, case: Case) -> object:
        """The value that the function gives, read; a Feedback where it gives none that can be
        compared."""
        inputs = copy.deepcopy(case.inputs)  # what it writes into them is its own affair
        try:
            value = function(*inputs)
        except NotImplementedError:
            return Feedback(
                None, f"{name} raises NotImplementedError; write it, and run the check again."
            )
        except Exception as error:  # whatever a learner's function raises is told, not raised
            return Feedback(False, f"{name} stops{_told(error)}; the input was {case.about}.")
        if value is None or value is Ellipsis:
            return Feedback(
                None,
                f"{name} returns nothing; write it (or is the return missing?), "
                "and run the check again.",
            )
        try:
            read = self.read(value)
        except Unreadable as unreadable:
            fault = f"returns {unreadable}{self._missing_mean(value, case)}"
        else:
            fault = self._fault(read, case)
        if fault:
            return Feedback(False, f"{name} {fault}; the input was {case.about}.")
        return read

    def _fault(self, read: Any, case: Case) -> str:
        """Why a value cannot be compared with the right one; "" if it can."""
        if self.read is names:
            return ""
        if not np.isfinite(read).all():
            return f"gives {'nan' if np.isnan(read).any() else 'infinity'}"
        if self.read is series and np.shape(read) != np.shape(case.right):
            return f"returns {len(read)} numbers where {len(case.right)} are wanted"
        return ""

    def _missing_mean(self, value: object, case: Case) -> str:
        """That a mean is missing, where the value has as many elements as the inputs have prompts,
        heads, ..."""
        if self.each is None:
            return ""
        shape = list(getattr(value, "shape", []))
        if isinstance(value, (list, tuple)):
            shape = [len(value)]
        for what, size in self.each(*case.inputs).items():
            if shape == [size]:
                return f": one for each {what}, so that the mean over the {what}s is missing"
        return ""

    def _judged(self, name: str, cases: Sequence[Case], values: Sequence[object]) -> Feedback:
        good = [same(value, case.right) for value, case in zip(values, cases, strict=True)]
        inputs = f"{len(cases)} inputs"
        where = "; ".join(case.about for case in cases)
        if all(good):
            return Feedback(True, f"{name} gives what the library gives on {inputs} ({where}).")
        for mistake in self.mistakes:
            if all(
                same(value, made(mistake, case)) for value, case in zip(values, cases, strict=True)
            ):
                return Feedback(False, f"{mistake.says} (Seen on {inputs}.)")
        if any(good):
            bad = [case.about for case, fine in zip(cases, good, strict=True) if not fine]
            return Feedback(
                False,
                f"{name} is right on {sum(good)} of {inputs}, but not on {'; '.join(bad)}.",
            )
        if self.read is number and _proportional(values, [case.right for case in cases]):
            return Feedback(
                False,
                f"the values of {name} are off by one constant factor on all {inputs} ({where}).",
            )
        return Feedback(
            False,
            f"{name} differs from the library on all {inputs} ({where}), and by no mistake that "
            "this check knows; try it on an input small enough to do by hand.",
        )


def _told(error: Exception) -> str:
    """_told(KeyError(3)) -> " in its line 'return {}[x]' with KeyError: 3" """
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__
    ]
    line = f" in its line {frames[0].line!r}" if frames and frames[0].line else ""
    message = str(error).strip().splitlines()
    return f"{line} with {type(error).__name__}{': ' + message[0] if message else ''}"


def same(value: object, other: object) -> bool:
    """Equal, for numbers and series up to rounding."""
    if isinstance(other, frozenset) or isinstance(value, frozenset):
        return value == other
    a, b = np.asarray(value, dtype=float), np.asarray(other, dtype=float)
    slack = 1e-9 + TOLERANCE * np.abs(b).max(initial=0)
    return a.shape == b.shape and np.allclose(a, b, rtol=TOLERANCE, atol=slack)


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


def _proportional(values: Sequence[object], right: Sequence[object]) -> bool:
    """Whether the values are one factor times the right ones, which are not all the same."""
    a, b = np.asarray(values, dtype=float), np.asarray(right, dtype=float)
    if len(a) < 2 or min(np.abs(a).min(), np.abs(b).min()) < 1e-9:
        return False
    return bool(not same(b, np.full_like(b, b[0])) and same(a / b, np.full_like(b, a[0] / b[0])))
