"""Whether something has to be executed again: hashes of what determines an executed notebook."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode

from circuitbook.paths import PACKAGE
from circuitbook.publishing.execute import default_parameters
from circuitbook.store.disk import default_store_path
from circuitbook.store.provenance import versions
from circuitbook.suites.finding import load_suite
from circuitbook.suites.sources import Folder
from circuitbook.suites.suite import Suite
from circuitbook.weights.hash_memory import HASHES

# Parameters that name where results go: that it fills is no reason to begin anew.
WRITTEN_TO = ("STORE", "FOLDER")


# A store's files may lie within a folder that counts: <xx>/<digest>.<ending>
_MEASUREMENT = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}\.(json|parquet|safetensors|lock)")


def fingerprint(
    root: Path, notebook: NotebookNode, parameters: dict[str, object], out: Path | None = None
) -> str:
    """Hash of what determines an executed copy: change any of it and the notebook is executed
    again.

    What is written in the course of it does not count, wherever it is: measurements, and what is in
    the build's folder `out`.
    """
    values = default_parameters(notebook) | parameters
    written = [default_store_path(), *([out] if out else [])]
    for name in WRITTEN_TO:
        if isinstance(folder := values.get(name), str) and folder:
            written.append(root / os.path.expanduser(folder))
    parts = {
        "cells": [
            (cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells
        ],
        "parameters": parameters,
        "package": package_contents(),
        "models": contents(root / "models", written),
        "requirements": [
            contents(root / name) for name in ("requirements.txt", "requirements.lock")
        ],
        "versions": versions(),
        "named": named_by_parameters(root, values, written),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()


def named_by_parameters(
    root: Path, parameters: dict[str, object], written: Sequence[Path] = ()
) -> dict[str, object]:
    """{parameter: what is on disk under the name that it gives}: of a folder of checkpoints their
    identities, of a file or another folder its contents. Folders that are written to do not
    count."""
    named: dict[str, object] = {}
    for name, value in parameters.items():
        if name in WRITTEN_TO or not isinstance(value, str) or not value:
            continue
        path = root / os.path.expanduser(value)
        if os.path.isdir(path):  # unlike Path's, false for a name that is none
            named[name] = identities(path) or contents(path, written)
        elif os.path.isfile(path):
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


def files_in(path: Path, without: Sequence[Path] = ()) -> list[Path]:
    """The file, or all files of the folder, in order, without caches, hidden ones, measurements,
    and what lies in a folder `without` that is within this one."""
    if path.is_file():
        return [path]
    top = path.resolve()
    apart = [inside.resolve() for inside in without]
    apart = [folder for folder in apart if folder != top and folder.is_relative_to(top)]
    inside = ((file, file.relative_to(path)) for file in sorted(path.rglob("*")))
    return [
        file
        for file, name in inside
        if file.is_file()
        and "__pycache__" not in name.parts
        and not any(part.startswith(".") for part in name.parts)
        and not _MEASUREMENT.fullmatch("/".join(name.parts[-2:]))
        and not any((top / name).is_relative_to(folder) for folder in apart)
    ]


def package_contents() -> list[tuple[str, str]]:
    """The library's files, with their hashes."""
    return contents(PACKAGE)


def contents(path: Path, without: Sequence[Path] = ()) -> list[tuple[str, str]]:
    """[(name, sha256)] of the file, or of all files of the folder: see `files_in`."""
    return [
        (file.relative_to(path.parent).as_posix(), HASHES.sha256(file))
        for file in files_in(path, without)
    ]
