"""The key of a measurement: everything that determines it, in one canonical form.

Two measurements have the same key when they have the same kind, the same parameters and the same code; comments,
docstrings and layout of the code do not count.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

FORMAT = 1  # part of every key: raise it if the meaning of the fields changes


@dataclass(frozen=True)
class Key:
    """What identifies a measurement. Make it with `measurement_key`; `str(key)` is its short name."""

    kind: str
    fields: str  # canonical JSON of {"format", "kind", "what", "code"}

    @property
    def digest(self) -> str:
        """sha256 of the fields, 64 hexadecimal digits."""
        return hashlib.sha256(self.fields.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.kind}-{self.digest[:12]}"


def measurement_key(kind: str, code: Sequence[ModuleType | Callable] = (), **what: object) -> Key:
    """The key of a measurement of this kind (a short lower-case name): by this code, from these parameters.

    code: the modules whose source determines the result, or single functions and classes of them; a package stands for
    all the modules in it.
    what: numbers, strings, booleans, None, dtypes, enums, dataclasses, and lists, tuples, sets or dicts of these.
    A list and a tuple of the same values are the same; 1 and 1.0 are not. Weights go in as their hash, never as arrays.

    Errors: TypeError that names the parameter which cannot be written down.

        measurement_key("ability", model="mini-m", step=512)  ->  ability-2a1f0c9d7e55 (as str)
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", kind):
        raise ValueError(f"kind {kind!r} must be made of lower-case letters, digits, - and _, since it names a folder")
    parts = tuple(code) if isinstance(code, (tuple, list)) else (code,)
    fields = {
        "format": FORMAT,
        "kind": kind,
        "what": {name: _plain(value, name) for name, value in what.items()},
        "code": {_code_name(part): code_hash(part) for part in parts},
    }
    return Key(kind, json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False))


def _plain(value: object, field: str) -> object:
    """`value` as JSON can hold it. `field` is its path, for errors: "recipe.points", "steps[3]"."""
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
            raise TypeError(f"{field} is {value}, which has no place in a key; use None or leave it out")
        return value
    if isinstance(value, np.dtype):
        return value.name
    if (type(value).__module__, type(value).__name__) == ("torch", "dtype"):  # without importing torch for it
        return str(value).removeprefix("torch.")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inside = {f.name: _plain(getattr(value, f.name), f"{field}.{f.name}") for f in dataclasses.fields(value)}
        return {type(value).__name__: inside}
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"{field} has the key {name!r}; the keys of a dict must be strings")
        return {name: _plain(item, f"{field}[{name!r}]") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{field}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item, f"{field}{{}}") for item in value), key=json.dumps)
    way_out = "pass a hash of its contents instead" if _holds_data(value) else "pass a value that JSON can hold"
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(f"{field} is a {kind}, which cannot be in a key; {way_out}")


def _holds_data(value: object) -> bool:
    return isinstance(value, (np.ndarray, bytes, Path)) or hasattr(value, "shape") or hasattr(value, "state_dict")


# A hash is taken once, when it is first asked for, since that is the code in memory: a file edited while a sweep runs
# must not put its name on results of the old code. A reload makes a new function, or a new __spec__ of the module.
_hashes: dict[str, tuple[object, str]] = {}


def code_hash(code: ModuleType | Callable) -> str:
    """Hash of what this module, function or class does: its syntax tree, less docstrings and comments. 16 digits."""
    version = code.__spec__ if isinstance(code, ModuleType) else code
    known = _hashes.get(_code_name(code), (None, ""))
    if known[0] is None or known[0] is not version:
        outlines = repr(list(_outlines(code)))
        known = _hashes[_code_name(code)] = (version, hashlib.sha256(outlines.encode()).hexdigest()[:16])
    return known[1]


def _code_name(code: object) -> str:
    """circuitbook.store, or circuitbook.store.Store.table; TypeError for what has no source file."""
    module = code if isinstance(code, ModuleType) else sys.modules.get(getattr(code, "__module__", None))
    inside = "" if code is module else getattr(code, "__qualname__", "<none>")
    if not str(getattr(module, "__file__", "")).endswith(".py") or "<" in inside:
        raise TypeError(f"code must be modules, or functions and classes of modules, with a source file; not {code!r}")
    return f"{module.__name__}.{inside}".rstrip(".")


def _outlines(code: ModuleType | Callable) -> Iterator[tuple[str, object]]:
    if isinstance(code, ModuleType):
        top = Path(code.__file__)
        for file in sorted(top.parent.rglob("*.py")) if hasattr(code, "__path__") else [top]:
            yield file.relative_to(top.parent).as_posix(), _outline(_without_docstrings(ast.parse(file.read_bytes())))
    else:
        node = _without_docstrings(ast.parse(Path(sys.modules[code.__module__].__file__).read_bytes()))
        for name in code.__qualname__.split("."):
            named = _definitions(node.body, name) or _definitions(ast.walk(node), name)     # or below an `if`, say
            if not named:
                raise TypeError(f"{code!r} is not defined in the source of {code.__module__}")
            node = named[-1]                        # of several definitions the last one holds
        yield code.__qualname__, _outline(node)


def _definitions(nodes: Iterable[ast.AST], name: str) -> list[ast.AST]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node for node in nodes if isinstance(node, kinds) and node.name == name]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
                if isinstance(node.body[0].value.value, str):
                    node.body = node.body[1:]
    return tree


def _outline(node: object) -> object:
    """The tree as nested tuples. Not `ast.dump`: empty fields are left out, as they differ between Python versions."""
    if isinstance(node, ast.AST):
        fields = [(name, _outline(value)) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return (type(node).__name__, *fields)
    if isinstance(node, list):
        return tuple(_outline(item) for item in node)
    return repr(node)
