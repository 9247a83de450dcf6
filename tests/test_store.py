"""The store under races, kills, damage and full disks: with real processes and real files."""

import dataclasses
import enum
import hashlib
import importlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from circuitbook.store import disk
from circuitbook.store.code import code_hash
from circuitbook.store.disk import Store, StoreError, default_store_path
from circuitbook.store.keys import measurement_key

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["circuitbook.store.disk"])


def key_of(**what):
    return measurement_key("test", **what)


class Counted:
    """A compute function that counts its calls in a file, a line per call, from any process."""

    def __init__(self, folder: Path, value: float = 1.5, seconds: float = 0.0):
        self.file, self.value, self.seconds = folder / "calls", value, seconds

    def __call__(self) -> pd.DataFrame:
        with open(self.file, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(self.seconds)
        return pd.DataFrame({"step": [0, 512], "logit_diff": [self.value, -2.25]})

    @property
    def calls(self) -> int:
        return len(self.file.read_text().splitlines()) if self.file.exists() else 0


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


# ---- reading back


def test_table_is_measured_once_and_comes_back_equal(tmp_path):
    store, compute = Store(tmp_path / "store"), Counted(tmp_path)
    first = store.table(key_of(step=512), compute)
    again = Store(tmp_path / "store").table(key_of(step=512), compute)
    assert compute.calls == 1
    pd.testing.assert_frame_equal(first, again)
    assert again["logit_diff"].tolist() == [1.5, -2.25] and again["step"].dtype == np.int64


def test_table_keeps_index_strings_missing_values_and_categories(tmp_path):
    table = pd.DataFrame(
        {
            "model": ["mini-s", None],
            "x": [np.nan, 3.0],
            "c": pd.Categorical(["b", "a"], ["b", "a"], ordered=True),
        },
        index=pd.MultiIndex.from_tuples([("ioi", 0), ("sva", 1)], names=["task", "step"]),
    )
    pd.testing.assert_frame_equal(Store(tmp_path).table(key_of(), lambda: table), table)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("view", ["plain", "transposed", "strided", "scalar", "empty"])
def test_arrays_of_every_shape_and_layout(tmp_path, dtype, view):
    array = (np.arange(24).reshape(4, 6) % 7 - (0 if dtype in ("bool", "uint8") else 3)).astype(
        dtype
    )
    views = {"plain": array, "transposed": array.T, "strided": array[::2, 1::3], "empty": array[:0]}
    array = np.asarray(views.get(view, array[1, 1]))
    back = Store(tmp_path).arrays(
        key_of(), lambda: {"scores": array, "other": np.array([7], dtype)}
    )
    assert back["scores"].dtype == array.dtype and back["scores"].shape == array.shape
    assert back["scores"].tolist() == array.tolist() and back["other"].tolist() == [
        np.array(7, dtype)
    ]
    back["other"][0] = 0  # what is returned is the caller's own


def test_bad_results_name_the_measurement_and_are_not_kept(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(
        TypeError, match=r"test-[0-9a-f]{12}: a table must be a pandas DataFrame.*list"
    ):
        store.table(key_of(a=1), lambda: [1, 2])
    with pytest.raises(TypeError, match="array 'names' must be .* not dtype <U3"):
        store.arrays(key_of(a=2), lambda: {"names": np.array(["abc"])})
    with pytest.raises(TypeError, match="array 'x' must be .* not float"):
        store.arrays(key_of(a=3), lambda: {"x": 1.0})
    with pytest.raises(TypeError, match="cannot be kept as parquet"):
        store.table(key_of(a=4), lambda: pd.DataFrame({"mixed": [1, "two", object()]}))
    assert not any(store.has(key_of(a=a)) for a in (1, 2, 3, 4)) and len(store.entries()) == 0


def test_asking_for_a_table_where_arrays_are_kept(tmp_path):
    store = Store(tmp_path)
    store.arrays(key_of(), lambda: {"x": np.ones(3)})
    with pytest.raises(TypeError, match=r"holds arrays: ask for it with store\.arrays"):
        store.table(key_of(), Counted(tmp_path))


# ---- keys


@dataclasses.dataclass(frozen=True)
class Recipe:
    points: int
    absolute: bool = True


class Side(enum.Enum):
    LEFT = "l"


def test_key_is_the_hash_of_its_canonical_fields():
    text = '{"code":[],"format":2,"kind":"ability","what":{"model":"mini-m","steps":[0,512]}}'
    key = measurement_key("ability", steps=(0, 512), model="mini-m")
    assert key.digest == hashlib.sha256(text.encode()).hexdigest()
    assert str(key) == f"ability-{key.digest[:12]}"


def test_what_is_the_same_and_what_is_not():
    torch = pytest.importorskip("torch")
    assert key_of(a=1, b=[1, 2]) == key_of(b=(1, 2), a=np.int64(1))
    assert key_of(tasks={"ioi", "sva", "gp"}) == key_of(tasks={"gp", "sva", "ioi"})
    assert (
        key_of(dtype=torch.float32) == key_of(dtype=np.dtype("float32")) == key_of(dtype="float32")
    )
    different = [
        key_of(x=1), key_of(x=1.0), key_of(x=True), key_of(x="1"), key_of(x=None), key_of(x=[1]),
        key_of(y=1), key_of(x=np.arange(2)), key_of(x=np.arange(3)),
        key_of(x=Recipe(5)), key_of(x=Recipe(30)), key_of(x=Recipe(5, False)),
        key_of(x={"points": 5, "absolute": True}),
        key_of(x=Side.LEFT), key_of(x="l"), key_of(dtype=torch.float16),
        key_of(x=wait_for), key_of(x=flip_bit), measurement_key("other", x=1),
    ]  # fmt: skip
    assert len({key.digest for key in different}) == len(different)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"names": np.array(["a", "b"])}, r"names is a numpy.ndarray.*hash"),
        ({"recipe": {"points": [1, object()]}}, r"recipe\['points'\]\[1\] is a builtins.object"),
        (
            {"recipe": Recipe(Path("x"))},
            r"recipe\.points is a pathlib\.\w+, which cannot be in a key",
        ),
        ({"steps": {1: 2}}, r"steps has the key 1; the keys of a dict must be strings"),
        ({"threshold": float("nan")}, r"threshold is nan"),
        ({"threshold": np.float32("inf")}, r"threshold is inf"),
        ({"f": len}, r"f is a function without a source: <built-in function len>"),
    ],
)
def test_what_cannot_be_in_a_key_is_named(what, message):
    with pytest.raises(TypeError, match=message):
        key_of(**what)


