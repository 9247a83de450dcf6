"""What transformers shows and says, hidden: what a reader sees is ours."""

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


@contextmanager
def quiet() -> Iterator[None]:
    """Hides transformers' warnings and reports, where what they say is raised in one line."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
