"""Spans: which positions of prompts of different lengths are the same to a circuit.

A span is a name for some positions of every prompt, as IO or "after S2" is in IOI: Haklay et al.
2025 (PEAP, arXiv 2502.04577) call a list of them a schema. A prompt may have a span several times,
or not at all, and the order may differ from prompt to prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitbook.tasks.base import PromptPairs

START, END = "start", "END"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Spans:
    """In which span each position of some prompts is."""

    names: tuple[str, ...]
    places: Int[Tensor, "n pos"]
    """Of names; -1 behind END."""

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Spans({len(self.places)} prompts: {', '.join(self.names)})"

    def check(self, pairs: PromptPairs) -> None:
        """ValueError unless every position of these prompts, up to END, is in a span."""
        if self.places.shape != pairs.clean.shape:
            raise ValueError(
                f"{pairs.task}: the spans are of {list(self.places.shape)} [prompt, position], the "
                f"prompts {list(pairs.clean.shape)}; make them of these prompts: spans_of(pairs)"
            )
        within = torch.arange(self.places.shape[1]) <= pairs.end[:, None]
        outside = within & ((self.places < 0) | (self.places >= len(self)))
        if outside.any():
            prompt, pos = outside.nonzero()[0].tolist()
            raise ValueError(
                f"{pairs.task}: position {pos} of prompt {prompt} is in span "
                f"{int(self.places[prompt, pos])}, but there are 0 to {len(self) - 1}; "
                "every position up to END needs one"
            )

    def counts(
        self, rows: Int[Tensor, " prompt"], start: int, n_pos: int
    ) -> Float[Tensor, "prompt pos span"]:
        """1 where a position, of n_pos from `start` on, is in a span, else 0."""
        places = self.places[rows, start : start + n_pos]
        return F.one_hot(places + 1, len(self) + 1)[..., 1:].float()


def spans_of(pairs: PromptPairs, marks: Sequence[str] | None = None) -> Spans:
    """Spans by the positions that a task names: each is a span, and so is what follows it.

    "start" is what stands before the first of them; "after S1" what stands between S1 and the next
    one, whichever that is; what is named at END is in END.
    marks: names of `pairs.positions`; None: all. ValueError for a name that is not there, and for
    two that stand at the same position of a prompt.
    """
    named = [name for name in (pairs.positions if marks is None else marks) if name != END]
    for name in named:
        if name not in pairs.positions:
            raise ValueError(
                f"{pairs.task} names no position {name!r}; there are: {', '.join(pairs.positions)}"
            )
    names = [START, *(span for name in named for span in (name, f"after {name}")), END]
    n, n_pos = pairs.clean.shape
    last = torch.full((n,), -1)  # the mark at a position, or the last one before it
    places = torch.empty(n, n_pos, dtype=torch.long)
    at = torch.stack([*(pairs.positions[name] for name in named), pairs.end], 1)
    at[:, :-1][at[:, :-1] == pairs.end[:, None]] = -1
    for pos in range(n_pos):
        here = at == pos
        if (here.sum(1) > 1).any():
            prompt = int((here.sum(1) > 1).nonzero()[0])
            both = compress(named, here[prompt])
            raise ValueError(
                f"{pairs.task}: {' and '.join(both)} stand at the same position of prompt "
                f"{prompt}; say which to take: spans_of(pairs, [...])"
            )
        marked = here.any(1)
        last = torch.where(marked, here.long().argmax(1), last)
        places[:, pos] = torch.where(marked, 2 * last + 1, 2 * last + 2)
    places[torch.arange(n_pos) > pairs.end[:, None]] = -1
    return Spans(names=tuple(names), places=places)


def whole_prompts(pairs: PromptPairs) -> Spans:
    """All positions as one span: circuits without positions."""
    within = torch.arange(pairs.clean.shape[1]) <= pairs.end[:, None]
    return Spans(names=("everywhere",), places=within.long() - 1)


def each_position(pairs: PromptPairs) -> Spans:
    """Every position as a span of its own, the same in all prompts."""
    positions = torch.arange(pairs.clean.shape[1])
    places = positions.where(positions <= pairs.end[:, None], -1)
    return Spans(names=tuple(map(str, positions.tolist())), places=places)


@dataclass(frozen=True, eq=False, kw_only=True)
class SpanCircuit:
    """A circuit with edges of its own at each span; an edge is in at all positions of its span."""

    edges: Bool[np.ndarray, "span src dst"]
    spans: Spans
    between: Bool[np.ndarray, "to at dst"] | None = None
    """Its edges between positions, from keys and values (see `circuits.between`); of others nothing
    counts. None: all of them."""

    def check(self, pairs: PromptPairs, graph: tuple[int, int], name: str) -> None:
        """ValueError unless it is of these prompts, and of a graph [src, dst] of this shape."""
        self.spans.check(pairs)
        k = len(self.spans)
        if np.shape(self.edges) != (k, *graph):
            raise ValueError(
                f"{name} is {list(np.shape(self.edges))}, but there are {k} spans, and the graph "
                f"has {list(graph)} [src, dst]"
            )
        if self.between is not None and np.shape(self.between) != (k, k, graph[1]):
            raise ValueError(
                f"the edges between positions of {name} are {list(np.shape(self.between))}, but "
                f"there are {k} spans and {graph[1]} destinations: [to, at, dst]"
            )
