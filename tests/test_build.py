"""The book's build: with a trivial notebook (no torch), real papermill runs, and a real site behind
`slow`."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from children import running, wait_for

from circuitbook.paths import PACKAGE
from circuitbook.publishing.build import (
    build_book,
    execute_chapters,
    parse_parameters,
    stage,
)
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import (
    METADATA,
    check_parameters,
    declared_parameters,
    duration,
    execute_notebook,
)
from circuitbook.publishing.executions import record_of
from circuitbook.publishing.fingerprints import fingerprint
from circuitbook.publishing.jobs import beside_the_others
from circuitbook.publishing.kernel import measurements
from circuitbook.store import Store, measurement_key

REPOSITORY = Path(__file__).parents[1]


def notebook_of(*cells):
    """Cells as text: markdown if it begins with "# %", else code; "#| a b" on the first line are
    its tags."""
    made = []
    for text in cells:
        if text.startswith("# %"):
            made.append(nbformat.v4.new_markdown_cell(text[3:].strip()))
            continue
        tags = text.splitlines()[0].removeprefix("#|").split() if text.startswith("#|") else []
        made.append(nbformat.v4.new_code_cell(text, metadata={"tags": tags} if tags else {}))
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number}"
    return nbformat.v4.new_notebook(cells=made)


def book_of(root: Path, **notebooks) -> Path:
    """A small book in `root` with these chapters, in the shape of the repository."""
    for folder in ("book/_static", "notebooks", "models/mini"):
        (root / folder).mkdir(parents=True)
    for name in ("requirements.txt", "requirements.lock"):
        (root / name).write_text(name)
    (root / "models/mini/weights").write_bytes(b"weights")
    (root / "_config.yml").write_text("title: A Small Book\nexecute: {execute_notebooks: 'off'}\n")
    (root / "book/index.md").write_text("# A Small Book\n\nHello.\n")
    chapters = "".join(f"  - file: notebooks/{name}\n" for name in notebooks)
    (root / "_toc.yml").write_text(
        f"format: jb-book\nroot: book/index\n{'chapters:' if chapters else ''}\n{chapters}"
    )
    for name, notebook in notebooks.items():
        nbformat.write(notebook, root / f"notebooks/{name}.ipynb")
    return root


SMALL = (
    "# % # Small\n\nA chapter.",
    "#| parameters\nN = 1\nMODELS: list = ['a']\nWHERE = None",
    "import os, sys\nprint(sys.executable, os.getcwd(), N, MODELS, WHERE)\n"
    "print('loud', file=sys.stderr)",
    """
from circuitbook.store import Store, measurement_key
import pandas as pd
for i in [1, 2, 2]:
    Store("store").table(measurement_key("small", i=i), lambda: pd.DataFrame({"x": [i]}))
""",
)


def text_of(notebook):
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return "".join(output.get("text", "") for output in outputs)


@pytest.fixture(autouse=True)
def frozen_package(tmp_path_factory, monkeypatch):
    """The package's own files count in what is up to date; here they stand still, whoever edits
    them meanwhile."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "build.py").touch()
    monkeypatch.setattr("circuitbook.publishing.fingerprints.PACKAGE", folder)


# ---- parameters


def test_parameters_as_typed_in_a_shell():
    typed = ["N=20", "MODELS=[mini-s, mini-m]", "DEVICE=cpu", "STEPS=None", "X=1e-3", "S='a b'",
             "T=(1, 2)", "D={a: 1}", "F=true", "E=a=b", "U=mini: x: y"]  # fmt: skip
    assert parse_parameters(typed) == {
        "N": 20, "MODELS": ["mini-s", "mini-m"], "DEVICE": "cpu", "STEPS": None, "X": 0.001,
        "S": "a b", "T": [1, 2], "D": {"a": 1}, "F": True, "E": "a=b", "U": "mini: x: y",
    }  # fmt: skip
    for wrong in ("N", "=3", "a b=1"):
        with pytest.raises(BuildError, match="write NAME=VALUE"):
            parse_parameters([wrong])


