"""transformers' progress bars, hidden: those that a reader sees are ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hides the bars that transformers draws while it reads or writes weights; those of downloads
    stay.
    """
    before = transformers_logging.set_tqdm_hook(
        lambda factory, args, kwargs: transformers_logging.EmptyTqdm(*args)
    )
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(before)
