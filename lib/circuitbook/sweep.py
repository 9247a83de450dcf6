"""Sweeps: the section notebooks over many checkpoints, on Dask, with nothing lost.

    python -m circuitbook sweep --suite pythia --models pythia-160m --steps paper --notebooks all

A shard is a few checkpoints of one model: one worker downloads them, executes every section notebook on them with
papermill, and drops them again if the disk budget is spent. What the notebooks measure goes to the store, which all workers
share. When the shards are done, the notebooks are executed once over everything: all is in the store by then, and what comes
out is the tables and figures of the whole sweep.

In the folder of a sweep (`--out`):

    shards/<model>-<first step>-<last step>.json      one file a shard, written whole when it ends: done, or failed and why
    notebooks/<shard>/<notebook>.ipynb                executed copies; of what failed, as far as it came
    <notebook>.ipynb                                  over everything

Killed at any moment, the same command goes on: what is done is not done again. What failed stays failed, is listed with its
reason, and is tried again with --retry-failed; the exit status tells. Nothing here needs the scheduler to survive.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import filelock

from .execute import BuildError, check_parameters, duration, execute_notebook
from .provenance import versions
from .store import write_atomically

SECTIONS = ("abilities", "circuits-over-training", "components", "after-formation", "algorithm", "stability")
FINAL = ("report",)                                    # over everything only: they compare checkpoints and models
TEACHING = ("instructor", "exercise", "solution")       # cells that measure nothing a chapter needs
PER_SHARD = 8                                          # checkpoints: a kernel takes seconds to start
PATIENCE = 600.0                                       # seconds to wait for a scheduler that went away


@dataclass(frozen=True)
class Shard:
    """Some checkpoints of one model and what is executed on them. Travels to the workers as it is."""

    model: str
    steps: tuple[int, ...]
    notebooks: tuple[str, ...]
    parameters: dict = field(hash=False)
    root: str                                          # the folder with notebooks/
    out: str
    store: str
    budget_gb: float | None = None                     # what downloaded checkpoints may take on a worker's disk

    @property
    def name(self) -> str:
        return f"{self.model}-{self.steps[0]}-{self.steps[-1]}" if len(self.steps) > 1 else f"{self.model}-{self.steps[0]}"

    @property
    def record(self) -> Path:
        return Path(self.out) / "shards" / f"{self.name}.json"

    @property
    def fingerprint(self) -> str:
        """What decides whether a shard that is done is this one: its checkpoints, notebooks, parameters and the library."""
        sources = {name: _sha256(Path(self.root) / "notebooks" / f"{name}.ipynb") for name in self.notebooks}
        what = [self.model, self.steps, sources, self.parameters, package_hash(), versions()]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """How a shard ended. `state`: "done", "failed", or "missing" if it has not been executed (or something changed since)."""

    name: str
    state: str
    seconds: float = 0.0
    reason: str = ""
    notebook: str = ""                                 # the executed copy, as far as it came, of what failed
    fingerprint: str = ""


def package_hash() -> str:
    """sha256 over the library's source files."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ------------------------------------------------------------------ what there is to do

def plan(root: Path, out: Path, store: Path, selection, notebooks: Sequence[str], parameters: dict, per_shard: int = PER_SHARD,
         budget_gb: float | None = None) -> list[Shard]:
    """The shards of a selection (see `parameters.select`), model after model, steps ascending."""
    if per_shard < 1:
        raise ValueError(f"{per_shard} checkpoints a shard are not possible; give at least 1")
    shards = []
    for model, steps in selection.steps.items():
        for i in range(0, len(steps), per_shard):
            some = tuple(steps[i:i + per_shard])
            mine = parameters | {"SUITE": parameters["SUITE"], "MODELS": [model], "STEPS": list(some), "STORE": str(store)}
            shards.append(Shard(model, some, tuple(notebooks), mine, str(root), str(out), str(store), budget_gb))
    return shards


