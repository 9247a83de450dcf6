"""What the models of ordered lists read: lists that grow, and, if wanted, the mini suite's mixture.

The first lists are of two people alone: in trials without such a beginning, lists of three were not
learned at all. In trials with the mixture in two rows of five they were not learned either; with
lists alone they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from circuitbook.mini.tokenizer import EOS, split, vocabulary
from circuitbook.mini.train import BATCH, BLOCK, CONTEXT
from circuitbook.tasks.stories.documents import document
from circuitbook.tasks.stories.ordered_lists import SIZES, ordered_list, role_list
from circuitbook.tasks.stories.world import World


@dataclass(frozen=True, kw_only=True)
class ListText:
    """The text of one run, a function of the step.

    Every row of a batch begins with a document, so that the acts that are read have their list in
    front of them; what does not fit behind it is cut off. There is no end-of-text token before the
    first one, as there is none before a prompt.
    """

    seed: int
    share: float = 1.0
    """Of the rows, and so of the tokens, that are ordered lists."""
    pairs_until: int = 1024
    """The step up to which all lists are of two people,"""
    threes_until: int = 4608
    """and that up to which they are of two or three."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"a share of lists lies between 0 and 1, not at {self.share}")
        ends = (self.pairs_until, self.threes_until)
        if not 0 <= ends[0] <= ends[1] or any(end % BLOCK for end in ends):
            raise ValueError(
                f"text is made for {BLOCK} steps together, so lists grow at steps that are "
                f"multiples of that, in ascending order, not at {ends}"
            )

    def __call__(self, step: int) -> Int[Tensor, "row pos"]:
        """The tokens, int64 [32, 64], that update number `step` learns from."""
        return _block(self, step // BLOCK)[step % BLOCK]

    def sizes(self, step: int) -> tuple[int, ...]:
        """The sizes that lists have at a step."""
        ends = (self.pairs_until, self.threes_until)
        return SIZES[: 1 + sum(step >= end for end in ends)]

    def passage(self, rng: World, sizes: Sequence[int]) -> str:
        """A document with a list of one of these sizes."""
        return ordered_list(rng, sizes)


@dataclass(frozen=True, kw_only=True)
class RoleText(ListText):
    """Lists of which most give everyone's role once, beside the name, and then call the giver by it
    alone: who that is has to be looked up."""

    roles: float = 2 / 3
    """Of the lists, those with roles; the others are as those of `ListText`."""
    pairs_until: int = 4096
    threes_until: int = 7168

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.roles <= 1:
            raise ValueError(f"a share of lists lies between 0 and 1, not at {self.roles}")

    def passage(self, rng: World, sizes: Sequence[int]) -> str:
        """A document with a list of one of these sizes."""
        return (role_list if rng.random() < self.roles else ordered_list)(rng, sizes)


@lru_cache(maxsize=2)
def _block(text: ListText, block: int) -> Int[Tensor, "step row pos"]:
    """The rows of `BLOCK` steps."""
    rng = World(f"circuitbook lists {text.seed} {block}")
    ids = {word: i for i, word in enumerate(vocabulary())}
    sizes = text.sizes(block * BLOCK)
    rows: list[list[int]] = []
    while len(rows) < BLOCK * BATCH:
        lists = rng.random() < text.share
        row: list[int] = []
        while len(row) < CONTEXT:
            words = split(text.passage(rng, sizes) if lists else document(rng))
            row += [*([ids[EOS]] if row else []), *(ids[word] for word in words)]
        rows.append(row[:CONTEXT])
    return torch.tensor(rows).view(BLOCK, BATCH, CONTEXT)


def write_lists(file: Path, n: int = 100, seed: int = 42) -> Path:
    """Writes `n` passages of lists of all sizes, at least `CONTEXT` tokens each, which no run has
    read: a text for copy suppression (see `sequences.documents`). Gives the file.
    """
    rng = World(f"held-out lists {seed}")
    passages: list[str] = []
    while len(passages) < n:
        text = ordered_list(rng)
        if len(split(text)) >= CONTEXT:
            passages.append(text)
    file.write_text("\n\n".join(passages), encoding="utf8")
    return file
