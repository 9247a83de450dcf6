"""What a sweep will cost, as far as that is known before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from circuitbook.publishing.execute import duration
from circuitbook.studies.parameters import Selection
from circuitbook.suites.pythia import PYTHIA_PARAMETERS, PYTHIA_SHAPES, size_of
from circuitbook.suites.sources import Folder
from circuitbook.sweep.shards import Shard, outcome


@dataclass(frozen=True)
class Expectation:
    """What one shard is expected to cost.

    download_gb: None where nothing is downloaded, or the size is not known. seconds: from the mean,
    per checkpoint of the same model, of the shards of this sweep that are done; None where none is.
    """

    shard: str
    checkpoints: int
    state: str
    download_gb: float | None
    seconds: float | None

    def __str__(self) -> str:
        download = f"{self.download_gb:.1f} GB" if self.download_gb else "nothing"
        time = f"about {duration(self.seconds)}" if self.seconds else "time unknown yet"
        checkpoints = f"{self.checkpoints} checkpoints, {self.state}"
        return f"{self.shard}: {checkpoints}; {download} to download, {time}"


def expected(selection: Selection, shards: Sequence[Shard]) -> list[Expectation]:
    """What each shard is expected to cost, in order."""
    outcomes = [outcome(shard) for shard in shards]
    per_checkpoint: dict[str, list[float]] = {}
    for shard, ended in zip(shards, outcomes, strict=True):
        if ended.state == "done":
            per_checkpoint.setdefault(shard.model, []).append(ended.seconds / len(shard.steps))
    mean = {model: sum(seconds) / len(seconds) for model, seconds in per_checkpoint.items()}
    on_disk = isinstance(selection.suite.source, Folder)
    return [
        Expectation(
            shard=shard.name,
            checkpoints=len(shard.steps),
            state=ended.state,
            download_gb=None if on_disk else _download_gb(shard),
            seconds=mean[shard.model] * len(shard.steps) if shard.model in mean else None,
        )
        for shard, ended in zip(shards, outcomes, strict=True)
    ]


def _download_gb(shard: Shard) -> float | None:
    """Gigabytes of a shard's weights, which are float16 on Pythia's hub; None for other models."""
    parameters = PYTHIA_PARAMETERS.get(size_of(shard.model) or "")
    return None if parameters is None else 2 * parameters * len(shard.steps) / 1e9


def memory_line(model: str, selection: Selection) -> str | None:
    """What a Pythia needs on the device, and whether that is free; None for models whose shape is
    not known beforehand."""
    import torch

    from circuitbook.model.memory import free_memory, plan_memory

    shape = PYTHIA_SHAPES.get(size_of(model) or "")
    if shape is None:
        return None
    kind = torch.device(selection.device).type
    needs = plan_memory(shape, selection.dtype, device=kind)
    free = free_memory(torch.device(selection.device))
    line = f"{model}: {needs.minimum / 1e9:.1f} GB at least "
    line += f"({needs.weights / 1e9:.1f} for the weights)"
    if free is None:
        return line
    line += f"; {free / 1e9:.1f} GB are free on {selection.device}"
    return line if needs.fits(free) else f"{line}: IT DOES NOT FIT"
