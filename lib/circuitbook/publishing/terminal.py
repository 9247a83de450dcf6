"""What a build tells the person who waits for it."""

from __future__ import annotations

from pathlib import Path


def say(text: str) -> None:
    """Prints a line at once, also where the output is a pipe."""
    print(text, flush=True)


def short_path(path: Path) -> Path:
    """The path as seen from the current folder, if it is inside."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
