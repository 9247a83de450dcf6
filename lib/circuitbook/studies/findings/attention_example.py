"""Where the heads in classes look, on a single IOI prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from circuitbook.heads.attention import patterns_on
from circuitbook.studies.chapter import Chapter
from circuitbook.studies.findings.head_classes import last_of_each
from circuitbook.studies.head_classes import CLASSES, STAGES, HeadClasses
from circuitbook.studies.head_scores import PLACES
from circuitbook.tasks import get_task
from circuitbook.wording import head_label, in_markdown

MOST_HEADS = 6


@dataclass(frozen=True, eq=False)
class AttentionExample:
    """Attention patterns [head, query, key] on one prompt, up to END.

    tokens: the prompt's, decoded. titles: of each head, "2.1 (name mover)".
    places: {position: "IO", "S1" or "S2"}.
    """

    model: str
    tokens: list[str]
    patterns: np.ndarray
    titles: list[str]
    places: dict[int, str]

    @property
    def labels(self) -> list[str]:
        """The titles without the classes: "2.1"."""
        return [title.split(" (")[0] for title in self.titles]


def attention_example(chapter: Chapter, most: int = MOST_HEADS) -> AttentionExample | None:
    """The model with the most heads in classes, at its last checkpoint; None without such heads.

    Up to `most` heads: of every class the one that matters most, then the next ones.
    """
    classes = most_classed(chapter.head_classes, chapter.main)
    rows = leading_rows(classes, most)
    if not rows:
        return None
    checkpoint = chapter.suite.checkpoint(classes.model, classes.step)
    model = checkpoint.load(**chapter.device)
    pairs = get_task("ioi").prompts(model.tokenizer, n=1, seed=chapter.recipe.seed)
    tokens = pairs.clean[0, : int(pairs.end[0]) + 1]
    heads = [classes.heads[row] for row in rows]
    return AttentionExample(
        model=classes.model,
        tokens=[str(model.tokenizer.decode([token])) for token in tokens.tolist()],
        patterns=patterns_on(model, tokens, heads).numpy(),
        titles=[f"{head_label(classes.heads[row])} ({classes.role(row)})" for row in rows],
        places={int(pairs.positions[place][0]): place for place in PLACES},
    )


def most_classed(head_classes: Sequence[HeadClasses], models: Sequence[str]) -> HeadClasses:
    """The last checkpoint with the most heads in classes; of equals, that of the last model."""
    last = last_of_each(head_classes)
    return max(reversed([last[model] for model in models]), key=lambda one: len(classed_rows(one)))


def classed_rows(classes: HeadClasses) -> list[int]:
    """The heads that are in some class, as rows, by the first of their classes."""
    rows = [row for row, labels in enumerate(classes.labels) if labels]
    return sorted(rows, key=lambda row: CLASSES.index(str(classes.role(row))))


def leading_rows(classes: HeadClasses, most: int) -> list[int]:
    """Up to `most` heads in classes, by class: of each class in turn the next largest |e|."""
    members: dict[str, list[int]] = {}
    for row in classed_rows(classes):
        members.setdefault(str(classes.role(row)), []).append(row)
    for role, rows in members.items():
        stage = next(stage for stage, names in STAGES.items() if role in names)
        if stage in classes.patched:
            effects = np.abs(classes.effects(stage))
            rows.sort(key=lambda row: -effects[row])
    turns = zip_longest(*members.values())
    chosen = [row for turn in turns for row in turn if row is not None][:most]
    return [row for row in classed_rows(classes) if row in chosen]


def example_sentence(example: AttentionExample | None) -> str:
    """At which token each head looks most, as a caption: from END, or, if it informs, from S2."""
    if example is None:
        return "No head is in any class at the last checkpoint: there is no pattern to show."
    end = len(example.tokens) - 1
    s2 = next((position for position, place in example.places.items() if place == "S2"), end)
    looks: dict[str, dict[str, list[str]]] = {"END": {}, "S2": {}}
    for title, pattern in zip(example.titles, example.patterns, strict=True):
        informs = any(f"({name})" in title for name in STAGES["tertiary"])
        position = int(pattern[s2 if informs else end].argmax())
        at = looks["S2" if informs else "END"]
        at.setdefault(_place(example, position), []).append(title)
    said = "; ".join(
        f"from {place} " + ", ".join(f"{_listed(titles)} at {at}" for at, titles in found.items())
        for place, found in looks.items()
        if found
    )
    return (
        f"*One prompt in {in_markdown(example.model)}. Rows are the tokens that look, columns "
        f"those looked at. Heads look most {said}.*"
    )


def _listed(titles: Sequence[str]) -> str:
    """Heads without their classes: "2.1, 2.2"."""
    return ", ".join(title.split(" (")[0] for title in titles)


def _place(example: AttentionExample, position: int) -> str:
    """A position in words: "“Luke” (S2)"."""
    token = in_markdown(example.tokens[position].strip())
    place = f" ({example.places[position]})" if position in example.places else ""
    return f"“{token}”{place}"
