"""Studies that train their own models, as a command."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook study`."""
    parser.add_argument("what", choices=["lists"], help="two algorithms from one language")
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[4, 6, 8], help="depths, in turn (%(default)s)"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=list(range(1, 9)),
        help="of each depth (%(default)s)",
    )
    parser.add_argument("--steps", type=int, help="of a run, 2,048 tokens each (6144)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("retrained/lists"),
        help="folder for runs, measurements and their table (%(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch threads; the result depends on it (%(default)s)",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--ship",
        nargs="*",
        metavar="RUN",
        help="train nothing: put the table of what is in --out into the library, and these runs' "
        "checkpoints into models/lists",
    )


def study_from_arguments(args: argparse.Namespace) -> None:
    """Trains and measures what is not there yet; prints where the table is and what it says."""
    import torch

    from circuitbook.mini.lists import STEPS, list_run, run_lists
    from circuitbook.model.devices import check_device
    from circuitbook.studies.findings.two_algorithms import hypothesis_sentence, last_of_runs

    if args.ship is not None:
        return _ship(args.out, args.ship)
    if args.threads < 1:
        raise ValueError(f"--threads is at least 1, not {args.threads}")
    check_device(args.device)
    steps = STEPS if args.steps is None else args.steps
    runs = [
        list_run(layers=layers, seed=seed, steps=steps)
        for layers in dict.fromkeys(args.layers)
        for seed in dict.fromkeys(args.seeds)
    ]
    torch.set_num_threads(args.threads)
    table = run_lists(runs, args.out, device=args.device)
    print(f"{args.out / 'runs.csv'}: {table['run'].nunique()} runs, {len(table)} checkpoints")
    print(hypothesis_sentence(last_of_runs(table)))


def _ship(out: Path, names: list[str]) -> None:
    from circuitbook.mini.shipping import ship
    from circuitbook.paths import PACKAGE
    from circuitbook.records.list_runs import FILE

    models = PACKAGE.parents[1] / "models"
    if not models.is_dir():
        raise ValueError(f"--ship works in a clone of the repository: there is no folder {models}")
    ship(out, names, table=FILE, models=models / "lists")
    print(f"{FILE}; {', '.join(names) or 'no run'} in {models / 'lists'}")
