"""What a run on one GPU took, with random weights in Pythia's shapes, and how exact it was."""

from __future__ import annotations

import json
from pathlib import Path

from circuitbook.paths import DATA

PARTS = {
    "date",
    "machine",  # gpu, driver, memory, cpu
    "versions",
    "prompts",  # IOI prompts, and points, of the attribution; edges of the circuit
    "points",
    "edges",
    "speed",  # a row per shape and dtype: seconds; bytes for one prompt, planned and at the peak
    "checkpoints",  # a row per shape: all measurements of a checkpoint, and a plain forward pass
    "difference_model",
    "differences",  # a row per dtype: the largest difference from float64 on the CPU, as a share
}


def recorded_gpu(path: str | Path | None = None) -> dict:
    """The record that comes with the library, or another one; ValueError if it is none.

    Seconds, bytes; differences are shares of the largest value.
    """
    file = Path(path) if path else DATA / "gpu.json"
    try:
        record = json.loads(file.read_text(encoding="utf8"))
        missing = PARTS - set(record)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file} is no record of a GPU ({error})") from error
    if missing:
        raise ValueError(f"the record {file} lacks {', '.join(sorted(missing))}")
    return record
