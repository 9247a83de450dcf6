"""Sweeps, disturbed in earnest: a hub on loopback, workers and schedulers that are killed, a full
disk, damaged and missing weights."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
from children import running, start, wait_for
from closeness import assert_close
from conftest import as_on_pythia, random_network, save_checkpoint
from hub_standin import Hub
from nbformat.v4 import new_code_cell, new_notebook

from circuitbook.__main__ import main
from circuitbook.paths import PACKAGE
from circuitbook.publishing.errors import BuildError
from circuitbook.store.disk import Store
from circuitbook.studies.parameters import select
from circuitbook.sweep.command import sweep
from circuitbook.sweep.shards import Outcome, chosen_notebooks, outcome, plan

MODEL, STEPS = "pythia-14m", [0, 1, 2, 4]
CELLS = (
    """SUITE = "pythia"
MODELS = STEPS = STORE = NOTE = None
DEVICE = "cpu"
DTYPE = "float32"
SLOW = 0
""",
    # Reads a weight and loads no model: many kernels run here, and most of what one costs would be
    # to import transformers.
    """
import os, time
import pandas as pd, torch
from safetensors.torch import load_file
from circuitbook.store import Store, measurement_key
from circuitbook.suites import load_suite
suite, store = load_suite(SUITE), Store(STORE)
if NOTE:
    with open(NOTE, "a") as file:
        file.write(f"{os.getppid()} {STEPS}\\n")
rows = []
for name in MODELS:
    for step in STEPS:
        checkpoint = suite.checkpoint(name, step)
        def measured():
            folder = checkpoint.fetch()
            safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
            weights = load_file(safe) if safe.exists() else torch.load(pickled, weights_only=True)
            weight = weights["gpt_neox.layers.0.mlp.dense_h_to_4h.weight"]
            if not weight.isfinite().all():
                raise FloatingPointError(f"{name} at step {step} gives NaN")
            found = {"step": step, "mean": float(weight.mean()), "noise": float(weight.std())}
            return pd.DataFrame([found | {"padding": "x" * 100}])
        key = measurement_key("sweep_test", weights=checkpoint.weights_hash)
        rows.append(store.table(key, measured))
        time.sleep(SLOW)
pd.concat(rows)
""",
)


@pytest.fixture(scope="module")
def repos(tmp_path_factory):
    folder, revisions = tmp_path_factory.mktemp("pythia"), {}
    for step in STEPS:
        network = random_network(seed=step)
        if step == 4:
            with torch.no_grad():
                network.gpt_neox.layers[0].mlp.dense_h_to_4h.weight[0, 0] = torch.nan
        revisions[f"step{step}"] = as_on_pythia(
            save_checkpoint(folder / f"step{step}", network), "pickle" if step else "safetensors"
        )
    return {f"EleutherAI/{MODEL}": revisions}


@pytest.fixture
def place(tmp_path, repos, monkeypatch):
    """A folder with notebooks/abilities.ipynb, a hub that answers, an empty cache; everything that
    processes inherit."""
    notebook = new_notebook(
        cells=[new_code_cell(CELLS[0], metadata={"tags": ["parameters"]}), new_code_cell(CELLS[1])]
    )
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "abilities.ipynb")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    )
    with Hub(repos) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield tmp_path, hub


def run(folder, steps=STEPS[:3], out="sweep", store="store", parameters=None, **options):
    chosen, said = select("pythia", MODEL, steps, None, "cpu", keep_doubles=True), []
    results = sweep(
        folder,
        folder / out,
        chosen,
        ("abilities",),
        {"SUITE": "pythia", "DEVICE": "cpu"} | (parameters or {}),
        folder / store,
        per_shard=1,
        say=said.append,
        **options,
    )
    return {one.name.rsplit("-", 1)[1]: one for one in results}, said


def content(folder, store="store"):
    """What was measured, whatever else is said of it: {step: mean}."""
    tables = [pd.read_parquet(file) for file in sorted((folder / store).rglob("*.parquet"))]
    return dict(sorted((int(t["step"].iloc[0]), float(t["mean"].iloc[0])) for t in tables))


# ------------------------------------------------------------------ without executing anything


def test_shards_cover_every_checkpoint_once(place):
    folder, _ = place
    chosen = select(
        "pythia", [MODEL, "pythia-31m"], [0, 1, 2, 4, 8], None, "cpu", keep_doubles=True
    )
    shards = plan(
        folder, folder / "o", folder / "s", chosen, ("abilities",), {"SUITE": "pythia"}, per_shard=2
    )
    assert [shard.name for shard in shards[:3]] == [f"{MODEL}-0-1", f"{MODEL}-2-4", f"{MODEL}-8"]
    assert [(s.model, step) for s in shards for step in s.steps] == [
        (m, step) for m in (MODEL, "pythia-31m") for step in (0, 1, 2, 4, 8)
    ]
    assert len({shard.fingerprint for shard in shards}) == 6 and shards[0].parameters["STEPS"] == [
        0,
        1,
    ]
    assert outcome(shards[0]).state == "missing"
    shards[0].record.parent.mkdir(parents=True)
    for text, state in (
        (
            json.dumps(vars(Outcome(shards[0].name, "done", fingerprint=shards[0].fingerprint))),
            "done",
        ),
        (
            json.dumps(vars(Outcome(shards[0].name, "done", fingerprint="of another library"))),
            "missing",
        ),
        ('{"na', "missing"),
    ):
        shards[0].record.write_text(text)
        assert outcome(shards[0]).state == state
    with pytest.raises(ValueError, match="0 checkpoints a shard"):
        plan(folder, folder, folder, chosen, ("abilities",), {"SUITE": "pythia"}, per_shard=0)
    with pytest.raises(ValueError, match="no section notebook 'speed'"):
        chosen_notebooks(["speed"], folder)
    with pytest.raises(ValueError, match="there is no .*circuits-over-training.ipynb"):
        chosen_notebooks("all", folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_shard_knows_every_byte_of_its_checkpoints(tmp_path, name):
    """One byte changes, size and mtime stay: the shard with that checkpoint is new work."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/abilities.ipynb").write_text("{}")
    for step in (0, 1):
        save_checkpoint(tmp_path / f"suite/small/step{step}", seed=step)
    (tmp_path / "suite/suite.json").write_text('{"tokens_per_step": 5}')

    def fingerprints():
        selection = select(str(tmp_path / "suite"), device="cpu", keep_doubles=True)
        parameters = {"SUITE": str(tmp_path / "suite")}
        shards = plan(
            tmp_path, tmp_path, tmp_path, selection, ("abilities",), parameters, per_shard=1
        )
        return [shard.fingerprint for shard in shards]

    before = fingerprints()
    assert fingerprints() == before
    file = tmp_path / "suite/small/step1" / name
    status, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size and file.stat().st_mtime_ns == status.st_mtime_ns
    after = fingerprints()
    assert after[0] == before[0] and after[1] != before[1]
    # a checkpoint without weights is planned as well, and left to fail in its shard
    (tmp_path / "suite/small/step0/model.safetensors").unlink()
    assert fingerprints()[0] != before[0] and fingerprints()[1] == after[1]


