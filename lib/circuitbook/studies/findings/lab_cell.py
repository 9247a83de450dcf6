"""The lab set up at the point of a chapter: where it starts, what it asks, what is to be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from circuitbook.studies.chapter import Chapter
from circuitbook.studies.lab import Example
from circuitbook.studies.switching import Switched, Switches, measure_switched
from circuitbook.wording import counted, percent, short_number

InPage = Mapping[str, Sequence[int]]
"""{model: steps} of the checkpoints that a page can run."""

SENTENCES = ("text", "other", "right", "wrong")


@dataclass(frozen=True, eq=False)
class LabCell:
    """The lab at the point of a chapter."""

    name: str
    """Keeps its state apart in the page's address."""
    model: str
    step: int
    example: Example
    shown: tuple[str, ...]
    """Its parts: see `js/lab-controls.js`."""
    question: str
    """In Markdown, to be answered by doing."""
    still: str
    """What it shows at its start, for a page in which it is not started."""
    seen: str
    """What you should have seen,"""
    table: pd.DataFrame
    """and the same in numbers."""
    switches: Switches = field(default_factory=dict)
    """At its start."""
    node: str | None = None
    """The head or MLP that is looked at."""


def runnable(chapter: Chapter, there: InPage) -> list[str]:
    """The chapter's sizes whose last checkpoint a page can run, small to large."""
    return [
        name for name in there if name in chapter.main and chapter.steps[name][-1] in there[name]
    ]


def largest(chapter: Chapter, there: InPage, whole: bool = False) -> str | None:
    """The largest of these; whole: of those with several checkpoints, if there are such."""
    names = runnable(chapter, there)
    several = [name for name in names if len(there[name]) > 1]
    return next(reversed(several if whole and several else names), None)


def over_training(
    chapter: Chapter,
    there: InPage,
    model: str,
    example: Example,
    switches: Sequence[Switches] = (),
) -> list[Switched]:
    steps = [step for step in chapter.steps[model] if step in there[model]]
    return measure_switched(chapter.suite, model, steps, chapter.store, example, switches)


def since_when(true: Sequence[bool] | np.ndarray | pd.Series) -> int:
    """The place from which on all are true; their number if the last one is not.

    >>> since_when([True, False, True, True])
    2
    """
    false = np.flatnonzero(~np.asarray(true, bool))
    return int(false[-1]) + 1 if len(false) else 0


def still_of(at: Switched, model: str, example: Example, switches: Switches | None = None) -> str:
    """The most probable next words at the start; `switches`: what is switched, the first set."""
    words = at.next_words("switched" if switches else "own")[:3]
    listed = ", ".join(f"“{word}” ({percent(share)})" for word, share in words)
    tokens = short_number(at.tokens_seen)
    switched = f" and has {counts(switches)} switched" if switches else ""
    return (
        f"After “{example.text.strip()}” {model}, which has seen {tokens} tokens{switched}, "
        f"expects {listed}."
    )


def load_others(seen: Sequence[Switched]) -> str:
    return " and load its other checkpoints" if len(seen) > 1 else ""


def measure_name(example: Example) -> str:
    if not example.wrong:
        return f"probability of {example.right}"
    single = len(example.right.split()) == len(example.wrong.split()) == 1
    ranges = "-" in example.right + example.wrong
    return "logit difference" if single and not ranges else "probability difference"


def counts(nodes: Mapping[str, str]) -> str:
    """counts({"a0.h1": "other", "m1": "other"}) -> "1 head and 1 MLP" """
    heads = sum(node[0] == "a" for node in nodes)
    parts = [counted(heads, "head")] if heads else []
    parts += [counted(len(nodes) - heads, "MLP")] if len(nodes) > heads else []
    return " and ".join(parts)


def node_label(node: str) -> str:
    """node_label("a1.h2") -> "1.2" """
    return node[1:].replace("h", "")


def long_label(node: str) -> str:
    """long_label("a1.h2") -> "head 1.2"; long_label("m1") -> "MLP 1" """
    return f"head {node_label(node)}" if node[0] == "a" else f"MLP {node[1:]}"
