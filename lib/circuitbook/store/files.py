"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # not on Windows; there nothing is swept up
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\..*\.(\d+)-[0-9a-f]{8}\.tmp")
_LONGEST = 3600  # seconds that one write may take at the most


def write_atomically(path: Path, payload: bytes) -> None:
    """Writes the file whole or not at all: a temporary file beside it, synced to disk, then renamed
    over it.

    What writers that died have left in that folder is swept up. An OSError names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_up(path.parent)
    with _named(path):
        _write(path, payload)


def _write(path: Path, payload: bytes) -> None:
    file = _temporary_beside(path)
    temporary = Path(file.name)
    try:
        with file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
            if fcntl:
                os.replace(temporary, path)  # under the lock: what has none is swept up
        if not fcntl:
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself must reach the disk too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # not every mounted file system can
                os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """An OSError in the block names this file, rather than the temporary one or none."""
    try:
        yield
    except OSError as error:
        if error.errno:
            error.filename = str(path)
        raise


def sweep_up(folder: Path) -> None:
    """Removes the temporary files in this folder whose writers are gone.

    A writer locks its file until it has its name. Where there are no locks, its pid tells.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if fcntl and (named := _TEMPORARY.fullmatch(entry.name)):
                with contextlib.suppress(OSError):  # somebody writes it, or it is not ours
                    _remove_unless_written(Path(entry.path), int(named[1]))


def runs(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    return True


def _temporary_beside(path: Path) -> BinaryIO:
    while True:
        name = f".{path.stem[:64]}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
        file = open(path.with_name(name), "xb")  # noqa: SIM115
        if fcntl:
            with contextlib.suppress(OSError):  # not every mounted file system has locks
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):
            return file
        file.close()  # swept up by another process before it was locked


def _remove_unless_written(temporary: Path, pid: int) -> None:
    if runs(pid) and time.time() - temporary.stat().st_mtime < _LONGEST:
        return
    with open(temporary, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink()
