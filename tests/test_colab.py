"""Notebooks outside the book: first cells in an environment without the library, from a wheel and from a clone, with a hub on
loopback in place of the real one; the address in every notebook; a store on Google Drive."""

import json
import os
import subprocess
import sys
import sysconfig
import types
import venv
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import as_on_pythia, random_network, save_checkpoint
from hub_standin import Hub

from circuitbook.mini import tokenizer
from circuitbook.mini.tokenizer import build_tokenizer
from circuitbook.publishing.colab import first_cell, write_repository
from circuitbook.store.disk import Store
from circuitbook.store.keys import measurement_key

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODEL, STEPS = "pythia-14m", (0, 512)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_notebook_begins_with_the_same_cell(path):
    install = code_cells(path)[0]
    assert first_cell() in (install.source, install.source.replace(_address(install.source), ""))
    assert (
        "remove-cell" in install.metadata.tags and "parameters" in code_cells(path)[1].metadata.tags
    )


def _address(source):
    return source.split('REPOSITORY = "')[1].split('"')[0] or " none "


def test_the_address_is_written_into_all_of_them(tmp_path):
    for path in NOTEBOOKS:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    address = "https://github.com/someone/circuits"
    assert [p.name for p in write_repository(tmp_path, address)] == [p.name for p in NOTEBOOKS]
    assert write_repository(tmp_path, address) == []
    before, after = (
        json.loads((folder / "circuits.ipynb").read_text())
        for folder in (ROOT / "notebooks", tmp_path)
    )
    differ = [i for i, (a, b) in enumerate(zip(before["cells"], after["cells"])) if a != b]
    assert len(differ) == 1 and f'REPOSITORY = "{address}"' in "".join(
        after["cells"][differ[0]]["source"]
    )
    with pytest.raises(ValueError, match="is no address to clone from; give one like https"):
        write_repository(tmp_path, "someone/circuits")
    (tmp_path / "other.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": ["1 + 1"]}]})
    )
    with pytest.raises(ValueError, match="other.ipynb: its first code cell does not install"):
        write_repository(tmp_path, address)


def test_a_store_on_drive_mounts_it_once_and_needs_no_locks(tmp_path, monkeypatch):
    drive, mounted = tmp_path / "drive", []

    def mount(where):
        mounted.append(where)
        (Path(where) / "MyDrive").mkdir(parents=True)

    module = types.ModuleType("google.colab")
    module.drive, module.__spec__ = types.SimpleNamespace(mount=mount), types.SimpleNamespace()
    google = types.ModuleType("google")
    google.colab, google.__path__ = module, []
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", module)
    for where in ("circuitbook.store.drive.DRIVE", "circuitbook.store.disk.DRIVE"):
        monkeypatch.setattr(where, drive)
    Store(tmp_path / "elsewhere")
    assert mounted == []
    key = measurement_key("drive", code=(), what=1)
    for _ in range(2):  # the second session finds what the first has measured
        store = Store(drive / "MyDrive" / "circuits")
        table = store.table(key, lambda: pd.DataFrame({"value": [len(mounted)]}))
    assert (
        mounted == [str(drive)]
        and table["value"].tolist() == [1]
        and not list(drive.rglob("*.lock"))
    )


# ------------------------------------------------------------------ first cells in a fresh environment


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Pythia's smallest model at two steps: random weights, the mini suite's tokenizer."""
    folder, revisions, vocabulary = (
        tmp_path_factory.mktemp("pythia"),
        {},
        len(tokenizer.vocabulary()),
    )
    for step in STEPS:
        place = save_checkpoint(folder / f"step{step}", random_network(seed=step, vocab=vocabulary))
        build_tokenizer().save_pretrained(place)
        revisions[f"step{step}"] = as_on_pythia(place, "pickle")
    with Hub({f"EleutherAI/{MODEL}": revisions}) as server:
        yield server


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """An environment with every package of this one but the library: its python."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"],
        capture_output=True,
        text=True,
        check=True,
    )
    Path(site.stdout.strip(), "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            folder,
            ROOT,
        ],
        check=True,
    )
    return next(folder.glob("circuitbook-*.whl"))


RUNNER = """
import json, sys
cells, parameters = json.load(open(sys.argv[1]))
space = {"__name__": "__main__"}
for name, (install, declared, begin) in cells.items():
    exec(install, space)
    exec(declared, space)
    space.update({k: v for k, v in parameters.items() if k in space})
    exec(begin, space)
    chosen = space["chosen"]
    print("BEGUN", name, chosen.suite.name, chosen.models, chosen.steps, chosen.device)
import circuitbook
print("FROM", circuitbook.__file__)
"""
ON_PYTHIA = [path for path in NOTEBOOKS if "SUITE =" in code_cells(path)[1].source]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["wheel", "clone"])
def test_first_cells_in_a_fresh_environment(source, fresh, wheel, hub, tmp_path):
    """Installed by the first cell; then every chapter's parameters and beginning on Pythia, from the hub."""
    if source == "clone":
        subprocess.run(
            [
                "git",
                "clone",
                "-q",
                "--no-local",
                "--depth",
                "1",
                f"file://{ROOT}",
                tmp_path / "origin",
            ],
            check=True,
        )
        for file in subprocess.run(
            ["git", "ls-files", "-zco", "--exclude-standard", "lib", "pyproject.toml"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\0"):  # as they are now, committed or not
            if file and (ROOT / file).is_file():
                (tmp_path / "origin" / file).write_bytes((ROOT / file).read_bytes())
        git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(tmp_path / "origin")]
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "as it is"], check=True)
    address = str(wheel) if source == "wheel" else f"file://{tmp_path / 'origin'}"
    cells = {}
    for path in ON_PYTHIA:
        install, declared, begin = (cell.source for cell in code_cells(path)[:3])
        cells[path.stem] = (
            install.replace(
                f'REPOSITORY = "{_address(install).strip("none ")}"', f'REPOSITORY = "{address}"'
            ),
            declared,
            begin,
        )
    parameters = {
        "SUITE": "pythia",
        "MODELS": [MODEL],
        "MODEL": MODEL,
        "STEPS": list(STEPS),
        "STEP": 512,
        "STORE": str(tmp_path / "store"),
    }
    (tmp_path / "cells.json").write_text(json.dumps([cells, parameters]))
    (tmp_path / "run.py").write_text(RUNNER)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "MPLBACKEND": "agg",
    }
    subprocess.run(
        [fresh, "-m", "pip", "uninstall", "-q", "-y", "circuitbook"], check=True, env=env
    )
    missing = subprocess.run(
        [fresh, "-c", "import circuitbook"], env=env, cwd=tmp_path, capture_output=True
    )
    assert missing.returncode and b"No module named 'circuitbook'" in missing.stderr
    done = subprocess.run(
        [fresh, "run.py", "cells.json"], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    begun = [
        line.split()[1]
        for line in done.stdout.splitlines()
        if line.startswith("BEGUN") and f"('{MODEL}',)" in line
    ]
    assert begun == list(cells) and len(begun) >= 9
    where = next(line for line in done.stdout.splitlines() if line.startswith("FROM"))
    assert ("circuitbook-repository/lib" in where) == (source == "clone") and str(
        ROOT / "lib"
    ) not in where
