"""What heads do, as numbers, and which head of another seed does what one does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from circuitbook.circuits.relabelling import Orders
from circuitbook.model.graph import Graph
from circuitbook.studies.answer_readers import AnswerReaders
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_classes import CLASSES, HeadClasses
from circuitbook.studies.head_scores import SCORE_KINDS, HeadScores


def roles(
    scores: HeadScores, classes: HeadClasses | None = None, readers: AnswerReaders | None = None
) -> Float[np.ndarray, "head role"]:
    """What each head does, as shares and effects of about 1 at most, in the order of heads' rows.

    All scores of `SCORE_KINDS`; for IOI, with `classes`, the direct effect and the probability of
    each class; for another task, with its `readers`, the direct effect on it and the attention to
    the token that tells the answer. A score that could not be measured is 0.
    """
    columns = [scores.score(kind) for kind in SCORE_KINDS]
    if classes is not None:
        columns += [scores.score("direct"), *(classes.probability(name) for name in CLASSES)]
    if readers is not None:
        columns += [readers.effect()[: readers.n_rows], readers.arrays["looks"].mean(1)]
    return np.nan_to_num(np.stack(columns, 1).astype(float))


def match_roles(
    source: Float[np.ndarray, "head role"], target: Float[np.ndarray, "head role"], graph: Graph
) -> Orders:
    """Orders (see `Graph.relabel`) that put each head of the source where the target has the head
    most like it: the least sum of squared distances in each layer (Hungarian method).
    """
    orders = []
    for layer in range(graph.n_layers):
        rows = slice(layer * graph.n_heads, (layer + 1) * graph.n_heads)
        distance = ((target[rows, None] - source[None, rows]) ** 2).sum(-1)  # [place, head]
        orders.append(linear_sum_assignment(distance)[1])
    return orders


class HeadRoles:
    """The roles of all heads at each checkpoint that was measured."""

    def __init__(
        self,
        scores: Sequence[HeadScores],
        classes: Sequence[HeadClasses] = (),
        readers: Sequence[AnswerReaders] = (),
    ) -> None:
        self._scores = {(one.model, one.step): one for one in scores}
        self._classes = {(one.model, one.step): one for one in classes}
        self._readers = {(one.model, one.step, one.task): one for one in readers}

    def match(self, source: CircuitResult, target: CircuitResult) -> Orders:
        """`match_roles` at two checkpoints, with what both have been measured for."""
        places = [(one.model, one.step) for one in (source, target)]
        with_classes = target.task == "ioi" and all(place in self._classes for place in places)
        with_readers = all((*place, target.task) in self._readers for place in places)
        of_source, of_target = (
            roles(
                self._scores[place],
                self._classes[place] if with_classes else None,
                self._readers[(*place, target.task)] if with_readers else None,
            )
            for place in places
        )
        return match_roles(of_source, of_target, target.circuit.graph)
