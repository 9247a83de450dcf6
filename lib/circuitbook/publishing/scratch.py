"""Folders for what a build needs only while it runs, and what killed builds have left of theirs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from circuitbook.store.files import runs
from circuitbook.store.locks import alone_in

_NAME = re.compile(r"circuitbook-(\d+)-\w+")  # the number is its process


@contextlib.contextmanager
def scratch_folder(place: str | None = None) -> Iterator[str]:
    """A folder that no other user can look into, in `place` or where temporary files go.

    Those that killed processes have left there are removed first. One that is in use is locked, by
    a process of this machine or of another one that sees the same files.
    """
    place = place or tempfile.gettempdir()
    _sweep(Path(place))
    prefix = f"circuitbook-{os.getpid()}-"
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=place) as folder,
        alone_in(Path(folder)),
    ):
        yield folder


def _sweep(place: Path) -> None:
    for folder in place.glob("circuitbook-*"):
        named = _NAME.fullmatch(folder.name)
        if named and not runs(int(named[1])):
            with contextlib.suppress(OSError):  # it is locked, or not ours
                if folder.lstat().st_uid == os.getuid():
                    with alone_in(folder):
                        pass
                    shutil.rmtree(folder, ignore_errors=True)
