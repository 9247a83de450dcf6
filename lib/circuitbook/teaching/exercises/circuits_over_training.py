"""Exercises of the chapter on circuits over training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from circuitbook.circuits.circuit import circuit_of
from circuitbook.circuits.similarity import jaccard
from circuitbook.model.graph import Graph
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _register


def _jaccard_cases() -> list[Case]:
    graph = Graph(2, 4)
    some = [graph.edge_names[i] for i in np.random.default_rng(0).permutation(graph.n_edges)]
    sets = {
        "two circuits that share some edges": (some[:9], some[5:19]),
        "one circuit inside another": (some[:4], some[:11]),
        "a large and a small one": (some[2:14], some[:5]),
        "the same circuit twice": (some[:6], some[:6]),
        "two circuits without a shared edge": (some[:5], some[5:12]),
        "two empty circuits": ([], []),
        "a circuit and an empty one": (some[:7], []),
    }
    return [
        Case(
            about,
            (set(a), set(b)),
            jaccard(circuit_of(graph, a).mask, circuit_of(graph, b).mask),
        )
        for about, (a, b) in sets.items()
    ]


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


_register(
    "jaccard",
    "Jaccard similarity",
    ("a", "b"),
    _jaccard_cases,
    (
        Mistake(
            "You divide by the size of the first circuit: that is the share that is kept; "
            "divide by the edges in either.",
            lambda a, b: _over(len(a & b), len(a)),
        ),
        Mistake(
            "You divide by the size of the second circuit: that is the share that was there; "
            "divide by the edges in either.",
            lambda a, b: _over(len(a & b), len(b)),
        ),
        Mistake(
            "You divide by the sum of both sizes: shared edges are counted twice then; divide "
            "by the edges in either.",
            lambda a, b: _over(len(a & b), len(a) + len(b)),
        ),
        Mistake(
            "Your value is the Dice coefficient, twice the shared edges over both sizes: divide "
            "the shared edges by those in "
            "either.",
            lambda a, b: _over(2 * len(a & b), len(a) + len(b)),
        ),
        Mistake(
            "You divide by the smaller circuit: then a circuit inside a larger one gets 1; "
            "divide by the edges in either.",
            lambda a, b: _over(len(a & b), min(len(a), len(b))),
        ),
        Mistake(
            "You divide by the larger circuit: divide by the edges in either.",
            lambda a, b: _over(len(a & b), max(len(a), len(b))),
        ),
        Mistake(
            "Your value is the distance: one less the similarity; equal circuits should get 1.",
            lambda a, b: 1 - _over(len(a & b), len(a | b)),
        ),
        Mistake(
            "You count the shared edges: divide by the edges in either.", lambda a, b: len(a & b)
        ),
    ),
)


def check_jaccard(function: Callable) -> Feedback:
    """function(a, b) -> the Jaccard similarity of two circuits, sets of edge names; 0 if both are
    empty."""
    return CHECKS["jaccard"].of(function)
