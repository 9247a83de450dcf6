"""Student and instructor versions of the chapters, from one source.

Three tags say what a cell is: `exercise` (a stub and its check), `solution`, and `instructor` (notes, which never show in the
book). The student version leaves out the last two, the instructor version keeps all; neither has outputs. What only the
book can show (directives, roles) becomes plain markdown, so that both read well in Jupyter and Colab.
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

VERSIONS = {
    "student": ("solution", "instructor"),
    "instructor": (),
}  # name: tags of the cells that are left out


def make_versions(root: Path, out: Path, names: Sequence[str] | None = None) -> list[Path]:
    """Writes `out`/student/NAME.ipynb and `out`/instructor/NAME.ipynb of the notebooks in `root` that have exercises, or of those
    that are named. ValueError if one has none, or does not exist."""
    sources = {
        path.stem: nbformat.read(path, as_version=4)
        for path in sorted((root / "notebooks").glob("*.ipynb"))
    }
    if not sources:
        raise ValueError(
            f"there are no notebooks in {root / 'notebooks'}: run this in the book's folder, or pass --root"
        )
    able = [
        name
        for name, notebook in sources.items()
        if re.search(r"^## Exercises", _text(notebook), re.MULTILINE)
    ]
    for name in names or ():
        if name not in able:
            raise ValueError(
                f"{name!r} is not a notebook with exercises; there are: {', '.join(able)}"
            )
    titles = {name: title_of(notebook) for name, notebook in sources.items()}
    order = [Path(chapter).name for chapter in chapters_of(root)]
    # the book numbers its exercises from the first chapter to the last
    labels = [label for name in order for label in labels_of(sources[name])]
    number = {label: i for i, label in enumerate(labels, 1)}
    written = []
    for version, left_out in VERSIONS.items():
        for name in names or [name for name in order if name in able]:
            target = Path(out) / version / f"{name}.ipynb"
            target.parent.mkdir(parents=True, exist_ok=True)
            made = version_of(sources[name], left_out, titles, number)
            write_atomically(target, (nbformat.writes(made) + "\n").encode())
            written.append(target)
    return written


def version_of(
    notebook: NotebookNode,
    left_out: Sequence[str] = (),
    titles: dict[str, str] | None = None,
    number: dict[str, int] | None = None,
) -> NotebookNode:
    """A copy without the cells that have one of these tags, without outputs, in plain markdown. number: of the exercises, by
    label; by default they are counted from 1."""
    made = copy.deepcopy(notebook)
    number = number or {label: i for i, label in enumerate(labels_of(notebook), 1)}
    made.cells = [cell for cell in made.cells if not set(left_out) & set(tags_of(cell))]
    kept = []
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("mystnb", None)
        else:
            cell.source = plain_markdown(cell.source, number, titles or {})
        if cell.source.strip():
            kept.append(cell)
    made.cells = kept
    return made


def plain_markdown(text: str, number: dict[str, int], titles: dict[str, str]) -> str:
    """Markdown that Jupyter shows, of what MyST adds to it.

    number: the exercises' labels; titles: of the notebooks, for links.

    plain_markdown("See {doc}`/notebooks/circuits`.", {}, {"circuits": "What is a circuit?"})
        ->  "See [What is a circuit?](circuits.ipynb)."
    """

    def exercise(match: re.Match) -> str:
        return f"### Exercise {number[match[2]]}: {match[1].strip()}\n\n{match[3].strip()}\n"

    def link(match: re.Match) -> str:
        shown, target = re.fullmatch(r"(?:(.*?)\s*<)?/?(.+?)>?", match[1]).groups()
        name = target.rsplit("/", 1)[-1]
        shown = shown or titles.get(name, name)
        return f"[{shown}]({name}.ipynb)" if name in titles else shown

    text = re.sub(
        r"^:::\{exercise\}(.*)\n:label: (\S+)\n(.*?)^:::$",
        exercise,
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    text = re.sub(
        r"^:::\{solution(?:-start)?\} (\S+)\n:class: dropdown\n",
        lambda m: f"**Solution to exercise {number[m[1]]}**\n",
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(r"^:::(\{solution-end\})?$\n?", "", text, flags=re.MULTILINE)
    text = re.sub(
        r"^```\{math\}\n(?::label: (\S+)\n)?(.*?)^```$",
        lambda m: "$$\n" + m[2].strip() + (f" \\tag{{{m[1]}}}" if m[1] else "") + "\n$$",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    text = re.sub(r"\{doc\}`([^`]+)`", link, text)
    text = re.sub(r"\{math\}`([^`]+)`", r"$\1$", text)
    text = re.sub(
        r"\{(?:term|ref|eq)\}`(?:([^`<]+?)\s*<[^`>]+>|([^`]+))`", lambda m: m[1] or m[2], text
    )
    text = re.sub(
        r"\{numref\}`fig-([^`]+)`", lambda m: f"the figure “{m[1].replace('-', ' ')}”", text
    )  # numbers are the book's
    text = re.sub(
        r"\{cite:[tp]\}`([^`]+)`", lambda m: ", ".join(map(_cited, m[1].split(","))), text
    )
    return text.strip("\n")


def _cited(key: str) -> str:
    """_cited("tigges2024llm") -> "Tigges et al. (2024)", as far as a key can tell."""
    author, year = re.match(r"([a-z]+)(\d{4})", key.strip()).groups()
    return f"{author.capitalize()} et al. ({year})"


def labels_of(notebook: NotebookNode) -> list[str]:
    """The labels of its exercises, in order."""
    return re.findall(r"^:::\{exercise\}.*\n:label: (\S+)", _text(notebook), re.MULTILINE)


def title_of(notebook: NotebookNode) -> str:
    found = re.search(r"^# (.+)$", _text(notebook), re.MULTILINE)
    return found[1] if found else ""


def tags_of(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _text(notebook: NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


# ------------------------------------------------------------------ command line


def add_teach_arguments(parser: argparse.ArgumentParser) -> None:
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
    written = make_versions(args.root, args.out, args.notebooks)
    for version in VERSIONS:
        mine = [path.stem for path in written if path.parent.name == version]
        print(f"{args.out / version}: {', '.join(mine)}")
