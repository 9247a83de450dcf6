"""Executes one student's notebook, in a process of its own: what `circuitbook grade` starts.

    python -m circuitbook.teaching.sitting NOTEBOOK PROTOCOL

Cell after cell runs as in Jupyter, and one that fails does not stop those after it. The protocol
gets a line of JSON for each: {"cell": number, "begins": its first line}, {"failed": number,
"error": ...}, and at the end {"finished": true}. What the checks say, they write down themselves.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


def sit(notebook: Path, protocol: Path) -> None:
    """Executes the code cells of a notebook in this process."""
    cells = nbformat.read(notebook, as_version=4).cells
    quiet = Config(
        {"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}
    )
    shell = InteractiveShell.instance(config=quiet)
    with open(protocol, "a", encoding="utf8") as lines:

        def note(**line: object) -> None:
            print(json.dumps(line), file=lines, flush=True)

        for number, cell in enumerate(cells, 1):
            if cell.cell_type != "code" or not cell.source.strip():
                continue
            note(cell=number, begins=cell.source.strip().splitlines()[0][:60])
            result = shell.run_cell(cell.source)
            if (error := result.error_before_exec or result.error_in_exec) is not None:
                note(failed=number, error=f"{type(error).__name__}: {error}"[:500])
        note(finished=True)


if __name__ == "__main__":
    sit(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # whatever threads the notebook has left
