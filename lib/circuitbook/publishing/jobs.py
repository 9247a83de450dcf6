"""One chapter to execute: here, or in a process of its own beside the others.

Chapters share measurements through the store, so those about one suite are executed one after the
other, and each finds what those before it have measured. A chapter about another suite shares next
to nothing with them and can run at the same time, where there is a core for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nbformat import NotebookNode

from circuitbook.paths import PACKAGE
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import (
    METADATA,
    default_parameters,
    duration,
    execute_notebook,
)
from circuitbook.publishing.terminal import say
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


def suite_of(notebook: NotebookNode, given: Mapping[str, object]) -> object:
    """The suite that a chapter is about; None where it has no such parameter."""
    return (default_parameters(notebook) | dict(given)).get(OF_A_SUITE)


def beside_the_others(suites: Mapping[str, object]) -> set[str]:
    """The chapters about another suite than most are; none on a machine with one core.

    suites: {chapter: its suite, or None}
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    counts = Counter(suite for suite in suites.values() if suite is not None)
    if not counts or (cores or 1) < 2:
        return set()
    ((most, _),) = counts.most_common(1)
    return {chapter for chapter, suite in suites.items() if suite not in (None, most)}


def needs(notebook: NotebookNode, given: Mapping[str, object], suites: Sequence[object]) -> bool:
    """Whether a chapter names one of these suites in any parameter: then it reads what was measured
    of it."""
    values = (default_parameters(notebook) | dict(given)).values()
    return any(value in suites for value in values if isinstance(value, str))


# ------------------------------------------------------------------ in a process of its own


class Beside:
    """Jobs that run one after the other in a process of their own."""

    def __init__(self, jobs: Sequence[Job], out: Path) -> None:
        folder = out / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        self.titles = [job.title for job in jobs]
        self.failure = folder / "beside.error"
        self.failure.unlink(missing_ok=True)
        order = folder / "beside.json"
        write_atomically(order, json.dumps([asdict(job) for job in jobs]).encode())
        files = [str(order), str(self.failure)]
        command = [sys.executable, "-m", __name__, *files, str(os.getpid())]
        library = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
        with open(folder / "beside.log", "w", encoding="utf8") as log:
            self.process = subprocess.Popen(
                command, stderr=log, env=os.environ | {"PYTHONPATH": library}
            )

    def wait(self) -> None:
        """Returns when all are done. BuildError with the message of the one that failed."""
        if self.process.wait():
            why = self.failure.read_text(encoding="utf8") if self.failure.exists() else ""
            died = f"the process of {', '.join(self.titles)} died"
            raise BuildError(why or f"{died}; see {self.failure.with_suffix('.log')}")

    def stop(self) -> None:
        """Ends what still runs, as Ctrl-C would: what was measured is kept."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _end_with(parent: int) -> None:
    """Stops this process when the build that started it is gone, however that was ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)


def main(order: str, failure: str, parent: str) -> int:
    """What the process of its own does."""
    # A process that runs in the background of a shell ignores Ctrl-C otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with, args=[int(parent)], daemon=True).start()
    try:
        for job in json.loads(Path(order).read_text(encoding="utf8")):
            Job(**job).execute()
    except BuildError as error:
        Path(failure).write_text(str(error), encoding="utf8")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