def test_a_parameter_that_no_notebook_has_is_refused_with_a_way_out():
    small = notebook_of(*SMALL)
    other = notebook_of("#| parameters\nDEVICE = 'cpu'", "HIDDEN = 1")
    assert declared_parameters(small) == ["N", "MODELS", "WHERE"]
    check_parameters({"N": 3, "DEVICE": "cuda"}, {"small": small, "other": other})
    with pytest.raises(BuildError, match="no notebook has a parameter MODEL; did you mean MODELS"):
        check_parameters({"MODEL": 1}, {"small": small, "other": other})
    with pytest.raises(
        BuildError, match="no notebook has a parameter HIDDEN; there are: N, MODELS, WHERE, DEVICE"
    ):
        check_parameters({"HIDDEN": 1}, {"small": small, "other": other})


# ---- executing


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """One real run, with another kernel called python3 registered by the user, who also has
    start-up files."""
    root = book_of(tmp_path_factory.mktemp("executed {braces}"), small=notebook_of(*SMALL))
    hostile = root / "user"
    (hostile / "kernels/python3").mkdir(parents=True)
    (hostile / "kernels/python3/kernel.json").write_text(
        json.dumps(
            {
                "argv": ["/bin/false", "{connection_file}"],
                "display_name": "other",
                "language": "python",
            }
        )
    )
    (hostile / "profile_default/startup").mkdir(parents=True)
    (hostile / "profile_default/startup/00.py").write_text("print('start-up file of the user')")
    before = (root / "notebooks/small.ipynb").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(hostile))
        patch.setenv("IPYTHONDIR", str(hostile))
        patch.setenv("MPLBACKEND", "agg")
        execute_chapters(root, root / "_build", ["notebooks/small"], {"N": 7, "MODELS": ["b", "c"]})
    assert (root / "notebooks/small.ipynb").read_bytes() == before
    return root, nbformat.read(root / "_build/src/notebooks/small.ipynb", as_version=4)


def test_it_runs_in_this_python_with_these_parameters(executed):
    root, notebook = executed
    assert f"{sys.executable} {root} 7 ['b', 'c'] None\n" in text_of(notebook)
    assert "start-up file" not in text_of(notebook)
    assert not any(
        output.output_type == "error"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )


def test_parameter_cells_are_folded_and_nothing_else_is(executed):
    tags = {tuple(cell.metadata.get("tags", [])) for cell in executed[1].cells}
    assert tags == {(), ("parameters", "hide-input"), ("injected-parameters", "hide-input")}


def test_the_copy_says_how_it_was_made(executed):
    root, notebook = executed
    record, last = notebook.metadata[METADATA], notebook.cells[-1]
    assert record["parameters"] == {"N": 7, "MODELS": ["b", "c"]} and 0 < record["seconds"] < 120
    assert record["measurements"]["used"] == record["measurements"]["measured"] == 2
    assert record["versions"]["python"].startswith("3.") and "host" not in record["machine"]
    assert last.cell_type == "markdown" and "made-with" in last.source
    assert re.search(
        r"This chapter ran in \d+ s on .+ \(\d+ cores?, .+\) on \d+ \w+ 20\d\d", last.source
    )
    assert "2 measurements took 1 s to make; all were made in this run" in last.source
    readable = nbformat.writes(notebook).replace(text_of(notebook), "")
    assert "papermill" not in notebook.metadata and str(root / "_build") not in readable


def test_output_goes_to_the_log_and_nothing_is_left_over(executed):
    root, _ = executed
    assert "loud" in (root / "_build/logs/small.log").read_text()
    assert not list((root / "_build/partial").rglob("*.ipynb")) and not list(
        (root / "_build").rglob("*.trace")
    )
    assert not list(root.glob("kernel*"))


