"""The paper's own numbers, for overlays. They are Pythia's, measured by the paper's authors, never by this book.

Each table is a small csv under `data/`, copied from outputs stored in public repositories; column `source` names the
file. Nothing in them is interpolated. Tokens seen are step x 2,097,152.
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

PYTHIA_TOKENS_PER_STEP = 2_097_152
TABLES = {"task_performance": "mean IOI logit difference of pythia-410m and pythia-2.8b over training (70 prompts)"}


def published(table: str) -> pd.DataFrame:
    """One of `TABLES`: columns model, task, step, metric, value, source, and tokens_seen."""
    if table not in TABLES:
        raise ValueError(f"no published table {table!r}; there are: {', '.join(TABLES)}")
    frame = pd.read_csv(files("circuitbook") / "data" / f"{table}.csv")
    return frame.assign(tokens_seen=frame["step"] * PYTHIA_TOKENS_PER_STEP)
