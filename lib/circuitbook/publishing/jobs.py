"""Chapters to execute, here and in a second process beside this one.

Chapters share measurements through the store: each finds what those before it have measured, and
what two want at the same time is measured once. This process takes them in the book's order. The
second one begins with those about another suite, which share next to nothing with the rest, and
then takes what is left from the end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nbformat import NotebookNode

from circuitbook.paths import PACKAGE
from circuitbook.publishing.children import end_with
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import (
    METADATA,
    default_parameters,
    duration,
    execute_notebook,
)
from circuitbook.publishing.kernel import kernel_environment
from circuitbook.publishing.terminal import say
from circuitbook.publishing.warm import warm_kernels
from circuitbook.store.files import write_atomically

OF_A_SUITE = "SUITE"  # the parameter that says what a chapter is about


@dataclass(frozen=True, kw_only=True)
class Job:
    """A chapter ("notebooks/abilities") of the book in `root`, to be executed into `out`/src."""

    root: str
    out: str
    chapter: str
    title: str
    """What progress is reported under: "[1/14] notebooks/abilities"."""
    given: dict[str, object]
    """The parameters for this chapter."""
    fingerprint: str

    @property
    def target(self) -> Path:
        return Path(self.out) / "src" / f"{self.chapter}.ipynb"

    def execute(self) -> None:
        """Executes the chapter and says how long it took. BuildError as `execute_notebook`."""
        say(f"{self.title}: executing")
        root, out, name = Path(self.root), Path(self.out), Path(self.chapter).name
        executed = execute_notebook(
            root / f"{self.chapter}.ipynb",
            self.target,
            self.given,
            root=root,
            title=self.title,
            record={"fingerprint": self.fingerprint},
            partial=out / "partial" / f"{self.chapter}.ipynb",
            log=out / "logs" / f"{name}.log",
        )
        record = executed.metadata[METADATA]
        uses = record["measurements"]
        say(
            f"{self.title}: {duration(record['seconds'])}, {uses['measured']} measurements made, "
            f"{uses['used'] - uses['measured']} read from the store"
        )


def environment_of(jobs: Sequence[Job]) -> dict[str, str]:
    """What the kernels of these jobs have in common."""
    return dict(os.environ) | kernel_environment(jobs[0].target.with_suffix(".trace"))


def suite_of(notebook: NotebookNode, given: Mapping[str, object]) -> object:
    """The suite that a chapter is about; None where it has no such parameter."""
    return (default_parameters(notebook) | dict(given)).get(OF_A_SUITE)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def beside_the_others(suites: Mapping[str, object]) -> set[str]:
    """The chapters about another suite than most are; none on a machine with one core.

    suites: {chapter: its suite, or None}
    """
    counts = Counter(suite for suite in suites.values() if suite is not None)
    if not counts or cores() < 2:
        return set()
    ((most, _),) = counts.most_common(1)
    return {chapter for chapter, suite in suites.items() if suite not in (None, most)}


def needs(notebook: NotebookNode, given: Mapping[str, object], suites: Sequence[object]) -> bool:
    """Whether a chapter names one of these suites in any parameter: then it reads what was measured
    of it."""
    values = (default_parameters(notebook) | dict(given)).values()
    return any(value in suites for value in values if isinstance(value, str))


def has_gpu() -> bool:
    """Whether chapters may find an NVIDIA GPU, whose memory two at a time might not share well."""
    return shutil.which("nvidia-smi") is not None


# ------------------------------------------------------------------ in a process of its own


THREADS = "OMP_NUM_THREADS"  # of torch, in this process and those that it starts


class Claims:
    """Which jobs are taken, so that of two processes only one executes each: a folder of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cleared(self) -> Claims:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def take(self, job: Job) -> bool:
        """Whether the job is now the caller's: false if somebody has taken it before."""
        try:
            (self.folder / Path(job.chapter).name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class Beside:
    """A process of its own that executes those jobs which nobody has taken, one after the other.

    While it runs, it and this process have half of the cores each: a user's own OMP_NUM_THREADS
    stands.
    """

    def __init__(self, jobs: Sequence[Job], out: Path) -> None:
        folder = out / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        self.claims = Claims(folder / "claims").cleared()
        self.set_threads = THREADS not in os.environ
        if self.set_threads:
            os.environ[THREADS] = str(max(1, cores() // 2))
        self.failure = folder / "beside.error"
        self.failure.unlink(missing_ok=True)
        order = folder / "beside.json"
        write_atomically(order, json.dumps([asdict(job) for job in jobs]).encode())
        files = [str(order), str(self.failure), str(self.claims.folder)]
        command = [sys.executable, "-m", __name__, *files, str(os.getpid())]
        library = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
        with open(folder / "beside.log", "w", encoding="utf8") as log:
            self.process = subprocess.Popen(
                command, stderr=log, env=os.environ | {"PYTHONPATH": library}
            )

    def check(self) -> None:
        """BuildError, with the message of the job that failed, if one has."""
        if self.process.poll():
            why = self.failure.read_text(encoding="utf8") if self.failure.exists() else ""
            log = self.failure.with_suffix(".log")
            raise BuildError(why or f"the process beside this one died; see {log}")

    def wait(self) -> None:
        """Returns when all are done; errors as `check`."""
        self.process.wait()
        self.check()
        self._all_threads_again()

    def stop(self) -> None:
        """Ends what still runs, as Ctrl-C would: what was measured is kept."""
        self._all_threads_again()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _all_threads_again(self) -> None:
        if self.set_threads:
            os.environ.pop(THREADS, None)


def main(order: str, failure: str, claims: str, parent: str) -> int:
    """What the process of its own does."""
    # A process that runs in the background of a shell ignores Ctrl-C otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=end_with, args=[int(parent)], daemon=True).start()
    try:
        jobs = [Job(**fields) for fields in json.loads(Path(order).read_text(encoding="utf8"))]
        with warm_kernels(environment_of(jobs)):
            for job in jobs:
                if Claims(Path(claims)).take(job):
                    job.execute()
    except BuildError as error:
        Path(failure).write_text(str(error), encoding="utf8")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
