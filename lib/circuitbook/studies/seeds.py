"""Seeds against checkpoints: how similar circuits, and the heads of a kind, are to what."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from circuitbook.circuits.random_circuits import random_circuit
from circuitbook.circuits.similarity import jaccard, relabelled_jaccard
from circuitbook.studies.circuit_tables import grouped
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_scores import HeadScores

# What one is as similar as: see `likeness`.
COMPARED = (
    "other prompts",
    "next checkpoint",
    "other seed",
    "other seed, heads matched",
    "random, heads matched",
)


def comparisons(
    found: Sequence[CircuitResult],
    seeds: Sequence[Sequence[str]],
    table: pd.DataFrame,
    draws: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Seeds against checkpoints: how similar circuits are to what (see `LIKE`), a row per task,
    `like`, and pair.

    Columns: task, like, model, other, edges (Jaccard). "other prompts" and "next checkpoint" are
    those of `table` (see `turnover`), for the models in groups of `seeds`; seeds are compared at
    their last checkpoints, by the heads' numbers and with the heads of each layer matched as well
    as they can be; random circuits of the same sizes are matched in the same way.
    """
    rows, rng = [], np.random.default_rng(seed)
    groups = [list(names) for names in seeds if len(names) > 1]
    members = {name for names in groups for name in names}
    for _, row in table[table["model"].isin(members)].iterrows():
        for like, value in ((COMPARED[0], row["edges_ceiling"]), (COMPARED[1], row["edges"])):
            rows.append(
                {
                    "task": row["task"],
                    "like": like,
                    "model": row["model"],
                    "other": row["model"],
                    "edges": value,
                }
            )
    last = {key: group[-1].circuit for key, group in grouped(found).items()}
    for task in dict.fromkeys(one.task for one in found):
        for a, b in (pair for names in groups for pair in itertools.combinations(names, 2)):
            if (a, task) not in last or (b, task) not in last:
                continue
            one, two, graph = last[a, task], last[b, task], last[a, task].graph
            random = [
                relabelled_jaccard(
                    random_circuit(graph, one.n_edges, rng),
                    random_circuit(graph, two.n_edges, rng),
                    graph,
                    seed=k,
                )
                for k in range(draws)
            ]
            for like, value in zip(
                COMPARED[2:],
                (
                    jaccard(one.mask, two.mask),
                    relabelled_jaccard(one.mask, two.mask, graph),
                    np.mean(random),
                ),
            ):
                rows.append({"task": task, "like": like, "model": a, "other": b, "edges": value})
    return pd.DataFrame(rows, columns=["task", "like", "model", "other", "edges"])


def same_heads(
    found: Sequence[HeadScores], bars: Mapping[str, float], seeds: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Which heads are of a kind, in the seeds of a size: a row per kind, `like` and pair of
    checkpoints or seeds.

    bars: {kind: score from which a head is of it}. Columns: kind, like ("next checkpoint" or "other
    seed", at the last checkpoint), model, other, heads (Jaccard of the sets of heads; rows with two
    empty sets are left out), and how many there are in each.
    """
    rows = []
    groups = [list(names) for names in seeds if len(names) > 1]
    of = {
        name: sorted((one for one in found if one.model == name), key=lambda one: one.step)
        for names in groups
        for name in names
    }
    neighbours = [(a, b, COMPARED[1]) for mine in of.values() for a, b in zip(mine, mine[1:])]
    others = [
        (of[a][-1], of[b][-1], COMPARED[2])
        for names in groups
        for a, b in itertools.combinations(names, 2)
        if of[a] and of[b]
    ]
    for kind, bar in bars.items():
        for a, b, like in [*neighbours, *others]:
            one, two = a.score(kind) >= bar, b.score(kind) >= bar
            if one.any() or two.any():
                rows.append(
                    {
                        "kind": kind,
                        "like": like,
                        "model": a.model,
                        "other": b.model,
                        "heads": jaccard(one, two),
                        "count": int(one.sum()),
                        "count_other": int(two.sum()),
                    }
                )
    return pd.DataFrame(
        rows, columns=["kind", "like", "model", "other", "heads", "count", "count_other"]
    )
