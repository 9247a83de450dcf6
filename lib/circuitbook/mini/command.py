"""Training the mini suite as a command."""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from circuitbook.publishing.children import end_with
from circuitbook.store.files import write_atomically


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook train`."""
    parser.add_argument("models", nargs="+", help="mini-xs, mini-s, ... or: all")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("retrained"),
        help="folder for <model>/step<N>/ (%(default)s); not the shipped models' unless you say so",
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(".training"),
        help="where unfinished runs are kept (%(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch threads a run; the result depends on it (%(default)s)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (%(default)s)")
    parser.add_argument("--device", default="cpu")
    # of the process that trains several side by side; they end with it
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)


def train_from_arguments(args: argparse.Namespace) -> None:
    """Trains the models that are named, one after the other or side by side."""
    from circuitbook.mini.train import PLANS

    named = [name for model in args.models for name in (PLANS if model == "all" else [model])]
    names = list(dict.fromkeys(named))
    unknown = [name for name in names if name not in PLANS]
    if unknown:
        raise SystemExit(
            f"cannot train {', '.join(unknown)}: the mini suite has {', '.join(PLANS)}, or say: all"
        )
    for option in ("threads", "jobs"):
        if getattr(args, option) < 1:
            raise ValueError(f"--{option} is at least 1, not {getattr(args, option)}")
    if args.parent:
        threading.Thread(target=end_with, args=[args.parent], daemon=True).start()
    if args.jobs > 1 and len(names) > 1:
        return _train_side_by_side(names, args)
    for name in names:
        print(_train_model(name, args.out, args.state, args.threads, args.device), flush=True)


def _train_model(name: str, out: Path, state: Path, threads: int, device: str) -> str:
    import torch

    from circuitbook.mini.log import training_log
    from circuitbook.mini.train import PLANS, train
    from circuitbook.model.devices import check_device
    from circuitbook.suites.finding import load_suite

    check_device(device)
    folder, plan = out / name, PLANS[name]
    log, mark = folder / "training.csv", folder / ".trained"  # the last that is written
    this_plan = json.dumps(asdict(plan))
    whole = all((folder / f"step{step}").is_dir() for step in plan.checkpoints) and log.is_file()
    if whole and mark.is_file() and mark.read_text(encoding="utf8") == this_plan:
        return f"{name}: {folder} is trained already; remove that folder to train it again"
    torch.set_num_threads(threads)
    train(name, plan, out, state, device=device)
    losses = json.loads((folder / "losses.json").read_text())
    table = training_log(load_suite(str(out)), name, losses).round(5).to_csv(index=False)
    write_atomically(log, table.encode())
    write_atomically(mark, this_plan.encode())
    (folder / "losses.json").unlink()
    return f"{name}: {folder}"


def _train_side_by_side(names: list[str], args: argparse.Namespace) -> None:
    """One process a run, `args.jobs` at a time; a run does not know that it has neighbours."""
    options = ["out", "state", "threads", "device"]
    command = [sys.executable, "-m", "circuitbook", "train"]
    command += [f"--{option}={getattr(args, option)}" for option in options]
    command += [f"--parent={os.getpid()}"]
    lines: queue.SimpleQueue[int] = queue.SimpleQueue()  # of the terminal, for progress bars
    for line in range(args.jobs):
        lines.put(line)
    running: set[subprocess.Popen] = set()

    def run(name: str) -> int:
        line = lines.get()
        process = subprocess.Popen([*command, name], env=os.environ | {"TQDM_POSITION": str(line)})
        running.add(process)
        try:
            return process.wait()
        finally:
            running.remove(process)
            lines.put(line)

    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            codes = list(pool.map(run, names))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Ctrl-C at a terminal reaches them too, but not a signal to us alone
            for process in list(running):
                process.send_signal(signal.SIGINT)
            raise
    if failed := [name for name, code in zip(names, codes, strict=True) if code]:
        raise SystemExit(
            f"training failed for {', '.join(failed)}: see above; the same command tries again"
        )
