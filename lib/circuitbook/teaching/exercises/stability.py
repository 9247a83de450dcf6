"""Exercises of the chapter on turnover and size."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.similarity import weighted_jaccard
from circuitbook.model.graph import Graph
from circuitbook.studies.turnover import ewma
from circuitbook.teaching.answers import series
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _register


def _weighted_cases() -> list[Case]:
    graph, cases = Graph(2, 2), []
    rng = np.random.default_rng(4)
    for about, sizes, scale in (
        ("two circuits with scores of both signs", (12, 15), (1.0, 1.0)),
        ("one with scores ten times as large", (9, 12), (1.0, 10.0)),
        ("two circuits that share few edges", (5, 6), (2.0, 1.0)),
    ):
        parts = []
        for size, factor in zip(sizes, scale, strict=True):
            scores = np.zeros(graph.mask.shape)
            for src, dst in graph.edges[rng.permutation(graph.n_edges)[:size]]:
                scores[src, dst] = factor * rng.normal()
            parts.append(torch.tensor(scores))
        cases.append(Case(about, tuple(parts), weighted_jaccard(*(part.numpy() for part in parts))))
    same = cases[0].inputs[0]
    return [
        *cases,
        Case(
            "the same circuit twice",
            (same, same.clone()),
            weighted_jaccard(same.numpy(), same.numpy()),
        ),
    ]


def _shares(scores: torch.Tensor) -> torch.Tensor:
    return scores.abs() / scores.abs().sum()


def _alike(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.minimum(a, b).sum() / torch.maximum(a, b).sum()


_register(
    "weighted_jaccard",
    "Weighted similarity",
    ("a [source, destination]", "b [source, destination]"),
    _weighted_cases,
    (
        Mistake(
            "You do not normalise: each circuit's absolute scores should sum to 1, or the "
            "larger scale decides.",
            lambda a, b: _alike(a.abs(), b.abs()),
        ),
        Mistake(
            "You ignore the scores: that is the plain Jaccard similarity.",
            lambda a, b: ((a != 0) & (b != 0)).sum() / ((a != 0) | (b != 0)).sum(),
        ),
        Mistake(
            "You leave out the absolute values: the size of a score counts, not its sign.",
            lambda a, b: _alike(a / a.sum(), b / b.sum()),
        ),
        Mistake(
            "You divide each circuit by its largest score: by the sum of its absolute scores is "
            "wanted.",
            lambda a, b: _alike(a.abs() / a.abs().max(), b.abs() / b.abs().max()),
        ),
        Mistake(
            "You give the sum of the minima alone: divide by the sum of the maxima.",
            lambda a, b: torch.minimum(_shares(a), _shares(b)).sum(),
        ),
        Mistake(
            "You average minimum over maximum edge by edge: sum all minima, and divide by the "
            "sum of all maxima.",
            lambda a, b: (
                torch.minimum(_shares(a), _shares(b)) / torch.maximum(_shares(a), _shares(b))
            )[(a != 0) | (b != 0)].mean(),
        ),
    ),
)


def check_weighted_jaccard(function: Callable) -> Feedback:
    """function(a [source, destination], b [source, destination]) -> the weighted similarity of two
    circuits' scores."""
    return CHECKS["weighted_jaccard"].of(function)


def _ewma_cases() -> list[Case]:
    values = {
        "six values": [0.9, 0.4, 0.7, 0.1, 0.8, 0.6],
        "three values": [0.2, 1.0, 0.5],
        "one value": [0.7],
    }
    return [
        Case(f"{about}, alpha {alpha:g}", (x, alpha), ewma(x, alpha))
        for about, x in values.items()
        for alpha in (0.5, 0.2)
    ]


_register(
    "ewma",
    "A moving average",
    ("values", "alpha"),
    _ewma_cases,
    (
        Mistake(
            "alpha weighs the past: it is the weight of the new value, and 1 - alpha that of "
            "the average so far.",
            lambda values, alpha: ewma(values, 1 - alpha),
        ),
        Mistake(
            "You start from 0: the first average is the first value itself.",
            lambda values, alpha: ewma(values, alpha, start=0.0),
        ),
        Mistake(
            "Your weights are made to sum to 1 at each point, which is pandas' default "
            "(adjust=True): the recursion is wanted.",
            lambda values, alpha: pd.Series(values).ewm(alpha=alpha, adjust=True).mean().to_numpy(),
        ),
        Mistake(
            "You mix each value with the one before it: mix it with the average so far.",
            lambda values, alpha: np.array(
                [values[0], *(alpha * b + (1 - alpha) * a for a, b in itertools.pairwise(values))]
            ),
        ),
        Mistake(
            "Your value is the mean so far: old values should count less and less.",
            lambda values, alpha: np.cumsum(values) / np.arange(1, len(values) + 1),
        ),
    ),
    read=series,
)


def check_ewma(function: Callable) -> Feedback:
    """function(values, alpha) -> the exponentially weighted moving average after each value: s_0 =
    x_0, then s_t = alpha x_t + (1 - alpha) s_{t-1}."""
    return CHECKS["ewma"].of(function)
