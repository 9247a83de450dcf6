"""Student and instructor versions of the chapters, from one source.

Tags say what a cell is: `exercise` (a stub and its check), `solution`, `instructor` (notes, which
never show in the book), and `slow` (the plan of the course does without it). The student version
leaves out solutions and notes, and has slow cells switched off; the instructor version has all of
it, the quiz with its answers, and what each check knows to say. Neither has outputs. What only the
book can show (directives, roles) becomes plain Markdown, and cells that the book folds are folded,
so that both read well in Jupyter and Colab.
"""

from __future__ import annotations

import argparse
import ast
import copy
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from circuitbook.publishing.build import chapters_of
from circuitbook.publishing.colab import IMPORT, first_cell
from circuitbook.publishing.execute import tags_of
from circuitbook.publishing.publish import repository
from circuitbook.store.files import write_atomically
from circuitbook.teaching.exercises import CHECKS
from circuitbook.teaching.numbers import exercise_numbers, labels_in, labels_of, markdown_of
from circuitbook.teaching.plain_markdown import plain_markdown
from circuitbook.teaching.quiz import LAST, Question, quiz_as_markdown, quiz_of
from circuitbook.wording import bullets

LEFT_OUT = {"student": ("solution", "instructor"), "instructor": ()}  # {version: tags of cells}
METADATA = "circuitbook"  # in a version's metadata: what it was made of
CHECKED = re.compile(r"\bexercises\.check_(\w+)\(")


@dataclass(frozen=True)
class Book:
    """What a version takes from the rest of the book."""

    titles: Mapping[str, str] = field(default_factory=dict)
    """Of the notebooks, by name."""
    there: Collection[str] | None = None
    """Notebooks that a link finds; None: all that have a title."""
    number: Mapping[str, str] = field(default_factory=dict)
    """Of the exercises, by label."""
    quizzes: Mapping[str, Sequence[Question]] = field(default_factory=dict)
    """By the chapter's name."""
    address: str | None = None
    """Where Colab installs the library from."""


def make_versions(
    root: Path, out: Path, names: Sequence[str] | None = None, address: str | None = None
) -> list[Path]:
    """Writes `out`/student/NAME.ipynb and `out`/instructor/NAME.ipynb of the notebooks in `root`
    that have exercises or a project, or of those that are named.

    address: where their first cell installs the library from if it is missing; by default the
    checkout's origin, if that is on GitHub. ValueError if a notebook that is named has no
    exercises, or does not exist.
    """
    sources = {
        path.stem: nbformat.read(path, as_version=4)
        for path in sorted((root / "notebooks").glob("*.ipynb"))
    }
    if not sources:
        raise ValueError(
            f"there are no notebooks in {root / 'notebooks'}: "
            "run this in the book's folder, or pass --root"
        )
    chapters = {chapter: sources[Path(chapter).name] for chapter in chapters_of(root)}
    with_exercises = [
        Path(chapter).name
        for chapter, notebook in chapters.items()
        if re.search(r"^## (Exercises|Your project)$", markdown_of(notebook), re.MULTILINE)
    ]
    for name in names or ():
        if name not in with_exercises:
            raise ValueError(
                f"{name!r} is not a notebook with exercises; there are: {', '.join(with_exercises)}"
            )
    book = Book(
        titles={name: title_of(notebook) for name, notebook in sources.items()},
        there=with_exercises,
        number=exercise_numbers(root, chapters),
        quizzes={Path(chapter).name: quiz_of(root, chapter) for chapter in chapters},
        address=address or repository(root),
    )
    written = []
    for version in LEFT_OUT:
        for name in names or with_exercises:
            target = Path(out) / version / f"{name}.ipynb"
            made = version_of(sources[name], version, book, name)
            write_atomically(target, (nbformat.writes(made) + "\n").encode())
            written.append(target)
    return written


def version_of(
    notebook: NotebookNode, version: str, book: Book | None = None, name: str = ""
) -> NotebookNode:
    """The chapter `name` as its "student" or "instructor" version.

    Without a book its exercises are numbered from 1.
    """
    book = book or Book()
    number = {label: str(i) for i, label in enumerate(labels_of(notebook), 1)} | dict(book.number)
    made = copy.deepcopy(notebook)
    made.metadata[METADATA] = {
        "version": version,
        "chapter": name,
        "exercises": _exercises_in(made, number),
    }
    left_out = LEFT_OUT[version]
    made.cells = [cell for cell in made.cells if not set(left_out) & set(tags_of(cell))]
    cells = []
    for cell in made.cells:
        if cell.cell_type == "code":
            _prepare_code(cell, version, book.address)
        else:
            cell.source = plain_markdown(cell.source, number, book.titles, book.there)
        cells.append(cell)
        if version == "instructor" and "exercise" in tags_of(cell):
            cells += [_told_by(check) for check in CHECKED.findall(cell.source)]
    made.cells = [cell for cell in cells if cell.source.strip()]
    if questions := book.quizzes.get(name):
        text = quiz_as_markdown(questions, answers=version == "instructor")
        at = len(made.cells) - made.cells[-1].source.startswith(LAST)
        made.cells.insert(at, nbformat.v4.new_markdown_cell(text, id="quiz"))
    return made


