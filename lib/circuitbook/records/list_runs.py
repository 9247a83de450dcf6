"""The runs on ordered lists: what was measured of each seed at each checkpoint.

`python -m circuitbook study lists` makes the table again, or `study roles` that of givers who are
called by their roles; `--ship` puts it here.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from circuitbook.paths import DATA

FILE = DATA / "list_runs.csv"
ROLES = DATA / "role_runs.csv"  # of runs whose givers are called by their roles
LABELS = (  # columns that name heads
    *("movers", "against", "inhibits", "mover", "writer", "steerer", "chooser"),
    *(f"chooser_by_{kind}" for kind in "qkv"),
)
OF_ROLES = tuple(f"tag_by_{kind}" for kind in "qkv")  # and of runs with roles alone


def recorded_runs(file: Path = FILE) -> pd.DataFrame:
    """A row per run and checkpoint, as `studies.list_runs.run_row` describes them, with what each
    run is (run, layers, width, seed, lr, steps, share, pairs_until) and where it comes from (torch,
    circuitbook, cpu, seconds: the processor's since the checkpoint before).

    Heads are text, "layer.head", and "" where there is none. ValueError for another kind of file.
    """
    table = pd.read_csv(file, dtype=dict.fromkeys([*LABELS, *OF_ROLES], str))
    if missing := {"run", "step", *LABELS} - set(table):
        raise ValueError(f"{file} is no table of runs: it lacks {', '.join(sorted(missing))}")
    return table.fillna(dict.fromkeys([*LABELS, *OF_ROLES], ""))
