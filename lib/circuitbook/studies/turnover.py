"""How much of a circuit turns over, and how much of that is noise.

Tigges et al. 2024, section 4.3 and Figure 5: Jaccard similarity of the circuits at neighbouring
checkpoints, smoothed by an exponentially weighted moving average. Three things are put beside it:

    ceiling     the similarity of circuits at one checkpoint from other prompts: more cannot be
                expected of two checkpoints
    floors      that of random circuits, each higher than the one before, since it keeps more of the
                circuit: as many edges, grown as the circuit was; the circuit with the heads of
                every layer shuffled; with its edges swapped, the degrees kept
    spacing     pairs of checkpoints at an equal ratio of tokens, since neighbours that are further
                apart differ more

Works on what `circuits.measure_circuits` has measured; a similarity is 1 for equal circuits and 0
for disjoint ones.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from circuitbook.circuits.random_circuits import (
    random_circuit,
    rewired_circuit,
    shuffled_heads,
)
from circuitbook.circuits.similarity import jaccard, node_jaccard, weighted_jaccard
from circuitbook.studies.circuit_tables import grouped
from circuitbook.studies.circuits import CircuitResult

ALPHA = 0.5  # of the moving average (the authors')
PAIR_COLUMNS = ["model", "task", "step", "step_before", "tokens_seen", "tokens_before"]
BOUNDED = ("edges", "nodes")  # similarities with ceiling and floors
# What the random circuits of a floor share with the circuits: {column: in words}. In this order.
FLOORS = {"floor": "as many edges", "heads": "shuffled heads", "degree": "same degrees"}
TURNOVER_COLUMNS = [
    *PAIR_COLUMNS,
    *(
        what + bound
        for what in BOUNDED
        for bound in ("", "_ceiling", *(f"_{floor}" for floor in FLOORS))
    ),
    *("weighted", "normalised_jaccard", "edges_ewma", "nodes_ewma", "weighted_ewma"),
]
RATIO_COLUMNS = ["model", "task", "ratio", "edges"]
REFERENCE_COLUMNS = [
    *("model", "task", "step", "tokens_seen", "reference", "edges", "nodes", "weighted"),
]
DRAWS_COLUMNS = ["model", "task", "step", "edges", "nodes", "size", "size_again", "expected"]


def ewma(values: Sequence[float], alpha: float = ALPHA, start: float | None = None) -> np.ndarray:
    """s_0 = x_0, s_t = alpha x_t + (1 - alpha) s_{t-1}; from `start` if it is given (the authors'
    change rate starts from 0).

    >>> ewma([1.0, 0.0, 0.0]).tolist()
    [1.0, 0.5, 0.25]
    """
    if start is None:
        return pd.Series(values, dtype=float).ewm(alpha=alpha, adjust=False).mean().to_numpy()
    return ewma([start, *values], alpha)[1:]


def checkpoint_pairs(
    circuits: Sequence[CircuitResult], ratio: float | None = None, tolerance: float = 0.1
) -> list[tuple[CircuitResult, CircuitResult]]:
    """Checkpoints to compare, of one model and task in order: neighbours (the paper's), or for each
    one the earlier one whose tokens are fewer by `ratio`, to within `tolerance` of it (none if
    there is none).
    """
    with_circuit = [result for result in circuits if result.circuit.found]
    if ratio is None:
        return list(itertools.pairwise(with_circuit))
    pairs = []
    for after in with_circuit:

        def off(before: CircuitResult, after: CircuitResult = after) -> float:
            return after.tokens_seen / before.tokens_seen / ratio

        earlier = [r for r in with_circuit if 0 < r.tokens_seen < after.tokens_seen]
        best = min(earlier, key=lambda before: abs(np.log(off(before))), default=None)
        if best is not None and abs(off(best) - 1) <= tolerance:
            pairs.append((best, after))
    return pairs


def _similarities(a: np.ndarray, b: np.ndarray, result: CircuitResult) -> np.ndarray:
    """Jaccard similarities of edges and of nodes, [2], of two circuits of the result's graph."""
    return np.array([jaccard(a, b), node_jaccard(a, b, result.circuit.graph)])


def _ceiling(result: CircuitResult) -> np.ndarray:
    """Mean similarities, [2], of two circuits from resampled prompts; nan where none were kept."""
    pairs = list(itertools.combinations(result.resampled, 2))
    if not pairs:
        return np.full(2, np.nan)
    return np.mean([_similarities(a, b, result) for a, b in pairs], axis=0)


class _Bounds:
    """Ceiling and floors of every circuit, made when first asked for: it stands in several pairs.
    `draws`: random circuits of each kind beside each.
    """

    def __init__(self, draws: int, seed: int):
        self.draws, self.seed = draws, seed
        self._ceilings: dict[CircuitResult, np.ndarray] = {}
        self._random: dict[CircuitResult, dict[str, list[np.ndarray]]] = {}

    def ceiling(self, before: CircuitResult, after: CircuitResult) -> np.ndarray:
        """Mean over both checkpoints of their ceilings, [2]."""
        for result in (before, after):
            if result not in self._ceilings:
                self._ceilings[result] = _ceiling(result)
        return (self._ceilings[before] + self._ceilings[after]) / 2

    def random(self, result: CircuitResult) -> dict[str, list[np.ndarray]]:
        """Circuits of each kind of `FLOORS`."""
        if result not in self._random:
            place = (result.model, result.task, result.step)
            rng = np.random.default_rng([self.seed, zlib.crc32(repr(place).encode())])
            mask, graph, draws = result.circuit.mask, result.circuit.graph, range(self.draws)
            grown = [random_circuit(graph, int(mask.sum()), rng) for _ in draws]
            rewired = [rewired_circuit(mask, graph, rng) for _ in draws]
            shuffled = [shuffled_heads(mask, graph, rng) for _ in draws]
            kinds = (grown, shuffled, rewired)
            self._random[result] = dict(zip(FLOORS, kinds, strict=True))
        return self._random[result]

    def floors(self, before: CircuitResult, after: CircuitResult) -> dict[str, np.ndarray]:
        """Mean similarities, [2], of each kind of `FLOORS`; nan without draws."""
        if not self.draws:
            return dict.fromkeys(FLOORS, np.full(2, np.nan))
        firsts, seconds = self.random(before), self.random(after)
        return {
            kind: np.mean(
                [
                    _similarities(a, b, after)
                    for a, b in zip(firsts[kind], seconds[kind], strict=True)
                ],
                axis=0,
            )
            for kind in FLOORS
        }


def turnover(
    circuits: Sequence[CircuitResult],
    ratio: float | None = None,
    *,
    tolerance: float = 0.1,
    draws: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """How similar the circuits of pairs of checkpoints are (see `checkpoint_pairs`), one row each.

    Columns: model, task, step and step_before, tokens_seen and tokens_before; edges and nodes
    (Jaccard), weighted, and `edges_ewma`, `nodes_ewma`, `weighted_ewma` along the curve; for edges
    and nodes the `_ceiling` (mean over both checkpoints of the similarity of two circuits from
    resampled prompts; nan where none were kept), and the floors: `_floor` (random circuits grown to
    the same numbers of edges), `_heads` (the heads of every layer of both shuffled) and `_degree`
    (both circuits rewired). Of each, `draws` (with 0, nan). `normalised_jaccard`: where the
    similarity of edges lies between `edges_floor` (0) and `edges_ceiling` (1). A small circuit has
    few others of its degrees, so that its degree floor says that, and little else.
    """
    bounds, tables = _Bounds(draws, seed), []
    for group in grouped(circuits).values():
        pairs = checkpoint_pairs(group, ratio, tolerance)
        if not pairs:
            continue
        table = pd.DataFrame([_pair_row(before, after, bounds) for before, after in pairs])
        smoothed = {f"{what}_ewma": ewma(table[what]) for what in (*BOUNDED, "weighted")}
        tables.append(table.assign(**smoothed))
    if tables:
        return pd.concat(tables, ignore_index=True)
    numbers = dict.fromkeys(TURNOVER_COLUMNS[2:], float)
    return pd.DataFrame(columns=TURNOVER_COLUMNS).astype(numbers)


def _pair_row(before: CircuitResult, after: CircuitResult, bounds: _Bounds) -> dict[str, Any]:
    """One row of `turnover`, less the moving averages."""
    values = (after.model, after.task, after.step, before.step)
    tokens = (after.tokens_seen, before.tokens_seen)
    row: dict[str, Any] = dict(zip(PAIR_COLUMNS, (*values, *tokens), strict=True))
    same = _similarities(before.circuit.mask, after.circuit.mask, after)
    ceiling = bounds.ceiling(before, after)
    floors = bounds.floors(before, after)
    for i, what in enumerate(BOUNDED):
        row |= {what: same[i], f"{what}_ceiling": ceiling[i]}
        row |= {f"{what}_{kind}": floor[i] for kind, floor in floors.items()}
    row["weighted"] = weighted_jaccard(_weights(before), _weights(after))
    above, room = row["edges"] - row["edges_floor"], row["edges_ceiling"] - row["edges_floor"]
    row["normalised_jaccard"] = above / room
    return row


def _weights(result: CircuitResult) -> np.ndarray:
    """Scores of the circuit's edges, 0 off it; without scores every edge counts the same."""
    scores = 1.0 if result.circuit.scores is None else result.circuit.scores
    return np.where(result.circuit.mask, scores, 0.0)


def by_ratio(circuits: Sequence[CircuitResult]) -> pd.DataFrame:
    """Every two checkpoints of a model and task that have circuits: model, task, ratio (of their
    tokens), edges (Jaccard).
    """
    rows = []
    for (model, task), group in grouped(circuits).items():
        trained = [result for result in group if result.tokens_seen]
        for before, after in itertools.combinations(trained, 2):
            ratio = after.tokens_seen / before.tokens_seen
            rows.append((model, task, ratio, jaccard(before.circuit.mask, after.circuit.mask)))
    return pd.DataFrame(rows, columns=RATIO_COLUMNS)


def to_reference(circuits: Sequence[CircuitResult], step: int | None = None) -> pd.DataFrame:
    """Similarity of every circuit to that of one checkpoint (None: the last that has one): a row
    each, with model, task, step, tokens_seen, reference (step), edges, nodes, weighted. Models
    without a circuit at `step` are left out.
    """
    rows = []
    for (model, task), group in grouped(circuits).items():
        at_step = [result for result in group if step in (None, result.step)]
        if not at_step:
            continue
        reference = at_step[-1]
        for result in group:
            edges, nodes = _similarities(result.circuit.mask, reference.circuit.mask, reference)
            weighted = weighted_jaccard(_weights(result), _weights(reference))
            about = (model, task, result.step, result.tokens_seen, reference.step)
            rows.append((*about, edges, nodes, weighted))
    return pd.DataFrame(rows, columns=REFERENCE_COLUMNS)


def two_draws(circuits: Sequence[CircuitResult], again: Sequence[CircuitResult]) -> pd.DataFrame:
    """The same searches on two draws of prompts: model, task, step, edges (Jaccard), nodes, size
    and size_again, and `expected`, the similarity of edges that resampling the prompts of the first
    draw predicts at a held size.
    """
    others = {(result.model, result.step, result.task): result for result in again}
    rows = []
    for result in circuits:
        other = others.get((result.model, result.step, result.task))
        if other is None or not (result.circuit.found and other.circuit.found):
            continue
        edges, nodes = _similarities(result.circuit.mask, other.circuit.mask, result)
        sizes = (result.circuit.n_edges, other.circuit.n_edges)
        about = (result.model, result.task, result.step)
        rows.append((*about, edges, nodes, *sizes, float(_ceiling(result)[0])))
    return pd.DataFrame(rows, columns=DRAWS_COLUMNS)
