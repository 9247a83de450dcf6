"""Births and deaths: from when to when each edge is in the circuit, and how sure that is.

A search at one checkpoint says which edges are in; over other prompts some would be others. So the
question is put to each draw of prompts: the same prompts at every checkpoint give one history of
the circuit, and what all histories say is certain as far as prompts go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from circuitbook.stats import interval
from circuitbook.studies.circuit_tables import grouped
from circuitbook.studies.circuits import CircuitResult

NEVER = -1  # the checkpoint at which an edge is born that a history does not have


@dataclass(frozen=True, eq=False)
class Lives:
    """The edges that were in the circuit of one model and task, over its checkpoints with one."""

    model: str
    task: str
    tokens: Int[np.ndarray, " checkpoint"]
    """Tokens seen, ascending."""
    edges: tuple[str, ...]
    """Names, in the order in which they come in (most histories), then of how long they stay."""
    present: Bool[np.ndarray, "draw edge checkpoint"]
    """Of each draw of prompts, whether the edge is in the circuit."""

    @property
    def share(self) -> Float[np.ndarray, "edge checkpoint"]:
        """In how many of the draws the edge is in the circuit, from 0 to 1."""
        share: np.ndarray = self.present.mean(0)
        return share

    @property
    def born(self) -> Int[np.ndarray, "draw edge"]:
        """The first checkpoint at which the edge is in; NEVER where it is not."""
        born: np.ndarray = np.where(self.present.any(2), self.present.argmax(2), NEVER)
        return born

    @property
    def last(self) -> Int[np.ndarray, "draw edge"]:
        """The last checkpoint at which it is in; NEVER where it is not."""
        back = self.present[:, :, ::-1].argmax(2)
        last = np.where(self.present.any(2), self.present.shape[2] - 1 - back, NEVER)
        return last

    @property
    def births(self) -> Int[np.ndarray, "draw checkpoint"]:
        """How many edges come in for the first time. At the first checkpoint, all."""
        return _counts(self.born, len(self.tokens))

    @property
    def deaths(self) -> Int[np.ndarray, "draw checkpoint"]:
        """How many edges are in no longer, and do not come back."""
        gone = np.where(self.last == NEVER, NEVER, self.last + 1)
        return _counts(gone, len(self.tokens))  # the last checkpoint's do not die

    @property
    def table(self) -> pd.DataFrame:
        """A row per edge: edge; born, its median over the draws that have it, with low and high of
        95%; last, the same; in tokens; draws: in how many it ever is, from 0 to 1.
        """
        rows = []
        for i, edge in enumerate(self.edges):
            has = self.born[:, i] != NEVER
            row: dict[str, object] = {"edge": edge, "draws": float(has.mean())}
            for name, when in (("born", self.born[has, i]), ("last", self.last[has, i])):
                low, high = interval(when)
                places = {"": np.quantile(when, 0.5, method="lower"), "_low": low, "_high": high}
                row |= {f"{name}{end}": int(self.tokens[int(at)]) for end, at in places.items()}
            rows.append(row)
        return pd.DataFrame(rows)


def _counts(when: Int[np.ndarray, "draw edge"], checkpoints: int) -> Int[np.ndarray, "draw at"]:
    """Of each draw, how many of `when` are each checkpoint; NEVER and what lies behind are none."""
    counts: np.ndarray = (when[:, :, None] == np.arange(checkpoints)).sum(1)
    return counts


def lives(circuits: Sequence[CircuitResult]) -> list[Lives]:
    """Of every model and task that has circuits from resampled prompts at two checkpoints or more.

    Draw d is of the same prompts at every checkpoint. Checkpoints without a circuit are left out.
    """
    found = []
    for (model, task), group in grouped(circuits).items():
        draws = min(len(result.edges_resampled) for result in group)
        if len(group) < 2 or draws == 0:
            continue
        masks = np.array([result.resampled[:draws] for result in group])  # [checkpoint, draw, ...]
        ever = np.argwhere(masks.any((0, 1)))
        present = masks[:, :, ever[:, 0], ever[:, 1]].transpose(1, 2, 0)
        graph = group[0].circuit.graph
        share = present.mean(0)
        often = share >= 0.5
        comes = np.where(often.any(1), often.argmax(1), len(group))
        order = np.lexsort((np.arange(len(ever)), -share.sum(1), comes))
        found.append(
            Lives(
                model=model,
                task=task,
                tokens=np.array([result.tokens_seen for result in group]),
                edges=tuple(graph.edge_name(*ever[row]) for row in order),
                present=present[:, order],
            )
        )
    return found


def summary(one: Lives) -> dict[str, float]:
    """What the histories say together: means over the draws, each with _low and _high of 95%.

    ever: edges that are in at any checkpoint; founders: in from the first to the last without a
    gap, as a share of the last circuit; always: the same as a share of `ever`; visitors: in at a
    single checkpoint, as a share of `ever`; returned: out and in again, as a share of `ever`.
    """
    present = one.present
    ever = present.any(2).sum(1)
    spells = (np.diff(present.astype(np.int8), axis=2, prepend=0) == 1).sum(2)
    shares = {
        "ever": ever.astype(float),
        "founders": present.all(2).sum(1) / present[:, :, -1].sum(1),
        "always": present.all(2).sum(1) / ever,
        "visitors": (present.sum(2) == 1).sum(1) / ever,
        "returned": (spells > 1).sum(1) / ever,
    }
    out: dict[str, float] = {}
    for name, values in shares.items():
        low, high = interval(values)
        out |= {name: float(values.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}
    return out
