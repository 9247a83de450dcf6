"""What was measured of SmolLM2 with more prompts than the book's build takes the time for.

`python -m circuitbook record smollm2` makes the record again; `record methods` that of the methods
that score edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from circuitbook.paths import DATA
from circuitbook.records.reading import read_record

PARTS = {
    "date",
    "machine",
    "versions",
    "code",  # of the library that measured
    "model",
    "step",
    "prompts",  # of every task
    "seconds",  # of each draw
    "draws",  # each: seed, members {class: heads}, shares, circuits, gaps (rows as in their tables)
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Draw:
    """What one draw of prompts gave."""

    seed: int
    members: Mapping[str, Sequence[tuple[int, int]]]
    """{class: its heads}"""
    shares: pd.DataFrame
    """As `class_shares.share_table` has them."""
    circuits: pd.DataFrame
    """As `held_out.measure_held_out` has them."""


def recorded_draws(record: Mapping[str, Any]) -> list[Draw]:
    """The draws of a record, in its order."""
    return [
        Draw(
            seed=draw["seed"],
            members={
                name: [(int(layer), int(head)) for layer, head in heads]
                for name, heads in draw["members"].items()
            },
            shares=pd.DataFrame(draw["shares"]),
            circuits=pd.DataFrame(draw["circuits"]),
        )
        for draw in record["draws"]
    ]


def recorded_real_model(path: str | Path | None = None) -> dict[str, Any]:
    """The record that comes with the library, or another one; ValueError if it is none."""
    return read_record(Path(path) if path else DATA / "smollm2.json", PARTS, "a real model")


def recorded_methods(path: str | Path | None = None) -> dict[str, Any]:
    """The record of `studies.methods` on SmolLM2, or another one; ValueError if it is none.

    Its "methods" become a table as `measure_methods` gives it.
    """
    parts = PARTS - {"seconds", "draws"} | {"methods"}
    file = Path(path) if path else DATA / "smollm2_methods.json"
    record = read_record(file, parts, "methods on a real model")
    return record | {"methods": pd.DataFrame(record["methods"])}