def chosen_notebooks(names: str | Sequence[str], root: Path) -> tuple[str, ...]:
    """Section notebooks by name; "all" for every section. ValueError for others."""
    names = [names] if isinstance(names, str) else list(names)
    if names == ["all"]:
        names = list(SECTIONS)
    for name in names:
        if name not in SECTIONS:
            raise ValueError(f"no section notebook {name!r} to sweep over; there are: {', '.join(SECTIONS)}, or all")
        if not (root / "notebooks" / f"{name}.ipynb").is_file():
            raise ValueError(f"there is no {root / 'notebooks' / name}.ipynb: run this in the book's folder, or pass --root")
    return tuple(names)


def outcome(shard: Shard) -> Outcome:
    """What the disk says of a shard."""
    try:
        found = Outcome(**json.loads(shard.record.read_text(encoding="utf8")))
    except (OSError, ValueError, TypeError):           # nothing there, or a file that is not ours
        return Outcome(shard.name, "missing")
    return found if found.fingerprint == shard.fingerprint else Outcome(shard.name, "missing")


# ------------------------------------------------------------------ one shard, on a worker

def run_shard(shard: Shard) -> Outcome:
    """Executes a shard's notebooks one after the other and writes its record; never raises but for Ctrl-C.

    If a notebook fails, the others are tried all the same, for what they can still put into the store.
    """
    begun, reasons, where = time.monotonic(), [], ""
    for name in shard.notebooks:
        target = Path(shard.out) / "notebooks" / shard.name / f"{name}.ipynb"
        try:
            execute_notebook(Path(shard.root) / "notebooks" / f"{name}.ipynb", target, shard.parameters, root=Path(shard.root),
                             title=f"{shard.name} {name}", without=TEACHING)
        except BuildError as error:
            reasons.append(_reason(name, str(error)))
            where = where or str(target.with_suffix(".partial.ipynb"))
        except (OSError, RuntimeError, ValueError) as error:      # a full disk, a kernel that does not start
            reasons.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else traceback.format_exc(1)}")
            where = where or str(target)
    if shard.budget_gb is not None:
        with contextlib.suppress(Exception):           # a cache that cannot be tidied is no reason to lose a result
            from .hub import drop_beyond
            from .suites import Folder, load_suite
            if not isinstance(source := load_suite(shard.parameters["SUITE"]).source, Folder):
                drop_beyond(shard.budget_gb * 1e9, shard.model, {source.revision(shard.model, step) for step in shard.steps})
    done = Outcome(shard.name, "failed" if reasons else "done", round(time.monotonic() - begun, 2), "; ".join(reasons), where, shard.fingerprint)
    with contextlib.suppress(OSError):                 # if the disk is full, the sweep still hears of it
        write_atomically(shard.record, json.dumps(dataclasses.asdict(done), indent=1).encode())
    return done


def _reason(notebook: str, message: str) -> str:
    """One line of a BuildError: the notebook and what its cell said."""
    lines = [line.strip() for line in message.splitlines()]
    said = next((line for line in lines[1:] if re.match(r"[\w.]+: ", line)), lines[0])
    return f"{notebook}: {said}"


# ------------------------------------------------------------------ on Dask

@contextlib.contextmanager
def local_cluster(workers: int, gpus: int = 0) -> Iterator[str]:
    """A scheduler and workers on this machine; its address. With `gpus`, a worker for each of them that sees no other."""
    from distributed import Nanny, Scheduler, SpecCluster

    def options(i: int) -> dict:
        environment = {"CUDA_VISIBLE_DEVICES": str(i)} if gpus else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))}
        return {"cls": Nanny, "options": {"nthreads": 1, "resources": {"GPU": 1} if gpus else {}, "env": environment, "silence_logs": 50,
                                          "dashboard_address": None}}

    specification = {i: options(i) for i in range(gpus or workers)}
    with SpecCluster(workers=specification, scheduler={"cls": Scheduler, "options": {"dashboard_address": ":0", "dashboard": False, "host": "127.0.0.1"}}, silence_logs=50) as cluster:
        yield cluster.scheduler_address


