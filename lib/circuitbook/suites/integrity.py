"""Are checkpoints what they say they are? Steps with the same weights are found and marked.

Some revisions of a model on a hub may serve the weights of another step: 86 steps of pythia-2.8b
are reported to serve the final ones (EleutherAI/pythia, issue 205). A curve over training that
takes them for what they say has a plateau that is none.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from circuitbook.store.disk import Store
from circuitbook.store.keys import measurement_key
from circuitbook.suites.suite import Checkpoint, Suite
from circuitbook.weights.asking import HubError

if TYPE_CHECKING:
    from torch import nn


def duplicate_weights(hashes: Mapping[int, str]) -> dict[int, int]:
    """{step: the step whose weights it has}, of steps that are not what they say.

    Of steps with the same weights the last step of all keeps its name (a step that serves the final
    weights is the report), else the first one does.

    >>> duplicate_weights({0: "a", 1: "b", 2: "b", 3: "c", 4: "a"})
    {0: 4, 2: 1}
    """
    steps_of: dict[str, list[int]] = {}
    for step in sorted(hashes):
        steps_of.setdefault(hashes[step], []).append(step)
    final = max(hashes, default=None)
    duplicates: dict[int, int] = {}
    for steps in steps_of.values():
        real = final if final in steps else steps[0]
        duplicates |= {step: real for step in steps if step != real}
    return duplicates


def announced(suite: Suite, model: str, steps: Sequence[int]) -> dict[int, str]:
    """{step: hash of its weight files} for these steps and the model's last one.

    From a hub as announced: nothing large is loaded.
    """
    hashes = {step: suite.checkpoint(model, step).weights_hash for step in steps}
    last = suite.steps(model)[-1]
    if last not in hashes:
        with contextlib.suppress(HubError, OSError):  # not there: then nothing can be its double
            hashes[last] = suite.checkpoint(model, last).weights_hash
    return hashes


def tensors_hash(hf_model: nn.Module) -> str:
    """sha256 over a transformers model's parameters: names, shapes and values in float32.

    The same weights in files of another kind, such as a pickle and a safetensors, have the same.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(hf_model.named_parameters()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check(
    suite: Suite,
    models: Sequence[str],
    store: Store,
    steps: Mapping[str, Sequence[int]] | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """Loads every checkpoint once and compares their weights: a row each.

    Columns: model, step, files (hash), tensors (hash), and `same_as`, the step whose weights it has
    (-1: it is itself).
    """
    rows = []
    for model in models:
        checkpoints = [
            suite.checkpoint(model, step) for step in (steps or {}).get(model, suite.steps(model))
        ]
        hashes = {part.step: _stored_hash(part, store, device) for part in checkpoints}
        same_as = duplicate_weights(hashes)
        for checkpoint in checkpoints:
            rows.append(
                {
                    "model": model,
                    "step": checkpoint.step,
                    "files": checkpoint.weights_hash,
                    "tensors": hashes[checkpoint.step],
                    "same_as": same_as.get(checkpoint.step, -1),
                }
            )
    return pd.DataFrame(rows, columns=["model", "step", "files", "tensors", "same_as"])


def _stored_hash(checkpoint: Checkpoint, store: Store, device: str) -> str:
    """`tensors_hash` of a checkpoint, which is loaded where the store does not know it."""
    key = measurement_key("integrity", code=(tensors_hash,), **checkpoint.identity)
    table = store.table(
        key,
        lambda: pd.DataFrame({"tensors": [tensors_hash(checkpoint.load(device=device).hf_model)]}),
    )
    return table["tensors"].iloc[0]
