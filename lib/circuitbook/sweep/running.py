"""The sweep itself: what is missing is executed, then everything once over."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import nbformat
from tqdm.auto import tqdm

from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import check_parameters, duration, execute_notebook
from circuitbook.publishing.fingerprints import contents, package_contents
from circuitbook.store.files import write_atomically
from circuitbook.store.locks import alone_in, holder
from circuitbook.sweep.cluster import PATIENCE, Cluster, gpu_count, local_cluster, run_on
from circuitbook.sweep.shards import (
    FINAL,
    PER_SHARD,
    SECTIONS,
    TEACHING,
    Outcome,
    Shard,
    outcome,
    plan,
)
from circuitbook.weights.hash_memory import HASHES

if TYPE_CHECKING:  # imports torch
    from circuitbook.studies.parameters import Selection


def prepare(
    root: Path,
    out: Path,
    selection: Selection,
    notebooks: Sequence[str],
    parameters: dict[str, object],
    store: Path,
    *,
    workers: int = 1,
    per_shard: int = PER_SHARD,
    budget_gb: float | None = None,
) -> list[Shard]:
    """The shards of a sweep, once all is checked that can be before one is executed.

    A dry run asks this, too, so that it refuses what the sweep would. ValueError or BuildError name
    what is wrong: parameters that no notebook has or that are options, models with different steps,
    a cluster without workers, an `out` that cannot be made.
    """
    files = {name: root / "notebooks" / f"{name}.ipynb" for name in notebooks}
    check_parameters(
        parameters, {name: nbformat.read(file, as_version=4) for name, file in files.items()}
    )
    _same_steps(selection)
    if workers < 1:
        raise ValueError(f"--workers {workers} would execute nothing; give at least 1")
    if budget_gb is not None and not budget_gb >= 0:
        raise ValueError(f"--disk-budget {budget_gb} is no size; give gigabytes, from 0 on")
    _check_out(out)
    with HASHES.kept_in(out / ".hashes.json"):
        return plan(
            root,
            out,
            store,
            selection,
            notebooks,
            parameters,
            per_shard=per_shard,
            budget_gb=budget_gb,
        )


def _check_out(out: Path) -> None:
    """ValueError unless the folder is there and can be written to, or can be made."""
    try:
        there = next(path for path in (out, *out.parents) if path.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return
        why = "cannot be written to" if there.is_dir() else "is not a folder"
        fault = f"{there} {why}"
    except OSError as error:  # as for a name that is too long
        fault = error.strerror or str(error)
    raise ValueError(f"--out {out} cannot be made: {fault}; give another folder")


def sweep(
    root: Path,
    out: Path,
    selection: Selection,
    notebooks: Sequence[str],
    parameters: dict[str, object],
    store: Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    per_shard: int = PER_SHARD,
    budget_gb: float | None = None,
    retry_failed: bool = False,
    final: bool = True,
    say: Callable[[str], None] = print,
    patience: float = PATIENCE,
) -> list[Outcome]:
    """Executes what is missing and returns how every shard ended, in order (see `sweep.shards`).

    workers: of a cluster on this machine. scheduler: the address of another cluster, to be used
    instead. final: execute the notebooks over everything, too, if all shards are done. patience:
    seconds to wait for a scheduler that is away. Errors: those of `prepare`; BuildError if another
    sweep is at work in `out`. What fails in a shard is in its outcome.
    """
    shards = prepare(
        root,
        out,
        selection,
        notebooks,
        parameters,
        store,
        workers=workers,
        per_shard=per_shard,
        budget_gb=budget_gb,
    )
    out.mkdir(parents=True, exist_ok=True)
    try:
        with alone_in(out):
            results = {shard.name: outcome(shard) for shard in shards}
            again = ("missing", "failed") if retry_failed else ("missing",)
            todo = [shard for shard in shards if results[shard.name].state in again]
            say(
                f"{len(shards)} shards of {sum(len(shard.steps) for shard in shards)} checkpoints: "
                f"{len(shards) - len(todo)} ended before, {len(todo)} to do"
            )
            for shard in todo:  # a record that exists means: ended
                shard.record.unlink(missing_ok=True)
            if todo:
                ended = _Progress(results, len(todo), say)
                gpu = str(selection.device).startswith("cuda")
                with (
                    contextlib.nullcontext(Cluster(scheduler))
                    if scheduler
                    else local_cluster(workers, gpu_count() if gpu else 0)
                ) as cluster:
                    run_on(cluster, todo, ended, gpu=gpu, say=say, patience=patience)
                ended.bar.close()
            if final and all(result.state == "done" for result in results.values()):
                _execute_over_everything(
                    root, out, selection, notebooks, parameters, store, shards, say
                )
    except filelock.Timeout as busy:
        raise BuildError(
            f"another sweep is at work in {out}, {holder(busy.lock_file)}; wait for it, or give "
            "another --out (they can share a store)"
        ) from None
    return [results[shard.name] for shard in shards]


class _Progress:
    """Called for every shard that ended: puts its outcome among the results, and says how far the
    sweep is."""

    def __init__(self, results: dict[str, Outcome], total: int, say: Callable[[str], None]):
        self.results = results
        self.total = total
        self.say = say
        self.finished = 0
        self.begun = time.monotonic()
        self.bar = tqdm(total=total, desc="shards", unit="shard", disable=not sys.stderr.isatty())

    def __call__(self, result: Outcome, running: int) -> None:
        self.results[result.name] = result
        self.finished += 1
        self.bar.update()
        failed = sum(other.state == "failed" for other in self.results.values())
        per_shard = (time.monotonic() - self.begun) / self.finished
        left = duration(per_shard * (self.total - self.finished))
        reason = f" ({result.reason})" if result.reason else ""
        self.say(
            f"[{self.finished}/{self.total}] {result.name}: {result.state} in "
            f"{duration(result.seconds)}{reason}; "
            f"{running} running, {failed} failed, about {left} left"
        )


def _execute_over_everything(
    root: Path,
    out: Path,
    selection: Selection,
    notebooks: Sequence[str],
    parameters: dict[str, object],
    store: Path,
    shards: Sequence[Shard],
    say: Callable[[str], None],
) -> None:
    """The notebooks over all checkpoints, whose measurements are in the store by now."""
    whole = parameters | {
        "MODELS": list(selection.models),
        "STEPS": _same_steps(selection),
        "STORE": str(store),
    }
    final = FINAL if set(SECTIONS) <= set(notebooks) else ()
    for name in (*notebooks, *final):
        source = root / "notebooks" / f"{name}.ipynb"
        target, stamp = out / f"{name}.ipynb", out / f".{name}.sha256"
        what = [
            contents(source),
            package_contents(),
            whole,
            [shard.identities for shard in shards],
        ]
        current = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
        if target.is_file() and stamp.is_file() and stamp.read_text() == current:
            continue
        executed = execute_notebook(source, target, whole, root=root, title=name, without=TEACHING)
        uses = executed.metadata["circuitbook"]["measurements"]
        say(
            f"{name} over everything: {target} "
            f"({uses['measured']} of {uses['used']} measurements were still to make)"
        )
        write_atomically(stamp, current.encode())


def _same_steps(selection: Selection) -> list[int]:
    steps = set(selection.steps.values())
    if len(steps) > 1:
        raise ValueError(
            "the models have different steps; sweep them one after the other, with --models"
        )
    return list(next(iter(steps)))
