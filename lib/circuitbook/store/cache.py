"""What was downloaded or converted once and can be had again: folders that are whole or not there.

    convert_into = cache_path() / "gguf" / sha256
    folder = folder_once(convert_into, convert)     # convert(empty folder) is called if need be

Unlike the store's measurements, nothing here is lost when it is deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from circuitbook.store.drive import DRIVE, mount_drive
from circuitbook.store.files import write_atomically
from circuitbook.store.locks import acquire

CACHE_VARIABLE = "CIRCUITBOOK_CACHE"
_MANIFEST = "whole.json"  # {name: bytes} of the files; written last


class CacheError(RuntimeError):
    """The cache cannot be written."""


def cache_path() -> Path:
    """$CIRCUITBOOK_CACHE if set, else `circuitbook` in $XDG_CACHE_HOME or in ~/.cache."""
    if os.environ.get(CACHE_VARIABLE):
        path = Path(os.path.expanduser(os.environ[CACHE_VARIABLE])).absolute()
    else:
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        path = Path(os.path.expanduser(home)) / "circuitbook"
    mount_drive(path)
    return path


def folder_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make(empty folder)` unless it is there whole.

    What `make` fills lies beside it and gets its name in the end, so that what was interrupted is
    never taken for done: it is removed, and made from the start. Of several processes one makes it
    while the others wait. What `make` raises comes through, except that an OSError of the cache's
    disk becomes a CacheError that says what to do.
    """
    if is_whole(folder):  # without the lock: a read-only cache can still be read
        return folder
    with alone(folder):
        if not is_whole(folder):  # no other process made it while we waited
            shutil.rmtree(folder, ignore_errors=True)
            with temporary_folder(folder) as partial:
                make(partial)
                files = [file for file in partial.iterdir() if file.is_file()]
                sizes = {file.name: file.stat().st_size for file in files}
                for file in files:
                    _to_disk(file)
                write_atomically(partial / _MANIFEST, json.dumps(sizes, indent=1).encode())
                # on Drive, where there are no locks, another session may have been faster
                with contextlib.suppress(OSError):
                    partial.rename(folder)
        if not is_whole(folder):
            raise CacheError(f"{folder} was written, but is not what was written: try again")
    return folder


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within, no other process of this machine makes `path`. The lock of one that died is free.

    CacheError where the cache cannot be written. Google Drive has no locks: there this is nothing.
    What processes that died have left beside `path`, of it and of others, is removed.
    """
    lock = None
    with _clear_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_relative_to(DRIVE):
            lock = acquire(_lock_of(path), f"is making {path.name}")
            for left in path.parent.glob(".*.tmp"):
                _remove_unless_made(left, path)
    try:
        yield
    finally:
        if lock:
            lock.release()


def _remove_unless_made(left: Path, path: Path) -> None:
    """Removes a temporary folder, unless another process makes that: `path` itself is ours."""
    made = left.with_name(left.name[1:].rsplit(".", 2)[0])
    ours = made == path
    with (
        contextlib.suppress(OSError),
        contextlib.nullcontext() if ours else FileLock(_lock_of(made), timeout=0),
    ):
        shutil.rmtree(left, ignore_errors=True)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, on the same disk, removed in the end."""
    folder = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with _clear_errors():
            folder.mkdir(parents=True)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cache = cache_path()
        elsewhere = error.filename is not None and not Path(error.filename).is_relative_to(cache)
        if error.errno is None or elsewhere:  # not a disk's, or that of what is read
            raise
        raise CacheError(
            f"the cache {cache} cannot be written: {error.strerror}; free some space, or "
            f"set {CACHE_VARIABLE} to a folder that can be written"
        ) from error


def is_whole(folder: Path) -> bool:
    """Whether every file is there, in the size in which it was written."""
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _to_disk(file: Path) -> None:
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())