def run_on(address: str, shards: Sequence[Shard], gpu: bool, ended: Callable[[Outcome, int], None], say: Callable[[str], None] = print,
           patience: float = PATIENCE) -> None:
    """Has the shards executed by the workers of a Dask scheduler, in their order, and calls `ended` for each.

    `ended(outcome, running)` is also told how many shards are at work then. With `gpu` a shard takes one unit of the workers'
    resource "GPU". A worker that dies has its shard given to another; a shard that kills several (Dask's allowed-failures) counts
    as failed. If the scheduler goes away, it is waited for, and what had not ended is handed in again: what the lost workers had
    measured is in the store.
    """
    import distributed

    waiting = {shard.name: shard for shard in shards}
    away = None                                        # since when the scheduler has been away
    while waiting:
        try:
            with distributed.Client(address, timeout=10) as client:
                away = None
                futures = {client.submit(run_shard, shard, key=f"{shard.name}-{shard.fingerprint[:12]}-{os.getpid()}", priority=-i, pure=False, retries=0,
                                         resources={"GPU": 1} if gpu else None): shard for i, shard in enumerate(waiting.values())}
                for future in distributed.as_completed(futures, raise_errors=False):
                    shard = futures[future]
                    if future.status == "finished":
                        result = future.result()
                    elif future.status == "error":     # its workers died, again and again, or it could not be sent
                        result = Outcome(shard.name, "failed", reason=f"the worker was lost ({type(future.exception()).__name__})", fingerprint=shard.fingerprint)
                        with contextlib.suppress(OSError):
                            write_atomically(shard.record, json.dumps(dataclasses.asdict(result), indent=1).encode())
                    else:                              # cancelled or lost: the scheduler went away
                        continue
                    del waiting[shard.name]
                    ended(result, min(len(waiting), len(client.scheduler_info()["workers"])))
                if waiting and client.status != "running":
                    raise OSError("the scheduler went away")
        except (OSError, TimeoutError, distributed.comm.CommClosedError) as error:
            for shard in list(waiting.values()):       # what ended while nobody listened is on disk
                if (found := outcome(shard)).state != "missing":
                    del waiting[shard.name]
                    ended(found, 0)
            away = away or time.monotonic()
            if time.monotonic() - away > patience:
                raise ValueError(f"the scheduler at {address} has been away for {duration(patience)} ({error}); start it again and repeat the command: it goes on "
                                 "where it stopped") from None
            say(f"the scheduler at {address} is away; waiting for it")
            time.sleep(2)


# ------------------------------------------------------------------ the command

def sweep(root: Path, out: Path, selection, notebooks: Sequence[str], parameters: dict, store: Path, *, workers: int = 1, scheduler: str | None = None,
          per_shard: int = PER_SHARD, budget_gb: float | None = None, retry_failed: bool = False, final: bool = True,
          say: Callable[[str], None] = print, patience: float = PATIENCE) -> list[Outcome]:
    """Executes what is missing and returns how every shard ended, in order. See the module.

    Errors: BuildError if another sweep is at work in `out`; ValueError for parameters that no notebook has. What fails in a shard is
    in its outcome.
    """
    import nbformat
    from tqdm.auto import tqdm

    sources = {name: nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4) for name in notebooks}
    check_parameters(parameters, sources)
    _same_steps(selection)                             # an error now rather than in the end
    shards = plan(root, out, store, selection, notebooks, parameters, per_shard, budget_gb)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(out / ".lock", timeout=0):
            results = {shard.name: outcome(shard) for shard in shards}
            todo = [shard for shard in shards if results[shard.name].state == "missing" or (retry_failed and results[shard.name].state == "failed")]
            say(f"{len(shards)} shards of {sum(len(s.steps) for s in shards)} checkpoints: {len(shards) - len(todo)} ended before, {len(todo)} to do")
            for shard in todo:                         # a record that is there means: ended
                shard.record.unlink(missing_ok=True)
            bar, begun = tqdm(total=len(todo), desc="shards", unit="shard", disable=not sys.stderr.isatty()), time.monotonic()
            finished: list[str] = []

            def ended(result: Outcome, running: int) -> None:
                results[result.name] = result
                finished.append(result.name)
                bar.update()
                failed, left = sum(r.state == "failed" for r in results.values()), len(todo) - len(finished)
                say(f"[{len(finished)}/{len(todo)}] {result.name}: {result.state} in {duration(result.seconds)}" + (f" ({result.reason})" if result.reason else "")
                    + f"; {running} running, {failed} failed, about {duration((time.monotonic() - begun) / len(finished) * left)} left")

            if todo:
                gpu = str(selection.device).startswith("cuda")
                if scheduler:
                    run_on(scheduler, todo, gpu, ended, say, patience)
                else:
                    with local_cluster(workers, _gpus() if gpu else 0) as address:
                        run_on(address, todo, gpu, ended, say, patience)
            bar.close()
            if final and all(r.state == "done" for r in results.values()):
                _assemble(root, out, selection, notebooks, parameters, store, say)
    except filelock.Timeout:
        raise BuildError(f"another sweep is at work in {out}; wait for it, or give another --out (they can share a store)") from None
    return [results[shard.name] for shard in shards]


