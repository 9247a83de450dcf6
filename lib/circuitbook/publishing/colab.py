"""The first cell of every notebook: one import, or in a published copy what Colab needs.

    python -m circuitbook colab                                       # install from git's origin
    python -m circuitbook colab https://github.com/<owner>/<name>     # install from there, import
    python -m circuitbook colab --remove                              # import, and no more

Colab's own torch stays, since the package asks for ranges. What is installed is a clone, because
it brings the mini suite, or a wheel.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from circuitbook.store.files import write_atomically

IMPORT = "import circuitbook"

INSTALL = """\
# Installs the library where it is missing, as in Colab, beside the torch that is there.
import importlib.util, os, subprocess, sys

REPOSITORY = "<address>"          # a repository, or a wheel
if importlib.util.find_spec("circuitbook") is None:
    packages = [REPOSITORY]
    if not REPOSITORY.endswith(".whl"):          # a clone, since it brings the mini suite
        clone = "circuitbook-repository"
        if not os.path.isdir(clone):
            subprocess.run(["git", "clone", "-q", "--depth", "1", REPOSITORY, clone], check=True)
        packages = ["-e", clone]
        sys.path.insert(0, f"{clone}/lib")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *packages], check=True)
    importlib.invalidate_caches()

import circuitbook"""

_ADDRESS = r"(?:https?|file)://[^\s\"\\]+"


def first_cell(address: str | None = None) -> str:
    """The source of the first code cell: the import, or with an address the installation before it.

    address: what `git clone` takes, or of a wheel; ValueError for anything but a URL.
    """
    if address is None:
        return IMPORT
    if not re.fullmatch(_ADDRESS, address):
        raise ValueError(
            f"{address!r} is no address to install from; give one like "
            "https://github.com/<owner>/<name>"
        )
    return INSTALL.replace("<address>", address)


def is_first_cell(source: str) -> bool:
    """Whether a cell is one that `first_cell` writes, with whatever address."""
    address = re.search(rf'^REPOSITORY = "({_ADDRESS})"', source, re.MULTILINE)
    return source == first_cell(address[1] if address else None)


def write_first_cells(folder: Path, address: str | None = None) -> list[Path]:
    """Makes `first_cell(address)` the first code cell of every notebook in `folder`.

    Gives the notebooks that changed. ValueError for an address that is none, and for a notebook
    that begins with another cell; then no notebook is changed.
    """
    source = first_cell(address)
    changed: dict[Path, str] = {}
    paths = sorted(folder.glob("*.ipynb"))
    if not paths:
        raise ValueError(f"there is no notebook in {folder}; name their folder with --notebooks")
    for path in paths:
        try:
            text = path.read_text(encoding="utf8")
            notebook = json.loads(text)
            code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path} is not a notebook that can be read: {error}") from None
        if not code or not is_first_cell("".join(code[0]["source"])):
            raise ValueError(
                f"{path}: its first code cell is neither {IMPORT!r} nor an installation that this "
                f"command wrote; make it {IMPORT!r}"
            )
        code[0]["source"] = source.splitlines(keepends=True)
        new = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        if new != text:
            changed[path] = new
    for path, new in changed.items():
        write_atomically(path, new.encode())
    return list(changed)
