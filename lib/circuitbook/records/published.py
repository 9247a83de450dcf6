"""The paper's own numbers, for overlays. They are Pythia's, measured by the paper's authors, never
by this book.

Each table is a small csv under `data/`, copied from outputs stored in public repositories; column
`source` names the file. Nothing in them is interpolated. Tokens seen are step x 2,097,152.
"""

from __future__ import annotations

import pandas as pd

from circuitbook.paths import DATA
from circuitbook.suites.pythia import PYTHIA_TOKENS_PER_STEP

TABLES = {
    "task_performance": (
        "mean IOI logit difference of pythia-410m and pythia-2.8b over training (70 prompts)"
    ),
    "single_values": (
        "IOI logit differences at the last step: pythia-160m, and its variant without dropout"
    ),
    "node_counts": (
        "mean number of nodes in the circuit over checkpoints from step 1000 on, five models, "
        "four tasks"
    ),
    "edge_counts": "edges in the IOI circuit over training: pythia-410m and pythia-2.8b",
    "jaccard": (
        "Jaccard similarity of edges, checkpoint `step` with `step_next`: moving averages, and "
        "one raw series"
    ),
    "copy_scores": "copy scores (percent) of seven heads of pythia-410m over training",
}


_TASKS = {"gender_pronoun": "gendered_pronoun"}  # as this book calls it


def published(table: str) -> pd.DataFrame:
    """One of `TABLES`: columns model, task, metric, value, source, and where there is a step, step
    and tokens_seen.
    """
    if table not in TABLES:
        raise ValueError(f"no published table {table!r}; there are: {', '.join(TABLES)}")
    frame = pd.read_csv(DATA / f"{table}.csv", dtype={"head": str})  # 20.15 is a head, not a number
    frame["task"] = frame["task"].replace(_TASKS)
    return (
        frame.assign(tokens_seen=frame["step"] * PYTHIA_TOKENS_PER_STEP)
        if "step" in frame
        else frame
    )