def _exercises_in(notebook: NotebookNode, number: Mapping[str, str]) -> list[dict[str, str]]:
    """[{"exercise": its number, "check": its name}, ...], in the notebook's order: for marks."""
    found: list[dict[str, str]] = []
    label = ""
    for cell in notebook.cells:
        if labels := labels_in(cell.source):
            label = labels[-1]
        if "exercise" in tags_of(cell):
            checks = CHECKED.findall(cell.source)
            found += [{"exercise": number[label], "check": check} for check in checks]
    return found


def _prepare_code(cell: NotebookNode, version: str, address: str | None) -> None:
    """Without outputs; folded where the book folds it, but for parameters; the first cell with its
    installation; switched off where it is slow."""
    cell.outputs, cell.execution_count = [], None
    cell.metadata.pop("mystnb", None)
    if cell.source == IMPORT:
        cell.source = first_cell(address)
    tags = set(tags_of(cell))
    if "slow" in tags and version == "student":
        cell.source = switched_off(cell.source)
    elif tags & {"hide-input", "remove-cell", "remove-input"} and "parameters" not in tags:
        cell.metadata["jupyter"] = cell.metadata.get("jupyter", {}) | {"source_hidden": True}
        cell.metadata["cellView"] = "form"  # the same in Colab


def switched_off(source: str) -> str:
    """The same code behind a switch, which is off.

    >>> print(switched_off("x = slow()\\nx + 1"))
    RUN = False  # True: run this cell, too; it is slow, and one session does without it
    if RUN:
        x = slow()
        display(x + 1)
    else:
        print("Left out: set RUN = True in this cell, and run it.")
    """
    tree, lines = ast.parse(source), source.splitlines()
    strings = (node for node in ast.walk(tree) if isinstance(node, (ast.Constant, ast.JoinedStr)))
    if any(node.end_lineno != node.lineno and '"""' in source for node in strings):
        raise ValueError("a slow cell cannot have a string over several lines: it is indented")
    last = tree.body[-1]
    if isinstance(last, ast.Expr) and not source.endswith(";"):  # a cell shows its last value
        shown = lines[last.lineno - 1 :]
        if not re.match(r"(display|show|print)\(", shown[0]):
            lines[last.lineno - 1 :] = ("display(" + "\n".join(shown) + ")").splitlines()
    return "\n".join(
        [
            "RUN = False  # True: run this cell, too; it is slow, and one session does without it",
            "if RUN:",
            *(f"    {line}" if line.strip() else "" for line in lines),
            "else:",
            '    print("Left out: set RUN = True in this cell, and run it.")',
        ]
    )


def _told_by(check: str) -> NotebookNode:
    """For instructors: the mistakes that a check tells by name."""
    says = bullets(
        re.sub(r"([\\`*_<>$|~])", r"\\\1", mistake.says) for mistake in CHECKS[check].mistakes
    )
    text = f"**For instructors.** What `check_{check}` tells by name:\n\n{says}"
    return nbformat.v4.new_markdown_cell(
        text, id=f"told-{check}".replace("_", "-")[:64], metadata={"tags": ["instructor"]}
    )


def title_of(notebook: NotebookNode) -> str:
    """Its first heading; "" where there is none."""
    heading = re.search(r"^# (.+)$", markdown_of(notebook), re.MULTILINE)
    return heading[1] if heading else ""


# ------------------------------------------------------------------ command line


def add_teach_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m circuitbook teach`."""
    parser.add_argument(
        "notebooks", nargs="*", help="chapters, by name (default: every one with exercises)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("_build/teach"),
        help="folder for student/ and instructor/ (%(default)s)",
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), help="the book's folder (default: the current one)"
    )
    parser.add_argument(
        "--address",
        help="where Colab installs the library from (default: git's origin, if it is on GitHub)",
    )


def teach_from_arguments(args: argparse.Namespace) -> None:
    """Writes the versions and says where they are."""
    written = make_versions(args.root, args.out, args.notebooks, args.address)
    for version in LEFT_OUT:
        names = ", ".join(path.stem for path in written if path.parent.name == version)
        print(f"{args.out / version}: {names}")