def test_bad_kind_and_bad_code():
    with pytest.raises(ValueError, match="kind '../x' must be"):
        measurement_key("../x")
    with pytest.raises(TypeError, match="code must be modules"):
        measurement_key("x", code=("circuitbook.store",))
    with pytest.raises(TypeError, match="code must be modules"):
        measurement_key("x", code=(lambda: 1,))


SOURCE = '''
"""Doc."""
def f(x):
    """Says."""
    return x + 1  # comment
'''


def import_source(folder, source, name="measured_code"):
    (folder / f"{name}.py").write_text(source)
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        sys.modules.pop(name, None)
        return importlib.import_module(name)
    finally:
        sys.dont_write_bytecode = before
        sys.path.remove(str(folder))


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        (("# comment", "# another"), True),
        (('"""Says."""', '"""Says more."""'), True),
        (('"""Doc."""', ""), True),
        (("x + 1", "(x\n        + 1)"), True),
        (("x + 1", "x + 2"), False),
        (("x + 1", "x - 1"), False),
        (("def f(x)", "def f(x=0)"), False),
        (('"""Says."""', 'y = """Says."""'), False),
        (("return x", "log.info(x)\n    return x"), True),
        (("return x", "log = []\n    log.append(x)\n    return x"), False),
        (("return x", "log.append(x)\n    return x"), False),
    ],
)
def test_code_counts_but_comments_and_docstrings_do_not(tmp_path, edit, same):
    before = code_hash(import_source(tmp_path, SOURCE))
    edited = SOURCE.replace(*edit)
    assert edited != SOURCE
    assert (code_hash(import_source(tmp_path, edited)) == before) is same


def test_file_edited_under_a_running_process_keeps_the_hash_of_what_runs(tmp_path):
    module = import_source(tmp_path, SOURCE)
    before = code_hash(module)
    (tmp_path / "measured_code.py").write_text(SOURCE.replace("+ 1", "+ 2"))
    assert code_hash(module) == before  # the old code is still what runs
    assert code_hash(import_source(tmp_path, SOURCE.replace("+ 1", "+ 2"))) != before


