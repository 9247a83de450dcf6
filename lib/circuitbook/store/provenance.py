"""Where a number comes from: the machine and the versions it was made with."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
from pathlib import Path

PACKAGES = ("circuitbook", "torch", "transformers", "transformer_lens", "numpy", "pandas")


@functools.cache
def machine() -> dict[str, object]:
    """{"host", "cpu", "cores", "gpu"}: cores is what this process may use, gpu is None where there
    is none.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"host": socket.gethostname(), "cpu": _cpu_name(), "cores": cores, "gpu": _gpu_name()}


@functools.cache
def versions() -> dict[str, str]:
    """Version of Python and of the packages that determine a measurement, without the `+cpu` that
    some builds carry.
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package).split("+")[0]
        except (
            importlib.metadata.PackageNotFoundError
        ):  # run from a checkout, without being installed
            continue
    return found


def _cpu_name() -> str:
    name = ""
    if platform.system() == "Linux" and Path("/proc/cpuinfo").is_file():
        found = re.search(
            r"^model name\s*:\s*(.+)$",
            Path("/proc/cpuinfo").read_text(errors="replace"),
            re.MULTILINE,
        )
        name = found.group(1) if found else ""
    elif platform.system() == "Darwin":
        name = _output("sysctl", "-n", "machdep.cpu.brand_string")
    name = re.sub(
        r"\((R|TM)\)|\bCPU\b",
        "",
        name or platform.processor() or platform.machine(),
        flags=re.IGNORECASE,
    )
    return " ".join(name.split())


def _gpu_name() -> str | None:
    """Asked of the driver, not of torch: asking torch would start CUDA in every process."""
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return " + ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or None


def _output(*command: str) -> str:
    if not shutil.which(command[0]):
        return ""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
