"""The sweep as a command: what is missing is executed, then everything once over."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock

from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import check_parameters, duration, execute_notebook
from circuitbook.store.files import write_atomically
from circuitbook.sweep.cluster import PATIENCE, _gpus, local_cluster, run_on
from circuitbook.sweep.shards import (
    FINAL,
    PER_SHARD,
    SECTIONS,
    TEACHING,
    Outcome,
    Shard,
    _sha256,
    chosen_notebooks,
    outcome,
    package_hash,
    plan,
)

# ------------------------------------------------------------------ the command


def sweep(
    root: Path,
    out: Path,
    selection,
    notebooks: Sequence[str],
    parameters: dict,
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
    """Executes what is missing and returns how every shard ended, in order. See the module.

    Errors: BuildError if another sweep is at work in `out`; ValueError for parameters that no notebook has. What fails in a shard is
    in its outcome.
    """
    import nbformat
    from tqdm.auto import tqdm

    sources = {
        name: nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)
        for name in notebooks
    }
    check_parameters(parameters, sources)
    _same_steps(selection)  # an error now rather than in the end
    shards = plan(root, out, store, selection, notebooks, parameters, per_shard, budget_gb)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(out / ".lock", timeout=0):
            results = {shard.name: outcome(shard) for shard in shards}
            todo = [
                shard
                for shard in shards
                if results[shard.name].state == "missing"
                or (retry_failed and results[shard.name].state == "failed")
            ]
            say(
                f"{len(shards)} shards of {sum(len(s.steps) for s in shards)} checkpoints: {len(shards) - len(todo)} ended before, {len(todo)} to do"
            )
            for shard in todo:  # a record that is there means: ended
                shard.record.unlink(missing_ok=True)
            bar, begun = (
                tqdm(total=len(todo), desc="shards", unit="shard", disable=not sys.stderr.isatty()),
                time.monotonic(),
            )
            finished: list[str] = []

            def ended(result: Outcome, running: int) -> None:
                results[result.name] = result
                finished.append(result.name)
                bar.update()
                failed, left = (
                    sum(r.state == "failed" for r in results.values()),
                    len(todo) - len(finished),
                )
                say(
                    f"[{len(finished)}/{len(todo)}] {result.name}: {result.state} in {duration(result.seconds)}"
                    + (f" ({result.reason})" if result.reason else "")
                    + f"; {running} running, {failed} failed, about {duration((time.monotonic() - begun) / len(finished) * left)} left"
                )

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
        raise BuildError(
            f"another sweep is at work in {out}; wait for it, or give another --out (they can share a store)"
        ) from None
    return [results[shard.name] for shard in shards]


def _assemble(
    root: Path,
    out: Path,
    selection,
    notebooks: Sequence[str],
    parameters: dict,
    store: Path,
    say: Callable[[str], None],
) -> None:
    """The notebooks over everything: all measurements are in the store."""
    whole = parameters | {
        "MODELS": list(selection.models),
        "STEPS": _same_steps(selection),
        "STORE": str(store),
    }
    for name in (*notebooks, *(f for f in FINAL if set(SECTIONS) <= set(notebooks))):
        target, stamp = out / f"{name}.ipynb", out / f".{name}.sha256"
        current = hashlib.sha256(
            json.dumps(
                [_sha256(root / "notebooks" / f"{name}.ipynb"), package_hash(), whole],
                sort_keys=True,
                default=str,
            ).encode()
        ).hexdigest()
        if target.is_file() and stamp.is_file() and stamp.read_text() == current:
            continue
        made = execute_notebook(
            root / "notebooks" / f"{name}.ipynb",
            target,
            whole,
            root=root,
            title=name,
            without=TEACHING,
        )
        uses = made.metadata["circuitbook"]["measurements"]
        say(
            f"{name} over everything: {target} ({uses['measured']} of {uses['used']} measurements were still to make)"
        )
        write_atomically(stamp, current.encode())


def _same_steps(selection) -> list[int] | None:
    steps = set(selection.steps.values())
    if len(steps) > 1:
        raise ValueError("the models have different steps; sweep them one after the other")
    return list(next(iter(steps)))


def expected(selection, store: Path, shards: Sequence[Shard]) -> list[dict]:
    """What each shard is expected to cost, for a dry run: model, steps, state, download_gb (None where nothing is downloaded), and seconds
    (the mean of the ended shards' own in this sweep, per checkpoint of the same model; None where none has ended)."""
    ended = {}
    for shard in shards:
        if (found := outcome(shard)).state == "done":
            ended.setdefault(shard.model, []).append(found.seconds / len(shard.steps))
    from circuitbook.suites.pythia import PYTHIA_PARAMETERS
    from circuitbook.suites.sources import Folder

    def download(shard: Shard) -> float | None:
        named = re.fullmatch(r"pythia-([\d.]+[mb])(-.*)?", shard.model)
        if (
            isinstance(selection.suite.source, Folder)
            or not named
            or named[1] not in PYTHIA_PARAMETERS
        ):
            return None
        return 2 * PYTHIA_PARAMETERS[named[1]] * len(shard.steps) / 1e9  # float16 on the hub

    return [
        {
            "shard": shard.name,
            "checkpoints": len(shard.steps),
            "state": outcome(shard).state,
            "download_gb": download(shard),
            "seconds": sum(ended[shard.model]) / len(ended[shard.model]) * len(shard.steps)
            if shard.model in ended
            else None,
        }
        for shard in shards
    ]


def memory_line(model: str, selection) -> str | None:
    """What a Pythia needs on the device, and whether it is there; None for models whose shape is not known beforehand."""
    import torch

    from circuitbook.model.memory import free_memory, plan_memory
    from circuitbook.suites.pythia import PYTHIA_SHAPES

    named = re.fullmatch(r"pythia-([\d.]+[mb])(-.*)?", model)
    if not named or named[1] not in PYTHIA_SHAPES:
        return None
    needs, free = (
        plan_memory(PYTHIA_SHAPES[named[1]], selection.dtype),
        free_memory(torch.device(selection.device)),
    )
    said = (
        ""
        if free is None
        else f"; {free / 1e9:.1f} GB are free on {selection.device}"
        + ("" if needs.fits(free) else ": IT DOES NOT FIT")
    )
    return f"{model}: {needs.minimum / 1e9:.1f} GB at least ({needs.weights / 1e9:.1f} for the weights){said}"


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook sweep`."""
    parser.add_argument(
        "--suite", default="mini", help="mini, pythia, a folder, or a hub repository (%(default)s)"
    )
    parser.add_argument(
        "--models", nargs="+", help="default: all of the suite (of Pythia, the standard sizes)"
    )
    parser.add_argument(
        "--steps",
        nargs="+",
        help="step numbers, or a schedule such as paper or sparse; default: all",
    )
    parser.add_argument(
        "--notebooks",
        nargs="+",
        default=["all"],
        help=f"{', '.join(SECTIONS)}, or all (%(default)s)",
    )
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the notebooks, such as RECIPE=paper",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="of the local cluster, without a GPU (%(default)s); with GPUs, one each",
    )
    parser.add_argument(
        "--scheduler",
        metavar="tcp://...",
        help="a Dask cluster that is there already; its workers must see the same folders",
    )
    parser.add_argument(
        "--per-shard",
        type=int,
        default=PER_SHARD,
        help="checkpoints that a worker takes at a time (%(default)s)",
    )
    parser.add_argument(
        "--disk-budget",
        type=float,
        metavar="GB",
        help="a shard's checkpoints are dropped if the hub's cache takes more",
    )
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed before")
    parser.add_argument(
        "--dry-run", action="store_true", help="list the shards with their expected cost, and stop"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), help="the book's folder (default: the current one)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("_sweep"), help="the sweep's folder (%(default)s)"
    )
    parser.add_argument(
        "--store", type=Path, help="folder of the measurements (default: as everywhere)"
    )


def sweep_from_arguments(args: argparse.Namespace) -> None:
    """Sweeps as `add_sweep_arguments` says; SystemExit 1, with a list, if some shard failed."""
    from circuitbook.publishing.build import parse_parameters
    from circuitbook.store.disk import default_store_path
    from circuitbook.studies.parameters import select

    steps = args.steps
    if steps:
        steps = (
            steps[0]
            if len(steps) == 1 and not steps[0].isdigit()
            else [int(step) for step in steps]
        )
    selection = select(
        args.suite, args.models, steps, None, args.device, args.dtype, keep_doubles=True
    )  # the notebooks leave them out
    root, out, store = (
        args.root.resolve(),
        args.out.resolve(),
        (args.store or default_store_path()).resolve(),
    )
    notebooks = chosen_notebooks(args.notebooks, root)
    parameters = {
        "SUITE": args.suite,
        "DEVICE": selection.device,
        "DTYPE": args.dtype,
    } | parse_parameters(args.parameter)
    if args.dry_run:
        shards = plan(
            root, out, store, selection, notebooks, parameters, args.per_shard, args.disk_budget
        )
        rows = expected(selection, store, shards)
        for row in rows:
            cost = [
                f"{row['download_gb']:.1f} GB to download"
                if row["download_gb"]
                else "nothing to download",
                f"about {duration(row['seconds'])}" if row["seconds"] else "time unknown yet",
            ]
            print(
                f"{row['shard']}: {row['checkpoints']} checkpoints, {row['state']}; {', '.join(cost)}"
            )
        todo = [row for row in rows if row["state"] == "missing"]
        for model in selection.models:
            if needs := memory_line(model, selection):
                print(needs)
        print(
            f"{len(rows)} shards, {len(todo)} to do, {sum(row['download_gb'] or 0 for row in todo):.1f} GB to download; nothing was executed"
        )
        return
    results = sweep(
        root,
        out,
        selection,
        notebooks,
        parameters,
        store,
        workers=args.workers,
        scheduler=args.scheduler,
        per_shard=args.per_shard,
        budget_gb=args.disk_budget,
        retry_failed=args.retry_failed,
    )
    failed = [one for one in results if one.state != "done"]
    if failed:
        print(f"\n{len(failed)} of {len(results)} shards failed:", file=sys.stderr)
        for one in failed:
            print(
                f"  {one.name}: {one.reason}\n    executed so far: {one.notebook or 'nothing'}",
                file=sys.stderr,
            )
        raise SystemExit(
            "the others are done; mend the cause and add --retry-failed to try these again"
        )
    print(f"all {len(results)} shards are done: {out}")
