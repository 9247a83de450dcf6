"""A build that is killed at any time leaves no process alive, and the next one begins afresh."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from children import running, wait_for
from test_build import alive, book_of, notebook_of

from circuitbook.paths import PACKAGE
from circuitbook.publishing import site
from circuitbook.publishing.children import run
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import execute_notebook
from circuitbook.publishing.kernel import _private_folder, _sockets_fit

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")

TELLS = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); "


def descendants(pid):
    """Processes that this one has started, and those that they have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, todo = [], [pid]
    while todo:
        children = [child for child, parent in parents.items() if parent == todo[0]]
        found, todo = found + children, todo[1:] + children
    return found


def python(code, folder):
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    return {"command": [sys.executable, "-c", code], "cwd": folder, "env": environment}


def test_what_is_run_gives_its_status_and_output():
    done = run([sys.executable, "-c", "print(7); raise SystemExit(3)"], stdout=-1, text=True)
    assert (done.returncode, done.stdout) == (3, "7\n")
    killed = run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    assert killed.returncode == 128 + 9


def test_a_command_ends_with_its_patience_and_with_its_parent(tmp_path):
    child = [sys.executable, "-c", TELLS + "time.sleep(100)", str(tmp_path / "pids")]
    with pytest.raises(site.subprocess.TimeoutExpired):
        run(child, timeout=2)
    grandchild = f"import subprocess; subprocess.run({child})"
    command = [sys.executable, "-c", grandchild]
    code = f"from circuitbook.publishing.children import run; run({command})"
    pids = tmp_path / "pids"
    with running(**python(code, tmp_path)) as parent:
        wait_for(lambda: len(pids.read_text().split()) == 2)
        everybody = descendants(parent.pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert len(everybody) == 3
    everybody += [int(pid) for pid in pids.read_text().split()]
    wait_for(lambda: not any(map(alive, everybody)), 10)


def test_the_next_site_is_made_in_a_fresh_folder(tmp_path, monkeypatch):
    """Whatever an earlier one has left, even what cannot be removed."""
    used = []

    def built(out, work):
        used.append(work)
        assert list(work.iterdir()) == []
        raise BuildError("stopped")

    monkeypatch.setattr(site, "_built_by_jupyter_book", built)
    root = book_of(tmp_path)
    (root / "_build/site").mkdir(parents=True)
    (root / "_build/site/replaced").touch()
    (root / "_build/src").mkdir()
    for _ in range(2):
        with pytest.raises(BuildError, match="stopped"):
            site.build_site(root / "_build")
    assert len(set(used)) == 2 and list((root / "_build").glob("site*")) == used[1:]


@pytest.mark.parametrize("seconds", [1.5, 4, 8])
def test_a_build_that_is_killed_leaves_nothing_alive(tmp_path, seconds):
    """While kernels are prepared, executed, and in the process beside."""
    waits = "import time\ntime.sleep(100)"
    root = book_of(
        tmp_path,
        one=notebook_of("#| parameters\nSUITE = 'a'", waits),
        two=notebook_of("#| parameters\nSUITE = 'a'", waits),
        other=notebook_of("#| parameters\nSUITE = 'b'", waits),
    )
    code = """if True:
        from circuitbook.publishing import build
        root = build.Path(".").resolve()
        chapters = [f"notebooks/{name}" for name in ("one", "two", "other")]
        build.execute_chapters(root, root / "_build", chapters, {})"""
    with running(**python(code, root), stdout=-3, stderr=-3) as build:
        wait_for(lambda: descendants(build.pid))
        time.sleep(seconds)
        everybody = descendants(build.pid)
        build.send_signal(signal.SIGKILL)
        build.wait()
    assert everybody
    wait_for(lambda: not any(map(alive, everybody)), 30)


@pytest.mark.slow
def test_jupyter_book_is_killed_with_the_build(tmp_path):
    root = book_of(tmp_path)
    code = """if True:
        from circuitbook.publishing.build import build_book
        build_book()"""
    with running(**python(code, root), stdout=-3, stderr=-3) as build:
        wait_for(lambda: len(descendants(build.pid)) >= 2)
        time.sleep(1)
        everybody = descendants(build.pid)
        build.send_signal(signal.SIGKILL)
        build.wait()
    wait_for(lambda: not any(map(alive, everybody)), 10)
    with running(**python(code, root), stdout=-3) as again:
        assert again.wait(120) == 0
    assert not list((root / "_build").glob("site-*"))


# ---- sockets of kernels


@pytest.mark.parametrize("length", [20, 74, 110])
def test_kernels_start_wherever_temporary_files_go(tmp_path, monkeypatch, length):
    folder = tempfile.mkdtemp(dir="/tmp", prefix="x" * (length - len("/tmp/") - 8))
    monkeypatch.setattr(tempfile, "tempdir", folder)
    monkeypatch.setenv("TMPDIR", folder)
    assert len(folder) == length
    with _private_folder() as private:
        assert _sockets_fit(private) and os.stat(private).st_mode & 0o77 == 0
        assert private.startswith(folder) == (length < 70)
    assert os.listdir(folder) == []
    root = book_of(tmp_path, one=notebook_of("1 + 1"))
    execute_notebook(root / "notebooks/one.ipynb", tmp_path / "out.ipynb", root=root)
    os.rmdir(folder)


def test_without_a_short_folder_the_kernel_takes_ports(tmp_path, monkeypatch):
    monkeypatch.setattr("circuitbook.publishing.kernel._sockets_fit", lambda folder: False)
    root = book_of(tmp_path, one=notebook_of("1 + 1"))
    execute_notebook(root / "notebooks/one.ipynb", tmp_path / "out.ipynb", root=root)
    assert (tmp_path / "out.ipynb").is_file()
