"""The kernel that notebooks run in: this very interpreter, the same for everybody."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from papermill.engines import NBClientEngine, papermill_engines
from traitlets.config import Config

from circuitbook.paths import PACKAGE
from circuitbook.publishing.scratch import scratch_folder
from circuitbook.publishing.warm import WarmProvisioner
from circuitbook.threads import waiting_policy


def measurements(trace: Path) -> dict[str, float]:
    """What a trace of the store says: {"used", "measured", "seconds"}, seconds being what all of
    them took once."""
    seconds, new = {}, set()
    with contextlib.suppress(FileNotFoundError):
        for line in trace.read_text(encoding="utf8").splitlines(keepends=True):
            if not line.endswith("\n"):  # being written at this moment
                break
            digest, how, took = line.split()
            seconds[digest] = float(took)
            if how == "measured":
                new.add(digest)
    return {"used": len(seconds), "measured": len(new), "seconds": round(sum(seconds.values()), 1)}


def kernel_environment(trace: Path) -> dict[str, str]:
    """Makes the kernel the same for everybody: this package, no start-up files of the user, figures
    in the page."""
    library = str(PACKAGE.parent)
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")])),
        "IPYTHONDIR": str(trace.parent / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CIRCUITBOOK_STORE_TRACE": str(trace),
        "CIRCUITBOOK_PAGES": "1",  # views share the site's scripts
        **waiting_policy(os.environ),
    }


def _bar(title: str) -> dict[str, object]:
    """papermill's progress bar; off a terminal it is drawn nowhere and `_ticking` prints lines
    instead."""
    layout = "{desc} {bar:24} {n_fmt}/{total_fmt} cells, {elapsed}{postfix}"
    style = {"desc": title, "bar_format": layout, "leave": False}
    return style if sys.stderr.isatty() else style | {"file": io.StringIO()}


@contextlib.contextmanager
def _ticking(bar: Any, trace: Path, title: str) -> Iterator[None]:
    """Shows time and measurements while a long cell runs: on the bar each second, or as a line
    every half minute."""
    stop, terminal = threading.Event(), sys.stderr.isatty()

    def tick() -> None:
        while not stop.wait(1 if terminal else 30):
            measured = f"{measurements(trace)['used']} measurements"
            if terminal:
                bar.set_postfix_str(measured)
            else:
                print(
                    f"  {title}: {bar.n} of {bar.total} cells, {measured}",
                    file=sys.stderr,
                    flush=True,
                )

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        stop.set()
        ticker.join()


def _this_python(environment: dict[str, str], output: TextIO) -> type[AsyncKernelManager]:
    """A kernel manager for the interpreter that runs the build: no kernel spec of the user can
    win."""
    command = [
        sys.executable,
        "-Xfrozen_modules=off",
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
    ]
    spec = KernelSpec(argv=command, display_name="Python 3", language="python", env=environment)

    class ThisPython(AsyncKernelManager):
        kernel_spec = property(lambda self: spec)

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            if self.provisioner is None:
                self.provisioner = WarmProvisioner(
                    kernel_id=str(uuid.uuid4()), kernel_spec=spec, parent=self
                )
                self.provisioner.output = output
            await super().start_kernel(
                **options, stdout=output, stderr=output
            )  # what bypasses the cells

    return ThisPython


def _sockets_fit(folder: str) -> bool:
    """Whether the kernel's sockets can lie in the folder: a path to one has at most 103 bytes on a
    Mac, 107 on Linux."""
    return os.name == "posix" and len(os.fsencode(folder)) + len("/kernel-ipc-99") <= 103


@contextlib.contextmanager
def _private_folder() -> Iterator[str]:
    """A scratch folder for the kernel's sockets, or a second one where the name of the usual one is
    too long for them."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        if os.name == "posix" and not _sockets_fit(folder):
            with contextlib.suppress(OSError):
                folder = stack.enter_context(scratch_folder("/tmp"))
        yield folder


class _Engine(NBClientEngine):
    """papermill's engine with our kernel, and with measurements on the progress bar."""

    name = "circuitbook"

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        trace: Path,
        title: str,
        stderr_file: TextIO,
        **options: Any,
    ) -> None:
        manager = _this_python(kernel_environment(trace), stderr_file)
        with (
            _private_folder() as private,
            _ticking(nb_man.pbar, trace, title),
        ):
            connection = {"connection_file": str(Path(private) / "kernel.json")}
            if _sockets_fit(private):  # no ports that others could listen to
                connection["transport"] = "ipc"
            super().execute_managed_notebook(
                nb_man,
                kernel_name,
                stderr_file=stderr_file,
                kernel_manager_class=manager,
                config=Config({"KernelManager": connection}),
                **options,
            )


papermill_engines.register(_Engine.name, _Engine)
