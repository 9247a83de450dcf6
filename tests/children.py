"""Child processes: started with their signals' default actions, and waited for with a deadline."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator


def start(command, **how) -> subprocess.Popen:
    """subprocess.Popen, except that no signal is ignored in the child because it is ignored here.

    What `nohup` or a script's `&` starts ignores SIGHUP or SIGINT, and so does all that it starts.
    """
    stopping = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT)
    ignored = [number for number in stopping if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, **how)
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def running(command, **how) -> Iterator[subprocess.Popen]:
    """`start`, and at the end of the block no such process is left, whatever happened in it."""
    process = start(command, **how)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], object], seconds: float = 120, pause: float = 0.05) -> None:
    """Until `condition()` is true; AssertionError if that takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} seconds in vain"
        time.sleep(pause)
