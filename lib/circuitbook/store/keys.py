"""The key of a measurement: everything that determines it, in one canonical form.

Two measurements have the same key when they have the same kind, the same parameters and the same
code, wherever that stands (see `circuitbook.store.code`).
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import inspect
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np

from circuitbook.store.code import code_hash, code_name

FORMAT = 2  # part of every key: raise it if the meaning of the fields changes


@dataclass(frozen=True)
class Key:
    """What identifies a measurement, made by `measurement_key`; `str(key)` is its short name."""

    kind: str
    fields: str  # canonical JSON of {"format", "kind", "what", "code"}; code: hashes alone
    code: dict[str, str] = field(
        default_factory=dict, compare=False
    )  # {entry point: hash}, for provenance

    @property
    def digest(self) -> str:
        """sha256 of the fields, 64 hexadecimal digits."""
        return hashlib.sha256(self.fields.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.kind}-{self.digest[:12]}"


def measurement_key(kind: str, code: Sequence[ModuleType | Callable] = (), **what: object) -> Key:
    """The key of a measurement of this kind (a short lower-case name): by this code, from these
    parameters.

    code: the functions, classes or modules that compute the result; all that they can reach counts
    with them. what: numbers, strings, booleans, None, dtypes, enums, arrays, functions,
    dataclasses, and lists, tuples, sets or dicts of these. A list and a tuple of the same values
    are the same; 1 and 1.0 are not. Arrays count by the hash of their contents, functions by that
    of their code, objects with a method `__measurement_key__` by what it gives; weights by the hash
    of their files.

    Errors: TypeError that names the parameter which cannot be written down.

        measurement_key("ability", model="mini-m", step=512)  ->  ability-2a1f0c9d7e55 (as str)
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", kind):
        raise ValueError(
            f"kind {kind!r} must be made of lower-case letters, digits, - and _, since it names a "
            "folder"
        )
    parts = tuple(code) if isinstance(code, (tuple, list)) else (code,)
    hashes = {code_name(part): code_hash(part) for part in parts}
    fields = {
        "format": FORMAT,
        "kind": kind,
        "what": {name: _plain(value, name) for name, value in what.items()},
        "code": sorted(hashes.values()),
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return Key(kind, text, hashes)


def _plain(value: object, field: str) -> object:
    """`value` as JSON can hold it. `field` is its path, for errors: "recipe.points", "steps[3]"."""
    if hasattr(type(value), "__measurement_key__"):
        return _plain(value.__measurement_key__(), field)  # type: ignore[attr-defined]
    if value is None or isinstance(value, (bool, str)) and not isinstance(value, enum.Enum):
        return value
    if isinstance(value, enum.Enum):
        return {type(value).__name__: _plain(value.value, field)}
    if isinstance(value, np.generic):
        return _plain(value.item(), field)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(
                f"{field} is {value}, which has no place in a key; use None or leave it out"
            )
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        about = f"{value.dtype.str} {list(value.shape)} ".encode()
        return {"array": hashlib.sha256(about + np.ascontiguousarray(value).tobytes()).hexdigest()}
    if isinstance(value, np.dtype):
        return value.name
    if (type(value).__module__, type(value).__name__) == (
        "torch",
        "dtype",
    ):  # without importing torch for it
        return str(value).removeprefix("torch.")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inside = {
            f.name: _plain(getattr(value, f.name), f"{field}.{f.name}")
            for f in dataclasses.fields(value)
        }
        return {type(value).__name__: inside}
    if inspect.isroutine(value):
        try:
            return {"code": code_hash(value)}
        except TypeError:
            raise TypeError(f"{field} is a function without a source: {value!r}") from None
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"{field} has the key {name!r}; the keys of a dict must be strings")
        return {name: _plain(item, f"{field}[{name!r}]") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{field}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item, f"{field}{{}}") for item in value), key=json.dumps)
    way_out = (
        "pass a hash of its contents instead"
        if _holds_data(value)
        else "pass a value that JSON can hold"
    )
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(f"{field} is a {kind}, which cannot be in a key; {way_out}")


def _holds_data(value: object) -> bool:
    return (
        isinstance(value, (np.ndarray, bytes, Path))
        or hasattr(value, "shape")
        or hasattr(value, "state_dict")
    )
