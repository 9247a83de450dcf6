"""What stops a build."""

from __future__ import annotations


class BuildError(RuntimeError):
    """The book cannot be built. The message is for the person at the terminal: what, where, and
    what to do."""
