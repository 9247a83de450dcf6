"""Waiting for another process, and saying for which."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
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
    with contextlib.suppress(OSError):  # a full disk is no reason not to go on
        path.write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf8")
    return lock


def holder(path: Path) -> str:
    """Who holds the lock, as far as it says: "process 1234 on host"."""
    try:
        named = re.fullmatch(r"(\d+) (\S+)\n", path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        named = None
    return f"process {named[1]} on {named[2]}" if named else "another process"
