"""When kinds of heads form, whether before or after the ability they serve, and what becomes of
them.

Works on what `measure_heads` and `measure_circuits` have measured (Tigges et
al. 2024, sections 3.2 and 4.1, Figures 2 and 3), and measures what Figure 3's story needs besides:
swaps and self-repair.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from circuitbook.heads.names import Head
from circuitbook.stats import Emergence, Verdict, bootstrap_draws, dated, decide, interval
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


def of_model(head_scores: Sequence[HeadScores], model: str) -> list[HeadScores]:
    """One model's checkpoints, ascending; ValueError if there are none."""
    training = sorted((at for at in head_scores if at.model == model), key=lambda at: at.step)
    if not training:
        measured = ", ".join(dict.fromkeys(at.model for at in head_scores))
        raise ValueError(f"no head scores of {model} were measured; there are {measured}")
    return training


def trajectories(head_scores: Sequence[HeadScores], model: str, kind: str) -> pd.DataFrame:
    """Scores of one model: index tokens seen, a column (layer, head) for each head."""
    training = of_model(head_scores, model)
    return pd.DataFrame(
        [at.score(kind) for at in training],
        index=[at.tokens_seen for at in training],
        columns=pd.MultiIndex.from_tuples(training[0].heads, names=["layer", "head"]),
    )


def formation(
    head_scores: Sequence[HeadScores],
    model: str,
    kind: str,
    share: float = 0.5,
    draws: int = 1000,
    seed: int = 0,
) -> Emergence:
    """When heads of a kind form: the tokens at which the strongest head first has `share` of the
    largest score it will have.

    The strongest head is taken at each checkpoint anew, so that one head's handing over to another
    is no late formation. The interval resamples the items of the score, and draws the date between
    its two checkpoints. Nothing is dated where the largest score is not beyond doubt above `BARS`.
    """
    training = of_model(head_scores, model)
    if not all(np.isfinite(at.score(kind)).all() for at in training):
        return Emergence.undated(share)
    weights = bootstrap_draws(training[0].items(kind), draws, seed)
    strongest = np.array([at.score(kind).max() for at in training])
    resampled = np.stack([at.score(kind, weights).max(1) for at in training], 1)
    return dated(
        np.array([at.tokens_seen for at in training]),
        strongest,
        resampled,
        share,
        min_value=BARS.get(kind, 0.0),
        share_of="largest",
        gap_seed=zlib.crc32(f"{model} {kind}".encode()),
    )


@dataclass(frozen=True)
class Lead:
    """Which of two comes first: tokens of the head over tokens of the ability, with an interval.

    verdict: of the claim that the head is first. missing: what is not there to be compared.
    """

    ratio: float
    low: float
    high: float
    verdict: Verdict
    missing: str = ""

    @property
    def answer(self) -> str:
        """ "before", "after", "can't tell", or what is missing."""
        words = {Verdict.HOLDS: "before", Verdict.FAILS: "after"}
        return self.missing or words.get(self.verdict, str(self.verdict))


def lead(head: Emergence, ability: Emergence) -> Lead:
    """Does the head form before the ability? It does where the whole interval of the ratio of their
    tokens lies below 1.
    """
    missing = []
    if not len(head.samples):
        surely = not np.isnan(head.absent_until)
        missing.append("no such head" if surely else "perhaps no such head")
    if not len(ability.samples):
        missing.append("no ability")
    if missing:
        return Lead(np.nan, np.nan, np.nan, Verdict.OPEN, ", ".join(missing))
    n = min(len(head.samples), len(ability.samples))
    low, high = map(float, interval(head.samples[:n] / np.maximum(ability.samples[:n], 1)))
    return Lead(head.tokens / max(ability.tokens, 1), low, high, decide(-high, -low, -1.0))


# ------------------------------------------------------------------ which heads


def heads_in_circuits(circuits: Sequence[CircuitResult], model: str, task: str) -> set[Head]:
    """Heads that were ever in the circuit: at some checkpoint something runs into them and
    something out of them.
    """
    heads: set[Head] = set()
    for result in circuits:
        if (result.model, result.task) == (model, task) and result.circuit.found:
            names = (re.fullmatch(r"a(\d+)\.h(\d+)", node) for node in result.circuit.nodes)
            heads |= {(int(name[1]), int(name[2])) for name in names if name}
    return heads


def figure_2_head(
    head_scores: Sequence[HeadScores],
    circuits: Sequence[CircuitResult],
    model: str,
    kind: str,
    bar: float = 0.33,
) -> Head | None:
    """The head that the paper's Figure 2 would show: of the heads that reach `bar` times the
    largest score of any head at any checkpoint, and were ever in the circuit of the kind's task,
    the one that reaches it first. None if there is none.
    """
    table = trajectories(head_scores, model, kind)
    scores = table.to_numpy()  # [checkpoint, head]
    if not np.isfinite(scores).all() or scores.max() <= 0:
        return None
    passed = scores >= bar * scores.max()
    inside = heads_in_circuits(circuits, model, CIRCUIT_OF[kind])
    firsts = [
        (int(column.argmax()), (int(layer), int(head)))
        for (layer, head), column in zip(table.columns, passed.T, strict=True)
        if column.any() and (layer, head) in inside
    ]
    return min(firsts)[1] if firsts else None


def fates(head_scores: Sequence[HeadScores], model: str, kind: str) -> pd.DataFrame:
    """What becomes of each head that is ever of a kind: head, formed (tokens at which it passes the
    bar), largest, at, final, fate (see `fate`).
    """
    table, rows = trajectories(head_scores, model, kind), []
    for layer, head in table:
        scores = table[layer, head].to_numpy()
        if not np.isfinite(scores).all() or scores.max() < BARS[kind]:
            continue
        formed, peak = (scores >= BARS[kind]).argmax(), scores.argmax()
        row = {"kind": kind, "head": f"{layer}.{head}", "formed": table.index[formed]}
        row |= {"largest": scores.max(), "at": table.index[peak], "final": scores[-1]}
        rows.append(row | {"fate": fate(scores[-1] / scores.max())})
    columns = ["kind", "head", "formed", "largest", "at", "final", "fate"]
    return pd.DataFrame(rows, columns=columns).sort_values(["formed", "head"], ignore_index=True)


def fate(remains: float) -> str:
    """What a head does with its job, by its final score over its largest one.

    >>> fate(0.9), fate(0.6), fate(0.1)
    ('keeps it', 'fades', 'loses it')
    """
    if remains >= 0.8:
        return "keeps it"
    return "fades" if remains >= 0.5 else "loses it"


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