def test_a_dry_run_says_what_it_costs_and_does_nothing(place, capsys):
    folder, hub = place
    command = [
        "sweep",
        "--suite",
        "pythia",
        "--models",
        MODEL,
        "pythia-160m",
        "--steps",
        "0",
        "1",
        "2",
        "--notebooks",
        "abilities",
        "--root",
        str(folder),
        "--out",
        str(folder / "sweep"),
        "--store",
        str(folder / "store"),
        "--per-shard",
        "2",
        "--dry-run",
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert (
        "pythia-160m-0-1: 2 checkpoints, missing; 0.6 GB to download, time unknown yet" in said
        and "4 shards, 4 to do, 1.0 GB to download" in said
    )
    assert "pythia-160m: 0.8 GB at least (0.6 for the weights); " in said
    assert not (folder / "sweep").exists() and not (folder / "store").exists() and not hub.requests


def sweeping(folder, *options, suite=None) -> list[str]:
    command = ["sweep", "--suite", suite or "pythia", "--notebooks", "abilities", *options]
    for name in ("root", "out", "store"):
        if f"--{name}" not in options:
            command += [f"--{name}", str(folder if name == "root" else folder / name)]
    return [str(part) for part in command]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--models", MODEL, "--workers", "0"], "--workers 0 would execute nothing"),
        (["--models", MODEL, "--disk-budget", "nan"], "--disk-budget nan is no size"),
        (["--models", MODEL, "--disk-budget", "-5"], "--disk-budget -5.0 is no size"),
        (["--models", MODEL, "--scheduler", "here"], "--scheduler 'here' is no address"),
        (["--models", MODEL, "--workers", "-2"], "--workers -2 would execute nothing"),
        (["--models", MODEL, "--per-shard", "0"], "0 checkpoints a shard are not possible"),
        (["--models", MODEL, "-p", "NOTES=1"], "no notebook has a parameter NOTES; did you mean"),
        (["--models", MODEL, "-p", "SUITE=mini"], "is not read by a sweep: give --suite"),
        (["--models", MODEL, "-p", "STEPS=[1]"], "is not read by a sweep: give --steps"),
        (["--models", MODEL, "--steps", "0", "x"], "--steps takes step numbers or one schedule"),
        (["--models", MODEL, "--out", "FILE/out"], "FILE is not a folder"),
        (["--models", MODEL, "--out", "x" * 300], "cannot be made: File name too long"),
    ],
)
def test_a_dry_run_refuses_what_the_sweep_refuses(place, options, says, monkeypatch):
    folder, hub = place
    (folder / "FILE").write_text("")
    monkeypatch.chdir(folder)
    said = []
    for dry in ([], ["--dry-run"]):
        with pytest.raises(SystemExit) as ended:
            main(sweeping(folder, *options, *dry))
        said.append(str(ended.value))
    assert said[0] == said[1] and says in said[0] and "\n" not in said[0] and not hub.requests


