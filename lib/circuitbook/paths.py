"""Where this package and, if it is run from one, the book's checkout lie on disk."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
DATA = PACKAGE / "records" / "data"


def checkout() -> Path | None:
    """The book's checkout that this package is run from; None where it is installed by itself."""
    root = PACKAGE.parents[1]
    return root if (root / "_toc.yml").is_file() else None
