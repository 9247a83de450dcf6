"""Seeds against checkpoints: how similar circuits, and the heads of a kind, are to what."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.random_circuits import random_circuit
from circuitbook.circuits.similarity import jaccard, relabelled_jaccard
from circuitbook.studies.circuit_tables import grouped
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_scores import HeadScores

# What a circuit is as similar as: see `comparisons`.
COMPARED = (
    "other prompts",
    "next checkpoint",
    "other seed",
    "other seed, heads matched",
    "random, heads matched",
)
COMPARISON_COLUMNS = ["task", "like", "model", "other", "edges"]
HEADS_COLUMNS = ["kind", "like", "model", "other", "heads", "count", "count_other"]


def _seed_pairs(seeds: Sequence[Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Every two runs of the same size."""
    for runs in seeds:
        yield from itertools.combinations(runs, 2)


def comparisons(
    circuits: Sequence[CircuitResult],
    seeds: Sequence[Sequence[str]],
    turnover: pd.DataFrame,
    *,
    draws: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Seeds against checkpoints: how similar circuits are to what (see `COMPARED`), a row per task,
    `like`, and pair.

    Columns: task, like, model, other, edges (Jaccard). "other prompts" and "next checkpoint" are
    those of `turnover` (a table of that study), for the models in groups of `seeds`; seeds are
    compared at their last checkpoints, by the heads' numbers and with the heads of each layer
    matched as well as they can be; random circuits of the same sizes are matched in the same way.
    """
    other_prompts, next_checkpoint, *across_seeds = COMPARED
    members = {name for pair in _seed_pairs(seeds) for name in pair}
    rows = []
    for _, pair in turnover[turnover["model"].isin(members)].iterrows():
        task, model = pair["task"], pair["model"]
        rows.append((task, other_prompts, model, model, pair["edges_ceiling"]))
        rows.append((task, next_checkpoint, model, model, pair["edges"]))
    last = {place: group[-1].circuit for place, group in grouped(circuits).items()}
    rng = np.random.default_rng(seed)
    for task in dict.fromkeys(result.task for result in circuits):
        for model, other in _seed_pairs(seeds):
            if (model, task) in last and (other, task) in last:
                values = _across_seeds(last[model, task], last[other, task], rng, draws)
                for like, edges in zip(across_seeds, values, strict=True):
                    rows.append((task, like, model, other, edges))
    return pd.DataFrame(rows, columns=COMPARISON_COLUMNS)


def _across_seeds(
    circuit: Circuit, other: Circuit, rng: np.random.Generator, draws: int
) -> tuple[float, float, float]:
    """Jaccard of two seeds' circuits, with heads matched, and that of random circuits, matched."""
    graph = circuit.graph
    random = []
    for draw in range(draws):
        mask, other_mask = (random_circuit(graph, c.n_edges, rng) for c in (circuit, other))
        random.append(relabelled_jaccard(mask, other_mask, graph, seed=draw))
    matched = relabelled_jaccard(circuit.mask, other.mask, graph)
    return jaccard(circuit.mask, other.mask), matched, float(np.mean(random))


def same_heads(
    head_scores: Sequence[HeadScores], bars: Mapping[str, float], seeds: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Which heads are of a kind, in the seeds of a size: a row per kind, `like` and pair of
    checkpoints or seeds.

    bars: {kind: score from which a head is of it}. Columns: kind, like ("next checkpoint" or "other
    seed", at the last checkpoint), model, other, heads (Jaccard of the sets of heads; rows with two
    empty sets are left out), and how many there are in each.
    """
    _, next_checkpoint, other_seed, *_ = COMPARED
    members = dict.fromkeys(name for runs in seeds if len(runs) > 1 for name in runs)
    training = {
        name: sorted((at for at in head_scores if at.model == name), key=lambda at: at.step)
        for name in members
    }
    pairs = [
        (before, after, next_checkpoint)
        for checkpoints in training.values()
        for before, after in itertools.pairwise(checkpoints)
    ]
    pairs += [
        (training[model][-1], training[other][-1], other_seed)
        for model, other in _seed_pairs(seeds)
        if training[model] and training[other]
    ]
    rows = []
    for kind, bar in bars.items():
        for first, second, like in pairs:
            heads, others = first.score(kind) >= bar, second.score(kind) >= bar
            if heads.any() or others.any():
                about = (kind, like, first.model, second.model)
                counts = (int(heads.sum()), int(others.sum()))
                rows.append((*about, jaccard(heads, others), *counts))
    return pd.DataFrame(rows, columns=HEADS_COLUMNS)
