"""Waiting for another process, and saying for which."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

log = logging.getLogger(__name__)

MOMENT = 1.0  # seconds that are waited in silence


def acquire(path: Path, doing: str) -> filelock.BaseFileLock:
    """The lock at `path`, held; a wait of more than a moment is told, with who holds it.

    doing: what the holder does: "is measuring ability-0123456789ab".
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=MOMENT)
    except filelock.Timeout:
        log.warning("waiting for %s, which %s", holder(path), doing)
        lock.acquire()
    _sign(path)
    return lock


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """The lock of a folder, for as long as the block takes.

    filelock.Timeout at once where somebody else has it; `holder` of its lock_file says who.
    """
    path = folder / ".lock"
    with filelock.FileLock(path, timeout=0):
        _sign(path)
        yield


def holder(path: str | os.PathLike) -> str:
    """Who holds the lock, as far as it says: "process 1234 on host (since 2026-01-31 12:30)"."""
    try:
        said = Path(path).read_text(encoding="utf8")
        named = re.fullmatch(r"(\d+) (\S+)(?: (\S+ \S+))?\n", said)
    except (OSError, ValueError):
        named = None
    if not named:
        return "another process"
    return f"process {named[1]} on {named[2]}" + (f" (since {named[3]})" if named[3] else "")


def _sign(path: Path) -> None:
    """Writes into a lock who holds it from now on."""
    with contextlib.suppress(OSError):  # a full disk is no reason not to go on
        now = time.strftime("%Y-%m-%d %H:%M")
        path.write_text(f"{os.getpid()} {socket.gethostname()} {now}\n", encoding="utf8")
