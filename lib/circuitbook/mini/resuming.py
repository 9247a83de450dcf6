"""What lies on disk of a training run that was stopped: its saved state, and checkpoints that were
not whole yet."""

from __future__ import annotations

import copy
import re
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from circuitbook.store.files import runs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def resume(
    state_file: Path,
    run: str,
    name: str,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    device: str,
) -> tuple[int, list[float]]:
    """The step that a run goes on from, and the losses until there; model and optimizer are brought
    to that step.

    (0, []) without a state, and with one that cannot be read: a warning names it, and it will be
    overwritten. ValueError if it is that of another run.
    """
    if not state_file.exists():
        return 0, []
    untouched = copy.deepcopy(model.state_dict())
    try:
        state = torch.load(state_file, map_location=device, weights_only=True)
        saved_run, step, losses = state["run"], int(state["step"]), list(state["losses"])
        if len(losses) != step:
            raise ValueError(f"{len(losses)} losses at step {step}")
        if saved_run == run:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # torch raises many kinds
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of what is in the file
        model.load_state_dict(untouched)
        why = (str(error).splitlines() or [""])[0]
        warnings.warn(
            f"{state_file} is not a state that was saved ({type(error).__name__}: {why}): "
            f"{name} is trained from step 0",
            stacklevel=3,
        )
        return 0, []
    if saved_run != run:
        raise ValueError(
            f"{state_file} is the state of another run of {name} "
            "(its plan or its text differs); remove it to train from step 0"
        )
    return step, losses


def remove_partial(folder: Path) -> None:
    """Removes checkpoints that a process which is gone was writing: step<N>.partial<pid>."""
    for left in folder.glob("step*.partial*"):
        writer = re.fullmatch(r"step\d+\.partial(\d+)", left.name)
        if writer and not runs(int(writer[1])):
            shutil.rmtree(left, ignore_errors=True)
