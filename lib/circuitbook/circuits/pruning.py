"""Edges taken out of a circuit one after the other, each for good if little is lost by it.

Which edge may go depends on those that went before, so that this is done in order. But most edges
go: so the circuits that follow if all of the next ones go are evaluated together, and what stands
behind the first edge that must stay is thrown away. The more edges went, the more are tried at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from circuitbook.circuits.corrupted import TOGETHER, CorruptedRuns
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.model.graph import Graph
from circuitbook.model.loaded import Model
from circuitbook.tasks.base import PromptPairs

Mask = Bool[np.ndarray, "src dst"]
Metric = Callable[[Sequence[Mask]], Float64[np.ndarray, "circuit n"]]


class MetricOfCircuits:
    """The metric of each prompt for circuits, each different one evaluated once.

    Dead edges change nothing, so that circuits with the same living edges are the same.
    """

    def __init__(self, model: Model, pairs: PromptPairs, memory: int | None = None) -> None:
        self.model, self.pairs = model, pairs
        self.runs = CorruptedRuns(model, pairs, memory)
        self.graph: Graph = self.runs.graph
        clean, corrupted = (values.double().numpy() for values in self.runs.baselines())
        self.clean: Float64[np.ndarray, " n"] = clean
        self.corrupted: Float64[np.ndarray, " n"] = corrupted
        nothing = np.zeros(self.graph.mask.shape, bool)
        self._known = {self.graph.mask.tobytes(): clean, nothing.tobytes(): corrupted}

    def __call__(self, masks: Sequence[Mask]) -> Float64[np.ndarray, "circuit n"]:
        """float64 [circuit, n] of masks bool [src, dst]."""
        living = [self.graph.live(mask) for mask in masks]
        new = {mask.tobytes(): mask for mask in living if mask.tobytes() not in self._known}
        if new:
            metric = evaluate_masks(self.model, self.pairs, list(new.values()), runs=self.runs)
            self._known |= dict(zip(new, metric.double().numpy(), strict=True))
        return np.array([self._known[mask.tobytes()] for mask in living])

    def kept(self, masks: Sequence[Mask]) -> Float64[np.ndarray, " circuit"]:
        """Normalised faithfulness of each: 0 for no edge, 1 for all of them."""
        clean, corrupted = self.clean.mean(), self.corrupted.mean()
        return (self(masks).mean(1) - corrupted) / (clean - corrupted)


def prune(
    metric: Metric,
    graph: Graph,
    mask: Mask,
    edges: Iterable[tuple[int, int]],
    may_go: Callable[[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]], bool],
) -> Mask:
    """The circuit that is left when these of its edges are tried in order.

    An edge that lives goes for good if `may_go(metric of each prompt before, without it)`; an edge
    that lies on no path from `input` to `logits` goes untried. `metric` as `MetricOfCircuits`.
    """
    mask = graph.live(mask)
    waiting = [(int(src), int(dst)) for src, dst in edges]
    before, at_once = metric([mask])[0], 2
    while waiting:
        chain, tried = [], []
        smaller = mask
        for place, edge in enumerate(waiting):
            if not smaller[edge]:
                continue
            smaller = smaller.copy()
            smaller[edge] = False
            smaller = graph.live(smaller)
            chain.append(smaller)
            tried.append(place)
            if len(chain) == at_once:
                break
        if not chain:
            break
        done = len(waiting) if len(chain) < at_once else tried[-1] + 1
        at_once = min(2 * at_once, TOGETHER)
        for place, without, after in zip(tried, chain, metric(chain), strict=True):
            if not may_go(before, after):
                done = place + 1  # what was tried behind it took for granted that it goes
                at_once = max(1, at_once // 4)
                break
            mask, before = without, after
        waiting = waiting[done:]
    return mask
