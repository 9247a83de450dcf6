"""What killed processes leave is swept up; what is finished is not done again."""

import json
import logging
import multiprocessing
import os
import signal
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch
from test_build import book_of, notebook_of

from circuitbook.__main__ import main
from circuitbook.mini import train as training
from circuitbook.mini.own import own_plan
from circuitbook.mini.train import PLANS, train
from circuitbook.publishing.scratch import scratch_folder
from circuitbook.store import Store, measurement_key, write_atomically
from circuitbook.store import files as store_files
from circuitbook.store.cache import alone
from circuitbook.store.files import sweep_up
from circuitbook.store.locks import alone_in
from circuitbook.store.sweeping import sweep_store

TINY = replace(own_plan(12, layers=2, width=16, heads=2, passages=None), checkpoints=(0, 12))
processes = multiprocessing.get_context("fork")


def dead_pid():
    child = processes.Process(target=lambda: None)
    child.start()
    child.join()
    return child.pid


def table(x=1.0):
    return pd.DataFrame({"x": [x]})


# ---- temporary files


def _stays_in_a_write(path):
    store_files.os.fsync = lambda _: time.sleep(100)
    write_atomically(path, b"half")


def test_a_writers_file_is_left_alone_until_it_is_killed(tmp_path):
    writer = processes.Process(target=_stays_in_a_write, args=[tmp_path / "a.json"])
    writer.start()
    while not (found := list(tmp_path.glob(".a.*.tmp"))):
        time.sleep(0.01)
    time.sleep(0.1)
    os.utime(found[0], (0, 0))  # however long it takes
    write_atomically(tmp_path / "b.json", b"another")
    assert found[0].exists()
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    write_atomically(tmp_path / "b.json", b"again")
    assert [file.name for file in tmp_path.iterdir()] == ["b.json"]


