"""A walk through the lab: what becomes of one sentence in training, and which head does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from circuitbook.heads.names import Head, head_name
from circuitbook.store import Store
from circuitbook.studies.findings.lab_cell import since_when
from circuitbook.studies.lab import FIRST, Example
from circuitbook.studies.switching import Switched, Switches, measure_switched
from circuitbook.suites import Suite
from circuitbook.wording import head_label, percent, short_number, two_digits


@dataclass(frozen=True)
class WalkStep:
    """One step: where it leads, and what to do there."""

    title: str
    to_do: str
    step: int
    node: str = ""
    """The head that is looked at."""
    switches: Switches = field(default_factory=dict)
    """Before the reader presses anything."""


@dataclass(frozen=True, eq=False)
class Walk:
    """The steps, one after the other, and what is seen at every checkpoint."""

    model: str
    example: Example
    steps: tuple[WalkStep, ...]
    head: Head
    """Which does most at the end."""
    table: pd.DataFrame
    seen: str


def walk_through(suite: Suite, model: str, store: Store, example: Example = FIRST) -> Walk:
    """The walk with a model of the mini suite: an example with one right and one wrong answer.

    The head is the one that, at the last checkpoint, takes the answer furthest to that of the other
    sentence when it alone writes what it writes there.
    """
    shape = suite.checkpoint(model, suite.steps(model)[-1]).load().shape
    heads = [(layer, head) for layer in range(shape.n_layers) for head in range(shape.n_heads)]
    alone = [{head_name(head): "other"} for head in heads]
    seen = measure_switched(suite, model, suite.steps(model), store, example, alone)
    ways = np.array([(at.own - at.switched) / (at.own - at.other) for at in seen])
    row = int(ways[-1].argmax())
    told = np.array([at.own > 0 > at.other for at in seen])
    apart = since_when(told)
    names = (example.right, example.wrong)
    named = next((i for i, at in enumerate(seen) if at.next_words()[0][0] in names), len(seen))
    return Walk(
        model,
        example,
        tuple(_steps(seen, named, apart, heads[row], example)),
        heads[row],
        _table(seen, ways, told, heads, row, example),
        _in_words(seen, ways, apart, heads, row, example),
    )


def _steps(
    seen: Sequence[Switched], named: int, apart: int, head: Head, example: Example
) -> list[WalkStep]:
    node, label, last = head_name(head), head_label(head), seen[-1]
    steps = [
        WalkStep(
            "Untrained" if not seen[0].tokens_seen else _after(seen[0]),
            "Press Start. Does any word stand out?",
            seen[0].step,
        )
    ]
    if named < apart:
        steps.append(
            WalkStep(
                _after(seen[named]),
                "For the first time one of the two names comes first. Which one, and which in the "
                "other sentence?",
                seen[named].step,
            )
        )
    if apart < len(seen):
        steps.append(
            WalkStep(
                _after(seen[apart]),
                f"Now the sentences part. In which of them does {example.right} come first?",
                seen[apart].step,
            )
        )
    steps.append(
        WalkStep(
            f"At the end, after {short_number(last.tokens_seen)} tokens",
            f"Press head {label} twice: it then writes what it writes on the other sentence. Who "
            "gets the ring now?",
            last.step,
            node,
        )
    )
    if apart < len(seen) - 1:
        steps.append(
            WalkStep(
                f"Back at {short_number(seen[apart].tokens_seen)}",
                "The same head writes from the other sentence here, too. Was it this head, when "
                "the sentences parted?",
                seen[apart].step,
                node,
                {node: "other"},
            )
        )
    return steps


def _after(at: Switched) -> str:
    return f"After {short_number(at.tokens_seen)} tokens"


def _table(
    seen: Sequence[Switched],
    ways: np.ndarray,
    told: np.ndarray,
    heads: Sequence[Head],
    row: int,
    example: Example,
) -> pd.DataFrame:
    """What is seen at each checkpoint; which head does most where the sentences are told apart."""
    measure = f"{example.right} less {example.wrong}"
    most = [
        f"{head_label(heads[way.argmax()])} ({percent(way.max())})" if apart else "–"
        for way, apart in zip(ways, told, strict=True)
    ]
    return pd.DataFrame(
        {
            "tokens seen": [short_number(at.tokens_seen) for at in seen],
            "next word": [_best(at, "own") for at in seen],
            "of the other sentence": [_best(at, "other") for at in seen],
            measure: [two_digits(at.own) for at in seen],
            f"with {head_label(heads[row])} from the other": [
                two_digits(at.switched[row]) for at in seen
            ],
            "head that goes furthest alone": most,
        }
    )


def _best(at: Switched, which: str) -> str:
    word, share = at.next_words(which)[0]
    return f"{word} {percent(share)}"


def _in_words(
    seen: Sequence[Switched],
    ways: np.ndarray,
    apart: int,
    heads: Sequence[Head],
    row: int,
    example: Example,
) -> str:
    last, label = seen[-1], head_label(heads[row])
    said = example.right if last.switched[row] > 0 else example.wrong
    text = (
        f"At the end head {label} alone takes the answer {percent(ways[-1, row])} of the way to "
        f"the other sentence, and {said} is ahead."
    )
    if apart >= len(seen) - 1:
        return text
    first = ways[apart]
    return (
        f"{text} When the sentences part, after {short_number(seen[apart].tokens_seen)} tokens, it "
        f"goes {percent(first[row])} of the way, and head {head_label(heads[first.argmax()])} "
        f"furthest, {percent(first.max())}."
    )
