"""Measurements that come with the library because they cannot be made while a page is built: its
speed.
"""

from __future__ import annotations

import json
from pathlib import Path

from circuitbook.paths import DATA

PARTS = {
    *("ratio", "memory", "circuits", "prompts", "points", "length", "models", "real", "busy"),
    *("date", "machine", "versions"),
}


def recorded_speed(path: str | Path | None = None) -> dict:
    """What benchmarks/speed.py measured last (seconds, GB), or another record of it; ValueError if
    it is none.
    """
    file = Path(path) if path else DATA / "speed.json"
    try:
        record = json.loads(file.read_text(encoding="utf8"))
        missing = PARTS - set(record)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{file} is no record of benchmarks/speed.py ({error}); make one with make bench"
        ) from error
    if missing:
        raise ValueError(
            f"the record {file} lacks {', '.join(sorted(missing))}; make it anew with make bench"
        )
    return record
