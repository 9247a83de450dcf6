"""A task of one's own, from a list of prompt pairs.

    week = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    after = dict(zip(week, week[1:] + week[:1]))
    pairs = [
        Pair(f"After {day} comes", f"After {other} comes", after[day], after[other])
        for day in week for other in week if day != other
    ]
    task = add_task(own_task("next_day", pairs))

Studies then take it by its name, as they take the paper's tasks. In a measurement's key the pairs
themselves stand for it: whoever changes one measures anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.store.code import code_hash
from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.registry import FURTHER, TASKS
from circuitbook.tasks.texts import Prompt, build
from circuitbook.tasks.words import single_token

GIVEN = (*TASKS, *FURTHER)


@dataclass(frozen=True)
class Pair:
    """A prompt, its corrupted twin of as many tokens, and the word that each goes on with."""

    clean: str
    corrupted: str
    right: str
    """One token behind the clean prompt, without the space before it."""
    wrong: str
    """One token behind it, too: what the corrupted prompt asks for."""


@dataclass(frozen=True)
class Listed:
    """Prompts from a list: the first n in an order that the seed draws, or all if there are
    fewer."""

    name: str
    metric_name: str
    pairs: tuple[Pair, ...]

    def __call__(
        self, tokenizer: PreTrainedTokenizerBase, n: int, rng: np.random.Generator
    ) -> PromptPairs:
        drawn = [self.pairs[i] for i in rng.permutation(len(self.pairs))[:n]]
        words = [[pair.right, pair.wrong] for pair in drawn]
        answers = [
            [single_token(tokenizer, word, after=pair.clean, task=self.name) for word in row]
            for pair, row in zip(drawn, words, strict=True)
        ]
        prompts = [
            Prompt(
                clean=pair.clean,
                corrupted=pair.corrupted,
                marks={},
                words={"kind": pair.right, "correct": pair.right, "wrong": pair.wrong},
            )
            for pair in drawn
        ]
        task = Task(name=self.name, title=self.name, metric_name=self.metric_name, make=self)
        signs = torch.tensor([1, -1])
        return build(task, tokenizer, prompts, torch.tensor(answers), signs, words=words)

    def __measurement_key__(self) -> dict[str, object]:
        return {"code": code_hash(Listed), "metric": self.metric_name, "pairs": self.pairs}


def own_task(
    name: str,
    pairs: Sequence[Pair],
    *,
    title: str | None = None,
    metric_name: str = "logit_difference",
    min_metric: float = 1.0,
) -> Task:
    """A task whose prompts are these pairs.

    name: lower-case letters, digits and underscores. metric_name: "logit_difference" (right less
    wrong) or "probability_difference". min_metric: of the metric, above which we call it an ability
    at all; a logit difference of 1 is odds of e to one. ValueError for fewer than two pairs, for
    one that is there twice, and for one whose answers are the same; with a tokenizer, also for
    twins of unequal length and answers of several tokens.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"task {name!r}: its name is made of lower-case letters, digits and underscores, such "
            "as next_day"
        )
    listed = tuple(pairs)
    if len(set(listed)) < 2:
        raise ValueError(f"{name}: {len(set(listed))} pairs are too few; give dozens")
    for pair in listed:
        if listed.count(pair) > 1:
            raise ValueError(f"{name}: the pair {pair} is there twice")
        if pair.right == pair.wrong or pair.clean == pair.corrupted:
            raise ValueError(f"{name}: nothing tells {pair.clean!r} from its corrupted twin")
    return Task(
        name=name,
        title=title or name.replace("_", " ").capitalize(),
        metric_name=metric_name,
        make=Listed(name, metric_name, listed),
        min_metric=min_metric,
    )


def add_task(task: Task) -> Task:
    """Makes a task known by its name, in this process, to `get_task` and to all studies.

    One's own task may be added again, with other prompts. ValueError for a name that is given.
    """
    if task.name in GIVEN:
        raise ValueError(f"there is a task {task.name!r} already; give yours another name")
    TASKS[task.name] = task
    return task
