"""What processes that were killed have left in a store."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import filelock

from circuitbook.store.files import sweep_up
from circuitbook.store.formats import ARRAYS, TABLE


@functools.cache  # once a process
def sweep_store(path: Path) -> None:
    """Removes temporary files, and payloads without the JSON that is written last.

    Never what somebody writes at this moment: a temporary file is locked until it is whole, and a
    payload's key until its JSON is there.
    """
    for folder in path.glob("*/??"):
        sweep_up(folder)
        with contextlib.suppress(OSError):
            names = set(os.listdir(folder))
            for name in names:
                base, ending = os.path.splitext(name)
                if ending in (TABLE.suffix, ARRAYS.suffix) and f"{base}.json" not in names:
                    _remove_orphan(folder / name)


def _remove_orphan(payload: Path) -> None:
    with (
        contextlib.suppress(OSError),  # held by its writer, or not ours to remove
        filelock.FileLock(payload.with_suffix(".lock"), timeout=0),
    ):
        if not payload.with_suffix(".json").exists():
            payload.unlink()
