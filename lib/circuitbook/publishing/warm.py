"""Kernels that begin with everything imported.

To import torch, transformers and what chapters use takes a core twelve seconds. So a process that
has done it once forks itself for every chapter's kernel. On Linux; elsewhere, and for a kernel that
wants another environment, kernels start from nothing, as they do if this fails.

Through a pair of sockets goes an order in JSON, with the file that the kernel's output goes to, and
the pid of the new process in return.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, TextIO

from jupyter_client.provisioning import LocalProvisioner

from circuitbook.publishing.children import die_with

log = logging.getLogger(__name__)

IMPORTS = (
    "ipykernel.kernelapp",
    "matplotlib.pyplot",
    "transformers.models.gpt_neox.modeling_gpt_neox",
    "transformers.models.llama.modeling_llama",
    "circuitbook.studies.chapter",
    "circuitbook.figures.explorer",
)
PATIENCE = 120  # seconds that the imports may take
OF_A_KERNEL = ("CIRCUITBOOK_STORE_TRACE", "IPYTHONDIR", "OMP_NUM_THREADS", "JPY_PARENT_PID")


class WarmKernels:
    """A process that forks kernels with this environment; see `warm_kernels`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = _shared(environment)
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), str(os.getpid())],
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the kernels, which are told
            )

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], folder: str, output: TextIO
    ) -> ForkedKernel | None:
        """Forks a kernel; None where it cannot, so that it has to be started from nothing.

        command: as for a cold one; what follows the interpreter's own options counts.
        """
        if _shared(environment) != self.environment or self.process.poll() is not None:
            return None
        options = list(command[command.index("ipykernel_launcher") :])
        order = {"argv": options, "environment": dict(environment), "folder": folder}
        try:
            socket.send_fds(self.socket, [json.dumps(order).encode()], [output.fileno()])
            answer = self.socket.recv(100)
        except OSError as error:
            log.warning("kernels are started from nothing: %s", error)
            return None
        return ForkedKernel(int(answer)) if answer else None

    def stop(self) -> None:
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.process.kill()
        self.process.wait()


class ForkedKernel:
    """A process that is not our child, as jupyter_client looks at one (a `subprocess.Popen`)."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        try:
            self.handle = os.pidfd_open(pid)
        except ProcessLookupError:
            self.handle, self.returncode = -1, 1

    def poll(self) -> int | None:
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """1 once it has ended, however it did."""
        if self.returncode is None and select.select([self.handle], [], [], timeout)[0]:
            os.close(self.handle)
            self.handle, self.returncode = -1, 1
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class WarmProvisioner(LocalProvisioner):
    """jupyter_client's own, but that a kernel is forked where that can be done."""

    output: TextIO

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        if _server is not None:
            environment = options["env"] | {"JPY_PARENT_PID": str(_server.process.pid)}
            folder = os.fspath(options.get("cwd") or os.getcwd())
            kernel = _server.start(cmd, environment, folder, self.output)
            if kernel is not None:
                self.process: Any = kernel
                self.pid = self.pgid = kernel.pid
                self.cwd = options.get("cwd")
                return self.connection_info
        return await super().launch_kernel(cmd, **options)


_server: WarmKernels | None = None


@contextlib.contextmanager
def warm_kernels(environment: Mapping[str, str]) -> Iterator[None]:
    """While it lasts, kernels with this environment (but for `OF_A_KERNEL`) are forked."""
    global _server  # one at a time: kernels are started one after the other
    if _server is not None or not hasattr(os, "pidfd_open"):
        yield
        return
    _server = WarmKernels(environment)
    try:
        yield
    finally:
        _server.stop()
        _server = None


def _shared(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in OF_A_KERNEL}


# ------------------------------------------------------------------ in the process that forks


def serve(connection: socket.socket) -> None:
    """Imports everything, and forks a kernel for each order until the other end is closed."""
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]  # a kernel puts its own folder there
    for name in IMPORTS:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    while True:
        order, files, _, _ = socket.recv_fds(connection, 1 << 20, 1)
        if not order:
            return
        server, pid = os.getpid(), os.fork()
        if pid == 0:
            die_with(server)
            connection.close()
            _become_a_kernel(json.loads(order), files[0])
        os.close(files[0])
        connection.sendall(str(pid).encode())


def _become_a_kernel(order: dict[str, Any], output: int) -> NoReturn:
    """Does in a fork what a process of its own would begin with."""
    import numpy as np
    import torch
    from ipykernel import kernelapp

    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.close(output)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        sys.argv = order["argv"]
        torch.set_num_threads(
            int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
        )
        torch.seed()  # what draws without a seed draws anew in every kernel
        np.random.seed()
        kernelapp.launch_new_instance()
        status = 0
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    die_with(int(sys.argv[2]))  # also while it imports
    with socket.socket(fileno=int(sys.argv[1])) as end:  # its kind is found out
        serve(end)
