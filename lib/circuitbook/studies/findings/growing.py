"""What a model of one's own has learned, in sentences: its ability, heads and circuit."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.heads.names import Head
from circuitbook.stats import Emergence
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.self_repair import carriers_of
from circuitbook.wording import head_label, short_number


def ioi_emergence(
    curves: pd.DataFrame, emergence: Emergence, tokens_per_step: int, steps: int
) -> str:
    """Whether IOI has emerged in so many steps, and when half of it was there.

    curves: columns task, mean, low, high, in the order of training.
    """
    end = curves[curves["task"] == "ioi"].iloc[-1]
    reached = f"a logit difference of {end['mean']:.2f} [{end['low']:.2f}, {end['high']:.2f}]"
    if len(emergence.samples):
        return (
            f"**IOI has emerged:** {reached} at the end. Half of it was there after "
            f"{short_number(emergence.tokens)} tokens, step "
            f"{emergence.tokens / tokens_per_step:.0f} of {steps}."
        )
    return (
        f"**IOI has not emerged** in {steps} steps: the logit difference is "
        f"{reached.removeprefix('a logit difference of ')} at the end. Raise STEPS_TO_TRAIN."
    )


def heads_that_carry_ioi(scores: HeadScores, n: int = 3) -> list[Head]:
    """At most `n` heads that carry IOI (see `carriers_of`), the largest direct effect first."""
    direct = dict(zip(scores.heads, scores.score("direct"), strict=True))
    return sorted(carriers_of(scores), key=lambda head: direct[head])[:n]


def strongest_heads(scores: HeadScores, carriers: Sequence[Head]) -> str:
    """The strongest induction and copying heads, and what the heads that carry IOI look at."""
    induction, copy = (_strongest(scores, kind) for kind in ("induction", "copy"))
    sentence = (
        f"At the end the strongest induction score is {induction}, the strongest copy score {copy}."
    )
    carried = "; ".join(_carried(scores, head) for head in carriers)
    return f"{sentence} {carried}." if carried else sentence


def _strongest(scores: HeadScores, kind: str) -> str:
    values = scores.score(kind)
    return f"{values.max():.2f} (head {head_label(scores.heads[values.argmax()])})"


def _carried(scores: HeadScores, head: Head) -> str:
    row = scores.heads.index(head)
    place = max(("IO", "S1", "S2"), key=lambda name: scores.score(f"to_{name}")[row])
    return (
        f"Head {head_label(head)} makes {-scores.score('direct')[row]:.0%} of the effect on IOI "
        f"directly; from END it looks most at {place}"
    )


def circuit_appears(circuits: Sequence[CircuitResult]) -> str:
    """At how many checkpoints of a run there is a circuit, and how large it is."""
    found = [at for at in circuits if at.circuit.found]
    text = f"{len(found)} of {len(circuits)} checkpoints have a circuit"
    if not found:
        return f"{text}. At the last: {circuits[-1].circuit.reason}."
    first, last = found[0], found[-1]
    return (
        f"{text}, of {first.circuit.n_edges} edges at first (step {first.step}) and "
        f"{last.circuit.n_edges} at the end, of {last.circuit.graph.n_edges} there are."
    )
