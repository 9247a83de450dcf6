"""Tasks by name: the paper's four, and what some models were trained on besides."""

from __future__ import annotations

from difflib import get_close_matches

from circuitbook.tasks import gendered_pronoun, greater_than, ioi, next_in_list, sva
from circuitbook.tasks.base import Task

TASKS = {task.name: task for task in (ioi.TASK, gendered_pronoun.TASK, greater_than.TASK, sva.TASK)}
# what no English text teaches: for models that were trained on it, and asked for by name alone
FURTHER = {task.name: task for task in (next_in_list.TASK,)}


_ALIASES = {  # names in the paper's tables and figures
    "indirect_object_identification": "ioi",
    "gender_pronoun": "gendered_pronoun",
    "gender_pronouns": "gendered_pronoun",
    "gendered_pronouns": "gendered_pronoun",
    "greaterthan": "greater_than",
    "subject_verb_agreement": "sva",
}


def get_task(name: str) -> Task:
    """A task by its name or an alias of it.  get_task("Greater-Than").name -> "greater_than" """
    key = name.strip().lower().replace("-", "_").replace(" ", "_")
    key = _ALIASES.get(key, key)
    known = TASKS | FURTHER
    if key not in known:
        close = [_ALIASES.get(k, k) for k in get_close_matches(key, [*known, *_ALIASES], n=1)]
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"task {name!r} does not exist; {hint}The tasks are {', '.join(known)}")
    return known[key]
