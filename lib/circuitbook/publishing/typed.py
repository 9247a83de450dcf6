"""Parameters as they are typed in a shell: text, until it is known what is wanted.

What a notebook assigns in its cell of parameters tells the type. Where that is None, the names that
chapters use do; under any other name, text is what does not look like something else in Python.
"""

from __future__ import annotations

import ast
import enum
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import default_parameters
from circuitbook.suites.finding import BY_NAME


class Kind(enum.Enum):
    """What a parameter is."""

    TEXT = "text"
    TEXTS = "a list of names"
    TRUTH = "true or false"
    NUMBER = "a number"
    STEPS = "step numbers, or a schedule's name"
    ANY = "anything"


OF_NAMES = {  # where the default is None, or no notebook is at hand
    **dict.fromkeys(("SUITE", "MODEL", "STORE", "TEXT", "FOLDER", "RECORD", "RECIPE"), Kind.TEXT),
    **dict.fromkeys(("BESIDE", "REAL", "LISTS", "ABLATION", "DEVICE", "DTYPE", "TASK"), Kind.TEXT),
    **dict.fromkeys(("MODELS", "SEEDS", "TASKS", "PASSAGES"), Kind.TEXTS),
    **dict.fromkeys(("STEP", "TOKENS_PER_STEP"), Kind.NUMBER),
    "STEPS": Kind.STEPS,
}
# Of these, what names files or folders; and of those, what may have to be made
PLACES = ("SUITE", "REAL", "LISTS", "STORE", "TEXT", "FOLDER", "RECORD")
MADE = ("STORE", "FOLDER")
OF_TYPES = {bool: Kind.TRUTH, int: Kind.NUMBER, float: Kind.NUMBER, str: Kind.TEXT}

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_LISTED = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]*?)\s*(?:,|$)""")


def parse_parameters(
    items: Iterable[str], notebooks: Iterable[NotebookNode] = ()
) -> dict[str, object]:
    """NAME=VALUE, each as the notebooks that have such a parameter want it; a name that is given
    twice has its last value. BuildError for what cannot be that.

    parse_parameters(["N=20", "MODELS=[mini-s, mini-m]", "DEVICE=cpu", "STEPS=None"])
    -> {"N": 20, "MODELS": ["mini-s", "mini-m"], "DEVICE": "cpu", "STEPS": None}
    """
    defaults = [default_parameters(notebook) for notebook in notebooks]
    parameters: dict[str, object] = {}
    for item in items:
        name, equals, text = item.partition("=")
        name, text = name.strip(), text.strip()
        if not equals or not name.isidentifier():
            raise BuildError(
                f"cannot read the parameter {item!r}: "
                "write NAME=VALUE, such as MODELS=[mini-s,mini-m]"
            )
        kind = kind_of(name, [given[name] for given in defaults if name in given])
        try:
            parameters[name] = None if text in ("", "None") else _READERS[kind](text)
        except ValueError:
            raise BuildError(f"the parameter {name} takes {kind.value}, not {text!r}") from None
    return parameters


def from_here(parameters: Mapping[str, object], root: Path) -> dict[str, object]:
    """Parameters for notebooks, which run in `root`: files and folders that are named as seen from
    the current folder have their whole path.

    What is not there, but in `root`, is meant as seen from `root`.
    """
    found = dict(parameters)
    if Path.cwd() == root.resolve():
        return found
    for name in PLACES:
        if isinstance(value := found.get(name), str) and value and value not in BY_NAME:
            here = os.path.abspath(os.path.expanduser(value))
            made = name in MADE and not os.path.exists(root / os.path.expanduser(value))
            if made or os.path.exists(here):
                found[name] = here
    return found


def kind_of(name: str, defaults: Sequence[object]) -> Kind:
    """What a parameter is, by its defaults in several notebooks, else by its name.

    kind_of("PROMPTS", [200, "few"]) -> Kind.ANY
    """
    known = OF_NAMES.get(name)
    kinds = {_kind_of_value(value) for value in defaults if value is not None}
    if not kinds or known is Kind.STEPS:
        return known or Kind.ANY
    return kinds.pop() if len(kinds) == 1 else Kind.ANY


def _kind_of_value(value: object) -> Kind:
    if isinstance(value, (list, tuple)) and value and all(isinstance(x, str) for x in value):
        return Kind.TEXTS
    return OF_TYPES.get(type(value), Kind.ANY)


def _text(typed: str) -> str:
    """As it is; without quotes, if it is in quotes."""
    literal = _literal(typed)
    return literal if isinstance(literal, str) else typed


def _texts(typed: str) -> str | list[str]:
    """Names in brackets or between commas; one name stays text."""
    items = _items(typed)
    return _text(typed) if items is None else [_text(item) for item in items]


def _truth(typed: str) -> bool:
    if typed.lower() in _TRUE + _FALSE:
        return typed.lower() in _TRUE
    raise ValueError


def _number(typed: str) -> object:
    """A number, whole where it is: 1e3 is 1000. Something in brackets is left to the notebook."""
    if typed[0] in "[({":
        return _any(typed)
    literal = _literal(typed)
    if type(literal) is int:
        return literal
    number = float(typed)
    if not math.isfinite(number):
        raise ValueError
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _steps(typed: str) -> object:
    """[10, 20] or 10,20 or 10, or the name of a schedule."""
    items = _items(typed)
    if items is not None:
        return [_number(_text(item) or "?") for item in items]
    try:
        return _number(typed)
    except ValueError:
        return _text(typed)


def _any(typed: str) -> object:
    """What Python or JSON would make of it where that says the same; else text."""
    if re.fullmatch(r"[+-]?0\d+", typed):  # no number in Python either
        return typed
    literal = _literal(typed)
    if isinstance(literal, (str, int, float, list, tuple, dict)):
        return list(literal) if isinstance(literal, tuple) else literal
    if typed.lower() in ("true", "false"):
        return typed.lower() == "true"
    if typed == "None":
        return None
    if typed[:1] in ("[", "(") and (items := _items(typed)) is not None:
        return [_any(item) for item in items]
    if typed[:1] == "{":
        try:
            return _each(yaml.load(typed, Loader=yaml.BaseLoader))
        except (yaml.YAMLError, RecursionError):
            pass
    return typed


def _each(value: Any) -> Any:
    """The values of a YAML document whose scalars are texts, read as `_any`."""
    if isinstance(value, Mapping):
        return {_any(str(name)): _each(part) for name, part in value.items()}
    return [_each(part) for part in value] if isinstance(value, list) else _any(value)


def _literal(typed: str) -> object:
    try:
        return ast.literal_eval(typed)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _items(typed: str) -> list[str] | None:
    """The items of [a, b], (a, b) or a, b, as they are typed; None where it is one thing."""
    bracketed = (typed[:1], typed[-1:]) in (("[", "]"), ("(", ")"))
    inside = typed[1:-1].strip() if bracketed else typed
    if not bracketed and ("," not in typed or isinstance(_literal(typed), str)):
        return None
    if re.search(r"[\[\](){}]", inside):  # something within: only Python can tell
        literal = _literal(typed)
        return [repr(item) for item in literal] if isinstance(literal, (list, tuple)) else None
    if not inside:
        return []
    return [found[1] for found in _LISTED.finditer(inside.removesuffix(",")) if found[0]]


_READERS: dict[Kind, Callable[[str], object]] = {
    Kind.TEXT: _text,
    Kind.TEXTS: _texts,
    Kind.TRUTH: _truth,
    Kind.NUMBER: _number,
    Kind.STEPS: _steps,
    Kind.ANY: _any,
}