def test_without_parameters_no_cell_is_injected_and_the_store_is_read(
    executed, tmp_path, monkeypatch
):
    root, _ = executed
    monkeypatch.chdir(tmp_path)
    notebook = execute_notebook(root / "notebooks/small.ipynb", Path("out.ipynb"), root=root)
    assert not any(
        "injected-parameters" in cell.metadata.get("tags", []) for cell in notebook.cells
    )
    assert " 1 ['a'] None" in text_of(notebook)
    assert notebook.metadata[METADATA]["measurements"]["measured"] == 0
    assert "all of them were in the store already" in notebook.cells[-1].source
    nbformat.validate(nbformat.read(tmp_path / "out.ipynb", as_version=4))


def test_a_failing_cell_is_one_clear_message(tmp_path):
    fails = "def inner():\n    raise ValueError('unknown model x; there are: a, b')\n\ninner()"
    root = book_of(tmp_path, bad=notebook_of("x = 1", fails, "print('never')"))
    target = root / "_build/src/notebooks/bad.ipynb"
    target.parent.mkdir(parents=True)
    target.write_text("the copy of an earlier build")
    with pytest.raises(BuildError) as caught:
        execute_chapters(root, root / "_build", ["notebooks/bad"], {})
    message = str(caught.value)
    assert "bad.ipynb stopped in cell [2], which begins 'def inner():'" in message
    assert (
        "ValueError: unknown model x; there are: a, b\n" in message and "Traceback" not in message
    )
    assert len(message.splitlines()) == 4
    partial, log = re.search(r"far: (.+)", message)[1], re.search(r"traceback: +(.+)", message)[1]
    assert "unknown model x" in Path(partial).read_text()
    assert "never" not in text_of(nbformat.read(partial, as_version=4))
    assert "inner()" in Path(log).read_text() and "Traceback" in Path(log).read_text()
    assert target.read_text() == "the copy of an earlier build"


