"""The runs on ordered lists that come with the book, as a chapter: their own task takes IOI's
place."""

from __future__ import annotations

from collections.abc import Sequence

from circuitbook.records.list_runs import recorded_runs
from circuitbook.records.passages import LIST_PASSAGES
from circuitbook.studies.chapter import Chapter, open_chapter
from circuitbook.studies.findings.two_algorithms import last_of_runs, runs_with
from circuitbook.studies.head_classes import HeadClasses
from circuitbook.suites.finding import load_suite
from circuitbook.tasks.next_in_list import TASK

PROMPTS = 64  # of lists of two, three and four in turn


def open_lists(
    suite: str = "lists",
    *,
    models: Sequence[str] | None = None,
    steps: Sequence[int] | None = None,
    device: str = "auto",
    dtype: str = "float32",
    store: str | None = None,
) -> Chapter:
    """A chapter on runs on ordered lists: circuits, heads and classes are of `next_in_list`, copy
    suppression is measured on lists.

    suite: "lists", or a folder of `mini.lists`. The other parameters, and errors: see
    `open_chapter`.
    """
    return open_chapter(
        suite=suite,
        models=models,
        steps=steps,
        tasks=[TASK.name],
        names_task=TASK.name,
        prompts={TASK.name: PROMPTS},
        text=LIST_PASSAGES,
        device=device,
        dtype=dtype,
        store=store,
    )


def classes_elsewhere(beside: Chapter) -> list[HeadClasses]:
    """The classes of heads of the runs that have the paper's algorithm, over training, for claims
    that the mini suite does not test; none for another suite, which must speak for itself.

    beside: the chapter whose store and device are taken.
    """
    if beside.suite.name != "mini":
        return []
    models = runs_with("move", load_suite("lists").models, last_of_runs(recorded_runs()))
    if not models:
        return []
    lists = open_lists(models=models, device=beside.chosen.device, store=str(beside.store.path))
    return lists.head_classes
