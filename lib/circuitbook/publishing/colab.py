"""What a notebook needs outside the book: its first cell, which installs the library, and a store that outlives the session.

    python -m circuitbook colab https://github.com/<owner>/<name>      # writes the address into every notebook's first cell

Colab's own torch stays: the package asks for ranges. A store on Google Drive (`STORE = "/content/drive/MyDrive/circuits"`) mounts the
Drive when it is first used, and what was measured before the session was cut off is read from there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

FIRST_CELL = """\
# Installs the library where it is missing, as in Colab, beside the torch that is there.
import importlib.util, os, subprocess, sys

REPOSITORY = ""          # where from: "https://github.com/<owner>/<name>", or a wheel
if importlib.util.find_spec("circuitbook") is None:
    if not REPOSITORY:
        raise SystemExit("circuitbook is not installed: set REPOSITORY in this cell, or pip install it yourself")
    what = [REPOSITORY]
    if not REPOSITORY.endswith(".whl"):                # a clone, since it brings the mini suite
        if not os.path.isdir("circuitbook-repository"):
            subprocess.run(["git", "clone", "-q", "--depth", "1", REPOSITORY, "circuitbook-repository"], check=True)
        what = ["-e", "circuitbook-repository"]
        sys.path.insert(0, "circuitbook-repository/lib")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *what], check=True)
    importlib.invalidate_caches()
"""


def first_cell(repository: str = "") -> str:
    """The cell, with the repository's address in it."""
    if repository and not re.fullmatch(r"(https?|file)://[^\s\"]+", repository):
        raise ValueError(
            f"{repository!r} is no address to clone from; give one like https://github.com/<owner>/<name>"
        )
    return FIRST_CELL.replace('REPOSITORY = ""', f'REPOSITORY = "{repository}"').rstrip("\n")


def write_repository(folder: Path, repository: str) -> list[Path]:
    """Writes the address into the first code cell of every notebook in `folder`; the notebooks that changed.

    ValueError for an address that is none, or a notebook whose first code cell is another.
    """
    cell, changed = first_cell(repository), []
    for path in sorted(folder.glob("*.ipynb")):
        text = path.read_text(encoding="utf8")
        notebook = json.loads(text)
        code = next(c for c in notebook["cells"] if c["cell_type"] == "code")
        if "REPOSITORY =" not in "".join(code["source"]):
            raise ValueError(
                f"{path}: its first code cell does not install the library, so there is no place for the address"
            )
        code["source"] = cell.splitlines(keepends=True)
        new = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        if new != text:
            path.write_text(new, encoding="utf8")
            changed.append(path)
    return changed
