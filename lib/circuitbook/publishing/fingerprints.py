"""Whether something has to be executed again: hashes of what determines an executed notebook."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from nbformat import NotebookNode

from circuitbook.paths import PACKAGE
from circuitbook.publishing.execute import default_parameters
from circuitbook.store.provenance import versions
from circuitbook.suites.finding import load_suite
from circuitbook.suites.sources import Folder
from circuitbook.suites.suite import Suite
from circuitbook.weights.hash_memory import HASHES

# Parameters that name where results go: that it fills is no reason to begin anew.
WRITTEN_TO = ("STORE", "FOLDER")


def fingerprint(root: Path, notebook: NotebookNode, parameters: dict[str, object]) -> str:
    """Hash of what determines an executed copy: change any of it and the notebook is executed
    again."""
    parts = {
        "cells": [
            (cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells
        ],
        "parameters": parameters,
        "package": package_contents(),
        "models": contents(root / "models"),
        "requirements": [
            contents(root / name) for name in ("requirements.txt", "requirements.lock")
        ],
        "versions": versions(),
        "named": named_by_parameters(root, default_parameters(notebook) | parameters),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()


def named_by_parameters(root: Path, parameters: dict[str, object]) -> dict[str, object]:
    """{parameter: what is on disk under the name that it gives}: of a folder of checkpoints their
    identities, of a file or another folder its contents. Folders that are written to do not
    count."""
    named: dict[str, object] = {}
    for name, value in parameters.items():
        if name in WRITTEN_TO or not isinstance(value, str) or not value:
            continue
        path = root / Path(value).expanduser()
        if path.is_dir():
            named[name] = identities(path) or contents(path)
        elif path.is_file():
            named[name] = contents(path)
    return named


def identities(folder: Path) -> list[object]:
    """What determines the numbers of every checkpoint in the folder, and its suite.json; empty
    where the folder holds no checkpoints."""
    try:
        suite = load_suite(str(folder))
    except (ValueError, OSError):
        return []
    about = folder / "suite.json"
    return [
        contents(about) if about.is_file() else None,
        *(
            (model, step, checkpoint_identity(suite, model, step))
            for model in suite.models
            for step in suite.steps(model)
        ),
    ]


def checkpoint_identity(suite: Suite, model: str, step: int) -> dict[str, str]:
    """In a folder: hashes of weights, config.json and tokenizer. On a hub: the revision's name,
    since to ask for more takes a network. A damaged checkpoint is told by what is wrong with it; to
    complain is left to what loads it."""
    if not isinstance(suite.source, Folder):
        return {"revision": suite.source.revision(model, step)}
    try:
        return suite.checkpoint(model, step).identity
    except (OSError, ValueError, KeyError) as error:
        return {"damaged": f"{type(error).__name__}: {error}"}


def files_in(path: Path) -> list[Path]:
    """The file, or all files of the folder, in order, without caches and hidden ones."""
    if path.is_file():
        return [path]
    inside = ((file, file.relative_to(path).parts) for file in sorted(path.rglob("*")))
    return [
        file
        for file, parts in inside
        if file.is_file()
        and "__pycache__" not in parts
        and not any(part.startswith(".") for part in parts)
    ]


def package_contents() -> list[tuple[str, str]]:
    """The library's files, with their hashes."""
    return contents(PACKAGE)


def contents(path: Path) -> list[tuple[str, str]]:
    """[(name, sha256)] of the file, or of all files of the folder."""
    return [
        (file.relative_to(path.parent).as_posix(), HASHES.sha256(file)) for file in files_in(path)
    ]
