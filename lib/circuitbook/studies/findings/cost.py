"""What a replication takes, in tables and sentences, from a record of `benchmarks/cost.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from circuitbook.records.costs import PEAKS, Fit, cost_table, inner_parameters, rate
from circuitbook.suites.pythia import PYTHIA_SHAPES


def measured_sizes(record: dict) -> list[str]:
    """Pythia's sizes in the record, small to large.  measured_sizes(record)[-1] -> "160m" """
    sizes = [row["shape"] for row in record["rows"]]
    return sorted(sizes, key=lambda size: inner_parameters(PYTHIA_SHAPES[size]))


def extrapolation(record: dict) -> float:
    """Inner parameters of the largest Pythia over those of the largest size measured."""
    parameters = {size: inner_parameters(shape) for size, shape in PYTHIA_SHAPES.items()}
    return max(parameters.values()) / parameters[measured_sizes(record)[-1]]


def how_measured(record: dict, fits: Sequence[Fit]) -> str:
    """How far the fit is off at the largest size measured, and where the record was made: a
    caption.
    """
    machine, largest = record["machine"], measured_sizes(record)[-1]
    where = machine.get("gpu") or f"{machine['cpu']}, one core"
    worst = max(fits, key=lambda part: abs(math.log(part.off)))
    return (
        f"*Predicted from the smaller sizes, the largest one that was measured ({largest}) comes "
        f"out at {min(part.off for part in fits):.2f} to {max(part.off for part in fits):.2f} "
        f"times what it took; {worst.part} is the worst. Measured on {record['date']} on {where}, "
        f"torch {record['versions']['torch']}, {record['rows'][0]['dtype']}. Plain forward passes "
        f"of {largest} reach {rate(record) / 1e9:.0f} GFLOP/s.*"
    )


def replication_table(
    record: dict, fits: Sequence[Fit], runs: Mapping[str, tuple[str, int]], utilisation: float
) -> pd.DataFrame:
    """What runs take, written for people: a row for each and a total.

    runs: {name: (Pythia's size, checkpoints)}; utilisation: the share of its peak a GPU reaches.
    """
    tables = {
        card: cost_table(list(fits), runs, rate(record), utilisation * peak)
        for card, peak in PEAKS.items()
    }
    costs = next(iter(tables.values()))
    hours = costs["measured"].map({True: "measured", False: "extrapolated"})
    columns = {
        "run": costs["run"],
        "steps": costs["checkpoints"].map(rounded),
        "GB to load": costs["download_gb"].map(rounded),
        "GB kept": costs["store_gb"].map(rounded),
        "core-hours": costs["core_hours"].map(rounded),
        "hours are": hours.where(costs["run"] != "in all", ""),
    }
    columns |= {f"{card}, hours": table["gpu_hours"].map(rounded) for card, table in tables.items()}
    return pd.DataFrame(columns)


def rounded(value: float) -> str:
    """rounded(1234.5) -> "1,234"; rounded(0.0512) -> "0.051": two digits where there are fewer"""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
