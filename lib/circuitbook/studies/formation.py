"""When kinds of heads form, whether before or after the ability they serve, and what becomes of
them.

Works on what `heads.measure_heads` and `over_training.measure_circuits` have measured (Tigges et
al. 2024, sections 3.2 and 4.1, Figures 2 and 3), and measures what Figure 3's story needs besides:
swaps and self-repair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from circuitbook.heads.names import Head
from circuitbook.stats import Emergence, bootstrap_draws, dated, interval
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_scores import HeadScores

# From these scores on we say that a head is of a kind (the authors' bars for a single model), and
# the task whose circuit the paper takes heads of that kind from.
BARS = {"successor": 0.4, "induction": 0.25, "copy_suppression": 0.15, "copy": 0.25}


CIRCUIT_OF = {
    "successor": "greater_than",
    "induction": "greater_than",
    "copy_suppression": "ioi",
    "copy": "ioi",
}


SERVES = {
    "successor": "greater_than",
    "induction": "repetition",
    "copy": "ioi",
    "copy_suppression": "ioi",
}


def of_model(found: Sequence[HeadScores], model: str) -> list[HeadScores]:
    """One model's checkpoints, ascending; ValueError if there are none."""
    mine = sorted((one for one in found if one.model == model), key=lambda one: one.step)
    if not mine:
        raise ValueError(
            f"no head scores of {model} were measured; there are {', '.join(dict.fromkeys(o.model for o in found))}"
        )
    return mine


def trajectories(found: Sequence[HeadScores], model: str, kind: str) -> pd.DataFrame:
    """Scores of one model: index tokens seen, a column (layer, head) for each head."""
    mine = of_model(found, model)
    return pd.DataFrame(
        [one.score(kind) for one in mine],
        index=[one.tokens_seen for one in mine],
        columns=pd.MultiIndex.from_tuples(mine[0].heads, names=["layer", "head"]),
    )


def formation(
    found: Sequence[HeadScores],
    model: str,
    kind: str,
    share: float = 0.5,
    draws: int = 1000,
    seed: int = 0,
) -> Emergence:
    """When heads of a kind form: the tokens at which the strongest head first has `share` of the
    largest score it will have.

    The strongest head is taken at each checkpoint anew, so that one head's handing over to another
    is no late formation. The interval resamples the items of the score. Nothing is dated where the
    largest score is not beyond doubt above `BARS`.
    """
    mine = of_model(found, model)
    if not all(np.isfinite(one.score(kind)).all() for one in mine):
        return Emergence.undated(share)
    weights = bootstrap_draws(mine[0].items(kind), draws, seed)
    curve = np.array([one.score(kind).max() for one in mine])
    resampled = np.stack([one.score(kind, weights).max(1) for one in mine], 1)
    return dated(
        [one.tokens_seen for one in mine],
        curve,
        resampled,
        share,
        min_value=BARS.get(kind, 0.0),
        share_of="largest",
    )


@dataclass(frozen=True)
class Lead:
    """Which of two comes first: tokens of the one over tokens of the other, with an interval."""

    ratio: float
    low: float
    high: float
    answer: str  # "before", "after", "can't tell", or what is missing


def lead(head: Emergence, ability: Emergence) -> Lead:
    """Does the head form before the ability? `answer` is "before" or "after" where the whole
    interval says so.
    """
    missing = [
        name
        for name, one in (("no such head", head), ("no ability", ability))
        if not len(one.samples)
    ]
    if missing:
        return Lead(np.nan, np.nan, np.nan, ", ".join(missing))
    n = min(len(head.samples), len(ability.samples))
    low, high = map(float, interval(head.samples[:n] / np.maximum(ability.samples[:n], 1)))
    return Lead(
        head.tokens / max(ability.tokens, 1),
        low,
        high,
        "before" if high < 1 else "after" if low > 1 else "can't tell",
    )


# ------------------------------------------------------------------ which heads


def heads_in_circuits(circuits: Sequence[CircuitResult], model: str, task: str) -> set[Head]:
    """Heads that were ever in the circuit: at some checkpoint something runs into them and
    something out of them.
    """
    out: set[Head] = set()
    for one in circuits:
        if (one.model, one.task) == (model, task) and one.circuit.found:
            out |= {
                (int(name[1:].split(".")[0]), int(name.split("h")[1]))
                for name in one.circuit.nodes
                if name[0] == "a"
            }
    return out


def figure_2_head(
    found: Sequence[HeadScores],
    circuits: Sequence[CircuitResult],
    model: str,
    kind: str,
    bar: float = 0.33,
) -> Head | None:
    """The head that the paper's Figure 2 would show: of the heads that reach `bar` times the
    largest score of any head at any checkpoint, and were ever in the circuit of the kind's task,
    the one that reaches it first. None if there is none.
    """
    table = trajectories(found, model, kind)
    if not np.isfinite(table.to_numpy()).all() or table.to_numpy().max() <= 0:
        return None
    passed = table.ge(bar * table.to_numpy().max())
    inside = heads_in_circuits(circuits, model, CIRCUIT_OF[kind])
    order = sorted(
        (int(passed[head].to_numpy().argmax()), head)
        for head in table
        if passed[head].any() and tuple(head) in inside
    )
    return tuple(map(int, order[0][1])) if order else None


def fates(found: Sequence[HeadScores], model: str, kind: str) -> pd.DataFrame:
    """What becomes of each head that is ever of a kind: head, formed (tokens at which it passes the
    bar), largest, at, final, fate.

    fate: "keeps it"; "loses it", less than half of its largest score at the end; "fades", less than
    four fifths.
    """
    table, rows = trajectories(found, model, kind), []
    for head in table:
        scores = table[head].to_numpy()
        if np.nanmax(scores) < BARS[kind] or not np.isfinite(scores).all():
            continue
        left = scores[-1] / scores.max()
        rows.append(
            {
                "kind": kind,
                "head": f"{head[0]}.{head[1]}",
                "formed": table.index[(scores >= BARS[kind]).argmax()],
                "largest": scores.max(),
                "at": table.index[scores.argmax()],
                "final": scores[-1],
                "fate": "keeps it" if left >= 0.8 else "fades" if left >= 0.5 else "loses it",
            }
        )
    columns = ["kind", "head", "formed", "largest", "at", "final", "fate"]
    return pd.DataFrame(rows, columns=columns).sort_values(["formed", "head"], ignore_index=True)


def balance(table: pd.DataFrame) -> float:
    """Load balancing: the variance over checkpoints of the heads' sum, over the sum of their
    variances.

    1 if heads change independently of one another; below 1 if one gains what another loses; the
    number of heads if all go up and down together. `table` as from `trajectories`, the checkpoints
    after formation only. nan if nothing changes.
    """
    values = table.to_numpy()
    alone = values.var(0).sum()
    return float(values.sum(1).var() / alone) if len(values) > 2 and alone > 0 else float("nan")
