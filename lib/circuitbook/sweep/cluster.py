"""Shards on Dask: a cluster of this machine's, or one that is there already."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence

from circuitbook.publishing.execute import duration
from circuitbook.sweep.shards import Outcome, Shard, outcome, run_shard, write_record
from circuitbook.threads import waiting_policy

PATIENCE = 600.0  # seconds to wait for a scheduler that went away


@contextlib.contextmanager
def local_cluster(workers: int, gpus: int = 0) -> Iterator[str]:
    """A scheduler and workers on this machine; its address. With `gpus`, a worker for each of them
    that sees no other."""
    from distributed import Nanny, Scheduler, SpecCluster

    threads = max(1, (os.cpu_count() or 1) // workers)

    def options(number: int) -> dict:
        if gpus:
            environment = {"CUDA_VISIBLE_DEVICES": str(number)}
        else:
            environment = {"OMP_NUM_THREADS": str(threads)} | waiting_policy(os.environ)
        return {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "resources": {"GPU": 1} if gpus else {},
                "env": environment,
                "silence_logs": 50,
                "dashboard_address": None,
            },
        }

    specification = {number: options(number) for number in range(gpus or workers)}
    with SpecCluster(
        workers=specification,
        scheduler={
            "cls": Scheduler,
            "options": {"dashboard_address": ":0", "dashboard": False, "host": "127.0.0.1"},
        },
        silence_logs=50,
    ) as cluster:
        yield cluster.scheduler_address


def run_on(
    address: str,
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
    takes one unit of the workers' resource "GPU". A worker that dies has its shard given to
    another; a shard that kills several (Dask's allowed-failures) counts as failed. If the scheduler
    goes away, it is waited for, and what had not ended is handed in again: what the lost workers
    had measured is in the store.
    """
    import distributed

    waiting = {shard.name: shard for shard in shards}
    away: float | None = None  # since when the scheduler has been away
    while waiting:
        try:
            with distributed.Client(address, timeout=10) as client:
                away = None
                futures = {
                    client.submit(
                        run_shard,
                        shard,
                        key=f"{shard.name}-{shard.fingerprint[:12]}-{os.getpid()}",
                        priority=-i,
                        pure=False,
                        retries=0,
                        resources={"GPU": 1} if gpu else None,
                    ): shard
                    for i, shard in enumerate(waiting.values())
                }
                for future in distributed.as_completed(futures, raise_errors=False):
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
                    ended(result, min(len(waiting), len(client.scheduler_info()["workers"])))
                if waiting and client.status != "running":
                    raise OSError("the scheduler went away")
        except (OSError, TimeoutError, distributed.comm.CommClosedError) as error:
            for shard in list(waiting.values()):  # what ended while nobody listened is on disk
                if (result := outcome(shard)).state != "missing":
                    del waiting[shard.name]
                    ended(result, 0)
            away = away or time.monotonic()
            if time.monotonic() - away > patience:
                raise ValueError(
                    f"the scheduler at {address} has been away for {duration(patience)} ({error}); "
                    "start it again and repeat the command: it goes on where it stopped"
                ) from None
            say(f"the scheduler at {address} is away; waiting for it")
            time.sleep(2)


def gpu_count() -> int:
    """How many GPUs torch sees."""
    import torch

    return torch.cuda.device_count()
