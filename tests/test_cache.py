"""The cache: a folder is whole or not there, whoever dies or comes at the same time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import running, wait_for

from circuitbook.paths import PACKAGE
from circuitbook.store.cache import CacheError, cache_path, folder_once

SLOW = """
import sys, time
from pathlib import Path
from circuitbook.store.cache import folder_once
def make(folder):
    (folder / "a").write_text("half")
    print("begins", flush=True)
    sys.stdin.readline()
    (folder / "b").write_text("rest")
print(sorted(path.name for path in folder_once(Path(sys.argv[1]), make).iterdir()))
"""
PIPES = {
    "stdin": subprocess.PIPE,
    "stdout": subprocess.PIPE,
    "text": True,
    "env": os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CIRCUITBOOK_CACHE", str(tmp_path))
    return tmp_path / "kind" / "name"


def make(folder: Path) -> None:
    (folder / "a").write_text("all")


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.delenv("CIRCUITBOOK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_path() == tmp_path / "circuitbook"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_path() == Path.home() / ".cache" / "circuitbook"
    monkeypatch.setenv("CIRCUITBOOK_CACHE", "~/elsewhere")
    assert cache_path() == Path.home() / "elsewhere"


def test_made_once(folder):
    calls = []
    for _ in range(2):
        assert folder_once(folder, lambda place: (calls.append(place), make(place))) == folder
    assert len(calls) == 1 and (folder / "a").read_text() == "all"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["name", "name.lock"]


def test_what_lost_a_file_or_a_part_of_one_is_made_again(folder):
    folder_once(folder, make)
    (folder / "a").write_text("al")
    assert (folder_once(folder, make) / "a").read_text() == "all"
    (folder / "a").unlink()
    assert (folder_once(folder, make) / "a").read_text() == "all"


def test_an_error_leaves_nothing(folder):
    def fails(place: Path) -> None:
        make(place)
        raise ValueError("so it is")

    with pytest.raises(ValueError, match="so it is"):
        folder_once(folder, fails)
    assert [path.name for path in folder.parent.iterdir()] == ["name.lock"]

    def missing(place: Path) -> None:
        Path("/no/such/file").read_text()

    with pytest.raises(FileNotFoundError, match="/no/such/file"):  # not the cache's fault
        folder_once(folder, missing)


def test_a_full_disk_is_one_clear_error(folder):
    def full(place: Path) -> None:
        raise OSError(28, "No space left on device", str(place / "a"))

    with pytest.raises(CacheError, match="No space left on device; free some space, or set CIRC"):
        folder_once(folder, full)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_it_starts_again(how, folder):
    with running([sys.executable, "-c", SLOW, str(folder)], **PIPES) as process:
        assert process.stdout.readline() == "begins\n"
        assert not folder.exists() and len(list(folder.parent.glob(".name.*.tmp/a"))) == 1
        process.send_signal(how)
        process.wait()
    assert not folder.exists()
    assert (folder_once(folder, make) / "a").read_text() == "all"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["name", "name.lock"]


def test_others_wait_for_the_one_that_makes_it(folder):
    command = [sys.executable, "-c", SLOW, str(folder)]
    with running(command, **PIPES) as one:
        assert one.stdout.readline() == "begins\n"
        with running(command, **PIPES) as other:
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(timeout=3)
            one.stdin.write("\n")
            one.stdin.flush()
            whole = "['a', 'b', 'whole.json']\n"
            assert one.stdout.readline() == whole
            wait_for(lambda: other.poll() is not None)
            assert other.stdout.read() == whole  # it did not begin