def _assemble(root: Path, out: Path, selection, notebooks: Sequence[str], parameters: dict, store: Path, say: Callable[[str], None]) -> None:
    """The notebooks over everything: all measurements are in the store."""
    whole = parameters | {"MODELS": list(selection.models), "STEPS": _same_steps(selection), "STORE": str(store)}
    for name in (*notebooks, *(f for f in FINAL if set(SECTIONS) <= set(notebooks))):
        target, stamp = out / f"{name}.ipynb", out / f".{name}.sha256"
        current = hashlib.sha256(json.dumps([_sha256(root / "notebooks" / f"{name}.ipynb"), package_hash(), whole], sort_keys=True, default=str).encode()).hexdigest()
        if target.is_file() and stamp.is_file() and stamp.read_text() == current:
            continue
        made = execute_notebook(root / "notebooks" / f"{name}.ipynb", target, whole, root=root, title=name, without=TEACHING)
        uses = made.metadata["circuitbook"]["measurements"]
        say(f"{name} over everything: {target} ({uses['measured']} of {uses['used']} measurements were still to make)")
        write_atomically(stamp, current.encode())


def _same_steps(selection) -> list[int] | None:
    steps = set(selection.steps.values())
    if len(steps) > 1:
        raise ValueError("the models have different steps; sweep them one after the other")
    return list(next(iter(steps)))


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def expected(selection, store: Path, shards: Sequence[Shard]) -> list[dict]:
    """What each shard is expected to cost, for a dry run: model, steps, state, download_gb (None where nothing is downloaded), and seconds
    (the mean of the ended shards' own in this sweep, per checkpoint of the same model; None where none has ended)."""
    ended = {}
    for shard in shards:
        if (found := outcome(shard)).state == "done":
            ended.setdefault(shard.model, []).append(found.seconds / len(shard.steps))
    from .stability import PYTHIA_SIZES
    from .suites import Folder

    def download(shard: Shard) -> float | None:
        named = re.fullmatch(r"pythia-([\d.]+[mb])(-.*)?", shard.model)
        if isinstance(selection.suite.source, Folder) or not named or named[1] not in PYTHIA_SIZES:
            return None
        return 2 * PYTHIA_SIZES[named[1]] * len(shard.steps) / 1e9                          # float16 on the hub
    return [{"shard": shard.name, "checkpoints": len(shard.steps), "state": outcome(shard).state, "download_gb": download(shard),
             "seconds": sum(ended[shard.model]) / len(ended[shard.model]) * len(shard.steps) if shard.model in ended else None} for shard in shards]


