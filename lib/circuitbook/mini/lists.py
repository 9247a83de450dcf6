"""Many runs on ordered lists: which algorithm does each seed learn, and when?

    table = run_lists([list_run(layers=4, seed=1), ...], Path("retrained/lists"))

Every run reads lists (`list_text`), saves checkpoints, and is measured at
each as soon as it is there. Stopped at any moment, the same call goes on from the last saved state,
and what was measured is read. In the folder: `<run>/step<N>/`, a suite as any other;
`<run>/run.json`, what the run is and where it comes from; `<run>/measured.csv`, its rows of
`runs.csv`, which has one per run and checkpoint; `.store`, all that was measured of heads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from filelock import Timeout
from tqdm.auto import tqdm

from circuitbook.mini.list_text import ListText, RoleText
from circuitbook.mini.train import TOKENS_PER_STEP, Plan, skip, train
from circuitbook.records.list_runs import recorded_runs
from circuitbook.store import Store
from circuitbook.store.files import write_atomically
from circuitbook.store.locks import alone_in, holder
from circuitbook.store.provenance import machine, versions
from circuitbook.studies.list_heads import measure_list_heads
from circuitbook.studies.list_runs import run_row
from circuitbook.suites.finding import load_suite
from circuitbook.suites.sources import finished_steps

WIDTH, HEADS = 64, 4
STEPS = 6144  # 12.6 million tokens
ROLE_STEPS = 10_240  # 21.0 million
RATES = {4: 7e-3, 6: 5e-3, 8: 4e-3}  # of learning, by depth
DECAY = (
    1.3  # runs, the length of the rate's cosine: what forms late needs a rate that is still high
)
MEASURED = "measured.csv"
ORDER = ["layers", "width", "seed", "step"]  # of the table
MARKS = (0, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 90, 100)  # checkpoints, in % of the steps


@dataclass(frozen=True)
class ListRun:
    """One training run."""

    plan: Plan
    text: ListText

    @property
    def name(self) -> str:
        """Its folder."""
        kind = "roles" if self.roles else "lists"
        return f"{kind}-{self.plan.layers}x{self.plan.width}-seed{self.plan.seed}"

    @property
    def roles(self) -> bool:
        """Whether givers are called by their roles."""
        return isinstance(self.text, RoleText)

    @cached_property
    def identity(self) -> dict[str, object]:
        """As JSON holds it."""
        return json.loads(json.dumps({"plan": asdict(self.plan), "text": asdict(self.text)}))


def list_run(*, layers: int, seed: int, steps: int | None = None, roles: bool = False) -> ListRun:
    """The run of a depth and a seed, which is that of the weights and of the text.

    steps: None: `STEPS`, or with roles `ROLE_STEPS`. The learning rate of a depth that has none is
    that of the nearest one. ValueError for what cannot be trained.
    """
    if layers < 1:
        raise ValueError(f"a model has at least one layer, not {layers}")
    if seed < 0:
        raise ValueError(f"seeds are whole numbers from 0 on, not {seed}")
    text = (RoleText if roles else ListText)(seed=seed)
    if steps is None:
        steps = ROLE_STEPS if roles else STEPS
    if steps <= text.threes_until:
        raise ValueError(
            f"{steps} steps are too few: lists of four begin at step {text.threes_until} only"
        )
    plan = Plan(
        layers=layers,
        width=WIDTH,
        heads=HEADS,
        lr=RATES[min(RATES, key=lambda depth: abs(depth - layers))],
        seed=seed,
        steps=steps,
        decay_steps=round(DECAY * steps),
        checkpoints=tuple(sorted({round(steps * mark / 100) for mark in MARKS})),
    )
    return ListRun(plan, text)


def run_lists(
    runs: Sequence[ListRun], out: Path, *, device: str = "cpu", progress: bool = True
) -> pd.DataFrame:
    """Trains and measures the runs, one after the other, and gives the table of all runs in the
    folder.

    Set `torch.set_num_threads` before: it is part of what makes runs equal. A run that another
    process is at is left to it, so that the same call in several processes shares the runs out.
    ValueError if the folder holds another run of the same name.
    """
    for run in runs:
        _claim(run, out)
    about = {"tokens_per_step": TOKENS_PER_STEP}
    write_atomically(out / "suite.json", json.dumps(about).encode())
    total = sum(run.plan.steps for run in runs)
    with tqdm(total=total, unit="step", disable=not progress, mininterval=1) as bar:
        for run in runs:
            try:
                with alone_in(out / run.name):
                    _run(run, out, device, bar)
            except Timeout as taken:
                tqdm.write(f"{run.name} is left to {holder(taken.lock_file)}, which is at it")
                skip(bar, run.plan.steps)
    return write_table(out)


def _run(run: ListRun, out: Path, device: str, bar: tqdm) -> None:
    """Trains and measures a run, whatever is there of it."""

    def measured(_: int) -> None:
        table = _measured(run, out, device)
        write_atomically(out / run.name / MEASURED, _csv(table))
        write_table(out)

    done = _finished(run, out)
    _train(run, out, device, bar, measured)
    if done:
        skip(bar, run.plan.steps)
        measured(run.plan.steps)


def write_table(out: Path) -> pd.DataFrame:
    """The rows of all runs in the folder, kept as `runs.csv`; shallow runs first, then by seed."""
    files = sorted(out.glob(f"*/{MEASURED}"))
    tables = [recorded_runs(file) for file in files]
    if not tables:
        raise FileNotFoundError(f"{out}: no run there has been measured")
    table = pd.concat(tables, ignore_index=True)
    table = table.sort_values(ORDER, ignore_index=True)
    write_atomically(out / "runs.csv", _csv(table))
    return table


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, float_format="%.5g").encode()


def _file(run: ListRun, out: Path) -> Path:
    return out / run.name / "run.json"


def _claim(run: ListRun, out: Path) -> None:
    """Writes what the run is, or refuses the folder of another one."""
    file = _file(run, out)
    if file.exists():
        known = json.loads(file.read_text(encoding="utf8"))
        if {name: known.get(name) for name in run.identity} != run.identity:
            raise ValueError(
                f"{file.parent} is another run (its plan or its text differs); "
                "choose another --out, or remove that folder"
            )
        return
    _write(run, out, {})


def _write(run: ListRun, out: Path, seconds: dict[str, float]) -> None:
    about = run.identity | {
        "versions": versions(),
        "cpu": machine()["cpu"],
        "seconds": seconds,
    }
    write_atomically(_file(run, out), (json.dumps(about, indent=1) + "\n").encode())


def _finished(run: ListRun, out: Path) -> bool:
    folder = out / run.name
    return (folder / "losses.json").exists() and (folder / f"step{run.plan.steps}").exists()


def _train(
    run: ListRun, out: Path, device: str, bar: tqdm, measured: Callable[[int], None]
) -> None:
    """Trains a run, and notes of each checkpoint the processor's seconds since the one before, or
    since this call took the run up; measuring is not counted."""
    begun = time.process_time()

    def saved(step: int) -> None:
        nonlocal begun
        known = json.loads(_file(run, out).read_text(encoding="utf8"))["seconds"]
        _write(run, out, known | {str(step): round(time.process_time() - begun, 1)})
        measured(step)
        begun = time.process_time()

    train(
        run.name,
        run.plan,
        out,
        out / ".state",
        read=run.text,
        device=device,
        bar=bar,
        saved=saved,
    )


def _measured(run: ListRun, out: Path, device: str) -> pd.DataFrame:
    """A row per checkpoint that is there: what the run is, `list_runs.run_row`, and where it comes
    from."""
    suite, plan = load_suite(str(out)), run.plan
    known = json.loads(_file(run, out).read_text(encoding="utf8"))
    steps = [step for step in finished_steps(out / run.name) if step in plan.checkpoints]
    found = measure_list_heads(
        suite,
        [run.name],
        Store(out / ".store"),
        steps={run.name: steps},
        device=device,
        progress=False,
        roles=run.roles,
    )
    about = {"run": run.name, "layers": plan.layers, "width": plan.width, "seed": plan.seed}
    origin = {
        "lr": plan.lr,
        "steps": plan.steps,
        "share": run.text.share,
        "pairs_until": run.text.pairs_until,
        "torch": known["versions"]["torch"],
        "circuitbook": known["versions"].get("circuitbook", ""),
        "cpu": known["cpu"],
    }
    rows = [
        about | run_row(heads) | {"seconds": known["seconds"].get(str(heads.step))} | origin
        for heads in found
    ]
    return pd.DataFrame(rows)