def test_a_dry_run_refuses_models_with_different_steps(tmp_path, place):
    folder, _ = place
    for model, steps in {"a": (0, 1), "b": (0, 2)}.items():
        for step in steps:
            save_checkpoint(tmp_path / "suite" / model / f"step{step}")
    (tmp_path / "suite/suite.json").write_text('{"tokens_per_step": 5}')
    said = []
    for dry in ([], ["--dry-run"]):
        with pytest.raises(SystemExit) as ended:
            main(sweeping(folder, *dry, suite=tmp_path / "suite"))
        said.append(str(ended.value))
    assert said[0] == said[1] and "different steps; sweep them one after the other" in said[0]


def test_a_folder_is_the_same_from_another_root(tmp_path, place, monkeypatch, capsys):
    """Notebooks run in the book's folder: there a path that is relative to ours leads elsewhere."""
    folder, _ = place
    save_checkpoint(tmp_path / "mine/suite/a/step0")
    (tmp_path / "mine/suite/suite.json").write_text('{"tokens_per_step": 5}')
    monkeypatch.chdir(tmp_path / "mine")
    seen = []
    monkeypatch.setattr(
        "circuitbook.sweep.command.sweep", lambda *what, **_: seen.append(what[4]) or []
    )
    assert main(sweeping(folder, "--dry-run", suite="suite")) == 0
    assert main(sweeping(folder, suite="suite")) == 0
    assert seen[0]["SUITE"] == str((tmp_path / "mine/suite").resolve())
    assert "1 shards, 1 to do" in capsys.readouterr().out


def test_two_sweeps_need_two_folders(place):
    import filelock

    folder, _ = place
    (folder / "sweep").mkdir()
    with (
        filelock.FileLock(folder / "sweep" / ".lock"),
        pytest.raises(BuildError, match="another sweep is at work"),
    ):
        run(folder)
    with pytest.raises(BuildError, match="no notebook has a parameter NOTES; did you mean NOTE"):
        run(folder, parameters={"NOTES": 1})


def test_a_scheduler_that_is_not_there_is_named(place):
    folder, _ = place
    with pytest.raises(
        ValueError,
        match=r"the scheduler at tcp://127.0.0.1:\d+ has been away for "
        r".*it goes on where it stopped",
    ):
        run(folder, scheduler=f"tcp://127.0.0.1:{_port()}", patience=0.5)


# ------------------------------------------------------------------ disturbed


