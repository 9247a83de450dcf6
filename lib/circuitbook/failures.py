"""What can go wrong through no fault of the program, as a line for the person at the terminal."""

from __future__ import annotations

import errno

WAYS_OUT = {
    errno.ENOSPC: "free some space, and the same command goes on",
    errno.EDQUOT: "free some space, and the same command goes on",
    errno.EACCES: "choose a place that you may write to, or ask for the right to",
    errno.EPERM: "choose a place that you may write to, or ask for the right to",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "a file is in the way of a folder; choose another place",
    errno.EEXIST: "something else is in the way; remove it, or choose another place",
    errno.EISDIR: "a folder is in the way of a file; choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "let processes open more files (ulimit -n)",
    errno.ENOMEM: "close other programs, or take smaller models",
}


def failure(error: Exception) -> str | None:
    """One message for an error that can be foreseen; None for a bug.

    >>> failure(FileExistsError(17, "File exists", "out"))
    'out: File exists; something else is in the way; remove it, or choose another place'
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return "there is not enough memory; close other programs, or take smaller models"
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        way_out = WAYS_OUT.get(error.errno)
        return f"{where}{error.strerror}{f'; {way_out}' if way_out else ''}"
    if isinstance(error, (ValueError, OSError, FloatingPointError)) or _ours(error):
        return str(error) or type(error).__name__
    return None


def _ours(error: Exception) -> bool:
    """Whether it is an error of this package: what it raises itself says what to do."""
    return type(error).__module__.split(".")[0] == __name__.split(".")[0]
