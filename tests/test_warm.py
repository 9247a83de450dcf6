"""Kernels that are forked: they are what a cold kernel is, and end as one."""

import json
import os
import signal
from pathlib import Path

import nbformat
import pytest
from test_build import alive, book_of, notebook_of, wait_for

from circuitbook.publishing import warm
from circuitbook.publishing.build import execute_chapters
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import execute_notebook
from circuitbook.publishing.executions import record_of
from circuitbook.publishing.kernel import kernel_environment
from circuitbook.publishing.warm import warm_kernels

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="forked on Linux alone")

SAYS = """
import os, sys, json
import torch, matplotlib
import numpy as np
about = {
    "parent": os.getppid(),
    "pid": os.getpid(),
    "warm": "transformers.models.gpt_neox.modeling_gpt_neox" in sys.modules,
    "folder": os.getcwd(),
    "first": sys.path[0],
    "trace": os.environ["CIRCUITBOOK_STORE_TRACE"],
    "backend": matplotlib.get_backend(),
    "threads": torch.get_num_threads(),
    "seed": [torch.initial_seed(), float(np.random.rand())],
    "main": __name__,
    "session": os.getsid(0) == os.getpid(),
}
os.write(2, b"past the cells ")
print(json.dumps(about))
"""


def said(root: Path, name: str) -> dict:
    cells = nbformat.read(root / f"_build/src/notebooks/{name}.ipynb", as_version=4).cells
    texts = [out["text"] for c in cells for out in c.get("outputs", []) if "text" in out]
    return json.loads("".join(texts))


def test_chapters_are_forked_from_one_process_and_are_as_cold_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = book_of(tmp_path, one=notebook_of(SAYS), two=notebook_of(SAYS))
    execute_chapters(root, root / "_build", ["notebooks/one", "notebooks/two"], {})
    one, two = said(root, "one"), said(root, "two")
    assert one["warm"] and two["warm"] and one["parent"] == two["parent"] != os.getpid()
    assert one["pid"] != two["pid"] and one["trace"] != two["trace"]
    assert one["seed"] != two["seed"]
    assert "past the cells" in (root / "_build/logs/one.log").read_text()
    execute_notebook(
        root / "notebooks/one.ipynb", root / "_build/src/notebooks/one.ipynb", root=root
    )
    cold = said(root, "one")
    assert not cold["warm"] and cold["parent"] == os.getpid()
    for name in ("folder", "first", "backend", "threads", "main", "session"):
        assert cold[name] == one[name] == two[name], name
    wait_for(lambda: not alive(one["parent"]), 20)


def test_a_forked_kernel_that_dies_is_told_and_the_next_one_lives(tmp_path):
    root = book_of(
        tmp_path,
        one=notebook_of("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        two=notebook_of("1"),
    )
    environment = dict(os.environ) | kernel_environment(tmp_path / "a.trace")
    with warm_kernels(environment):
        for _ in range(2):
            with pytest.raises(BuildError, match="process died"):
                execute_notebook(root / "notebooks/one.ipynb", tmp_path / "one.ipynb", root=root)
        execute_notebook(root / "notebooks/two.ipynb", tmp_path / "two.ipynb", root=root)
    assert record_of(tmp_path / "two.ipynb")


def test_another_environment_starts_cold(tmp_path, monkeypatch):
    root = book_of(tmp_path, one=notebook_of(SAYS))
    with warm_kernels(dict(os.environ) | kernel_environment(tmp_path / "a.trace")):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # is read when packages are imported
        target = root / "_build/src/notebooks/one.ipynb"
        execute_notebook(root / "notebooks/one.ipynb", target, root=root)
    assert not said(root, "one")["warm"]


def test_a_server_that_is_gone_costs_nothing_but_time(tmp_path):
    root = book_of(tmp_path, one=notebook_of(SAYS))
    with warm_kernels(dict(os.environ) | kernel_environment(tmp_path / "a.trace")):
        os.kill(warm._server.process.pid, signal.SIGKILL)
        warm._server.process.wait()
        target = root / "_build/src/notebooks/one.ipynb"
        execute_notebook(root / "notebooks/one.ipynb", target, root=root)
    assert not said(root, "one")["warm"]
