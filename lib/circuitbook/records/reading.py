"""Reading a record that comes with the library, with one clear error where it is none."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any


def read_record(file: Path, parts: Collection[str], of: str) -> dict[str, Any]:
    """The JSON of a record `of` something; ValueError if it cannot be read or lacks a part."""
    try:
        record = json.loads(Path(os.path.expanduser(file)).read_text(encoding="utf8"))
        missing = set(parts) - set(record)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file} is no record of {of} ({error})") from error
    if missing:
        raise ValueError(f"the record {file} lacks {', '.join(sorted(missing))}")
    return record
