"""Downloads from the stand-in, with everything that goes wrong on the way to a hub. No network
beyond loopback."""

import hashlib
import json
import os
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from hub_standin import commit_of

from circuitbook.suites.finding import load_suite
from circuitbook.weights import hash_memory
from circuitbook.weights.asking import HubError, HubUnreachable, Retry
from circuitbook.weights.hash_memory import HashMemory
from circuitbook.weights.hub import fetch, list_files, list_steps, settings, weights_hash

REPO = "EleutherAI/pythia-14m"
QUICK = Retry(base=0.001)
COMMIT = commit_of(REPO, "step0")
BLOB = "GET /blob/"  # a large file's body


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_only_what_is_needed_pinned_and_cached(hub, hub_repos):
    folder = fetch(REPO, "step0", retry=QUICK)
    needed = {"config.json", "pytorch_model.bin", "tokenizer.json", "tokenizer_config.json"}
    assert files_in(folder) == {name: hub_repos[REPO]["step0"][name] for name in needed}
    assert folder.name == COMMIT
    # The weights came by the commit, so a branch that moves meanwhile cannot mix two checkpoints.
    assert hub.asked(f"/resolve/{COMMIT}/pytorch_model.bin") and not hub.asked(
        "/resolve/step0/pytorch_model.bin"
    )
    hub.requests.clear()
    assert fetch(REPO, "step0", retry=QUICK) == folder
    assert [path for _, path, _ in hub.requests] == [
        f"/api/models/{REPO}/revision/step0"
    ]  # has the branch moved?


def test_every_form_of_weights(hub, hub_repos):
    def weights(step, prefer):
        return {name for name in files_in(fetch(REPO, step, prefer, QUICK)) if "model" in name}

    assert weights("step1", "pickle") == {"model.safetensors"}
    shards = {f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    assert weights("step512", "safetensors") == {"model.safetensors.index.json", *shards}
    assert weights("step143000", "pickle") == {"pytorch_model.bin"}
    assert weights("step143000", "safetensors") == {
        "model.safetensors",
        "pytorch_model.bin",
    }  # the latter from before


def test_hash_without_download_equals_the_hash_on_disk(hub, hub_repos, monkeypatch):
    for step, prefer in (
        ("step0", "safetensors"),
        ("step512", "safetensors"),
        ("step143000", "pickle"),
    ):
        announced = weights_hash(REPO, step, prefer, QUICK)
        assert not hub.asked(BLOB)
        folder = fetch(REPO, step, prefer, QUICK)
        hub.requests.clear()
        parts = sorted(path for path in folder.iterdir() if path.suffix in (".bin", ".safetensors"))
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in parts]
        assert announced == (
            hashes[0]
            if len(hashes) == 1
            else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
        )
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert weights_hash(REPO, step, prefer, QUICK) == announced
        monkeypatch.delenv("HF_HUB_OFFLINE")


def test_steps_of_a_repository(hub):
    assert list_steps("me/run", QUICK) == {9: "step9", 10: "step10"} and list(
        list_steps("me/run", QUICK)
    ) == [9, 10]
    suite = load_suite("me/run", QUICK)
    assert suite.models == ("run",) and suite.steps("run") == (9, 10) and suite.name == "me/run"
    checkpoint = suite.checkpoint("run", 9)
    assert checkpoint.tokens_seen is None and (checkpoint.fetch() / "model.safetensors").exists()
    with pytest.raises(ValueError, match="no revisions step<N>"):
        load_suite("me/empty", QUICK)


def test_pythia_comes_by_its_own_pickle(hub, hub_repos):
    checkpoint = load_suite("pythia", QUICK).checkpoint("pythia-14m", 143_000)
    assert (checkpoint.fetch() / "pytorch_model.bin").exists() and not hub.asked(
        "model.safetensors"
    )
    assert (
        checkpoint.weights_hash
        == hashlib.sha256(hub_repos[REPO]["step143000"]["pytorch_model.bin"]).hexdigest()
    )


# ---- failures that pass --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where", ["GET /api/models/", "HEAD .*/pytorch_model.bin", BLOB, "GET .*/config.json"]
)
@pytest.mark.parametrize("status", [503, 500, 429])
def test_errors_that_pass(hub, hub_repos, waits, where, status):
    hub.fail(where, times=2, status=status)
    folder = fetch(REPO, "step0", retry=QUICK)
    assert (folder / "pytorch_model.bin").read_bytes() == hub_repos[REPO]["step0"][
        "pytorch_model.bin"
    ]
    assert len(hub.asked(where)) == 3 and waits


def test_waits_grow_and_are_spread(hub, waits):
    hub.fail("/api/models/", times=5, status=502)
    list_files(REPO, "step0", Retry(tries=6, base=1.0))
    assert len(waits) == 5
    for i, wait in enumerate(waits):
        assert 0.5 * 2**i <= wait <= 1.5 * 2**i
    assert (
        len({round(wait / 2**i, 6) for i, wait in enumerate(waits)}) == 5
    )  # jitter: no two the same multiple


