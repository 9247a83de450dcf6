"""The circuit explorer with the classes of heads: Figure 4 A for every model and checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import numpy as np
import pandas as pd
from IPython.display import HTML

from circuitbook.figures.explorer import circuit_explorer
from circuitbook.heads.names import head_name
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_classes import CLASSES, HeadClasses
from circuitbook.studies.head_scores import TITLES, HeadScores

EFFECTS = {  # stage: what its effects are called beside the drawing
    "direct": "direct effect e",
    "steering": "e through queries of the answering heads",
}
SCORES = (
    *("copy", "negative_copy", "copy_suppression", "induction", "duplicate", "previous"),
    *("to_IO", "to_S1", "to_S2"),
)


def class_explorer(
    circuits: Sequence[CircuitResult],
    head_classes: Sequence[HeadClasses],
    head_scores: Sequence[HeadScores],
    model: str,
    most: int = 200,
    lab: Mapping[str, Sequence[int]] | None = None,
    task: str = "ioi",
    among: Sequence[str] | None = None,
) -> HTML:
    """The circuits of a task; a head's colour and shape say its class, a click lists its numbers.

    model: the one that is shown first, at its last checkpoint. most, lab: see `circuit_explorer`.
    among: the models to choose from; None: all.
    """
    offered = [one for one in circuits if among is None or one.model in among]
    return circuit_explorer(
        of_task(offered, task),
        name="classes",
        start=(model, task),
        roles=class_roles(head_classes),
        notes=class_notes(head_classes, head_scores),
        most=most,
        lab=lab,
    )


def front_explorer(
    circuits: Sequence[CircuitResult], head_classes: Sequence[HeadClasses], page: str
) -> HTML:
    """The compact explorer of a front page: the model whose last IOI circuit is largest.

    page: the address of the page with the whole `class_explorer`.
    """
    ioi_circuits = of_task(circuits, "ioi")
    last = {result.model: result for result in ioi_circuits}  # ascending, so the last stays
    model = max(last.values(), key=lambda result: result.circuit.n_edges).model
    return circuit_explorer(
        ioi_circuits,
        name="front",
        start=(model, "ioi"),
        roles=class_roles(head_classes),
        compact=f"{page}#{urlencode({'classes.model': model})}",
    )


def of_task(circuits: Sequence[CircuitResult], task: str) -> list[CircuitResult]:
    return [result for result in circuits if result.task == task]


def class_roles(
    head_classes: Sequence[HeadClasses],
) -> dict[tuple[str, int], dict[str, list[str]]]:
    """{(model, step): {head: its classes}}, as the explorer takes roles."""
    return {
        (classes.model, classes.step): {
            head_name(head): [name for name in CLASSES if name in labels]
            for head, labels in zip(classes.heads, classes.labels, strict=True)
        }
        for classes in head_classes
    }


def class_notes(
    head_classes: Sequence[HeadClasses], head_scores: Sequence[HeadScores]
) -> dict[tuple[str, int], pd.DataFrame]:
    """{(model, step): effects and scores, a row per head}, as the explorer takes notes.

    What was not measured is nan.
    """
    scores = {(scored.model, scored.step): scored for scored in head_scores}
    notes = {}
    for classes in head_classes:
        place = (classes.model, classes.step)
        numbers = {
            title: classes.effects(stage) if stage in classes.patched else np.nan
            for stage, title in EFFECTS.items()
        }
        numbers |= {TITLES[kind]: scores[place].score(kind) for kind in SCORES}
        notes[place] = pd.DataFrame(numbers, index=[head_name(head) for head in classes.heads])
    return notes
