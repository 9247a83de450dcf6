"""A jump of stage B between two checkpoints: which head's score crosses which bar."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from circuitbook.recipes import AlgorithmSettings
from circuitbook.studies.classifying import STAGES, direct_classes
from circuitbook.studies.head_classes import HeadClasses
from circuitbook.studies.head_scores import TITLES, HeadScores
from circuitbook.wording import head_label, in_markdown, short_number

SCORES = ("copy", "negative_copy", "copy_suppression", "direct")  # what the classes of B go by


def checkpoints_around(
    head_classes: Sequence[HeadClasses], model: str, step: int
) -> list[HeadClasses]:
    """A model's checkpoint at this step and the one before it, of those that do IOI."""
    run = [one for one in head_classes if one.model == model and "direct" in one.patched]
    place = [one.step for one in run].index(step)
    return run[max(place - 1, 0) : place + 1]


def changed_heads(
    neighbours: Sequence[HeadClasses], head_scores: Sequence[HeadScores]
) -> pd.DataFrame:
    """The heads that change their classes of stage B, with the scores that classes go by.

    A row per head and checkpoint: head, tokens, classes, and the scores.
    """
    scores = {(one.model, one.step): one for one in head_scores}
    rows = []
    for row, head in enumerate(neighbours[0].heads):
        if len({_direct_labels(classes, row) for classes in neighbours}) == 1:
            continue
        for classes in neighbours:
            scored = scores[classes.model, classes.step]
            about = {
                "head": head_label(head),
                "tokens": short_number(classes.tokens_seen),
                "classes": ", ".join(_direct_labels(classes, row)) or "none",
            }
            rows.append(about | {TITLES[kind].lower(): scored.score(kind)[row] for kind in SCORES})
    return pd.DataFrame(rows)


def _direct_labels(classes: HeadClasses, row: int) -> tuple[str, ...]:
    return tuple(name for name in STAGES["direct"] if classes.classes[name][row])


def direct_share(
    classes: HeadClasses, head_scores: Sequence[HeadScores], settings: AlgorithmSettings
) -> float:
    """The share of stage B over all heads, with classes by these settings instead."""
    place = (classes.model, classes.step)
    scores = next(one for one in head_scores if (one.model, one.step) == place)
    reclassified = classes.classes | direct_classes(scores, settings)
    return float(dataclasses.replace(classes, classes=reclassified).share("direct", "all heads"))


def bar_sentence(
    neighbours: Sequence[HeadClasses],
    head_scores: Sequence[HeadScores],
    choices: Sequence[AlgorithmSettings],
) -> str:
    """Share B at these checkpoints by each choice of settings, called by its copy_bar."""
    parts = []
    for settings in choices:
        shares = [direct_share(classes, head_scores, settings) for classes in neighbours]
        listed = ", then ".join(f"{share:.0%}" for share in shares)
        parts.append(f"with copy_bar={settings.copy_bar:g} {listed}")
    return (
        f"{in_markdown(neighbours[0].model)}, share B over all heads at these checkpoints: "
        f"{'; '.join(parts)}."
    )
