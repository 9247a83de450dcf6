"""Student and instructor versions of the chapters, from one source.

Three tags say what a cell is: `exercise` (a stub and its check), `solution`, and `instructor`
(notes, which never show in the book). The student version leaves out the last two, the instructor
version keeps all; neither has outputs. What only the book can show (directives, roles) becomes
plain Markdown, so that both read well in Jupyter and Colab.
"""

from __future__ import annotations

import argparse
import copy
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from circuitbook.publishing.build import chapters_of
from circuitbook.store.files import write_atomically
from circuitbook.teaching.plain_markdown import plain_markdown

LEFT_OUT = {"student": ("solution", "instructor"), "instructor": ()}  # {version: tags of cells}


def make_versions(root: Path, out: Path, names: Sequence[str] | None = None) -> list[Path]:
    """Writes `out`/student/NAME.ipynb and `out`/instructor/NAME.ipynb of the notebooks in `root`
    that have exercises, or of those that are named. ValueError if one of these has none, or does
    not exist."""
    sources = {
        path.stem: nbformat.read(path, as_version=4)
        for path in sorted((root / "notebooks").glob("*.ipynb"))
    }
    if not sources:
        raise ValueError(
            f"there are no notebooks in {root / 'notebooks'}: "
            "run this in the book's folder, or pass --root"
        )
    with_exercises = [
        name
        for name, notebook in sources.items()
        if re.search(r"^## Exercises", _text(notebook), re.MULTILINE)
    ]
    for name in names or ():
        if name not in with_exercises:
            raise ValueError(
                f"{name!r} is not a notebook with exercises; there are: {', '.join(with_exercises)}"
            )
    titles = {name: title_of(notebook) for name, notebook in sources.items()}
    order = [Path(chapter).name for chapter in chapters_of(root)]
    # the book numbers its exercises from the first chapter to the last
    labels = [label for name in order for label in labels_of(sources[name])]
    number = {label: i for i, label in enumerate(labels, 1)}
    written = []
    for version, left_out in LEFT_OUT.items():
        for name in names or [name for name in order if name in with_exercises]:
            target = Path(out) / version / f"{name}.ipynb"
            made = version_of(sources[name], left_out, titles=titles, number=number)
            write_atomically(target, (nbformat.writes(made) + "\n").encode())
            written.append(target)
    return written


def version_of(
    notebook: NotebookNode,
    left_out: Sequence[str] = (),
    *,
    titles: dict[str, str] | None = None,
    number: dict[str, int] | None = None,
) -> NotebookNode:
    """A copy without the cells that have a tag in `left_out`, without outputs, in plain Markdown.

    titles: of the notebooks, for links. number: of the exercises, by label; by default they are
    counted from 1.
    """
    made = copy.deepcopy(notebook)
    number = number or {label: i for i, label in enumerate(labels_of(notebook), 1)}
    made.cells = [cell for cell in made.cells if not set(left_out) & set(tags_of(cell))]
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("mystnb", None)
        else:
            cell.source = plain_markdown(cell.source, number, titles or {})
    made.cells = [cell for cell in made.cells if cell.source.strip()]
    return made


def labels_of(notebook: NotebookNode) -> list[str]:
    """The labels of its exercises, in order."""
    return re.findall(r"^:::\{exercise\}.*\n:label: (\S+)", _text(notebook), re.MULTILINE)


def title_of(notebook: NotebookNode) -> str:
    """Its first heading; "" where there is none."""
    heading = re.search(r"^# (.+)$", _text(notebook), re.MULTILINE)
    return heading[1] if heading else ""


def tags_of(cell: NotebookNode) -> list[str]:
    """The cell's tags, in order."""
    return cell.metadata.get("tags", [])


def _text(notebook: NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


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


def teach_from_arguments(args: argparse.Namespace) -> None:
    """Writes the versions and says where they are."""
    written = make_versions(args.root, args.out, args.notebooks)
    for version in LEFT_OUT:
        names = [path.stem for path in written if path.parent.name == version]
        print(f"{args.out / version}: {', '.join(names)}")
