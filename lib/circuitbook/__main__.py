"""`python -m circuitbook COMMAND`: train the mini suite, build the book, check its links, print it,
sweep over checkpoints, make course versions."""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from circuitbook.publishing.build import add_build_arguments, build_from_arguments
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.links import add_links_arguments, links_from_arguments
from circuitbook.publishing.pdf import add_pdf_arguments, pdf_from_arguments
from circuitbook.store.cache import CacheError
from circuitbook.store.disk import StoreError
from circuitbook.sweep.command import add_sweep_arguments, sweep_from_arguments
from circuitbook.teaching.course import add_teach_arguments, teach_from_arguments
from circuitbook.weights.asking import HubError


def _train_model(name: str, out: Path, state: Path, threads: int, device: str) -> str:
    import torch

    from circuitbook.mini.log import training_log
    from circuitbook.mini.train import PLANS, train
    from circuitbook.model.devices import check_device
    from circuitbook.suites.finding import load_suite

    check_device(device)
    torch.set_num_threads(threads)
    folder = train(name, PLANS[name], out, state, device=device)
    losses = json.loads((folder / "losses.json").read_text())
    training_log(load_suite(str(out)), name, losses).round(5).to_csv(
        folder / "training.csv", index=False
    )
    (folder / "losses.json").unlink()
    return f"{name}: {folder}"


def train_command(args: argparse.Namespace) -> None:
    """Trains the models that are named, one after the other or side by side."""
    from circuitbook.mini.train import PLANS

    names = list(PLANS) if args.models == ["all"] else args.models
    unknown = [name for name in names if name not in PLANS]
    if unknown:
        raise SystemExit(
            f"cannot train {', '.join(unknown)}: the mini suite has {', '.join(PLANS)}, or say: all"
        )
    if args.jobs > 1 and len(names) > 1:
        return _train_side_by_side(names, args)
    for name in names:
        print(_train_model(name, args.out, args.state, args.threads, args.device), flush=True)


def _train_side_by_side(names: list[str], args: argparse.Namespace) -> None:
    """One process a run, `args.jobs` at a time; a run does not know that it has neighbours."""
    options = ["out", "state", "threads", "device"]
    command = [sys.executable, "-m", "circuitbook", "train"]
    command += [f"--{option}={getattr(args, option)}" for option in options]
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


def colab_command(args: argparse.Namespace) -> None:
    from circuitbook.publishing.colab import write_first_cells

    changed = write_first_cells(args.notebooks, args.address)
    what = "only import the library" if args.address is None else f"install from {args.address}"
    print(
        f"{len(changed)} notebooks in {args.notebooks} now {what}"
        if changed
        else "nothing to change"
    )


def record_command(args: argparse.Namespace) -> None:
    from circuitbook.studies.recording import PROMPTS, record_smollm2, write_record

    prompts = PROMPTS | ({"ioi": args.prompts} if args.prompts else {})
    record = record_smollm2(prompts, args.seeds, args.store, args.device)
    write_record(record, args.out)
    print(f"{args.out}: {len(args.seeds)} draws, {record['seconds']} s")


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(prog="python -m circuitbook", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train",
        help="train models of the mini suite again, from their seeds",
        description="Ctrl-C stops a run; the same command goes on where it stopped.",
    )
    train.add_argument("models", nargs="+", help="mini-xs, mini-s, ... or: all")
    train.add_argument(
        "--out",
        type=Path,
        default=Path("retrained"),
        help="folder for <model>/step<N>/ (%(default)s); not the shipped models' unless you say so",
    )
    train.add_argument(
        "--state",
        type=Path,
        default=Path(".training"),
        help="where unfinished runs are kept (%(default)s)",
    )
    train.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch threads a run; the result depends on it (%(default)s)",
    )
    train.add_argument("--jobs", type=int, default=1, help="runs side by side (%(default)s)")
    train.add_argument("--device", default="cpu")
    train.set_defaults(run=train_command)
    build = commands.add_parser("build", help="execute the chapters and make the site")
    add_build_arguments(build)
    build.set_defaults(run=build_from_arguments)
    colab = commands.add_parser(
        "colab",
        help="let the notebooks' first cells install the library from an address",
        description="Write into every notebook's first cell where Colab installs the library from.",
    )
    source = colab.add_mutually_exclusive_group(required=True)
    source.add_argument("address", nargs="?", help="such as https://github.com/<owner>/<name>")
    source.add_argument(
        "--remove",
        dest="address",
        action="store_const",
        const=None,
        help="leave the import alone, as in the repository",
    )
    colab.add_argument(
        "--notebooks", type=Path, default=Path("notebooks"), help="their folder (%(default)s)"
    )
    colab.set_defaults(run=colab_command)
    links = commands.add_parser(
        "links", help="check every link, anchor, image and script of the built site"
    )
    add_links_arguments(links)
    links.set_defaults(run=links_from_arguments)
    pdf = commands.add_parser("pdf", help="print the built book to one PDF, with Chromium")
    add_pdf_arguments(pdf)
    pdf.set_defaults(run=pdf_from_arguments)
    record = commands.add_parser(
        "record",
        help="measure a real language model on more prompts than the book's build takes",
        description="Takes most of an hour on two cores. Stopped, the same command goes on.",
    )
    record.add_argument("what", choices=["smollm2"])
    record.add_argument(
        "--prompts", type=int, help="of IOI, on which heads are measured (70, as in the paper)"
    )
    record.add_argument(
        "--seeds", type=int, nargs="+", default=[42, 7], help="one for each draw (%(default)s)"
    )
    record.add_argument(
        "--out",
        type=Path,
        default=Path("lib/circuitbook/records/data/smollm2.json"),
        help="where to write the record (%(default)s)",
    )
    record.add_argument("--store", help="folder for measurements (the repository's .store)")
    record.add_argument("--device", default="auto")
    record.set_defaults(run=record_command)
    sweep = commands.add_parser(
        "sweep",
        help="execute the section notebooks over many checkpoints, on Dask",
        description="Stopped at any moment, the same command goes on; nothing is done twice.",
    )
    add_sweep_arguments(sweep)
    sweep.set_defaults(run=sweep_from_arguments)
    teach = commands.add_parser(
        "teach",
        help="write student and instructor versions of the chapters",
        description="student: without solutions, stubs left. instructor: everything, with notes.",
    )
    add_teach_arguments(teach)
    teach.set_defaults(run=teach_from_arguments)
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    # the library's one clear line; anything else is a bug
    except (ValueError, FileNotFoundError, BuildError, HubError, CacheError, StoreError) as error:
        raise SystemExit(f"error: {error}") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