def test_retry_after_is_honoured(hub, waits):
    hub.fail("/api/models/", status=429, headers={"Retry-After": "17"})
    hub.fail("/api/models/", status=429, headers={"RateLimit": '"api";r=0;t=23'})
    hub.fail(
        "/api/models/",
        status=503,
        headers={"Retry-After": formatdate(time.time() + 40, usegmt=True)},
    )
    assert list_files(REPO, "step0", QUICK).commit == COMMIT
    assert waits[:2] == [17, 23] and 35 < waits[2] <= 40
    hub.fail("/api/models/", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(
        HubUnreachable, match="too many requests.*wait 3600 s"
    ):  # too long to sit through
        list_files(REPO, "step0", QUICK)
    assert len(waits) == 3


def test_cut_connection_goes_on_where_it_stopped(hub, hub_repos, waits):
    hub.fail(BLOB, times=2, body="cut")
    folder = fetch(REPO, "step0", retry=QUICK)
    data = hub_repos[REPO]["step0"]["pytorch_model.bin"]
    assert (folder / "pytorch_model.bin").read_bytes() == data
    starts = [
        int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        for _, _, asked in hub.asked(BLOB)
    ]
    assert len(starts) == 3 and 0 == starts[0] < starts[1] < starts[2] < len(data)
    assert (
        starts[1] > len(data) // 2 - 2048
    )  # all that came before the cut was kept, but for a piece


@pytest.mark.parametrize("fault", ["reset", "short", "flip"])
@pytest.mark.parametrize("file", [BLOB, "GET .*/resolve/.*/tokenizer.json"])
def test_broken_bodies_are_fetched_again(hub, hub_repos, waits, fault, file):
    hub.fail(file, times=2, body=fault)
    folder = fetch(REPO, "step0", retry=QUICK)
    for name in ("pytorch_model.bin", "tokenizer.json"):
        assert (folder / name).read_bytes() == hub_repos[REPO]["step0"][name], name
    assert len(hub.asked(file)) == 3


def test_truncated_file_in_the_cache_is_fetched_again(hub, hub_repos):
    file = fetch(REPO, "step0", retry=QUICK) / "pytorch_model.bin"
    data = file.read_bytes()
    os.truncate(file.resolve(), len(data) - 5)
    assert (fetch(REPO, "step0", retry=QUICK) / "pytorch_model.bin").read_bytes() == data


def test_a_file_of_the_cache_that_was_changed_in_place_is_fetched_again(
    hub, hub_repos, tmp_path, monkeypatch
):
    monkeypatch.setenv("CIRCUITBOOK_CACHE", str(tmp_path / "own"))
    checkpoint = load_suite("pythia", QUICK).checkpoint("pythia-14m", 0)
    folder, announced = checkpoint.fetch(), checkpoint.weights_hash
    for name in ("pytorch_model.bin", "config.json"):
        file = (folder / name).resolve()
        right, before = file.read_bytes(), file.stat()
        file.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))  # of the same size
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # and time
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # without the hub it counts as what it is
        assert (checkpoint.weights_hash == announced) == (name == "config.json")
        monkeypatch.delenv("HF_HUB_OFFLINE")
        assert checkpoint.weights_hash == announced and checkpoint.fetch() == folder
        assert (folder / name).read_bytes() == right


def test_a_checked_file_of_the_cache_is_read_again_only_where_it_changed(
    hub, tmp_path, monkeypatch
):
    monkeypatch.setenv("CIRCUITBOOK_CACHE", str(tmp_path / "own"))
    monkeypatch.setattr("circuitbook.weights.hash_memory.SETTLED", 0.0)
    read, sha256 = [], hash_memory.sha256
    monkeypatch.setattr(hash_memory, "sha256", lambda path: read.append(path) or sha256(path))
    fetch(REPO, "step0", retry=QUICK)
    time.sleep(0.01)
    fetch(REPO, "step0", retry=QUICK)
    seen = len(read)
    assert 1 <= seen <= 2
    monkeypatch.setattr("circuitbook.weights.hub.HASHES", HashMemory())  # as in another process
    folder = fetch(REPO, "step0", retry=QUICK)
    assert len(read) == seen
    (folder / "pytorch_model.bin").resolve().touch()
    fetch(REPO, "step0", retry=QUICK)
    assert len(read) == seen + 1


def test_the_tokenizer_of_main_serves_steps_without_one(hub, hub_repos, monkeypatch):
    whole = hub_repos[REPO]["step1"]
    bare = {name: data for name, data in whole.items() if "token" not in name}
    other = json.dumps(json.loads(whole["tokenizer.json"]), indent=0).encode()
    main = {"tokenizer.json": other, "tokenizer_config.json": whole["tokenizer_config.json"]}
    monkeypatch.setitem(hub.repos, "me/late", {"main": main, "step1": bare})
    checkpoint = load_suite("me/late", QUICK).checkpoint("late", 1)
    identity = checkpoint.identity
    own = load_suite("me/run", QUICK).checkpoint("run", 9).identity
    assert identity["weights"] == own["weights"] and identity["tokenizer"] != own["tokenizer"]
    assert checkpoint.load().tokenizer(" Mary gave").input_ids == [2, 9]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert checkpoint.identity == identity
    assert checkpoint.load().tokenizer(" Mary gave").input_ids == [2, 9]
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setitem(hub.repos, "me/none", {"main": {"README.md": b""}, "step1": bare})
    with pytest.raises(ValueError, match="holds no tokenizer: .*revision main"):
        load_suite("me/none", QUICK).checkpoint("none", 1).load()


