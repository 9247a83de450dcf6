"""The course's notebooks in JupyterLab, with models and measurements in their place.

    circuitbook lab                    # in a clone of the book

The student versions are written to `course/student` the first time. They are the reader's from then
on: what is there is never written again.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from circuitbook.paths import checkout
from circuitbook.suites.finding import MODELS_VARIABLE
from circuitbook.teaching.course import make_versions

COURSE = Path("course")


def book_folder(given: Path | None = None) -> Path:
    """The book's clone: the one that is given, the current folder, or the one that this package is
    run from. ValueError where none of them is one."""
    for folder in [given] if given else [Path.cwd(), checkout()]:
        if folder and (folder / "_toc.yml").is_file() and (folder / "notebooks").is_dir():
            return folder.resolve()
    where = f"{given} is no clone of the book" if given else "there is no book here"
    raise ValueError(
        f"{where}: the notebooks come with its repository, not with the package. Clone it, and "
        "run this in the clone, or name the clone with --root"
    )


def course_folder(root: Path) -> Path:
    """The folder of the student versions, which are written where there are none."""
    folder = root / COURSE / "student"
    if not any(folder.glob("*.ipynb")):
        make_versions(root, root / COURSE)
    return folder


def environment_of(root: Path) -> dict[str, str]:
    """Where notebooks find the mini suite and keep what they measure, wherever the package is."""
    environment = dict(os.environ)
    environment.setdefault(MODELS_VARIABLE, str(root / "models"))
    environment.setdefault("CIRCUITBOOK_STORE", str(root / ".store"))
    return environment


def add_lab_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook lab`."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help="of notebooks, in the clone (default: course/student, made the first time)",
    )
    parser.add_argument(
        "--root", type=Path, help="the clone of the book (default: the current folder)"
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="start it without opening a browser"
    )


def lab_from_arguments(args: argparse.Namespace) -> None:
    """Opens JupyterLab, until it is closed. ValueError where there is no book, or no JupyterLab."""
    root = book_folder(args.root)
    if importlib.util.find_spec("jupyterlab") is None:
        raise ValueError(
            "JupyterLab is not installed: `pip install jupyterlab`, or all that the course "
            'needs, `pip install -e ".[course]"` in the clone'
        )
    folder = (root / args.folder).resolve() if args.folder else course_folder(root)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"]
    if args.no_browser:
        command.append("--no-browser")
    status = subprocess.run(command, env=environment_of(root)).returncode
    if status:
        raise SystemExit(status)
