"""What is said of births and deaths: how many edges stay, and how many only visit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from circuitbook.studies.lives import Lives, summary
from circuitbook.wording import TASK_SHORT, counted, in_markdown, percent


def lives_of(every: Sequence[Lives], model: str, task: str) -> Lives | None:
    """Those of one model and task, None if it has none."""
    return next((one for one in every if (one.model, one.task) == (model, task)), None)


def lives_in_words(one: Lives) -> str:
    """How many edges of one circuit are there all the time, and how many at a single checkpoint."""
    told = summary(one)
    ever, always, visitors = round(told["ever"]), told["always"], told["visitors"]
    return (
        f"Of the {counted(ever, 'edge')} that are ever in the "
        f"{TASK_SHORT[one.task]} circuit of {in_markdown(one.model)}, "
        f"{percent(always)} are in it at every checkpoint, and {percent(visitors)} "
        f"[{percent(told['visitors_low'])}, {percent(told['visitors_high'])}] at one alone."
    )


def all_lives_in_words(every: Sequence[Lives], models: Sequence[str]) -> str:
    """The same over the circuits of some models: the median, and the extremes."""
    told = [summary(one) for one in every if one.model in models]
    if len(told) < 2:
        return ""
    always, visitors = (np.array([each[name] for each in told]) for name in ("always", "visitors"))
    return (
        f"Over all {len(told)} circuits, the share of edges that are there at every checkpoint "
        f"goes from {percent(always.min())} to {percent(always.max())} (median "
        f"{percent(float(np.median(always)))}); of those there at a single one, from "
        f"{percent(visitors.min())} to {percent(visitors.max())} (median "
        f"{percent(float(np.median(visitors)))})."
    )
