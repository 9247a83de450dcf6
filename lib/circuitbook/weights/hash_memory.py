"""Hashes of files that are read once, and again only where their size, times or inode changed.

    with HASHES.kept_in(Path("_build/hashes.json")):      # from an earlier process, for a later one
        HASHES.sha256(path)

Whoever writes to a file changes its ctime, which no program can set back; so a file whose size and
mtime were kept is noticed too. What was changed in the last seconds is read again in any case: two
changes within one tick of the clock leave the same times.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from circuitbook.store.files import write_atomically
from circuitbook.weights.files import sha256

SETTLED = 2.0  # seconds without a change, after which a file's times are believed


class HashMemory:
    """sha256 of files by their path, each with the state in which the file was read."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[list[int], str]] = {}  # {path: (state, hash)}

    def sha256(self, path: Path) -> str:
        """Hex sha256 of the file's bytes, as `files.sha256` gives it."""
        name, before = os.path.abspath(path), _state(path)
        state, digest = self._known.get(name, ([], ""))
        if state == before:
            return digest
        digest = sha256(path)
        status = path.stat()
        if _state(path) == before and time.time() - status.st_ctime > SETTLED:
            self._known[name] = (before, digest)
        return digest

    @contextlib.contextmanager
    def kept_in(self, file: Path) -> Iterator[None]:
        """Within: also what `file` knows. In the end `file` knows what is known then, of files that
        still exist."""
        # none yet, or not ours
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
            stored = json.loads(file.read_text(encoding="utf8"))
            earlier = {name: (entry[0], entry[1]) for name, entry in stored.items()}
            self._known = earlier | self._known
        before = dict(self._known)
        try:
            yield
        finally:
            if self._known != before:
                kept = {name: entry for name, entry in self._known.items() if os.path.exists(name)}
                write_atomically(file, json.dumps(kept, indent=0).encode())


def _state(path: Path) -> list[int]:
    """What changes when the file does: size, times, and which file it is."""
    status = path.stat()
    times = [status.st_mtime_ns, status.st_ctime_ns]
    return [status.st_size, *times, status.st_ino, status.st_dev]


HASHES = HashMemory()  # of this process
