"""`python -m circuitbook COMMAND`: train the mini suite, build the book."""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from .build import add_build_arguments, build_from_arguments


def _train_one(name: str, out: Path, state: Path, threads: int, device: str, progress: bool) -> str:
    import torch

    from .mini.log import training_log
    from .mini.train import PLANS, train
    from .suites import load_suite

    torch.set_num_threads(threads)
    folder = train(name, PLANS[name], out, state, device=device, progress=progress)
    losses = json.loads((folder / "losses.json").read_text())
    training_log(load_suite(str(out)), name, losses).round(5).to_csv(folder / "training.csv", index=False)
    (folder / "losses.json").unlink()
    return f"{name}: {folder}"


def train_command(args: argparse.Namespace) -> None:
    from .mini.train import PLANS

    names = list(PLANS) if args.models == ["all"] else args.models
    unknown = [name for name in names if name not in PLANS]
    if unknown:
        raise SystemExit(f"cannot train {', '.join(unknown)}: the mini suite has {', '.join(PLANS)}, or say: all")
    if args.jobs == 1:
        for name in names:
            print(_train_one(name, args.out, args.state, args.threads, args.device, True), flush=True)
        return
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(_train_one, name, args.out, args.state, args.threads, args.device, k < args.jobs)
                 for k, name in enumerate(names)]
        for task in tasks:
            print(task.result(), flush=True)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m circuitbook", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train models of the mini suite again, from their seeds",
                                description="Ctrl-C stops a run; the same command goes on where it stopped.")
    train.add_argument("models", nargs="+", help="mini-xs, mini-s, ... or: all")
    train.add_argument("--out", type=Path, default=Path("models/mini"), help="folder for <model>/step<N>/ (%(default)s)")
    train.add_argument("--state", type=Path, default=Path(".training"), help="where unfinished runs are kept (%(default)s)")
    train.add_argument("--threads", type=int, default=1, help="torch threads a run; the result depends on it (%(default)s)")
    train.add_argument("--jobs", type=int, default=1, help="runs side by side (%(default)s)")
    train.add_argument("--device", default="cpu")
    train.set_defaults(run=train_command)
    build = commands.add_parser("build", help="execute the chapters and make the site")
    add_build_arguments(build)
    build.set_defaults(run=build_from_arguments)
    return top


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