def test_only_what_writers_leave_is_swept_up(tmp_path):
    gone = dead_pid()
    names = [f".a.{gone}-0123abcd.tmp", f".a.{os.getpid()}-0123abcd.tmp", "a.tmp", ".mine.tmp"]
    for name in names:
        (tmp_path / name).touch()
    sweep_up(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names[1:])


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomically(tmp_path / "a", b"x")
    assert caught.value.filename == str(tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_long_names_can_be_written(tmp_path):
    write_atomically(tmp_path / ("n" * 250), b"x")
    assert (tmp_path / ("n" * 250)).read_bytes() == b"x"


# ---- the store


def _killed_between_payload_and_json(path):
    from circuitbook.store import disk

    write = disk.write_atomically

    def stops(file, payload):
        if file.suffix == ".json":
            os.kill(os.getpid(), signal.SIGKILL)
        write(file, payload)

    disk.write_atomically = stops
    Store(path).table(measurement_key("test", step=1), table)


def _measures(path, started):
    def compute():
        started.set()
        time.sleep(100)

    Store(path).table(measurement_key("test", step=3), compute)


def test_orphans_in_the_store_are_swept_up_and_nothing_else(tmp_path):
    Store(tmp_path).table(measurement_key("test", step=2), table)
    whole = sorted(tmp_path.rglob("*.*"))
    killed = processes.Process(target=_killed_between_payload_and_json, args=[tmp_path])
    killed.start()
    killed.join()
    orphan = next(file for file in tmp_path.rglob("*.parquet") if file not in whole)
    leftover = orphan.parent / f".{orphan.stem}.{dead_pid()}-0123abcd.tmp"
    leftover.touch()
    # a payload without JSON whose key somebody holds is being written
    started = processes.Event()
    writer = processes.Process(target=_measures, args=[tmp_path, started])
    writer.start()
    started.wait(30)
    lock = next(file for file in tmp_path.rglob("*.lock") if file.stem not in str(whole + [orphan]))
    held = lock.with_suffix(".parquet")
    held.touch()
    sweep_store.cache_clear()
    Store(tmp_path).table(measurement_key("test", step=4), table)
    assert not orphan.exists() and not leftover.exists()
    assert held.exists() and all(file.exists() for file in whole)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    sweep_store.cache_clear()
    sweep_store(tmp_path)
    assert not held.exists()


def test_who_waits_says_so_and_for_whom(tmp_path, caplog):
    started = processes.Event()
    writer = processes.Process(target=_measures, args=[tmp_path, started])
    writer.start()
    started.wait(30)
    reader = processes.Process(target=_measures, args=[tmp_path, processes.Event()])
    reader.start()  # another one that waits does not hide who is waited for
    time.sleep(0.3)
    os.kill(reader.pid, signal.SIGKILL)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(writer.pid, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, 2)
    with caplog.at_level(logging.WARNING):
        Store(tmp_path).table(measurement_key("test", step=3), table)
    writer.join()
    (said,) = [record.message for record in caplog.records]
    who = f"process {writer.pid} on {os.uname().nodename} (since {time.strftime('%Y-')}"
    assert said.startswith(f"waiting for {who}") and "), which is " in said
    assert "measuring test-" in said


def test_the_home_folder_may_be_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store("~/circuits").path == tmp_path / "circuits"
    monkeypatch.setenv("CIRCUITBOOK_STORE", "~/circuits")
    assert Store().path == tmp_path / "circuits"


def _makes(path, started):
    with alone(path):
        (path.parent / f".{path.name}.0123abcd.tmp").mkdir()
        started.set()
        time.sleep(100)


def test_folders_of_killed_processes_leave_the_cache(tmp_path):
    started = processes.Event()
    writer = processes.Process(target=_makes, args=[tmp_path / "a", started])
    writer.start()
    started.wait(30)
    left = tmp_path / ".a.0123abcd.tmp"
    with alone(tmp_path / "b"):
        assert left.exists()
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    with alone(tmp_path / "b"):
        assert not left.exists()


def _holds(folder, started):
    with alone_in(folder):
        started.set()
        time.sleep(100)


@pytest.mark.parametrize("command", ["build", "sweep"])
def test_who_is_at_work_in_a_folder_is_named(tmp_path, command):
    cell = "#| parameters\nSUITE = MODELS = STEPS = STORE = DEVICE = DTYPE = None"
    book_of(tmp_path, abilities=notebook_of(cell))
    out, started = tmp_path / "out", processes.Event()
    out.mkdir()
    holder = processes.Process(target=_holds, args=[out, started])
    holder.start()
    started.wait(30)
    options = ["--models=mini-xs", "--steps=0", "--notebooks=abilities"]
    try:
        with pytest.raises(SystemExit) as caught:
            main([command, f"--root={tmp_path}", f"--out={out}", *options[: 3 * (command > "c")]])
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
    said = str(caught.value)
    assert f"another {command} is at work in {out}, process {holder.pid} on " in said
    assert f"(since {time.strftime('%Y-')}" in said and "\n" not in said


# ---- folders of builds


def _builds(place, started):
    with scratch_folder(place):
        started.set()
        time.sleep(100)


def test_scratch_folders_of_killed_builds_are_removed_and_no_others(tmp_path):
    place, started = str(tmp_path), processes.Event()
    builder = processes.Process(target=_builds, args=[place, started])
    builder.start()
    started.wait(30)
    (of_builder,) = tmp_path.iterdir()
    # one that is locked, though here is no such process: another machine's
    (elsewhere := tmp_path / f"circuitbook-{dead_pid()}-abcdefgh").mkdir()
    for name in ("circuitbook-notes", "circuitbook-1-abcdefgh", "circuitbook"):
        (tmp_path / name).mkdir()
    others = {file.name for file in tmp_path.iterdir()}
    with alone_in(elsewhere), scratch_folder(place) as ours:
        assert {file.name for file in tmp_path.iterdir()} == others | {os.path.basename(ours)}
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    with scratch_folder(place):
        pass
    left = others - {of_builder.name, elsewhere.name}
    assert {file.name for file in tmp_path.iterdir()} == left


# ---- training


@pytest.fixture
def one_thread(monkeypatch):
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_model_that_is_finished_is_not_trained_again(tmp_path, monkeypatch, capsys, one_thread):
    """`train all`, stopped in the second model, goes on there."""
    for name in reversed(list(PLANS)):  # so that they come back in their order
        monkeypatch.delitem(PLANS, name)
    monkeypatch.setitem(PLANS, "one", TINY)
    monkeypatch.setitem(PLANS, "two", replace(TINY, seed=2))
    whole, seen = training.batch, []

    def stops(seed, step):
        seen.append(seed)
        if (seed, step) == (2, 5):
            raise KeyboardInterrupt
        return whole(seed, step)

    command = ["train", "all", f"--out={tmp_path / 'out'}", f"--state={tmp_path / 'state'}"]
    monkeypatch.setattr(training, "batch", stops)
    assert main(command) == 130
    first = (tmp_path / "out/one/training.csv").stat().st_mtime_ns
    seen.clear()
    (left := tmp_path / f"out/two/step0.partial{dead_pid()}").mkdir()
    monkeypatch.setattr(
        training, "batch", lambda seed, step: seen.append(seed) or whole(seed, step)
    )
    assert main([*command[:2], "one", *command[2:]]) == 0
    assert set(seen) == {2} and not left.exists()
    assert (tmp_path / "out/one/training.csv").stat().st_mtime_ns == first
    said = capsys.readouterr().out
    assert "out/one is trained already; remove that folder to train it again" in said
    # another plan under that name is another run
    monkeypatch.setitem(PLANS, "one", replace(TINY, seed=3))
    seen.clear()
    assert main([*command, "--jobs=1"]) == 0
    assert set(seen) == {3}


@pytest.mark.parametrize("damage", ["empty", "cut", "garbled", "other", "shapes"])
def test_a_damaged_state_is_named_and_the_run_begins_again(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(training, "SAVE_EVERY", 3)
    whole = train("tiny", TINY, tmp_path / "whole", tmp_path / "state", progress=False)
    batch = training.batch

    def stops(seed, step):
        if step == 7:
            raise KeyboardInterrupt
        return batch(seed, step)

    monkeypatch.setattr(training, "batch", stops)
    with pytest.raises(KeyboardInterrupt):
        train("tiny", TINY, tmp_path, tmp_path / "state", progress=False)
    monkeypatch.setattr(training, "batch", batch)
    file = tmp_path / "state" / "tiny.pt"
    content = file.read_bytes()
    assert not list(file.parent.glob("*.partial")) and not list(file.parent.glob(".*"))
    if damage == "other":
        torch.save([1], file)
    elif damage == "shapes":
        state = torch.load(file, weights_only=True)
        state["model"] = {name: weight[:1] for name, weight in state["model"].items()}
        torch.save(state, file)
    else:
        middle = len(content) // 2
        file.write_bytes(
            {"empty": b"", "cut": content[:middle], "garbled": b"x" * 999 + content[999:]}[damage]
        )
    with pytest.warns(UserWarning, match=r"tiny\.pt is not a state that was saved .*from step 0"):
        train("tiny", TINY, tmp_path, tmp_path / "state", progress=False)
    assert not file.exists()
    losses = [
        json.loads((folder / "losses.json").read_text()) for folder in (whole, tmp_path / "tiny")
    ]
    assert losses[0] == losses[1]


def test_a_full_disk_in_training_is_one_line(tmp_path, monkeypatch, one_thread):
    monkeypatch.setitem(PLANS, "tiny", TINY)

    def full(*_, **__):
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("transformers.GPTNeoXForCausalLM.save_pretrained", full)
    with pytest.raises(
        SystemExit, match=r"error: .*step0 cannot be written .*No space left"
    ) as said:
        main(["train", "tiny", f"--out={tmp_path / 'out'}", f"--state={tmp_path / 'state'}"])
    assert len(str(said.value).splitlines()) == 1
    assert not list((tmp_path / "out/tiny").glob("*partial*"))


def test_numbers_of_threads_and_jobs_are_checked(tmp_path):
    for option in ("threads", "jobs"):
        with pytest.raises(SystemExit, match=f"error: --{option} is at least 1, not 0"):
            main(["train", "mini-xs", f"--{option}=0", f"--out={tmp_path}"])
