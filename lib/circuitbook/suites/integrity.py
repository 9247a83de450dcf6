"""Are checkpoints what they say they are? Steps with the same weights are found out, marked and
left out.

Some revisions of a model on a hub may serve the weights of another step: 86 steps of pythia-2.8b
are reported to serve the final ones (EleutherAI/pythia, issue 205). A curve over training that
takes them for what they say has a plateau that is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import pandas as pd

from circuitbook.store.disk import Store
from circuitbook.store.keys import measurement_key
from circuitbook.suites.suite import Suite
from circuitbook.weights.asking import HubError


def duplicate_weights(hashes: Mapping[int, str]) -> dict[int, int]:
    """{step: the step whose weights it has}, of steps that are not what they say.

    Of steps with the same weights the last step of all keeps its name (a step that serves the final
    weights is the report), else the first one does.  doubles({0: "a", 1: "b", 2: "b", 3: "c", 4:
                                                      "a"}) -> {2: 1, 0: 4}
    """
    by: dict[str, list[int]] = {}
    for step in sorted(hashes):
        by.setdefault(hashes[step], []).append(step)
    final, out = max(hashes, default=None), {}
    for steps in by.values():
        real = final if final in steps else steps[0]
        out |= {step: real for step in steps if step != real}
    return out


def announced(suite: Suite, model: str, steps: Sequence[int]) -> dict[int, str]:
    """{step: hash of its weight files} for these steps and the model's last one. From a hub as
    announced: nothing large is loaded."""
    hashes = {step: suite.checkpoint(model, step).weights_hash for step in steps}
    last = suite.steps(model)[-1]
    if last not in hashes:
        try:
            hashes[last] = suite.checkpoint(model, last).weights_hash
        except (HubError, OSError):  # not there: then nothing can be its double
            pass
    return hashes


def tensors_hash(network) -> str:
    """sha256 over a transformers model's parameters: names, shapes and values in float32. The same
    weights in files of another kind, such as a pickle and a safetensors, have the same."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.named_parameters()):
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
    """Loads every checkpoint once and compares their weights: a row each with model, step, files
    (hash), tensors (hash), and `same_as`, the step whose weights it has (-1: it is itself)."""
    rows = []
    for model in models:
        mine = []
        for step in (steps or {}).get(model, suite.steps(model)):
            checkpoint = suite.checkpoint(model, step)
            files = checkpoint.weights_hash
            key = measurement_key("integrity", code=(tensors_hash,), **checkpoint.identity)
            table = store.table(
                key,
                lambda: pd.DataFrame(
                    {"tensors": [tensors_hash(checkpoint.load(device=device).hf_model)]}
                ),
            )
            mine.append(
                {"model": model, "step": step, "files": files, "tensors": table["tensors"].iloc[0]}
            )
        found = duplicate_weights({row["step"]: row["tensors"] for row in mine})
        rows += [row | {"same_as": found.get(row["step"], -1)} for row in mine]
    return pd.DataFrame(rows, columns=["model", "step", "files", "tensors", "same_as"])
