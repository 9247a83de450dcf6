"""Circuits of a suite of one's own beside those of another, in a sentence; which architectures are
read, and how rightly."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.model.samples import SAMPLES
from circuitbook.studies.circuits import CircuitResult
from circuitbook.wording import TASK_TITLES, in_markdown, listed


def at_the_last_checkpoints(circuits: Sequence[CircuitResult], tasks: Sequence[str]) -> str:
    """The size of every task's circuit at each model's last checkpoint that was looked at."""
    last = {(at.task, at.model): at for at in sorted(circuits, key=lambda at: at.step)}
    parts = []
    for task in tasks:
        sizes = [_size(last[key]) for key in sorted(last) if key[0] == task]
        parts.append(f"{TASK_TITLES[task]}: {', '.join(sizes)}")
    return (
        f"At the last checkpoint here: {'; '.join(parts)}. The example has more edges to choose "
        "from, since in its sequential blocks the heads of a layer feed that layer's MLP."
    )


def _size(result: CircuitResult) -> str:
    if not result.circuit.found:
        return f"none in {in_markdown(result.model)}"
    edges, of_all = result.circuit.n_edges, result.circuit.graph.n_edges
    return f"{edges} of {of_all} edges in {in_markdown(result.model)}"


SAME_LOGITS, SAME_PATCHED = 1e-5, 1e-9  # of the largest: roundings of float32, and of float64
SAME_SUM = 0.03  # of the change: what so few points leave where clipping bends the path


def architectures_table(equality: pd.DataFrame) -> pd.DataFrame:
    """What is supported, and how far apart two ways to the same numbers lie; a row each.

    equality: as `studies.equality.for_every_architecture` gives it.
    """
    samples = [SAMPLES[name] for name in equality.index]
    return pd.DataFrame(
        {
            "model_type": equality.index,
            "for example": [sample.example for sample in samples],
            "what is different": [sample.difference for sample in samples],
            "logits": [f"{value:.0e}" for value in equality["logits"]],
            "edges patched": [f"{value:.0e}" for value in equality["patched"]],
            "scores summed": [f"{value:.0e}" for value in equality["completeness"]],
        }
    )


def equality_sentence(equality: pd.DataFrame) -> str:
    """Whether they are the same numbers, and how different they are at most."""
    limits = {"logits": SAME_LOGITS, "patched": SAME_PATCHED, "completeness": SAME_SUM}
    wrong = [  # what is no number is not the same one
        name
        for name, row in equality.iterrows()
        if not all(row[key] <= limits[key] for key in limits)
    ]
    if wrong:
        return f"**{listed(wrong)} gave other numbers here: do not trust what is measured of it.**"
    most = {key: equality[key].max() for key in limits}
    return (
        f"All {len(equality)} gave the same numbers here. Our logits differ from transformers' by "
        f"{most['logits']:.0e} of the largest at most (transformers computes an RMSNorm in "
        "float32, whatever comes in). Prompts with an edge patched in our fast way differ from "
        f"those with every edge written out by {most['patched']:.0e}. The scores of the edges out "
        f"of `input` miss {most['completeness']:.1%} of the change of the loss at most, by too few "
        "points."
    )
