"""The sweep as a command."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitbook.publishing.execute import read_notebook
from circuitbook.publishing.typed import from_here, parse_parameters
from circuitbook.store.disk import default_store_path
from circuitbook.sweep.running import prepare, sweep
from circuitbook.sweep.shards import PER_SHARD, SECTIONS, Shard, chosen_notebooks

# What a sweep fills into these parameters comes from its options.
OPTIONS = {
    "SUITE": "--suite",
    "MODELS": "--models",
    "STEPS": "--steps",
    "STORE": "--store",
}

if TYPE_CHECKING:  # imports torch
    from circuitbook.studies.parameters import Selection


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook sweep`."""
    parser.add_argument(
        "--suite",
        default="mini",
        help="mini, pythia, smollm2, a folder, or a hub repository (%(default)s)",
    )
    parser.add_argument(
        "--models", nargs="+", help="default: all of a folder, the standard ones of other suites"
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
        help="a Dask cluster that is there already; its workers must see the same folders. Whoever "
        "can reach its scheduler or a worker can run anything as you: keep them behind a firewall, "
        "or use TLS (see 'A sweep' in the book)",
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
    from circuitbook.studies.parameters import select  # here, since it imports torch

    root, out = args.root.resolve(), args.out.resolve()
    if args.scheduler and not re.fullmatch(r"(\w+://)?\S+:\d+", args.scheduler):
        raise ValueError(f"--scheduler {args.scheduler!r} is no address, such as tcp://host:8786")
    notebooks = chosen_notebooks(_names(args.notebooks) or ["all"], root)
    sources = [read_notebook(root / "notebooks" / f"{name}.ipynb") for name in notebooks]
    given: dict[str, Any] = from_here(parse_parameters(args.parameter, sources), root)
    for name, option in OPTIONS.items():
        if name in given:
            raise ValueError(f"-p {name}=... is not read by a sweep: give {option}")
    suite = _from_anywhere(args.suite)
    selection = select(
        suite,
        args.models,
        _steps(args.steps),
        device=given.pop("DEVICE", args.device),
        dtype=(dtype := given.pop("DTYPE", args.dtype)),
        tokens_per_step=given.get("TOKENS_PER_STEP"),
        keep_doubles=True,  # the notebooks leave them out
    )
    store = (args.store or default_store_path()).resolve()
    parameters = {"SUITE": suite, "DEVICE": selection.device, "DTYPE": dtype} | given
    what = (root, out, selection, notebooks, parameters, store)
    limits = {
        "workers": args.workers,
        "per_shard": args.per_shard,
        "budget_gb": args.disk_budget,
    }
    if args.dry_run:
        _print_expectations(selection, prepare(*what, **limits))
        return
    results = sweep(*what, **limits, scheduler=args.scheduler, retry_failed=args.retry_failed)
    failed = [result for result in results if result.state != "done"]
    if failed:
        print(f"\n{len(failed)} of {len(results)} shards failed:", file=sys.stderr)
        for result in failed:
            print(
                f"  {result.name}: {result.reason}\n"
                f"    executed so far: {result.notebook or 'nothing'}",
                file=sys.stderr,
            )
        raise SystemExit(
            "the others are done; mend the cause and add --retry-failed to try these again"
        )
    print(f"all {len(results)} shards are done: {out}")


def _names(typed: list[str] | None) -> list[str] | None:
    """Names between spaces or commas, in brackets or not."""
    parts = re.split(r"[\s,\[\]]+", " ".join(typed or []))
    return [name for name in parts if name] or None


def _from_anywhere(suite: str) -> str:
    """A suite's name; of a folder the absolute path, since notebooks run in the book's folder."""
    from circuitbook.suites.finding import BY_NAME

    folder = Path(suite).expanduser()
    with contextlib.suppress(OSError):  # a name that is too long for a folder is none
        if suite not in BY_NAME and folder.is_dir():
            return str(folder.resolve())
    return suite


def _steps(typed: list[str] | None) -> str | list[int] | None:
    """A schedule's name, or step numbers; None: all."""
    names = _names(typed)
    if not names:
        return None
    if len(names) == 1 and not names[0].isdigit():
        return names[0]
    for name in names:
        if not (name.isascii() and name.isdigit()):
            raise ValueError(f"--steps takes step numbers or one schedule's name, not {name!r}")
    return [int(step) for step in names]


def _print_expectations(selection: Selection, shards: list[Shard]) -> None:
    from circuitbook.sweep.expectation import expected, memory_line

    rows = expected(selection, shards)
    for row in rows:
        print(row)
    for model in selection.models:
        if line := memory_line(model, selection):
            print(line)
    missing = [row for row in rows if row.state == "missing"]
    print(
        f"{len(rows)} shards, {len(missing)} to do, "
        f"{sum(row.download_gb or 0 for row in missing):.1f} GB to download; nothing was executed"
    )