def test_vocabulary_and_merges_alone_come_from_the_hub(hub, hub_repos, monkeypatch):
    files = {n: data for n, data in hub_repos[REPO]["step1"].items() if "token" not in n}
    files |= {"vocab.json": b'{"a": 0, "b": 1, "ab": 2}', "merges.txt": b"#version: 0.2\na b\n"}
    monkeypatch.setitem(hub.repos, "me/old", {"step1": files})
    checkpoint = load_suite("me/old", QUICK).checkpoint("old", 1)
    identity = checkpoint.identity
    assert checkpoint.load().tokenizer("abba", add_special_tokens=False).input_ids == [2, 1, 0]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert checkpoint.identity == identity


# ---- failures that do not pass: one clear error each ---------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"match": "/api/models/", "status": 503}, "answers 503.*try again later"),
        ({"match": "/api/models/", "status": 429}, "too many requests.*log in"),
        (
            {"match": BLOB, "body": "flip"},
            "pytorch_model.bin of .* arrived damaged 5 times .*sha256",
        ),
        ({"match": BLOB, "body": "short"}, "kept arriving truncated"),
        ({"match": BLOB, "body": "reset"}, "cannot be reached.*reset by peer"),
        ({"match": "/api/models/", "status": 403, "code": ""}, "refuses access.*403.*log in"),
        (
            {"match": "/resolve/", "status": 403, "code": "GatedRepo"},
            "is gated: accept its terms on .*/pythia-14m",
        ),
        ({"match": "/resolve/", "status": 401, "code": "GatedRepo"}, "is gated"),
        (
            {"match": "tokenizer.json", "status": 404, "code": "EntryNotFound"},
            "answers 404 for .*step0: try again later",
        ),
    ],
)
def test_lasting_failures(hub, waits, fault, message):
    hub.fail(**fault, times=1000)
    with pytest.raises(HubError, match=message) as error:
        fetch(REPO, "step0", retry=QUICK)
    assert "EleutherAI/pythia-14m" in str(error.value) and "\n" not in str(error.value)


def test_missing_revision_and_repository(hub, waits):
    with pytest.raises(HubError, match="no revision step7 .*list_steps"):
        fetch(REPO, "step7", retry=QUICK)
    with pytest.raises(HubError, match="pythia-31m was not found on .*private.*log in"):
        load_suite("pythia", QUICK).checkpoint("pythia-31m", 0).fetch()
    with pytest.raises(HubError, match="model/mini was not found.*local folder"):
        load_suite("model/mini", QUICK)
    with pytest.raises(HubError, match="me/run at main holds no model"):
        fetch("me/run", "main", retry=QUICK)
    assert not waits  # asking again would not help


def test_missing_shard(hub):
    files = dict(hub.repos[REPO]["step512"])
    del files["model-00002-of-00002.safetensors"]
    hub.repos = hub.repos | {"me/broken": {"step512": files}}
    for call in (fetch, weights_hash):
        with pytest.raises(
            HubError, match="me/broken at step512 lacks model-00002-of-00002.safetensors"
        ):
            call("me/broken", "step512", retry=QUICK)


def test_no_network(hub, waits, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(
        HubUnreachable, match="http://127.0.0.1:9 cannot be reached for .*check the network"
    ):
        fetch(REPO, "step0", retry=QUICK)
    assert len(waits) == QUICK.tries - 1


@pytest.mark.parametrize("trouble", ["offline", "no network", "503"])
def test_the_cache_is_enough_when_the_hub_is_away(hub, waits, monkeypatch, trouble):
    folder = fetch(REPO, "step0", retry=QUICK)
    load_suite("me/run", QUICK).checkpoint("run", 9).fetch()
    announced = settings(REPO, "step0", retry=QUICK)
    assert set(announced) == {"config.json", "tokenizer.json", "tokenizer_config.json"}
    (folder / "vocab.json").write_text("{}")  # of another program
    if trouble == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if trouble == "no network":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub.fail(".", times=1000, status=503)
    assert fetch(REPO, "step0", retry=QUICK) == folder
    assert load_suite("me/run", QUICK).steps("run") == (9,)
    assert settings(REPO, "step0", retry=QUICK) == announced  # so that keys are the same
    assert not waits  # with the files at hand nobody wants to wait
    message = "HF_HUB_OFFLINE is set: unset it" if trouble == "offline" else "503|cannot be reached"
    with pytest.raises(HubUnreachable, match=message):
        fetch(REPO, "step1", retry=QUICK)


def test_a_full_disk_is_not_blamed_on_the_hub(hub, waits, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("circuitbook.weights.hub.hf_hub_download", full)
    with pytest.raises(OSError, match="No space left") as error:
        fetch(REPO, "step0", retry=QUICK)
    assert not isinstance(error.value, HubError) and not waits