def memory_line(model: str, selection) -> str | None:
    """What a Pythia needs on the device, and whether it is there; None for models whose shape is not known beforehand."""
    import torch

    from .planning import PYTHIA_SHAPES, free_memory, plan_memory

    named = re.fullmatch(r"pythia-([\d.]+[mb])(-.*)?", model)
    if not named or named[1] not in PYTHIA_SHAPES:
        return None
    needs, free = plan_memory(PYTHIA_SHAPES[named[1]], selection.dtype), free_memory(torch.device(selection.device))
    said = "" if free is None else f"; {free / 1e9:.1f} GB are free on {selection.device}" + ("" if needs.fits(free) else ": IT DOES NOT FIT")
    return f"{model}: {needs.least / 1e9:.1f} GB at least ({needs.weights / 1e9:.1f} for the weights){said}"


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook sweep`."""
    parser.add_argument("--suite", default="mini", help="mini, pythia, a folder, or a hub repository (%(default)s)")
    parser.add_argument("--models", nargs="+", help="default: all of the suite (of Pythia, the standard sizes)")
    parser.add_argument("--steps", nargs="+", help="step numbers, or a schedule such as paper or sparse; default: all")
    parser.add_argument("--notebooks", nargs="+", default=["all"], help=f"{', '.join(SECTIONS)}, or all (%(default)s)")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the notebooks, such as RECIPE=paper")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--workers", type=int, default=1, help="of the local cluster, without a GPU (%(default)s); with GPUs, one each")
    parser.add_argument("--scheduler", metavar="tcp://...", help="a Dask cluster that is there already; its workers must see the same folders")
    parser.add_argument("--per-shard", type=int, default=PER_SHARD, help="checkpoints that a worker takes at a time (%(default)s)")
    parser.add_argument("--disk-budget", type=float, metavar="GB", help="a shard's checkpoints are dropped if the hub's cache takes more")
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed before")
    parser.add_argument("--dry-run", action="store_true", help="list the shards with their expected cost, and stop")
    parser.add_argument("--root", type=Path, default=Path(), help="the book's folder (default: the current one)")
    parser.add_argument("--out", type=Path, default=Path("_sweep"), help="the sweep's folder (%(default)s)")
    parser.add_argument("--store", type=Path, help="folder of the measurements (default: as everywhere)")


def sweep_from_arguments(args: argparse.Namespace) -> None:
    """Sweeps as `add_sweep_arguments` says; SystemExit 1, with a list, if some shard failed."""
    from .build import parse_parameters
    from .parameters import select
    from .store import default_store_path

    steps = args.steps
    if steps:
        steps = steps[0] if len(steps) == 1 and not steps[0].isdigit() else [int(step) for step in steps]
    selection = select(args.suite, args.models, steps, None, args.device, args.dtype, keep_doubles=True)    # the notebooks leave them out
    root, out, store = args.root.resolve(), args.out.resolve(), (args.store or default_store_path()).resolve()
    notebooks = chosen_notebooks(args.notebooks, root)
    parameters = {"SUITE": args.suite, "DEVICE": selection.device, "DTYPE": args.dtype} | parse_parameters(args.parameter)
    if args.dry_run:
        shards = plan(root, out, store, selection, notebooks, parameters, args.per_shard, args.disk_budget)
        rows = expected(selection, store, shards)
        for row in rows:
            cost = [f"{row['download_gb']:.1f} GB to download" if row["download_gb"] else "nothing to download", f"about {duration(row['seconds'])}" if row["seconds"] else "time unknown yet"]
            print(f"{row['shard']}: {row['checkpoints']} checkpoints, {row['state']}; {', '.join(cost)}")
        todo = [row for row in rows if row["state"] == "missing"]
        for model in selection.models:
            if needs := memory_line(model, selection):
                print(needs)
        print(f"{len(rows)} shards, {len(todo)} to do, {sum(row['download_gb'] or 0 for row in todo):.1f} GB to download; nothing was executed")
        return
    results = sweep(root, out, selection, notebooks, parameters, store, workers=args.workers, scheduler=args.scheduler, per_shard=args.per_shard,
                    budget_gb=args.disk_budget, retry_failed=args.retry_failed)
    failed = [one for one in results if one.state != "done"]
    if failed:
        print(f"\n{len(failed)} of {len(results)} shards failed:", file=sys.stderr)
        for one in failed:
            print(f"  {one.name}: {one.reason}\n    executed so far: {one.notebook or 'nothing'}", file=sys.stderr)
        raise SystemExit("the others are done; mend the cause and add --retry-failed to try these again")
    print(f"all {len(results)} shards are done: {out}")
