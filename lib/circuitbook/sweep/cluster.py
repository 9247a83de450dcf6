"""Shards on Dask: a cluster of this machine's, or one that is there already."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from circuitbook.publishing.execute import duration
from circuitbook.sweep.shards import Outcome, Shard, outcome, run_shard, write_record
from circuitbook.threads import waiting_policy

if TYPE_CHECKING:  # takes half a second to import
    from distributed import Client, Future
    from distributed.security import Security

PATIENCE = 600.0  # seconds to wait for a scheduler that went away
SOON = 10.0  # seconds after which it is said that no worker can take a shard
EVERY = 2.0  # seconds between two looks
GPU = "GPU"  # what a worker with one offers, in Dask's terms a resource


@dataclass(frozen=True)
class Cluster:
    """Where a scheduler is, and the credentials that it asks for; None: those of Dask's own
    configuration."""

    address: str
    security: Security | None = None


@contextlib.contextmanager
def local_cluster(workers: int, gpus: int = 0) -> Iterator[Cluster]:
    """A scheduler and workers on this machine. With `gpus`, a worker for each of them that sees no
    other.

    They listen on the loopback interface alone, and only to who has the certificate that was made
    for them: whoever reaches a scheduler can have it run anything as its owner, and other users of
    this machine reach its loopback too.
    """
    from distributed import Nanny, SpecCluster
    from distributed.security import Security

    from circuitbook.sweep.nodes import QuietScheduler, QuietWorker

    threads = max(1, (os.cpu_count() or 1) // workers)
    try:
        security = Security.temporary()
    except ImportError:
        raise ValueError(
            "a cluster on this machine needs the package cryptography, for credentials that keep "
            'others out: pip install -e ".[sweep]"'
        ) from None
    doors = {"host": "127.0.0.1", "protocol": "tls", "security": security}

    def options(number: int) -> dict:
        if gpus:
            environment = {"CUDA_VISIBLE_DEVICES": str(number)}
        else:
            environment = {"OMP_NUM_THREADS": str(threads)} | waiting_policy(os.environ)
        return {
            "cls": Nanny,
            "options": doors
            | {
                "worker_class": QuietWorker,
                "nthreads": 1,
                "resources": {GPU: 1} if gpus else {},
                "env": environment,
                "silence_logs": 50,
            },
        }

    specification = {number: options(number) for number in range(gpus or workers)}
    with SpecCluster(
        workers=specification,
        scheduler={"cls": QuietScheduler, "options": doors | {"dashboard": False}},
        security=security,
        silence_logs=50,
    ) as cluster:
        yield Cluster(cluster.scheduler_address, security)


def run_on(
    cluster: Cluster,
    shards: Sequence[Shard],
    ended: Callable[[Outcome, int], None],
    *,
    gpu: bool = False,
    say: Callable[[str], None] = print,
    patience: float = PATIENCE,
) -> None:
    """Has the shards executed by the workers of a Dask scheduler, in their order, and calls `ended`
    for each.

    `ended(outcome, running)` is also told how many shards are at work then. With `gpu` a shard
    takes one unit of the workers' resource "GPU"; where no worker can take a shard, it is said (see
    `_Workers`). A worker that dies has its shard given to another; a shard that kills several
    (Dask's allowed-failures) counts as failed. If the scheduler goes away, it is waited for, and
    what had not ended is handed in again: what the lost workers had measured is in the store.
    """
    import distributed

    address = cluster.address
    waiting = {shard.name: shard for shard in shards}
    away: float | None = None  # since when the scheduler has been away
    while _settle(waiting, ended):
        try:
            with distributed.Client(address, timeout=10, security=cluster.security) as client:
                away = None
                workers = _Workers(client, address, gpu, say, patience)
                futures = {
                    client.submit(
                        run_shard,
                        shard,
                        key=f"{shard.name}-{shard.fingerprint[:12]}-{os.getpid()}",
                        priority=-i,
                        pure=False,
                        retries=0,
                        resources={GPU: 1} if gpu else None,
                    ): shard
                    for i, shard in enumerate(waiting.values())
                }
                for future in _as_they_end(futures, workers):
                    shard = futures[future]
                    if future.status == "finished":
                        result = future.result()
                    elif future.status == "error":
                        # its workers died, again and again, or it could not be sent
                        reason = f"the worker was lost ({type(future.exception()).__name__})"
                        result = Outcome(
                            shard.name, "failed", reason=reason, fingerprint=shard.fingerprint
                        )
                        write_record(shard, result)
                    else:  # cancelled or lost: the scheduler went away
                        continue
                    del waiting[shard.name]
                    ended(result, min(len(waiting), workers.able()))
                if waiting and client.status != "running":
                    raise OSError("the scheduler went away")
        except (OSError, TimeoutError, distributed.comm.CommClosedError) as error:
            away = away or time.monotonic()
            if time.monotonic() - away > patience:
                raise ValueError(
                    f"the scheduler at {address} has been away for {duration(patience)} ({error}); "
                    "start it again and repeat the command: it goes on where it stopped"
                ) from None
            say(f"the scheduler at {address} is away; waiting for it")
            time.sleep(2)


def _settle(waiting: dict[str, Shard], ended: Callable[[Outcome, int], None]) -> bool:
    """Takes out what ended while nobody listened: its record is on disk. Is anything left?"""
    for shard in list(waiting.values()):
        if (result := outcome(shard)).state != "missing":
            del waiting[shard.name]
            ended(result, 0)
    return bool(waiting)


def _as_they_end(futures: Iterable[Future], workers: _Workers) -> Iterator[Future]:
    """Futures in the order in which they end; meanwhile it is looked after the workers."""
    import distributed

    ending = distributed.as_completed(futures, raise_errors=False)
    while not ending.is_empty():
        yield from ending.next_batch(block=False)
        workers.look()
        time.sleep(0.1)


class _Workers:
    """Looks from time to time whether there is a worker that can take a shard.

    After `SOON` seconds without any it is said, with the way out, and again after each `patience`:
    a queue may be long. Where there are workers, but none with the GPU that a shard takes, a
    ValueError ends the wait after `patience`.
    """

    def __init__(
        self,
        client: Client,
        address: str,
        gpu: bool,
        say: Callable[[str], None],
        patience: float,
    ):
        self.client = client
        self.address = address
        self.gpu = gpu
        self.say = say
        self.patience = patience
        self.looked = -EVERY
        self.alone_since: float | None = None
        self.said = -patience

    def able(self) -> int:
        """How many workers can take a shard."""
        return len([one for one in self._all() if not self.gpu or one["resources"].get(GPU)])

    def look(self) -> None:
        """Looks again, if the last time is a while ago."""
        now = time.monotonic()
        if now - self.looked < EVERY:
            return
        self.looked = now
        if self.able():
            self.alone_since = None
            return
        self.alone_since = self.alone_since or now
        waited = now - self.alone_since
        if number := len(self._all()):
            fault = (
                f"none of the {number} workers of {self.address} offers a GPU, and each shard "
                "takes one: start them with --resources GPU=1, or sweep with --device cpu"
            )
            if waited > self.patience:
                raise ValueError(fault)
        else:
            fault = f"the scheduler at {self.address} has no workers; start some: dask worker ..."
        if waited >= SOON and now - self.said >= self.patience:
            self.said = now
            self.say(f"{fault} (waiting for one)")

    def _all(self) -> list[dict]:
        """What the scheduler says of each worker."""
        return list(self.client.scheduler_info(n_workers=-1)["workers"].values())


def gpu_count() -> int:
    """How many GPUs torch sees."""
    import torch

    return torch.cuda.device_count()
