"""What a replication costs: downloads, disk and hours, from a model fitted to what one checkpoint
took at some sizes.

    record = recorded_cost()                # what benchmarks/cost.py measured
    fits = fit(record)                      # per part: seconds = sum of rates * terms, see TERMS
    cost_table(fits, {"pythia-12b": ("12b", 154)}, rate(record), 60e12)

A size that was measured is read off, not fitted; everything else is extrapolated, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from circuitbook.model.graph import Graph
from circuitbook.model.memory import neox_parameters
from circuitbook.model.shape import Shape
from circuitbook.paths import DATA
from circuitbook.suites.pythia import PYTHIA_SHAPES

# Peak of dense matrix products in the makers' data sheets, in FLOP/s: float16 with float32 sums on
# a T4, bfloat16 on the others.
PEAKS = {"T4": 65e12, "A100": 312e12, "H100": 989e12}


# What each part of the work grows with: all that it does is a sum of these, at rates that the fit
# finds.
TERMS = {
    "abilities": ("parameters", "vocabulary x width", "layers x width"),
    "attribution": ("parameters", "edges x width", "layers x width"),
    "circuit search": ("parameters", "edges x width", "layers x width"),
    "head scores": ("heads x parameters", "heads x vocabulary x width", "heads x vocabulary"),
    "copy suppression": ("heads x vocabulary x width", "heads x vocabulary"),
    "path patching": ("heads x parameters", "heads x layers x width"),
}


def terms(shape: Shape, part: str) -> np.ndarray:
    """The values of a part's terms; parameters are those outside the embeddings, heads those of all
    layers.
    """
    n, d, vocabulary, heads = (
        inner_parameters(shape),
        shape.d_model,
        shape.d_vocab,
        shape.n_layers * shape.n_heads,
    )
    edges = Graph(shape.n_layers, shape.n_heads, shape.parallel).n_edges
    values = {
        "parameters": n,
        "edges x width": edges * d,
        "layers x width": shape.n_layers * d,
        "vocabulary x width": vocabulary * d,
        "heads x parameters": heads * n,
        "heads x vocabulary x width": heads * vocabulary * d,
        "heads x vocabulary": heads * vocabulary,
        "heads x layers x width": heads * shape.n_layers * d,
    }
    return np.array([values[term] for term in TERMS[part]], float)


@dataclass(frozen=True)
class Fit:
    """One part of the work on a checkpoint."""

    part: str
    rates: tuple[float, ...]  # seconds per unit of each of its TERMS, none negative
    measured: dict[str, float]  # {size: seconds of one checkpoint}
    off: float  # the largest size, predicted from the others: predicted / measured

    def predicted(self, size: str) -> float:
        """Seconds of one checkpoint of a Pythia by the fit."""
        return float(terms(PYTHIA_SHAPES[size], self.part) @ np.array(self.rates))

    def seconds(self, size: str) -> float:
        """What was measured, if it was; else what the fit predicts."""
        return self.measured.get(size) or self.predicted(size)


def inner_parameters(shape: Shape) -> int:
    """Parameters outside the embeddings."""
    return neox_parameters(shape) - 2 * shape.d_vocab * shape.d_model


def recorded_cost(path: str | Path | None = None) -> dict:
    """What benchmarks/cost.py measured last, or another record of it; ValueError if it is none."""
    file = Path(path) if path else DATA / "cost.json"
    try:
        record = json.loads(file.read_text(encoding="utf8"))
        if (
            not all(
                set(row["parts"]) == set(TERMS) and row["shape"] in PYTHIA_SHAPES
                for row in record["rows"]
            )
            or len(record["rows"]) < 3
        ):
            raise ValueError("at least three of Pythia's shapes are needed")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{file} is no record of benchmarks/cost.py ({error!r}); make one with "
            "python benchmarks/cost.py"
        ) from error
    return record


def fit(record: dict) -> list[Fit]:
    """A fit for each part: non-negative rates, least squares of predicted / measured - 1."""
    out = []
    for part in TERMS:
        seconds = {
            row["shape"]: row["parts"][part]["seconds"] * row["parts"][part]["times"]
            for row in record["rows"]
        }
        sizes = sorted(seconds, key=lambda size: inner_parameters(PYTHIA_SHAPES[size]))
        values = np.stack([terms(PYTHIA_SHAPES[size], part) for size in sizes])
        took = np.array([seconds[size] for size in sizes])
        off = float(values[-1] @ _rates(values[:-1], took[:-1]) / took[-1])
        out.append(Fit(part, tuple(_rates(values, took).tolist()), seconds, off))
    return out


def _rates(values: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """The best rates that are not negative. There are two or three terms, so every choice of them
    is tried: where terms are nearly alike, iterations stop too early on some processors."""
    shares = values / seconds[:, None]
    scale = shares.max(0)  # terms differ by many orders of magnitude
    shares, ones = shares / scale, np.ones(len(seconds))
    terms_left = range(len(scale))
    best, least = np.zeros(len(scale)), np.inf
    for k in terms_left:
        for chosen in map(list, combinations(terms_left, k + 1)):
            found = np.linalg.lstsq(shares[:, chosen], ones)[0]
            off = float(np.linalg.norm(shares[:, chosen] @ found - ones))
            if (found >= 0).all() and off < least - 1e-12:
                best, least = np.zeros(len(scale)), off
                best[chosen] = found
    return best / scale


def per_checkpoint(fits: list[Fit], size: str) -> float:
    """Seconds of all measurements of one checkpoint."""
    return sum(one.seconds(size) for one in fits)


def rate(record: dict) -> float:
    """FLOP/s of a plain forward pass at the largest size measured: what this machine makes of its
    peak.
    """
    row = max(record["rows"], key=lambda row: inner_parameters(PYTHIA_SHAPES[row["shape"]]))
    return row["forward"]["flop"] / row["forward"]["seconds"]


def store_bytes(shape: Shape, tasks: int = 4) -> int:
    """What the circuits of a checkpoint leave in the store: for each task, float32 scores and a
    byte of mask per cell of the matrix.

    Everything else that is kept (head scores, answers) does not grow with the edges, and is left
    out.
    """
    graph = Graph(shape.n_layers, shape.n_heads, shape.parallel)
    return tasks * graph.n_src * graph.n_dst * 5


def cost_table(
    fits: list[Fit],
    runs: Mapping[str, tuple[str, int]],
    here: float,
    there: float,
    dtype_bytes: int = 2,
) -> pd.DataFrame:
    """A row per run and a total. runs: {name: (Pythia's size, checkpoints)}; here, there: FLOP/s
    where it was measured and where it is to run. Columns: run, checkpoints, download_gb (float16 on
    the hub), store_gb, seconds (of a checkpoint, here), core_hours (here), gpu_hours (there),
    measured (whether the seconds are).
    """
    rows = []
    for name, (size, checkpoints) in runs.items():
        seconds, shape = per_checkpoint(fits, size), PYTHIA_SHAPES[size]
        rows.append(
            {
                "run": name,
                "checkpoints": checkpoints,
                "download_gb": dtype_bytes * neox_parameters(shape) * checkpoints / 1e9,
                "store_gb": store_bytes(shape) * checkpoints / 1e9,
                "seconds": seconds,
                "core_hours": seconds * checkpoints / 3600,
                "gpu_hours": seconds * checkpoints / 3600 * here / there,
                "measured": all(size in one.measured for one in fits),
            }
        )
    table = pd.DataFrame(rows)
    total = {"run": "in all", "seconds": float("nan"), "measured": bool(table["measured"].all())}
    total |= {
        column: table[column].sum()
        for column in ("checkpoints", "download_gb", "store_gb", "core_hours", "gpu_hours")
    }
    return pd.concat([table, pd.DataFrame([total])], ignore_index=True)
