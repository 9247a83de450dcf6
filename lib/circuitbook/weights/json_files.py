"""JSON files of a checkpoint or suite, read so that what is wrong with one is said in one line."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    ValueError, naming the file and what is wrong: empty, cut off, no UTF-8, another type.
    FileNotFoundError where there is none.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and a JSON file is expected there")
    data = path.read_bytes()
    if not data.strip(b" \t\r\n\0"):
        raise ValueError(f"{path} is empty: restore it, or download it again")
    if data.startswith(b"\xef\xbb\xbf"):
        raise ValueError(f"{path} begins with a byte-order mark (BOM): save it as UTF-8 without")
    try:
        value = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {data[error.start]:#04x} at {error.start}): "
            "save it as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not whole JSON ({_first_line(error)}): mend it, restore it, or download it "
            "again"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds {_kind(value)}, and an object {{...}} is expected there")
    return value


# How a value that was read is shown in an error: not all of a thousand digits
shown = reprlib.repr


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _kind(value: object) -> str:
    """What JSON calls a value, with its article.

    >>> _kind([1]), _kind(None)
    ('a list', 'null')
    """
    if value is None:
        return "null"
    names = {list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "a number")
