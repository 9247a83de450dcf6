"""A recorded run on a GPU, in a table and in sentences."""

from __future__ import annotations

import pandas as pd

from circuitbook.records.costs import PEAKS, Fit, cost_table, rate
from circuitbook.studies.findings.speed import REAL

PEAK = PEAKS["H100"]  # the H200 has the same units


def gpu_measured_on(record: dict) -> str:
    """On which GPU, when and with what the record was made."""
    machine, versions = record["machine"], record["versions"]
    return (
        f"Measured on {record['date']} on one {machine['gpu']} (driver {machine['driver']}, torch "
        f"{versions['torch']}), on random weights in Pythia's shapes; nothing of Pythia's own."
    )


def gpu_table(record: dict) -> pd.DataFrame:
    """A row per shape and dtype, written: seconds, and gigabytes for one prompt."""
    rows = []
    for row in record["speed"]:
        planned, peak = row["one_prompt_planned"] / 1e9, row["one_prompt_peak"] / 1e9
        rows.append(
            {
                "shape": row["shape"],
                "dtype": row["dtype"],
                f"attribution, {record['prompts']} prompts, {record['points']} points (s)": (
                    f"{row['attribution']:.2f}"
                ),
                f"a circuit of {record['edges']} edges (s)": f"{row['circuit']:.2f}",
                "paths of all heads to the logits (s)": f"{row['path_patching']:.2f}",
                "heads": row["heads"],
                "GB for one prompt, planned": f"{planned:.2f}",
                "at the peak": f"{peak:.2f}",
            }
        )
    return pd.DataFrame(rows)


def real_on_gpu(record: dict) -> pd.DataFrame:
    """The work on a real language model, as `findings.speed.real_ratios`: what, seconds, plain
    passes of the same batch (of attribution, passes forward and back), GB at the peak."""
    rows = [
        (
            REAL[row["what"]][0],
            f"{row['seconds']:.2f}",
            f"{row['ratio']:.3g}",
            f"{row['peak_gb']:.1f}",
        )
        for row in record["real"]["rows"]
    ]
    return pd.DataFrame(rows, columns=["what", "seconds", "plain passes", "GB at its peak"])


def real_measured_on(record: dict, draws: dict) -> str:
    """On which GPU the real model was measured, and what a whole draw of its record took there.

    draws: the record of `records.real_model`.
    """
    real, seconds = record["real"], draws["seconds"]
    text = (
        f"The same work as on two cores above, on {real['model']} and {real['prompts']} prompts, "
        f"on one {real['gpu']} ({real['date']}, torch {real['torch']}, {real['dtype']}). So small "
        "a batch does not fill such a card."
    )
    if draws["machine"].get("gpu"):
        text += (
            f" All circuits, scores and classes on {draws['prompts']['ioi']} prompts, a draw of "
            f"the record in the chapter on this model, took {min(seconds):.0f} to "
            f"{max(seconds):.0f} s."
        )
    return text


def peak_over_plan(record: dict) -> str:
    """How far the peak for one prompt is from its plan: the smallest and the largest plan."""
    rows = sorted(record["speed"], key=lambda row: row["one_prompt_planned"])
    small, large = (
        f"{row['one_prompt_peak'] / row['one_prompt_planned'] - 1:+.0%} for {row['shape']} in "
        f"{row['dtype']}"
        for row in (rows[0], rows[-1])
    )
    return f"The peak for one prompt differs from the plan by {small} and by {large}."


def largest_differences(record: dict) -> str:
    """How far float32 and bfloat16 on the GPU are from float64 on the CPU."""
    by_dtype = {row["dtype"]: row for row in record["differences"]}
    parts = []
    for dtype in ("float32", "bfloat16"):
        row = by_dtype[dtype]
        parts.append(
            f"in {dtype} the scores of edges differ by at most {row['scores']:.1g} of the largest, "
            f"what circuits keep by {row['circuits']:.1g}, and effects by path patching by "
            f"{row['path patching']:.1g}"
        )
    return (
        f"Against float64 on a CPU, for {record['difference_model']} of the mini suite: "
        f"{'; '.join(parts)}."
    )


def estimate_against_gpu(
    record: dict, cost_record: dict, fits: list[Fit], utilisation: float
) -> str:
    """What one checkpoint took on the GPU, over the estimate, and what share of its peak a plain
    forward pass reaches. cost_record, fits: of the estimate."""
    parts, ratios = [], []
    for row in record["checkpoints"]:
        runs = {row["shape"]: (row["shape"], 1)}
        estimate = cost_table(fits, runs, rate(cost_record), utilisation * PEAK)
        seconds = 3600 * estimate["gpu_hours"].iloc[0]
        ratios.append(row["seconds"] / seconds)
        share = row["forward_flop"] / row["forward_seconds"] / PEAK
        parts.append(
            f"{row['shape']} took {row['seconds']:.1f} s a checkpoint in {row['dtype']}, "
            f"{ratios[-1]:.1f} times the estimate for an H100 at a share of "
            f"{utilisation:g} (its plain forward passes reach {share:.1%})"
        )
    text = (
        f"As a check, all measurements of a checkpoint on one {record['machine']['gpu']}, which "
        f"has an H100's peak, with random weights: {'; '.join(parts)}."
    )
    return f"{text} So the hours of models of these sizes are too few." if min(ratios) > 1 else text
