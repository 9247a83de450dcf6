"""Draws that are balanced however many are taken: the first n prompts of a task, for any n, cover
its strata as evenly as n prompts can.

So a measurement on 48 prompts is about the same task as one on 200, and so are the next 48.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item", bound=Hashable)


class Evenly:
    """Picks whatever was picked least often so far; by lot among equals.

    Of options that stay the same, each comes once before one comes twice.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.times: Counter[Hashable] = Counter()

    def pick(self, options: Sequence[Item]) -> Item:
        """One of the options. ValueError if there are none."""
        fewest = min(self.times[option] for option in options)
        rarest = [option for option in options if self.times[option] == fewest]
        chosen = rarest[self.rng.integers(len(rarest))]
        self.times[chosen] += 1
        return chosen


def spread(items: Sequence[Item], start: int = 0) -> Iterator[Item]:
    """Items of an order, such as years, round and round, so that those taken so far lie evenly.

    A round is the van der Corput sequence: the first, the middle, the quarters, the eighths; from
    `start` on, round the end. Every round has every item once.

    >>> from itertools import islice
    >>> list(islice(spread("abcdefgh"), 8))
    ['a', 'e', 'c', 'g', 'b', 'f', 'd', 'h']
    """
    n = len(items)
    bits = max(1, (n - 1).bit_length())
    places = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits)]
    order = [(place + start) % n for place in places if place < n]
    while True:
        for place in order:
            yield items[place]
