"""Reading and writing files of weights, whose many errors become one."""

from __future__ import annotations

import contextlib
import errno
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_weights(weights: dict[str, Tensor], folder: Path) -> None:
    """As model.safetensors, which other users may read; OSError where the disk is full."""
    file = folder / "model.safetensors"
    try:
        save_file(weights, file, {"format": "pt"})
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(errno.EIO, str(error), str(folder)) from error
    file.chmod(0o644)  # others may use the cache, too


@contextlib.contextmanager
def readable(folder: Path, files: Sequence[Path]) -> Iterator[None]:
    """ValueError, in one line, for whatever comes of reading these files of a folder."""
    try:
        yield
    except pickle.UnpicklingError as error:
        reason = "holds more than weights, or is damaged"
        raise ValueError(f"{files[0]} {reason}; it is not read, since it might run code") from error
    except MemoryError:
        raise
    except Exception as error:  # many kinds, of safetensors, torch and transformers
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"the weights in {folder} cannot be read ({reason}): restore or download them"
        ) from error