def test_a_package_stands_for_all_its_modules(tmp_path):
    package = tmp_path / "measured_package"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "deep" / "leaf.py").write_text("x = 1")
    sys.path.insert(0, str(tmp_path))
    try:
        first = code_hash(importlib.import_module("measured_package"))
        (package / "deep" / "leaf.py").write_text("x = 2")
        sys.modules.pop("measured_package")
        assert code_hash(importlib.import_module("measured_package")) != first
    finally:
        sys.path.remove(str(tmp_path))


def test_a_function_or_a_method_can_stand_for_itself(tmp_path):
    source = (
        "def f():\n    return 1\n\ndef g():\n    return 2\n\n"
        "class C:\n    def f(self):\n        return 3\n"
    )
    before = import_source(tmp_path, source)
    hashes = {name: code_hash(getattr(before, name)) for name in "fgC"}
    hashes["C.f"] = code_hash(before.C.f)
    assert len(set(hashes.values())) == 4
    # the later definition is the one that holds
    twice = import_source(tmp_path, source + "\ndef f():\n    return 5\n")
    assert code_hash(twice.f) != hashes["f"] and code_hash(twice.g) == hashes["g"]
    after = import_source(tmp_path, source.replace("return 3", "return 4"))
    assert code_hash(after.f) == hashes["f"] and code_hash(after.g) == hashes["g"]
    assert code_hash(after.C.f) != hashes["C.f"] and code_hash(after.C) != hashes["C"]
    # of a class that is only reached, the methods that nobody names do not count
    maker = "\ndef make():\n    return C()\n\ndef call():\n    return C().f()\n"
    one = import_source(tmp_path, source + maker)
    made, called = code_hash(one.make), code_hash(one.call)
    two = import_source(tmp_path, source.replace("return 3", "return 4") + maker)
    assert code_hash(two.make) == made and code_hash(two.call) != called
    assert list(measurement_key("x", code=(after.f, after.C.f)).code) == [
        "measured_code.f",
        "measured_code.C.f",
    ]


def test_new_parameter_weights_or_code_measures_anew(tmp_path):
    store, compute = Store(tmp_path / "store"), Counted(tmp_path)
    weights = [hashlib.sha256(np.float32([w, 1]).tobytes()).hexdigest() for w in (0.5, 0.25)]
    module = import_source(tmp_path, SOURCE)
    for what in (
        {"n": 70},
        {"n": 71},
        {"n": 70, "weights": weights[0]},
        {"n": 70, "weights": weights[1]},
        {"n": 70},
    ):
        store.table(measurement_key("test", code=(module,), **what), compute)
    assert compute.calls == 4
    module = import_source(tmp_path, SOURCE.replace("+ 1", "+ 2"))
    store.table(measurement_key("test", code=(module,), n=70), compute)
    assert compute.calls == 5


# ---- provenance


def test_json_beside_the_payload_says_where_it_comes_from(tmp_path):
    store = Store(tmp_path / "store")
    key = measurement_key("ability", code=(disk,), model="mini-m", recipe=Recipe(5))
    store.table(key, Counted(tmp_path, seconds=0.05))
    [file] = (tmp_path / "store").rglob("*.json")
    record = json.loads(file.read_text())
    assert record["what"] == {
        "model": "mini-m",
        "recipe": {"Recipe": {"points": 5, "absolute": True}},
    }
    assert list(record["code"]) == ["circuitbook.store.disk"] and record["kind"] == "ability"
    assert 0.05 <= record["seconds"] < 5
    payload = file.with_suffix(".parquet").read_bytes()
    assert record["sha256"] == hashlib.sha256(payload).hexdigest() and record["bytes"] == len(
        payload
    )
    assert record["versions"]["pandas"] == pd.__version__ and record["machine"]["cpu"]
    assert abs(pd.Timestamp(record["date"]) - pd.Timestamp.now("UTC")) < pd.Timedelta("1min")


def test_entries_lists_every_measurement_oldest_first(tmp_path):
    store = Store(tmp_path / "store")
    assert len(store.entries()) == 0 and "seconds" in store.entries()
    for step in (512, 0, 128):
        store.table(measurement_key("ability", step=step), Counted(tmp_path))
    store.arrays(measurement_key("edges", points=5), lambda: {"x": np.ones(2)})
    entries = store.entries()
    assert entries["kind"].tolist() == ["ability"] * 3 + ["edges"]
    assert entries["step"].tolist()[:3] == [512, 0, 128]
    assert all(Path(file).is_file() for file in entries["file"])
    assert store.entries("edges")["points"].tolist() == [5]
    (Path(entries["file"][0]).with_suffix(".json")).write_text("{")
    with pytest.warns(UserWarning, match="not readable and is left out"):
        assert len(store.entries()) == 3


