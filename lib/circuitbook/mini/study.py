"""Studies that train their own models, as a command."""

from __future__ import annotations

import argparse
from pathlib import Path

DEPTHS = {"lists": (4, 6, 8), "roles": (4,)}  # layers of the runs of a study


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook study`."""
    parser.add_argument(
        "what",
        choices=list(DEPTHS),
        help="lists: two algorithms from one language; roles: the same, with givers who have to be "
        "looked up",
    )
    parser.add_argument(
        "--layers", type=int, nargs="+", help="depths, in turn (4 6 8; for roles 4)"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=list(range(1, 9)),
        help="of each depth (%(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, help="of a run, 2,048 tokens each (6144; for roles 10240)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for runs, measurements and their table (retrained/lists, or .../roles)",
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
        help="train nothing: put the rows of what has ended in --out into the library's table and, "
        "if runs of lists are named, their checkpoints into models/lists instead of those there",
    )


def study_from_arguments(args: argparse.Namespace) -> None:
    """Trains and measures what is not there yet; prints where the table is and what it says."""
    import torch

    from circuitbook.mini.lists import list_run, run_lists
    from circuitbook.model.devices import check_device
    from circuitbook.studies.findings.two_algorithms import hypothesis_sentence, last_of_runs

    out = args.out or Path("retrained") / args.what
    if args.ship is not None:
        return _ship(args.what, out, args.ship)
    if args.threads < 1:
        raise ValueError(f"--threads is at least 1, not {args.threads}")
    check_device(args.device)
    runs = [
        list_run(layers=layers, seed=seed, steps=args.steps, roles=args.what == "roles")
        for layers in dict.fromkeys(args.layers or DEPTHS[args.what])
        for seed in dict.fromkeys(args.seeds)
    ]
    torch.set_num_threads(args.threads)
    table = run_lists(runs, out, device=args.device)
    print(f"{out / 'runs.csv'}: {table['run'].nunique()} runs, {len(table)} checkpoints")
    print(hypothesis_sentence(last_of_runs(table)))


def _ship(what: str, out: Path, names: list[str]) -> None:
    from circuitbook.mini.shipping import ship
    from circuitbook.paths import PACKAGE
    from circuitbook.records.list_runs import FILE, ROLES

    models = PACKAGE.parents[1] / "models"
    if not models.is_dir():
        raise ValueError(f"--ship works in a clone of the repository: there is no folder {models}")
    if names and what == "roles":
        raise ValueError("no weights of runs with roles come with the book: --ship takes no names")
    table = ROLES if what == "roles" else FILE
    ship(out, names, table=table, models=models / "lists")
    print(f"{table}; " + (f"{', '.join(names)} in {models / 'lists'}" if names else "no weights"))
