"""Processes that do not outlive the one that has started them, however that ends.

    run([browser, "--print-to-pdf=..."], timeout=600, capture_output=True)

This file is also the program that stands between: it starts the command in a group of processes of
their own, and kills the group when the process that asked for it is gone. It imports nothing of the
package, so that it is there at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

PATIENCE = 20  # seconds to end in, after an interrupt
_PR_SET_PDEATHSIG = 1  # of Linux


def run(
    command: Sequence[str], *, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run`, but nothing of the command runs on if this process is stopped, killed or
    out of patience. It has no input."""
    if os.name != "posix":
        return subprocess.run(command, timeout=timeout, stdin=subprocess.DEVNULL, **options)
    between = [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid())]
    with subprocess.Popen(
        [*between, *command], stdin=subprocess.DEVNULL, start_new_session=True, **options
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def die_with(parent: int) -> None:
    """On Linux, this process is killed in the moment in which its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os.kill(os.getpid(), signal.SIGKILL)


def end_with(parent: int) -> None:
    """Interrupts this process, as Ctrl-C would, when its parent is gone, and kills it where that
    does not help. For a thread."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


def main(parent: int, command: Sequence[str]) -> int:
    """Runs the command; its exit status, or that of a shell where a signal ended it."""
    process = subprocess.Popen(command)
    while os.getppid() == parent:
        try:
            status = process.wait(timeout=0.5)
            return status if status >= 0 else 128 - status
        except subprocess.TimeoutExpired:
            pass
    os.killpg(0, signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