def test_trace_tells_measured_from_read(tmp_path, monkeypatch):
    monkeypatch.setenv("CIRCUITBOOK_STORE_TRACE", str(tmp_path / "trace"))
    store, key = Store(tmp_path / "store"), key_of(step=1)
    for _ in range(2):
        store.table(key, Counted(tmp_path, seconds=0.02))
    lines = [line.split() for line in (tmp_path / "trace").read_text().splitlines()]
    assert [(digest, how) for digest, how, _ in lines] == [
        (key.digest, "measured"),
        (key.digest, "read"),
    ]
    assert lines[0][2] == lines[1][2] and float(lines[0][2]) >= 0.02


def test_default_path(tmp_path, monkeypatch):
    monkeypatch.setenv("CIRCUITBOOK_STORE", str(tmp_path / "elsewhere"))
    assert Store().path == tmp_path / "elsewhere"
    monkeypatch.delenv("CIRCUITBOOK_STORE")
    monkeypatch.chdir(tmp_path)
    checkout = Path(disk.__file__).parents[3]
    assert (
        default_store_path()
        == (checkout if (checkout / "_toc.yml").exists() else tmp_path) / ".store"
    )


# ---- damage


def flip_bit(file, at):
    payload = bytearray(file.read_bytes())
    payload[at] ^= 1 << 3
    file.write_bytes(bytes(payload))


@pytest.mark.parametrize("at", [0, 100, -1, "half", "gone", "empty", "swapped"])
def test_a_damaged_payload_is_noticed_named_and_measured_again(tmp_path, at):
    store, compute = Store(tmp_path / "store"), Counted(tmp_path)
    good = store.table(key_of(step=1), compute)
    [file] = (tmp_path / "store").rglob("*.parquet")
    if at == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif at == "gone":
        file.unlink()
    elif at == "empty":
        file.write_bytes(b"")
    elif at == "swapped":  # a whole and valid file, but of another measurement
        store.table(key_of(step=2), Counted(tmp_path / "store", value=9.0))
        [other] = set((tmp_path / "store").rglob("*.parquet")) - {file}
        shutil.copy(other, file)
    else:
        flip_bit(file, at)
    before = compute.calls
    with pytest.warns(UserWarning, match=rf"measurement {key_of(step=1)} is damaged.*{file.name}"):
        again = store.table(key_of(step=1), compute)
    assert compute.calls == before + 1
    pd.testing.assert_frame_equal(again, good)
    store.table(key_of(step=1), compute)
    assert compute.calls == before + 1  # mended for good


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"{}"])
def test_a_damaged_json_is_noticed_too(tmp_path, content):
    store, compute = Store(tmp_path / "store"), Counted(tmp_path)
    store.table(key_of(), compute)
    [file] = (tmp_path / "store").rglob("*.json")
    file.write_bytes(content)
    assert not store.has(key_of())
    with pytest.warns(UserWarning, match=file.name):
        store.table(key_of(), compute)
    assert compute.calls == 2 and store.has(key_of())


# ---- errors and interruptions


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_error_in_compute_comes_through_and_leaves_nothing(tmp_path, error):
    def fails():
        raise error("stop")

    store, compute = Store(tmp_path / "store"), Counted(tmp_path)
    with pytest.raises(error, match="stop"):
        store.table(key_of(), fails)
    assert not store.has(key_of())
    assert [f.suffix for f in (tmp_path / "store").rglob("*") if f.is_file()] in ([".lock"], [])
    store.table(key_of(), compute)
    assert compute.calls == 1


def _race(path, folder, barrier, results):
    compute = Counted(folder, seconds=0.3)
    barrier.wait()
    results.put(Store(path).table(key_of(step=7), compute)["logit_diff"].tolist())


def test_of_many_processes_one_measures_and_all_read(tmp_path):
    number = 6
    barrier, results = processes.Barrier(number), processes.Queue()
    arguments = (tmp_path / "store", tmp_path, barrier, results)
    workers = [processes.Process(target=_race, args=arguments) for _ in range(number)]
    for worker in workers:
        worker.start()
    got = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(30)
    assert Counted(tmp_path).calls == 1
    assert (
        got == [[1.5, -2.25]] * number and [worker.exitcode for worker in workers] == [0] * number
    )


def _hang_in_compute(path, started):
    def compute():
        started.touch()
        time.sleep(600)

    Store(path).table(key_of(step=1), compute)


