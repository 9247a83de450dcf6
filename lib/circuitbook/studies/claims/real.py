"""The same claims asked of a real language model: the report's second column."""

from __future__ import annotations

import pandas as pd

from circuitbook.records.passages import PASSAGES
from circuitbook.studies.chapter import Chapter, open_chapter
from circuitbook.studies.claims.evidence import measure_evidence
from circuitbook.studies.claims.report import report, table

REAL_NAME = "a real language model"


def real_claims(suite: str, beside: Chapter) -> pd.DataFrame:
    """The report's table about the last checkpoints of a suite, on the build's few prompts.

    beside: the chapter whose recipe, tasks, store and device are taken. What the chapter on a real
    model has measured is read from the store.
    """
    chapter = open_chapter(
        suite=suite,
        tasks=beside.tasks,
        recipe=beside.recipe.name,
        prompts="few",
        text=PASSAGES,
        device=beside.chosen.device,
        store=str(beside.store.path),
    )
    evidence = measure_evidence(
        chapter.suite,
        chapter.models,
        chapter.store,
        chapter.recipe,
        tasks=chapter.tasks,
        steps=chapter.last_steps,
        text=chapter.text,
        **chapter.device,
    )
    return table(report(evidence))
