"""Marks for a class: every notebook is executed, and what its checks say is written down.

    python -m circuitbook grade submissions --out marks       # marks/marks.csv, marks/marks.json

Each notebook runs in a process of its own, in an empty folder, on a copy of the store of
measurements, for a limited time. One that hangs, crashes or is no notebook stops no other, and says
so in its row. What was graded is not graded again unless the file has changed.

**This executes what students have written.** Run it in a container or on a machine that has nothing
to lose, and without a network. Nor is it an examination: who wants to can make a check say "Right".
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
from tqdm.auto import tqdm

from circuitbook.paths import PACKAGE, checkout
from circuitbook.publishing.children import run
from circuitbook.store.disk import default_store_path
from circuitbook.store.files import write_atomically
from circuitbook.suites.finding import MODELS_VARIABLE
from circuitbook.teaching.checking import RECORD
from circuitbook.teaching.course import CHECKED, METADATA
from circuitbook.teaching.exercises import CHECKS

WORDS = {True: "right", False: "not right", None: "not solved"}
FINISHED = "finished"


@dataclass(frozen=True)
class Mark:
    """What one check has said last."""

    exercise: str
    """Its number in the book; "" where the notebook does not say."""
    check: str
    verdict: str
    """Of WORDS, or "not run"."""
    says: str


@dataclass(frozen=True)
class Graded:
    """A notebook and its marks."""

    notebook: str
    """Its path below the folder that all of them share."""
    chapter: str
    state: str
    """FINISHED, or what went wrong with the notebook as a whole."""
    failed: tuple[str, ...]
    """Cells that failed, each with its error."""
    marks: tuple[Mark, ...]


# ------------------------------------------------------------------ one notebook


def grade_one(file: Path, name: str, *, seconds: float, store: Path | None) -> Graded:
    """Executes a notebook for at most so many seconds. Whatever is wrong with it is its `state`.

    store: measurements to begin with; they are copied.
    """
    try:
        notebook = nbformat.read(file, as_version=4)
        about = notebook.metadata.get(METADATA, {})
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        asked = {item["check"]: item["exercise"] for item in about.get("exercises", [])}
        chapter = str(about.get("chapter", ""))
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return Graded(name, "", f"no notebook that can be read: {why}", (), ())
    called = [check for source in code for check in CHECKED.findall(source) if check in CHECKS]
    asked |= {check: "" for check in called if check not in asked}
    if not asked:
        return Graded(name, chapter, "no exercise with a check is in it", (), ())
    with tempfile.TemporaryDirectory(prefix="circuitbook-", ignore_cleanup_errors=True) as folder:
        state, failed, said = _execute(file.resolve(), Path(folder), seconds, store)
    marks = tuple(
        Mark(number, check, *said.get(check, ("not run", ""))) for check, number in asked.items()
    )
    return Graded(name, chapter, state, failed, marks)


def _execute(
    file: Path, folder: Path, seconds: float, store: Path | None
) -> tuple[str, tuple[str, ...], dict[str, tuple[str, str]]]:
    """(state, cells that failed, {check: (verdict, says)})"""
    protocol, record, work = folder / "protocol", folder / "record", folder / "work"
    work.mkdir()
    if store and store.is_dir():
        shutil.copytree(store, folder / "store", ignore=shutil.ignore_patterns("*.lock"))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")])
        ),
        "CIRCUITBOOK_STORE": str(folder / "store"),
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLBACKEND": "agg",
        "TQDM_DISABLE": "1",
        RECORD: str(record),
    }
    for root in filter(None, (checkout(), Path.cwd())):  # a clone, one beside an installed package
        if (root / "models" / "mini").is_dir():
            environment.setdefault(MODELS_VARIABLE, str(root / "models"))
    command = [sys.executable, "-m", "circuitbook.teaching.sitting", str(file), str(protocol)]
    sunk = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    late = False
    try:
        run(command, timeout=seconds, cwd=work, env=environment, **sunk)
    except subprocess.TimeoutExpired:
        late = True
    lines, said = _lines(protocol), {}
    for line in _lines(record):
        said[line["check"]] = (WORDS[line["right"]], line["says"])
    failed = tuple(f"cell {line['failed']}: {line['error']}" for line in lines if "failed" in line)
    if lines and "finished" in lines[-1]:
        return FINISHED, failed, said
    last = next((line for line in reversed(lines) if "cell" in line), None)
    where = f" in cell {last['cell']}, which begins {last['begins']!r}" if last else ""
    how = f"stopped after {seconds / 60:g} min" if late else "its Python process ended"
    return how + where, failed, said


def _lines(file: Path) -> list[dict]:
    """The lines of a file of JSON that are whole; [] where there is no file."""
    found = []
    if file.is_file():
        for line in file.read_text(encoding="utf8", errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # being written when the process was stopped
                break
    return found


# ------------------------------------------------------------------ a class


def notebooks_in(places: Sequence[Path]) -> dict[str, Path]:
    """{name: file} of the notebooks that are named, or are below a folder that is.

    A name is the path below the folder that all of them share. ValueError where there are none.
    """
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            found = sorted(place.rglob("*.ipynb"))
            files += [file for file in found if ".ipynb_checkpoints" not in file.parts]
        elif place.exists():
            files.append(place)
        else:
            raise ValueError(f"there is no {place}; name notebooks, or folders of notebooks")
    files = list(dict.fromkeys(file.resolve() for file in files))
    if not files:
        raise ValueError(f"there is no notebook in {', '.join(map(str, places))}")
    shared = Path(os.path.commonpath([file.parent for file in files]))
    return {file.relative_to(shared).as_posix(): file for file in files}


def grade(
    notebooks: dict[str, Path],
    out: Path,
    *,
    minutes: float = 10,
    jobs: int = 1,
    store: Path | None = None,
    force: bool = False,
) -> list[Graded]:
    """Grades all of them, at most `jobs` at once, and writes `out`/marks.json and `out`/marks.csv.

    What has been graded before, in `out`/notebooks, stays unless the file or the limit has changed,
    or `force`. Ctrl-C loses at most the notebooks in hand.
    """
    kept = out / "notebooks"

    def graded(item: tuple[str, Path]) -> Graded:
        name, file = item
        content = file.read_bytes() if file.is_file() else b""
        key = hashlib.sha256(content + f"\n{name}\n{minutes:g}".encode()).hexdigest()
        place = kept / f"{key[:32]}.json"
        if not force and (before := _read(place)) is not None:
            return before
        made = grade_one(file, name, seconds=60 * minutes, store=store)
        write_atomically(place, json.dumps(asdict(made), indent=1).encode())
        return made

    with ThreadPoolExecutor(jobs) as pool:
        bar = tqdm(total=len(notebooks), desc="grading", unit="notebook")
        futures = [pool.submit(graded, item) for item in notebooks.items()]
        try:
            for future in futures:
                future.add_done_callback(lambda _: bar.update())
            found = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            bar.close()
    write_atomically(out / "marks.json", json.dumps([*map(asdict, found)], indent=1).encode())
    write_atomically(out / "marks.csv", as_csv(found).encode("utf-8-sig"))  # so Excel reads UTF-8
    return found


def _read(place: Path) -> Graded | None:
    """A result that was kept; None where there is none that can be read."""
    try:
        kept = json.loads(place.read_text(encoding="utf8"))
        marks = tuple(Mark(**mark) for mark in kept.pop("marks"))
        return Graded(**kept | {"failed": tuple(kept["failed"]), "marks": marks})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def as_csv(found: Sequence[Graded]) -> str:
    """A line for each exercise of each notebook, and for a notebook without any."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["notebook", "chapter", "exercise", "check", "verdict", "says", "state"])
    for one in found:
        for mark in one.marks or (Mark("", "", "", ""),):
            row = [one.notebook, one.chapter, *asdict(mark).values(), one.state]
            # a spreadsheet would take such a text for a formula
            table.writerow(["'" + cell if cell[:1] in tuple("=+-@") else cell for cell in row])
    return text.getvalue()


# ------------------------------------------------------------------ command line


def add_grade_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook grade`."""
    parser.add_argument("notebooks", nargs="+", type=Path, help="notebooks, or folders of them")
    parser.add_argument(
        "--out", type=Path, default=Path("marks"), help="folder for the marks (%(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="limit for each notebook (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at once (%(default)s)")
    parser.add_argument(
        "--store",
        type=Path,
        default=default_store_path(),
        help="measurements that each begins with, as a copy (%(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="grade again what was graded")


def grade_from_arguments(args: argparse.Namespace) -> None:
    """Grades, and says how it went."""
    if args.minutes <= 0 or args.jobs < 1:
        raise ValueError("--minutes must be more than 0, and --jobs at least 1")
    found = grade(
        notebooks_in(args.notebooks),
        args.out,
        minutes=args.minutes,
        jobs=args.jobs,
        store=args.store,
        force=args.force,
    )
    marks = [mark for one in found for mark in one.marks]
    right = sum(mark.verdict == WORDS[True] for mark in marks)
    print(f"{args.out / 'marks.csv'}: {len(found)} notebooks, {right} of {len(marks)} checks right")
    for one in found:
        if one.state != FINISHED:
            print(f"  {one.notebook}: {one.state}")
