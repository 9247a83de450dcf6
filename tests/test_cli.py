"""`python -m circuitbook train`: what it writes, and what it says to a wrong name."""

import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
import torch
from children import running, wait_for

from circuitbook.__main__ import main
from circuitbook.mini import train as training
from circuitbook.mini.train import PLANS, Plan
from circuitbook.paths import PACKAGE
from circuitbook.suites.finding import load_suite

TINY = Plan(layers=2, width=16, heads=2, lr=1e-2, steps=70, warmup=3, checkpoints=(0, 70))


def test_train_writes_a_suite_and_its_log(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PLANS, "tiny", TINY)
    threads = torch.get_num_threads()
    try:
        assert (
            main(
                [
                    "train",
                    "tiny",
                    "--out",
                    str(tmp_path / "out"),
                    "--state",
                    str(tmp_path / "state"),
                ]
            )
            == 0
        )
    finally:
        torch.set_num_threads(threads)
    assert "Writing model shards" not in capsys.readouterr().err  # our bar alone
    assert load_suite(str(tmp_path / "out")).steps("tiny") == (0, 70)
    log = pd.read_csv(tmp_path / "out" / "tiny" / "training.csv")
    assert list(log["step"]) == [0, 32, 64, 70] and list(log["tokens_seen"]) == [
        0,
        65536,
        131072,
        143360,
    ]
    assert log["training_loss"].iloc[1] > log["training_loss"].iloc[3] > 1  # it learned something
    assert log["fresh_loss"].iloc[3] == pytest.approx(log["training_loss"].iloc[3], abs=0.3)
    assert log["fresh_loss"].isna().tolist() == [False, True, True, False]
    assert not list((tmp_path / "state").glob("*")) and not list(
        (tmp_path / "out" / "tiny").glob("*.json")
    )


def test_an_unknown_model_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="cannot train mini-xxl: the mini suite has mini-xs"):
        main(["train", "mini-xxl", "--out", str(tmp_path)])


def test_an_unknown_device_is_one_line(tmp_path):
    with pytest.raises(
        SystemExit, match="error: device 'tpu' is not available here; use one of: cpu"
    ):
        main(["train", "mini-xs", "--out", str(tmp_path), "--device", "tpu"])


@pytest.mark.slow
def test_runs_side_by_side_stop_together_and_go_on(tmp_path):
    command = [
        sys.executable,
        "-m",
        "circuitbook",
        "train",
        "mini-xs",
        "mini-s",
        "--jobs",
        "2",
        "--out",
        str(tmp_path / "out"),
        "--state",
        str(tmp_path / "state"),
    ]
    source = str(PACKAGE.parent)
    env = os.environ | {"PYTHONPATH": source}
    out = tmp_path / "out"
    both = [out / name / "step0" / "model.safetensors" for name in ("mini-xs", "mini-s")]
    with running(command, env=env, stderr=subprocess.PIPE, text=True) as run:
        wait_for(lambda: all(path.exists() for path in both) or run.poll() is not None, 300)
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=120)[1]
    assert all(path.exists() for path in both)
    assert (
        run.returncode == 130
        and said.count("the same command goes on from here") == 3
        and "Traceback" not in said
    )
    assert not list((tmp_path / "out").glob("*/*partial*"))


def test_shipped_weights_come_from_this_code(tmp_path):
    """The first steps of a run give the shipped checkpoint, up to what another processor rounds
    differently."""
    from dataclasses import replace

    from safetensors.torch import load_file

    shipped = load_suite("mini").checkpoint("mini-xs", 128).fetch()
    plan = replace(PLANS["mini-xs"], checkpoints=(128,))
    stop = training.batch

    def batch(seed, step):
        if step == 128:
            raise KeyboardInterrupt
        return stop(seed, step)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "batch", batch)
        training.train("mini-xs", plan, tmp_path, tmp_path / "state", progress=False)
    torch.set_num_threads(threads)
    again = load_file(tmp_path / "mini-xs" / "step128" / "model.safetensors")
    for name, weight in load_file(shipped / "model.safetensors").items():
        torch.testing.assert_close(again[name], weight, atol=0.01, rtol=0.05, msg=name)
