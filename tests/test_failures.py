"""The command line says every foreseeable failure in one line, with exit status 1."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import running
from test_build import book_of, notebook_of

from circuitbook.__main__ import main
from circuitbook.failures import failure
from circuitbook.paths import PACKAGE
from circuitbook.publishing import build
from circuitbook.weights.asking import HubError


def said_by(*command):
    with pytest.raises(SystemExit) as caught:
        main([str(part) for part in command])
    message = str(caught.value)
    assert message.startswith("error: ") and len(message.splitlines()) == 1, message
    return message


@pytest.fixture
def book(tmp_path):
    return book_of(tmp_path / "book", one=notebook_of("#| parameters\nN = 1"))


@pytest.fixture
def file_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    return tmp_path / "file"


@pytest.mark.parametrize("below", ["", "out"])
def test_a_file_in_the_way_of_out(book, file_in_the_way, below):
    repository = PACKAGE.parents[1]
    out = file_in_the_way / below
    sweep = ("sweep", "--root", repository, "--models", "mini-xs", "--steps", "512")
    for command in (
        ("build", "--root", book),
        (*sweep, "--notebooks", "abilities"),
        ("teach", "--root", repository),
        ("train", "mini-xs", "--state", file_in_the_way.parent),
    ):
        assert str(file_in_the_way) in said_by(*command, "--out", out)


def test_names_that_are_too_long(book):
    assert "choose a shorter name" in said_by("build", "--root", book, "--out", "x" * 300)
    assert "choose a shorter name" in said_by("build", "--root", "x" * 300)
    assert "is unknown" in said_by("sweep", "--suite", "x" * 300)


def test_a_home_that_the_shell_has_left(book, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = []
    monkeypatch.setattr(build, "build_book", lambda root, out, *_, **__: seen.append((root, out)))
    assert main(["build", "--root=~/book", "--out=~/out"]) == 0
    assert seen == [(book, tmp_path / "out")]


def test_notebooks_that_are_none_are_named(book):
    (book / "notebooks/one.ipynb").write_text("no JSON")
    assert "one.ipynb is not a notebook" in said_by("build", "--root", book)
    for content, why in (("{}", "is not a notebook"), ("[]", "is not a notebook")):
        (book / "notebooks/one.ipynb").write_text(content)
        assert why in said_by("build", "--root", book)


def test_colab_names_what_it_cannot_read(tmp_path):
    assert "there is no notebook in" in said_by("colab", "--remove", "--notebooks", tmp_path)
    (tmp_path / "a.ipynb").write_text("{")
    assert "a.ipynb is not a notebook" in said_by("colab", "--remove", "--notebooks", tmp_path)


def test_a_place_that_cannot_be_written(book, monkeypatch):
    def refuses(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuses)
    said = said_by("build", "--root", book)
    assert "Permission denied; choose a place that you may write to" in said


def test_a_full_disk(book, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "chapters_of", lambda root: [])
    monkeypatch.setattr("circuitbook.store.files.os.fsync", full)
    said = said_by("build", "--root", book)
    assert "_build/src/" in said and "No space left on device; free some space" in said


@pytest.mark.parametrize("steps", [["1", "x"], ["[1,", "x]"], ["512,many"]])
def test_steps_that_are_none(steps):
    said = said_by("sweep", "--models", "mini-xs", "--steps", *steps)
    assert "--steps takes step numbers or one schedule's name, not" in said


def test_what_the_sweep_has_options_for_is_no_parameter():
    for name in ("SUITE", "MODELS", "STEPS", "STORE"):
        command = ("sweep", "--root", PACKAGE.parents[1], "--models", "mini-xs", "-p", f"{name}=a")
        assert f"-p {name}=... is not read by a sweep: give --{name.lower()}" in said_by(*command)


def test_which_errors_are_foreseen():
    assert failure(HubError("the hub is away")) == "the hub is away"
    assert failure(OSError("without a number")) == "without a number"
    assert failure(FloatingPointError("nan")) == "nan"
    assert "not enough memory" in failure(MemoryError())
    assert failure(OSError(errno.EROFS, "Read-only file system", "a")).startswith("a: Read-only")
    for bug in (TypeError("x"), KeyError("x"), RuntimeError("x"), AttributeError("x")):
        assert failure(bug) is None


def test_ctrl_c_at_any_time_is_130_without_a_traceback():
    """Also while everything is imported."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    code = (
        "import signal, os, sys\n"
        "class Stops:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'papermill': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Stops())\n"
        "from circuitbook.__main__ import main\n"
        "sys.exit(main(['build']))"
    )
    how = {"env": environment, "stderr": subprocess.PIPE, "text": True}
    with running([sys.executable, "-c", code], **how) as process:
        said = process.communicate(timeout=100)[1]
    assert process.returncode == 130 != -signal.SIGINT
    assert said == "stopped; the same command goes on from here\n"
