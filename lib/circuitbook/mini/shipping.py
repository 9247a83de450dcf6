"""Of the runs on ordered lists, what comes with the book: the table, and the weights of a few."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from circuitbook.mini.lists import ORDER, write_table
from circuitbook.mini.log import LOSS_WINDOW
from circuitbook.mini.train import TOKENS_PER_STEP
from circuitbook.records.list_runs import recorded_runs
from circuitbook.store.files import write_atomically
from circuitbook.tasks.stories.ordered_lists import SIZES

BUDGET = 30_000_000  # bytes of the weights
LEFT_OUT = (5, 75)  # of `MARKS`: checkpoints that are measured, and whose weights do not come along
DESCRIPTION = "GPT-NeoX models of the same text, ordered lists: seeds and depths"


def ship(out: Path, names: Sequence[str], *, table: Path, models: Path) -> None:
    """Writes what was measured of the runs in `out` that have ended to the file `table`, where
    other runs keep their rows, and the checkpoints of the runs that are named, with their training
    logs, into the folder `models`; with none named, what is there stays.

    ValueError, before anything is written, for a run that is not there or has not ended, and for
    more weights than `BUDGET`.
    """
    for name in names:
        if not (out / name / "losses.json").is_file():
            raise ValueError(f"{out / name} is no run that has ended")
    folders = {name: _shipped(out / name) for name in names}
    weights = [path for kept in folders.values() for one in kept for path in one.iterdir()]
    if (size := sum(path.stat().st_size for path in weights)) > BUDGET:
        raise ValueError(
            f"the weights of {', '.join(names)} take {size / 1e6:.0f} MB, and {BUDGET / 1e6:.0f} "
            "are allowed: name fewer runs"
        )
    runs = write_table(out)
    runs = runs[runs["run"].isin(runs["run"][runs["step"] == runs["steps"]])]
    write_atomically(table, together(runs, table).to_csv(index=False, float_format="%.4g").encode())
    if not names:
        return
    for name in names:
        shutil.rmtree(models / name, ignore_errors=True)
        for folder in folders[name]:
            shutil.copytree(folder, models / name / folder.name)
        log = training_log(
            json.loads((out / name / "losses.json").read_text(encoding="utf8")),
            runs[runs["run"] == name],
        )
        write_atomically(models / name / "training.csv", log.to_csv(index=False).encode())
    about = {
        "models": list(names),
        "tokens_per_step": TOKENS_PER_STEP,
        "description": DESCRIPTION,
    }
    write_atomically(models / "suite.json", (json.dumps(about, indent=2) + "\n").encode())


def together(runs: pd.DataFrame, table: Path) -> pd.DataFrame:
    """The rows of these runs, and of those in the file that they are not, in the order of
    `write_table`."""
    if not table.exists():
        return runs
    known = recorded_runs(table)
    both = pd.concat([known[~known["run"].isin(runs["run"])], runs])
    return both.sort_values(ORDER, ignore_index=True)


def _shipped(folder: Path) -> list[Path]:
    """The checkpoints of a run that come along."""
    about = json.loads((folder / "run.json").read_text(encoding="utf8"))
    whole = about["plan"]["steps"]
    left_out = {round(whole * mark / 100) for mark in LEFT_OUT}
    steps = [step for step in about["plan"]["checkpoints"] if step not in left_out]
    return [folder / f"step{step}" for step in steps]


def training_log(losses: Sequence[float], rows: pd.DataFrame) -> pd.DataFrame:
    """A row per `LOSS_WINDOW` updates and per checkpoint.

    Columns: step; tokens_seen; training_loss (nats per token, mean of the updates since the row
    before), and at checkpoints top_2, top_3 and top_4, see `studies.list_runs.run_row`.
    """
    known = rows.set_index("step")[[f"top_{size}" for size in SIZES]]
    steps = sorted({*known.index, *range(0, len(losses) + 1, LOSS_WINDOW)})
    means = [
        np.mean(losses[first:last]) if last > first else np.nan
        for first, last in zip([0, *steps], steps, strict=False)
    ]
    log = pd.DataFrame({"step": steps, "training_loss": means})
    log.insert(1, "tokens_seen", log["step"] * TOKENS_PER_STEP)
    return log.join(known, on="step").round(5)
