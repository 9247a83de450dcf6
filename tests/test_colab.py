"""Notebooks outside the book: their first cells, with an address and without; what these do in
an environment without the library, from a wheel and from a clone, with a hub on loopback in place
of the real one; a store on Google Drive."""

import ast
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

from circuitbook.__main__ import main
from circuitbook.mini import tokenizer
from circuitbook.mini.tokenizer import build_tokenizer
from circuitbook.publishing.colab import first_cell, is_first_cell, write_first_cells
from circuitbook.store.disk import Store
from circuitbook.store.keys import measurement_key

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODEL, STEPS = "pythia-14m", (0, 512)


ADDRESS = "https://github.com/someone/circuits"


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def opened(cell):
    """A cell up to where it opens the chapter: what follows is measured, and takes its time."""
    statements = ast.parse(cell).body
    last = next(one for one in statements if "open_chapter(" in ast.unparse(one))
    return "\n".join(cell.splitlines()[: last.end_lineno])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_notebook_begins_with_the_import_or_the_installation(path):
    install, declared = code_cells(path)[:2]
    assert is_first_cell(install.source) and "remove-cell" in install.metadata.tags
    assert "parameters" in declared.metadata.tags


@pytest.fixture
def sources(tmp_path):
    """Two notebooks that begin with the import, the second after some prose."""
    for name, cells in {
        "first": [nbformat.v4.new_code_cell("import circuitbook")],
        "second": [
            nbformat.v4.new_markdown_cell("# Größe"),
            nbformat.v4.new_code_cell("import circuitbook", metadata={"tags": ["remove-cell"]}),
            nbformat.v4.new_code_cell("import circuitbook.stats"),
        ],
    }.items():
        text = nbformat.writes(nbformat.v4.new_notebook(cells=cells))
        notebook = json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
        (tmp_path / f"{name}.ipynb").write_text(notebook, encoding="utf8")
    return tmp_path


def test_an_address_is_written_replaced_and_taken_out(sources):
    paths = [sources / "first.ipynb", sources / "second.ipynb"]
    before = [path.read_bytes() for path in paths]
    for address in (ADDRESS, "https://example.org/circuitbook-0.1.0-py3-none-any.whl"):
        assert write_first_cells(sources, address) == paths
        assert write_first_cells(sources, address) == []
        prose, install, other = nbformat.read(paths[1], as_version=4).cells
        assert f'REPOSITORY = "{address}"' in install.source
        assert install.source.endswith("import circuitbook") and is_first_cell(install.source)
        assert (prose.source, other.source) == ("# Größe", "import circuitbook.stats")
        assert install.metadata.tags == ["remove-cell"]
    assert write_first_cells(sources) == paths and write_first_cells(sources) == []
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize(
    "address", ["someone/circuits", "", "https://a b", 'https://a"; import os; "', "ssh://a/b"]
)
def test_what_is_no_address_is_refused(sources, address):
    with pytest.raises(ValueError, match="is no address to install from; give one like https"):
        write_first_cells(sources, address)


@pytest.mark.parametrize("source", ["1 + 1", "import circuitbook, os", first_cell(ADDRESS) + "\n"])
def test_another_first_cell_is_left_alone_and_so_are_all_the_others(sources, source):
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(other, sources / "third.ipynb")
    before = {path: path.read_bytes() for path in sources.iterdir()}
    with pytest.raises(ValueError, match="third.ipynb: its first code cell is neither"):
        write_first_cells(sources, ADDRESS)
    assert {path: path.read_bytes() for path in sources.iterdir()} == before


def test_the_command_writes_and_takes_out(sources, capsys):
    main(["colab", ADDRESS, "--notebooks", str(sources)])
    main(["colab", "--remove", "--notebooks", str(sources)])
    main(["colab", "--remove", "--notebooks", str(sources)])
    assert capsys.readouterr().out.splitlines() == [
        f"2 notebooks in {sources} now install from {ADDRESS}",
        f"2 notebooks in {sources} now only import the library",
        "nothing to change",
    ]
    with pytest.raises(SystemExit, match="error: git's origin is not on GitHub, so an address"):
        main(["colab", "--notebooks", str(sources)])
    with pytest.raises(SystemExit, match="2"):  # both
        main(["colab", ADDRESS, "--remove", "--notebooks", str(sources)])


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
    for place in ("drive", "disk"):
        monkeypatch.setattr(f"circuitbook.store.{place}.DRIVE", drive)
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


# ---- first cells in a fresh environment


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
    space.pop("chapter", None)
    exec(install, space)
    exec(declared, space)
    space.update({k: v for k, v in parameters.items() if k in space})
    exec(begin, space)
    chosen = space["chapter"].chosen
    print("BEGUN", name, chosen.suite.name, chosen.models, chosen.steps, chosen.device)
import circuitbook
print("FROM", circuitbook.__file__)
"""
ON_PYTHIA = [path for path in NOTEBOOKS if "SUITE =" in code_cells(path)[1].source]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["wheel", "clone"])
def test_first_cells_in_a_fresh_environment(source, fresh, wheel, hub, tmp_path):
    """Installed by the first cell; then each chapter's parameters and beginning, on Pythia."""
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
    address = (wheel if source == "wheel" else tmp_path / "origin").as_uri()
    cells = {}
    for path in ON_PYTHIA:
        declared, *rest = (cell.source for cell in code_cells(path)[1:])
        opens = next(i for i, cell in enumerate(rest) if "chapter = open_chapter(" in cell)
        source_of_it = "\n".join([*rest[:opens], opened(rest[opens])])
        cells[path.stem] = (first_cell(address), declared, source_of_it)
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
