"""The same claims asked of a real language model: the report's second column."""

from __future__ import annotations

import logging

import pandas as pd

from circuitbook.records.passages import PASSAGES
from circuitbook.store.cache import CacheError
from circuitbook.studies.chapter import Chapter, open_chapter
from circuitbook.studies.claims.evidence import measure_evidence
from circuitbook.studies.claims.report import report
from circuitbook.weights.asking import HubError

log = logging.getLogger(__name__)

REAL_NAME = "a real language model"


def real_claims(suite: str | None, beside: Chapter) -> pd.DataFrame | None:
    """The report's table about the last checkpoints of a suite, on the build's few prompts.

    None where no suite is named, or where its model cannot be had. beside: the chapter whose
    recipe, tasks, store and device are taken. What the chapter on a real model has measured is read
    from the store.
    """
    if suite is None:
        return None
    try:
        return _claims_of(suite, beside)
    except (HubError, CacheError) as error:
        log.warning("no column for %s: %s", suite, error)
        return None


def _claims_of(suite: str, beside: Chapter) -> pd.DataFrame:
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
    return report(evidence)