@pytest.mark.slow
def test_damage_nan_and_a_busy_hub_cost_only_their_own_shards(place, repos):
    folder, hub = place
    sha = hashlib.sha256(repos[f"EleutherAI/{MODEL}"]["step1"]["pytorch_model.bin"]).hexdigest()
    hub.fail(f"GET /blob/{sha}", times=1000, body="flip")
    hub.fail(r"/api/models/.*step2", times=2, status=429, headers={"Retry-After": "1"})
    results, said = run(folder, STEPS, workers=2)
    assert {step: one.state for step, one in results.items()} == {
        "0": "done",
        "1": "failed",
        "2": "done",
        "4": "failed",
    }
    assert (
        "arrived damaged" in results["1"].reason
        and "FloatingPointError: pythia-14m at step 4 gives NaN" in results["4"].reason
    )
    assert all(Path(results[step].notebook).is_file() for step in "14") and results[
        "1"
    ].notebook.endswith(".partial.ipynb")
    assert (
        any("[4/4]" in line and "2 failed" in line for line in said)
        and any("1 running" in line for line in said)
        and not (folder / "sweep" / "abilities.ipynb").exists()
    )  # no whole without its parts
    assert sorted(content(folder)) == [0, 2]

    asked = len(hub.requests)
    again, said = run(folder, STEPS)  # what failed is not tried again unasked
    assert {step: one.state for step, one in again.items()} == {
        step: one.state for step, one in results.items()
    }
    assert len(hub.requests) == asked and "0 to do" in said[0]
    hub.faults.clear()
    mended, said = run(folder, STEPS, retry_failed=True)
    assert [one.state for one in mended.values()] == [
        "done",
        "done",
        "done",
        "failed",
    ] and "2 to do" in said[0]
    whole, _ = run(folder, STEPS[:3])  # without the damaged step: everything is there
    assert (
        all(one.state == "done" for one in whole.values())
        and (folder / "sweep" / "abilities.ipynb").is_file()
    )
    means = content(folder)  # right, whatever went wrong on the way
    assert list(means) == [0, 1, 2]
    for step, mean in means.items():
        weight = random_network(seed=step).gpt_neox.layers[0].mlp.dense_h_to_4h.weight
        assert_close(mean, weight.mean(), rounds=10, size=weight.abs().max())


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(place, monkeypatch):
    folder, _ = place
    note = folder / "note"
    options = [
        "--notebooks",
        "abilities",
        "--per-shard",
        "1",
        "--device",
        "cpu",
        "-p",
        f"NOTE={note}",
    ]
    options += ["--root", folder, "--out", folder / "sweep", "--store", folder / "store"]
    what = ["--suite", "pythia", "--models", MODEL, "--steps", "0", "1", "-p", "SLOW=2"]
    command = [sys.executable, "-m", "circuitbook", "sweep", *what, *options]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with running(command, **piped) as process:
        wait_for(note.exists)
        worker = int(note.read_text().split()[0])  # the kernel's parent
        os.kill(worker, signal.SIGKILL)
        printed = process.communicate(timeout=300)[0]
    assert process.returncode == 0, printed
    assert "all 2 shards are done" in printed and len(content(folder)) == 2
    assert len(note.read_text().splitlines()) >= 3  # one shard was begun twice
    assert not [file for file in (folder / "store").rglob("*.tmp")]


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _dask(port: int, folder: Path):
    """A scheduler and a worker in processes of their own."""
    environment = os.environ | {"DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    quiet = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "env": environment,
        "cwd": folder,
        "start_new_session": True,
    }
    scheduler = start(
        [
            sys.executable,
            "-m",
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--no-dashboard",
        ],
        **quiet,
    )
    worker = start(
        [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            f"tcp://127.0.0.1:{port}",
            "--nthreads",
            "1",
            "--no-dashboard",
        ],
        **quiet,
    )
    try:
        yield
    finally:
        for process in (scheduler, worker):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
def test_a_scheduler_that_is_killed_and_started_again(place):
    import threading

    folder, _ = place
    port, note, out = _port(), folder / "note", {}
    address = f"tcp://127.0.0.1:{port}"

    def begun() -> str:
        return note.read_text() if note.exists() else ""

    with _dask(port, folder):
        thread = threading.Thread(
            target=lambda: out.update(
                zip(
                    ("results", "said"),
                    run(
                        folder,
                        [0, 1, 2],
                        scheduler=address,
                        parameters={"NOTE": str(note), "SLOW": 3},
                    ),
                    strict=True,
                )
            )
        )
        thread.start()
        # one shard is done, the second has begun
        wait_for(lambda: list((folder / "sweep" / "shards").glob("*-0.json")) and "[1]" in begun())
        before = begun()
    with _dask(port, folder):
        thread.join(timeout=300)
    assert not thread.is_alive() and [one.state for one in out["results"].values()] == ["done"] * 3
    # whether it is said that the scheduler is away depends on how soon it is back
    assert len(content(folder)) == 3
    # what was done is not done again, however often a worker was started for it
    assert begun().count("[0]") == before.count("[0]"), begun()


@pytest.mark.slow
def test_a_full_disk_loses_nothing_that_was_done(place):
    folder, _ = place
    small = folder / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        results, _ = run(folder, [0], out="small/sweep", store="small/store", final=False)
        assert results["0"].state == "done"
        free = os.statvfs(small)
        (small / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize))
        results, _ = run(folder, [0, 1], out="small/sweep", store="small/store", final=False)
        assert (results["0"].state, results["1"].state) == (
            "done",
            "failed",
        ) and "No space left" in results["1"].reason
        assert sorted(content(small)) == [0]
        (small / "filler").unlink()
        results, said = run(
            folder, [0, 1], out="small/sweep", store="small/store", retry_failed=True, final=False
        )
        assert (
            [one.state for one in results.values()] == ["done", "done"]
            and "1 to do" in said[0]
            and sorted(content(small)) == [0, 1]
        )
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.slow
def test_two_sweeps_share_a_store_and_a_budget_drops_what_was_used(place):
    import threading

    folder, hub = place
    out = {}
    threads = [
        threading.Thread(
            target=lambda name=name: out.__setitem__(
                name, run(folder, [0, 1], out=name, final=False, budget_gb=0.0)[0]
            )
        )
        for name in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert [one.state for name in ("one", "two") for one in out[name].values()] == ["done"] * 4
    entries = Store(folder / "store").entries()
    assert len(entries) == 2 and len(content(folder)) == 2  # measured once, by whichever came first
    assert not list((folder / "cache").rglob("pytorch_model.bin")) and not list(
        (folder / "cache").rglob("*.safetensors")
    )
