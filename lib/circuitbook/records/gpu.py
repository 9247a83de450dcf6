"""What a run on one GPU took, with random weights in Pythia's shapes, and how exact it was."""

from __future__ import annotations

from pathlib import Path

from circuitbook.paths import DATA
from circuitbook.records.reading import read_record

PARTS = {
    "date",
    "machine",  # gpu, driver, memory, cpu
    "versions",
    "prompts",  # IOI prompts, and points, of the attribution; edges of the circuit
    "points",
    "edges",
    "speed",  # a row per shape and dtype: seconds; bytes for one prompt, planned and at the peak
    "checkpoints",  # a row per shape: all measurements of a checkpoint, and a plain forward pass
    "real",  # a real language model, on another GPU: a row per kind of work, as benchmarks/speed.py
    "difference_model",
    "differences",  # a row per dtype: the largest difference from float64 on the CPU, as a share
}


def recorded_gpu(path: str | Path | None = None) -> dict:
    """The record that comes with the library, or another one; ValueError if it is none.

    Seconds, bytes; differences are shares of the largest value.
    """
    return read_record(Path(path) if path else DATA / "gpu.json", PARTS, "a GPU")