def test_a_key_that_is_being_measured_blocks_no_other(tmp_path):
    worker = processes.Process(
        target=_hang_in_compute, args=(tmp_path / "store", tmp_path / "started")
    )
    worker.start()
    try:
        wait_for((tmp_path / "started").exists)
        compute = Counted(tmp_path)
        Store(tmp_path / "store").table(key_of(step=2), compute)
        assert compute.calls == 1 and worker.is_alive()
    finally:
        worker.kill()
        worker.join()


def test_kill_during_compute_leaves_nothing_and_frees_the_lock(tmp_path):
    worker = processes.Process(
        target=_hang_in_compute, args=(tmp_path / "store", tmp_path / "started")
    )
    worker.start()
    wait_for((tmp_path / "started").exists)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    store, compute = Store(tmp_path / "store"), Counted(tmp_path)
    assert not store.has(key_of(step=1)) and len(store.entries()) == 0
    begun = time.monotonic()
    store.table(key_of(step=1), compute)
    assert compute.calls == 1 and time.monotonic() - begun < 5


def _hang_in_write(path, folder, which, after):
    """Stops dead at the `which`-th rename, just before or just after it."""
    rename, count = os.replace, iter(range(10))

    def hang(source, target):
        stop = next(count) == which
        if stop and not after:
            (folder / "started").touch()
            time.sleep(600)
        rename(source, target)
        if stop:
            (folder / "started").touch()
            time.sleep(600)

    os.replace = hang
    Store(path).table(key_of(step=1), Counted(folder, value=99.0))


@pytest.mark.parametrize(
    ("which", "after", "finished"),
    [(0, False, False), (0, True, False), (1, False, False), (1, True, True)],
)
def test_kill_during_write_leaves_all_or_nothing(tmp_path, which, after, finished):
    worker = processes.Process(
        target=_hang_in_write, args=(tmp_path / "store", tmp_path, which, after)
    )
    worker.start()
    wait_for((tmp_path / "started").exists)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    store = Store(tmp_path / "store")
    assert store.has(key_of(step=1)) is finished and len(store.entries()) == finished
    table = store.table(key_of(step=1), Counted(tmp_path, value=1.5))
    assert table["logit_diff"][0] == (99.0 if finished else 1.5)
    assert not list((tmp_path / "store").rglob("*.tmp"))


def _write_too_much(path, results):
    store = Store(path)
    store.table(key_of(step=1), lambda: pd.DataFrame({"x": [1.5]}))
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (100_000, 100_000)
    )  # the kernel refuses to write more, as on a full disk
    big = np.random.default_rng(0).normal(size=50_000)
    try:
        store.arrays(key_of(step=2), lambda: {"x": big})
    except StoreError as error:
        left = [f.name for f in Path(path).rglob("*.tmp")]
        kept = store.table(key_of(step=1), lambda: 1 / 0)["x"].tolist()
        results.put(
            (
                str(error),
                bool((error.value["x"] == big).all()),
                store.has(key_of(step=2)),
                left,
                kept,
            )
        )


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path):
    results = processes.Queue()
    worker = processes.Process(target=_write_too_much, args=(tmp_path / "store", results))
    worker.start()
    message, value_kept, has, left, earlier = results.get(timeout=30)
    worker.join()
    assert (
        "could not be written to" in message
        and "File too large" in message
        and "CIRCUITBOOK_STORE" in message
    )
    assert value_kept and not has and left == [] and earlier == [1.5]


def _use_read_only(path, results):
    if os.getuid() == 0:  # permissions do not bind root
        os.setuid(65534)
    store = Store(path)
    kept = store.table(key_of(step=1), lambda: 1 / 0)["logit_diff"].tolist()
    try:
        store.table(key_of(step=2), lambda: results.put("computed"))
    except StoreError as error:
        results.put((kept, str(error)))


def test_a_read_only_store_can_be_read_and_says_why_it_cannot_be_written():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "store"
        Store(path).table(key_of(step=1), Counted(Path(folder)))
        folders = [path, *(f for f in path.rglob("*") if f.is_dir())]
        for each in folders:
            each.chmod(0o555)
        results = processes.Queue()
        worker = processes.Process(target=_use_read_only, args=(path, results))
        worker.start()
        answer = results.get(timeout=30)
        worker.join()
        for each in folders:
            each.chmod(0o755)
    assert answer != "computed"  # it is refused before an hour's work, not after
    assert answer[0] == [1.5, -2.25]
    assert f"the store {path} cannot be written: Permission denied" in answer[1]