def test_a_kernel_that_dies_is_one_clear_message(tmp_path):
    root = book_of(
        tmp_path, bad=notebook_of("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    )
    with pytest.raises(
        BuildError, match=r"bad\.ipynb: its Python process died \(out of memory\?\)"
    ):
        execute_chapters(root, root / "_build", ["notebooks/bad"], {})
    assert not (root / "_build/src/notebooks/bad.ipynb").exists()


def alive(pid):
    """Whether the process still runs (one that has ended but was not yet waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_is_stopped_goes_on_where_it_was(tmp_path, how):
    waits = "import time, pathlib\nwhile not pathlib.Path('go').exists():\n    time.sleep(0.05)"
    first = notebook_of("import pathlib\nprint(pathlib.Path('first').open('a').write('x'))")
    tells = "import os, pathlib\npathlib.Path('kernel').write_text(str(os.getpid()))"
    second = notebook_of(tells, waits, "print('done')")
    root = book_of(tmp_path, first=first, second=second)
    package = PACKAGE
    shutil.copytree(
        package, tmp_path / "lib/circuitbook", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = """if True:
        from circuitbook.publishing import build
        root = build.Path(".").resolve()
        chapters = ["notebooks/first", "notebooks/second"]
        build.execute_chapters(root, root / "_build", chapters, {})"""
    run = {
        "command": [sys.executable, "-c", code],
        "cwd": root,
        "env": os.environ | {"PYTHONPATH": str(tmp_path / "lib")},
    }
    told = root / "kernel"
    with running(**run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        wait_for(lambda: worker.poll() is not None or told.exists() and told.read_text())
        kernel = int(told.read_text())
        worker.send_signal(how)
        assert worker.wait(60) != 0
    wait_for(lambda: not alive(kernel))  # no kernel is left behind
    copies = root / "_build/src/notebooks"
    assert [file.name for file in copies.glob("*.ipynb")] == ["first.ipynb"]
    (root / "go").touch()
    with running(**run, stdout=subprocess.DEVNULL) as worker:
        assert worker.wait(120) == 0
    assert (root / "first").read_text() == "x"  # not executed again
    assert "done" in text_of(nbformat.read(copies / "second.ipynb", as_version=4))


# ---- what is up to date


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A book of two chapters whose execution is only counted."""
    runs = []

    def record_run(source, target, parameters, *, record, **rest):
        runs.append((source.stem, parameters))
        notebook = nbformat.read(source, as_version=4)
        uses = {"used": 0, "measured": 0, "seconds": 0}
        notebook.metadata[METADATA] = record | {
            "seconds": 1,
            "date": "2026-01-02",
            "measurements": uses,
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
        return notebook

    monkeypatch.setattr("circuitbook.publishing.jobs.execute_notebook", record_run)
    root = book_of(
        tmp_path,
        one=notebook_of("#| parameters\nN = 1"),
        two=notebook_of("#| parameters\nMODELS = 1"),
    )

    def run(parameters=None, **options):
        runs.clear()
        execute_chapters(
            root, root / "_build", ["notebooks/one", "notebooks/two"], parameters or {}, **options
        )
        return runs

    return root, run


def test_what_is_up_to_date_is_not_executed_again(counted, capsys):
    root, run = counted
    assert run() == [("one", {}), ("two", {})]
    assert run() == []
    assert "[1/2] notebooks/one: up to date (executed 2026-01-02)" in capsys.readouterr().out
    assert run({"N": 5}) == [("one", {"N": 5})]  # the other does not have this parameter
    assert run({"N": 5}) == []
    assert run(force=True) == [("one", {}), ("two", {})]
    assert run(only=["two"], force=True) == [("two", {})]
    os.utime(root / "models/mini/weights")
    assert run() == []  # contents count, not times


@pytest.mark.parametrize(
    "changed", ["models/mini/weights", "models/mini/new", "requirements.txt", "requirements.lock"]
)
def test_a_changed_input_executes_everything_again(counted, changed):
    root, run = counted
    run()
    (root / changed).write_text("changed")
    assert [name for name, _ in run()] == ["one", "two"] and run() == []


def test_a_changed_source_executes_only_that_one(counted):
    root, run = counted
    run()
    nbformat.write(notebook_of("#| parameters\nN = 2"), root / "notebooks/one.ipynb")
    assert [name for name, _ in run()] == ["one"]
    assert run(only=["two"]) == []


WAIT_FOR = """
import pathlib, time
def meet(mine, theirs):
    pathlib.Path(mine).touch()
    for _ in range(600):
        if pathlib.Path(theirs).exists():
            return
        time.sleep(0.1)
    raise TimeoutError(theirs)
"""


def two_suites(tmp_path, other="'done'"):
    """A chapter about suite a and one about b, which wait for each other, and one about both."""
    return book_of(
        tmp_path,
        one=notebook_of("#| parameters\nSUITE = 'a'", WAIT_FOR, "meet('one', 'two')"),
        two=notebook_of(
            "#| parameters\nSUITE = 'b'",
            WAIT_FOR,
            "meet('two', 'one')",
            "time.sleep(1)",
            other,
            "pathlib.Path('two-done').touch()",
        ),
        both=notebook_of(
            "#| parameters\nSUITE = 'a'\nREAL = 'b'",
            WAIT_FOR,
            "assert pathlib.Path('two-done').exists()",
        ),
    )


CHAPTERS = ["notebooks/one", "notebooks/two", "notebooks/both"]


def test_another_suite_is_measured_beside_and_waited_for(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    root = two_suites(tmp_path)
    execute_chapters(root, root / "_build", CHAPTERS, {})
    said = capfd.readouterr().out.splitlines()
    starts = {"[1/3] notebooks/one: executing", "[2/3] notebooks/two: executing"}
    assert set(said[:2]) == starts
    done = [line.split(":")[0] for line in said if "measurements made" in line]
    assert sorted(done[:2]) == ["[1/3] notebooks/one", "[2/3] notebooks/two"]
    assert done[2] == "[3/3] notebooks/both"
    execute_chapters(root, root / "_build", CHAPTERS, {})
    assert capfd.readouterr().out.count("up to date") == 3


def test_the_rest_is_shared_out_and_each_has_half_of_the_cores(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr("circuitbook.publishing.build.has_gpu", lambda: False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    said = "import os; open('said', 'a').write(f'{name} {os.environ.get(\"OMP_NUM_THREADS\")}\\n')"
    of_a = "#| parameters\nSUITE = 'a'"
    root = book_of(
        tmp_path,
        one=notebook_of(of_a, WAIT_FOR, "meet('one', 'three')", f"name = 'one'; {said}"),
        two=notebook_of("#| parameters\nSUITE = 'b'", f"name = 'two'; {said}"),
        three=notebook_of(of_a, WAIT_FOR, "meet('three', 'one')", f"name = 'three'; {said}"),
        four=notebook_of("#| parameters\nSUITE = 'a'\nREAL = 'b'", f"name = 'four'; {said}"),
    )
    chapters = [f"notebooks/{name}" for name in ("one", "two", "three", "four")]
    execute_chapters(root, root / "_build", chapters, {})
    lines = (root / "said").read_text().split("\n")[:-1]
    assert sorted(lines[:3]) == ["one 3", "three 3", "two 3"]
    assert lines[3:] == ["four None"]  # alone, with all of them
    assert all(record_of(root / f"_build/src/{chapter}.ipynb") for chapter in chapters)


def test_what_fails_beside_stops_the_build_with_its_message(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    root = two_suites(tmp_path, other="raise ValueError('no such thing')")
    with pytest.raises(BuildError, match=r"(?s)two.ipynb stopped in cell.*no such thing"):
        execute_chapters(root, root / "_build", CHAPTERS, {})
    assert record_of(root / "_build/src/notebooks/one.ipynb")  # what is done stays


def test_what_runs_beside_is_stopped_with_the_build(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    root = book_of(
        tmp_path,
        one=notebook_of("#| parameters\nSUITE = 'a'", "1 / 0"),
        two=notebook_of("#| parameters\nSUITE = 'b'", "import time; time.sleep(600)"),
        both=notebook_of("#| parameters\nSUITE = 'a'", "1"),
    )
    begun = time.monotonic()
    with pytest.raises(BuildError, match="division by zero"):
        execute_chapters(root, root / "_build", CHAPTERS, {})
    assert time.monotonic() - begun < 120


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_what_runs_beside_ends_with_a_build_that_was_killed(tmp_path):
    root = two_suites(tmp_path, other="time.sleep(600)")
    start = (
        "import json, os, sys; from pathlib import Path; "
        "from circuitbook.publishing.jobs import Beside, Job; root = sys.argv[1]; "
        "job = Job(root=root, out=root + '/_build', chapter='notebooks/two', title='two', "
        "given={}, fingerprint=''); "
        "print(Beside([job], Path(root, '_build')).process.pid, flush=True); os._exit(9)"
    )
    (root / "one").touch()  # whom it would wait for
    command = [sys.executable, "-c", start, str(root)]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    made = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    wait_for(lambda: not alive(int(made.stdout)), 60)


def test_with_one_core_or_one_suite_nothing_runs_beside(monkeypatch):
    suites = {"one": "a", "two": "b", "three": "a", "four": None}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert beside_the_others(suites) == {"two"}
    assert beside_the_others({"one": "a", "four": None}) == set()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert beside_the_others(suites) == set()


def test_a_damaged_copy_is_made_again(counted):
    root, run = counted
    run()
    copy = root / "_build/src/notebooks/two.ipynb"
    copy.write_text(copy.read_text()[:100])
    assert [name for name, _ in run()] == ["two"]


def test_fingerprint_knows_the_package_and_folders_named_by_parameters(tmp_path, monkeypatch):
    root, notebook = book_of(tmp_path / "root"), notebook_of("x = SUITE")
    package = tmp_path / "package"
    package.mkdir()
    (package / "code.py").write_text("x = 1")
    monkeypatch.setattr("circuitbook.publishing.fingerprints.PACKAGE", package)
    seen = [fingerprint(root, notebook, {"SUITE": "models/mini"})]
    notebook.cells[0]["outputs"] = [nbformat.v4.new_output("stream", text="x")]
    notebook.cells[0]["execution_count"] = 3
    assert fingerprint(root, notebook, {"SUITE": "models/mini"}) == seen[0]
    (package / "code.py").write_text("x = 2")
    seen.append(fingerprint(root, notebook, {"SUITE": "models/mini"}))
    (root / "own").mkdir()
    (root / "own/notes").write_text("1")
    seen.append(fingerprint(root, notebook, {"SUITE": "own"}))
    (root / "own/notes").write_text("2")
    seen.append(fingerprint(root, notebook, {"SUITE": "own"}))
    assert len(set(seen)) == 4
    store = fingerprint(root, notebook, {"STORE": "own"})
    (root / "own/notes").write_text("3")
    assert fingerprint(root, notebook, {"STORE": "own"}) == store  # what is measured is no new work


@pytest.mark.parametrize("how", ["parameter", "variable", "neither", "out"])
def test_what_a_build_writes_within_the_models_is_no_new_work(tmp_path, monkeypatch, how):
    root = book_of(tmp_path, one=notebook_of("#| parameters\nSTORE = None"))
    inside = root / "models/mini/measured"
    notebook = notebook_of("#| parameters\nSTORE = None")
    parameters = {"STORE": "models/mini/measured"} if how == "parameter" else {}
    if how == "variable":
        monkeypatch.setenv("CIRCUITBOOK_STORE", str(inside))

    def now():
        return fingerprint(root, notebook, parameters, inside if how == "out" else None)

    first = now()
    Store(inside).table(measurement_key("small", i=1), lambda: pd.DataFrame({"x": [1]}))
    if how != "neither":  # then a store is known by the names of its files
        (inside / "more").write_text("more")
    assert now() == first
    (root / "models/mini/weights").write_bytes(b"changed")
    assert now() != first
    # a store that is the folder itself hides nothing else in it
    parameters = {"STORE": "models"}
    first = now()
    (root / "models/mini/weights").write_bytes(b"changed again")
    assert now() != first


def change_unnoticed(file):
    """Changes the file's last byte but leaves its size and mtime."""
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


@pytest.mark.parametrize("said_by", ["a parameter", "the notebook"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_fingerprint_knows_every_byte_of_a_folder_of_checkpoints(tmp_path, name, said_by):
    from conftest import save_checkpoint

    root = book_of(tmp_path / "root")
    folder = save_checkpoint(root / "own/small/step0")
    suite = str(root / "own") if said_by == "the notebook" else "own"
    notebook = notebook_of(f"#| parameters\nSUITE = {suite!r}")
    parameters = {} if said_by == "the notebook" else {"SUITE": suite}
    before = fingerprint(root, notebook, parameters)
    (folder / "pytorch_model.bin").write_bytes(b"not read beside model.safetensors")
    assert fingerprint(root, notebook, parameters) == before
    change_unnoticed(folder / name)
    changed = fingerprint(root, notebook, parameters)
    assert changed != before
    (root / "own/suite.json").write_text('{"tokens_per_step": 3}')
    assert fingerprint(root, notebook, parameters) not in (before, changed)


def test_unchanged_files_are_hashed_once_and_changed_ones_again(tmp_path, monkeypatch):
    from circuitbook.weights import hash_memory

    read = []

    def counted(path):
        read.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(hash_memory, "sha256", counted)
    monkeypatch.setattr(hash_memory, "SETTLED", -60.0)  # what was written just now counts as old
    memory, file, kept = hash_memory.HashMemory(), tmp_path / "weights", tmp_path / "hashes.json"
    file.write_bytes(b"first")
    with memory.kept_in(kept):
        assert memory.sha256(file) == memory.sha256(file) == hashlib.sha256(b"first").hexdigest()
    assert read == ["weights"]
    later = hash_memory.HashMemory()  # another process
    with later.kept_in(kept):
        assert later.sha256(file) == memory.sha256(file) and read == ["weights"]
        time.sleep(0.02)  # a tick of the file system's clock
        change_unnoticed(file)
        assert (
            later.sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest() and len(read) == 2
        )
    kept.write_text("damaged")
    with hash_memory.HashMemory().kept_in(kept):
        pass
    monkeypatch.setattr(hash_memory, "SETTLED", 60.0)  # changed just now: read again in any case
    fresh = hash_memory.HashMemory()
    assert fresh.sha256(file) == fresh.sha256(file) and len(read) == 4


# ---- staging


def test_staging_mirrors_the_book_and_drops_what_is_gone(tmp_path):
    root, src = (
        book_of(tmp_path, one=notebook_of("1"), gone=notebook_of("2")),
        tmp_path / "_build/src",
    )
    (root / "book/_static/custom.css").write_text("a {}")
    (root / "book/.hidden").write_text("x")
    (root / "notebooks/picture.png").write_bytes(b"png")
    for name in ("one", "gone"):
        (src / "notebooks").mkdir(parents=True, exist_ok=True)
        (src / f"notebooks/{name}.ipynb").write_text("executed")
    (src / "book").mkdir()
    (src / "book/old.md").write_text("# Old")
    stage(root, src, ["notebooks/one"])
    found = {file.relative_to(src).as_posix() for file in src.rglob("*") if file.is_file()}
    ours = {"attention-heads", "head-browser", "lab", "lab-engine"}
    ours |= {"circuit-drawing", "circuit-explorer", "circuitsvis"}
    scripts = {f"book/_static/{name}.js" for name in ours}
    assert found == scripts | {
        "_config.yml", "_toc.yml", "book/index.md", "book/_static/custom.css",
        "notebooks/picture.png", "notebooks/one.ipynb",
    }  # fmt: skip
    assert (src / "notebooks/one.ipynb").read_text() == "executed"
    assert (src / "_config.yml").read_bytes() == (root / "_config.yml").read_bytes()


# ---- errors before anything starts, and small things


def test_errors_say_where_and_what(tmp_path):
    with pytest.raises(BuildError, match=r"there is no .*_toc\.yml: run this in the book's folder"):
        build_book(tmp_path)
    root = book_of(tmp_path / "root", one=notebook_of("1"))
    with pytest.raises(BuildError, match="the book has no notebook three; it has one"):
        build_book(root, notebooks=["three"])
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: notebooks/two\n"
    )
    with pytest.raises(BuildError, match="_toc.yml names notebooks/two, but there is no"):
        build_book(root)
    (root / "_toc.yml").write_text("format: jb-book\nchapters: 3\n")
    with pytest.raises(BuildError, match=r"_toc\.yml cannot be read"):
        build_book(root)


def test_two_builds_at_once_are_refused(tmp_path):
    import filelock

    root = book_of(tmp_path)
    (root / "_build").mkdir()
    holder = """if True:
        import filelock, sys
        with filelock.FileLock(sys.argv[1]):
            print("held", flush=True)
            sys.stdin.read()"""
    with subprocess.Popen([sys.executable, "-c", holder, str(root / "_build/.lock")], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:  # fmt: skip
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BuildError, match="another build is at work in"):
            build_book(root)
        other.stdin.close()
    with filelock.FileLock(root / "_build/.lock", timeout=5):
        pass


def test_durations_and_traces(tmp_path):
    assert [duration(s) for s in (0.2, 41.3, 99, 400, 9000)] == [
        "1 s",
        "41 s",
        "99 s",
        "6 min 40 s",
        "2 h 30 min",
    ]
    (tmp_path / "trace").write_text("a measured 2.5\nb read 10.0\na read 2.5\nc re")
    assert measurements(tmp_path / "trace") == {"used": 2, "measured": 1, "seconds": 12.5}
    assert measurements(tmp_path / "nothing")["used"] == 0


def test_the_book_names_only_pages_that_exist():
    """The real _toc.yml and _config.yml, without building."""
    import yaml

    settings = yaml.safe_load((REPOSITORY / "_config.yml").read_text())
    assert settings["execute"]["execute_notebooks"] == "off"
    for file in settings["bibtex_bibfiles"]:
        assert (REPOSITORY / file).is_file()
    static = REPOSITORY / settings["sphinx"]["config"]["html_static_path"][0]
    assert (static / settings["sphinx"]["config"]["mathjax_path"]).is_file()
    assert (static / settings["sphinx"]["config"]["html_css_files"][0]).is_file()


# ---- the site, for real


@pytest.mark.slow
def test_a_real_site_and_warnings_as_errors(tmp_path):
    text = "# % # Chapter\n\nSee [the front](../book/index.md) and $$\\mathbb{E}[x] = 1$$."
    chapter = notebook_of(text, "#| parameters\nN = 2", "print('the answer is', 21 * N)")
    root = book_of(tmp_path, chapter=chapter)
    shutil.copy(REPOSITORY / "_config.yml", root)
    shutil.copy(REPOSITORY / "book/references.bib", root / "book")
    for folder in ("_static", "_ext"):
        shutil.copytree(REPOSITORY / "book" / folder, root / "book" / folder, dirs_exist_ok=True)

    index = build_book(root, parameters={"N": 4})
    assert index == root / "_build/html/index.html"
    page = (root / "_build/html/notebooks/chapter.html").read_text()
    assert "the answer is 84" in page and "This chapter ran in" in page and "made-with" in page
    assert "Show the parameters" in page and "tag_hide-input" in page
    assert 'url=book/index.html"' in index.read_text() and "<title>Circuits" in index.read_text()
    asked_from_elsewhere = r"""<(?:script|img|iframe|link)[^>]*(?:src|href)=["'](?:https?:)?//"""
    for html in index.parent.rglob("*.html"):
        assert not re.search(asked_from_elsewhere, html.read_text()), html
        assert "unpkg" not in html.read_text() and "cdn." not in html.read_text()
    assert "mathjax/tex-chtml-full.js" in page

    built = index.stat().st_mtime_ns
    assert (
        build_book(root, parameters={"N": 4}) == index and index.stat().st_mtime_ns == built
    )  # nothing to do

    front = root / "book/index.md"
    front.write_text("# A Small Book\n\n[nowhere](nowhere.md)\n")
    for _ in range(2):  # and it does not forget the warning
        with pytest.raises(
            BuildError, match=r"(?s)warning counts as an error:.*book/index\.md:3: WARNING.*nowhere"
        ):
            build_book(root, parameters={"N": 4})
    assert (
        "Hello" in (root / "_build/html/book/index.html").read_text()
    )  # the site is still the last good one
    front.write_text(
        "# A Small Book\n\n<a href='../notebooks/chapter.html#nothing'>lost</a>\n"
    )  # Sphinx does not look there
    with pytest.raises(
        BuildError, match=r"book/index\.html:\d+: #nothing is not in notebooks/chapter\.html"
    ):
        build_book(root, parameters={"N": 4})
    assert "Hello" in (root / "_build/html/book/index.html").read_text()
    front.write_text("# A Small Book\n\nMended.\n")
    build_book(root, parameters={"N": 4})
    assert "Mended" in (root / "_build/html/book/index.html").read_text()
