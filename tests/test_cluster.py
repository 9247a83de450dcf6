"""The cluster of a sweep: whom it lets in, and what is said where no worker can take a shard."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

distributed = pytest.importorskip("distributed")
pytest.importorskip("cryptography")

from distributed.security import Security  # noqa: E402

from circuitbook.sweep import cluster as clusters  # noqa: E402
from circuitbook.sweep.cluster import Cluster, local_cluster, run_on  # noqa: E402
from circuitbook.sweep.shards import Outcome, Shard, write_record  # noqa: E402

LISTENING = "0A"


def listening(processes: set[int]) -> list[tuple[str, int]]:
    """(address, port) of every TCP socket on which one of these processes listens."""
    inodes = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            target = os.readlink(descriptor) if descriptor.is_symlink() else ""
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTENING and rest[5] in inodes:
                packed, port = local.split(":")
                words = [bytes.fromhex(packed[i : i + 8])[::-1] for i in range(0, len(packed), 8)]
                found.append((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


def descendants(process: int) -> set[int]:
    """The process and all that it started, and these."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rsplit(")", 1)[1]
            parents[int(folder.name)] = int(after_name.split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    family = {process}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return family


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="Linux tells its sockets here")
def test_the_local_cluster_listens_on_loopback_and_lets_nobody_in_without_its_credentials():
    # what an earlier test started may still be at work, a kernel for instance, and open doors
    others = descendants(os.getpid()) - {os.getpid()}
    before = set(listening({os.getpid()}))
    with local_cluster(2) as cluster:
        doors = set(listening(descendants(os.getpid()) - others)) - before
        # a scheduler, and for each worker itself and its nanny; no HTTP server
        assert len(doors) == 5 and {address for address, _ in doors} == {"127.0.0.1"}, doors
        with distributed.Client(cluster.address, security=cluster.security) as client:
            assert client.submit(os.getpid).result() in descendants(os.getpid())
        for _, port in doors:
            for protocol, security in (("tcp", None), ("tls", Security.temporary())):
                address = f"{protocol}://127.0.0.1:{port}"
                with pytest.raises((OSError, TimeoutError, RuntimeError)):
                    distributed.Client(address, timeout=1, security=security)


def test_every_hint_for_serving_binds_loopback():
    root = Path(__file__).parents[1]
    files = [root / "Makefile", root / "README.md", root / "CONTRIBUTING.md"]
    files += [
        *root.glob("book/*.md"),
        *root.glob("notebooks/*.ipynb"),
        *(root / "lib").rglob("*.py"),
    ]
    hints = [
        line for file in files for line in file.read_text().splitlines() if "-m http.server" in line
    ]
    assert len(hints) >= 2 and all("--bind 127.0.0.1" in line for line in hints), hints


# ------------------------------------------------------------------ no worker that can


def shard(folder: Path) -> Shard:
    return Shard(
        model="m",
        steps=(0,),
        identities=({},),
        notebooks=(),
        parameters={},
        root=str(folder),
        out=str(folder / "out"),
    )


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(clusters, "SOON", 0.5)
    monkeypatch.setattr(clusters, "EVERY", 0.1)


def test_workers_without_a_gpu_are_named_and_end_the_wait(tmp_path, quick):
    said: list[str] = []
    with local_cluster(1) as cluster, pytest.raises(ValueError, match="none of the 1 workers of"):
        run_on(cluster, [shard(tmp_path)], pytest.fail, gpu=True, say=said.append, patience=2)
    assert len(said) == 1 and "--resources GPU=1" in said[0] and "--device cpu" in said[0]


def test_a_cluster_without_workers_is_waited_for_and_it_is_said(tmp_path, quick):
    """As where a queue starts them later: when one comes, the sweep goes on."""
    from distributed import LocalCluster

    said: list[str] = []
    ended: list[Outcome] = []
    with LocalCluster(
        n_workers=0,
        processes=False,
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        protocol="tcp",
    ) as bare:

        def say(line: str) -> None:
            said.append(line)
            bare.scale(1)

        run_on(
            Cluster(bare.scheduler_address),
            [shard(tmp_path)],
            lambda outcome, _: ended.append(outcome),
            say=say,
            patience=60,
        )
    assert len(said) == 1 and "has no workers" in said[0]
    assert [one.state for one in ended] == ["done"]


def test_what_is_on_disk_is_not_handed_in_again(tmp_path):
    """As when a client comes back to a new scheduler without having heard what had ended: here
    there is none to ask."""
    one = shard(tmp_path)
    one.record.parent.mkdir(parents=True)
    write_record(one, Outcome(one.name, "done", fingerprint=one.fingerprint))
    ended: list[Outcome] = []
    run_on(Cluster("tcp://127.0.0.1:1"), [one], lambda outcome, _: ended.append(outcome))
    assert [(outcome.name, outcome.state) for outcome in ended] == [(one.name, "done")]
