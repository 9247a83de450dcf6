"""What a model of one's own has learned, in sentences: its ability, heads and circuit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.heads.names import Head
from circuitbook.stats import Emergence
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.self_repair import carriers_of
from circuitbook.wording import head_label, listed, percent, short_number


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


# ------------------------------------------------------------------ the claim

QUIET = 1 / 3  # of the training: so long is a long time in which nothing seems to happen
SHORT = 1 / 4  # of the training: so short is a short time


def claim_in_words(
    curves: pd.DataFrame,
    scores: Sequence[HeadScores],
    carriers: Sequence[Head],
    circuits: Sequence[CircuitResult],
) -> str:
    """Whether ability, heads and circuit appear together, in a short time, after a long quiet one.

    curves: columns task, step, mean, in the order of training; scores, circuits: of the same
    checkpoints; carriers: see `heads_that_carry_ioi`. Quiet is the time to the last checkpoint with
    less than a tenth of the final logit difference; the rise goes from there to the first with nine
    tenths. Together: no more than one checkpoint from the first to the last of three, that with
    half of the logit difference, that with half of what the carriers end up writing to it, and the
    first that has a circuit.
    """
    ioi = curves[curves["task"] == "ioi"]
    steps, score = ioi["step"].tolist(), ioi["mean"].to_numpy()
    first_circuit = next((at.step for at in circuits if at.circuit.found), None)
    if not carriers or first_circuit is None:
        missing = "no head that carries it" if not carriers else "no circuit"
        return f"**The claim can't be tested in this run**: there is {missing}."
    written = [_written(at, carriers) for at in scores]
    dates = {
        "half of the score": _first(steps, score >= 0.5 * score[-1]),
        "half of what its heads write": _first(
            [at.step for at in scores], [value >= 0.5 * written[-1] for value in written]
        ),
        "a first circuit": first_circuit,
    }
    rising = int((score >= 0.1 * score[-1]).argmax())  # the first checkpoint with a tenth
    begins, ends = steps[max(rising - 1, 0)], _first(steps, score >= 0.9 * score[-1])
    quiet, rise = begins / steps[-1], (ends - begins) / steps[-1]
    places = [steps.index(step) for step in dates.values()]
    parts = {
        "together": max(places) - min(places) <= 1,
        "in a short time": rise <= SHORT,
        "after a long quiet time": quiet >= QUIET,
    }
    failing = [name for name, holds in parts.items() if not holds]
    if not failing:
        verdict = "The claim holds in this run."
    elif len(failing) == len(parts):
        verdict = "The claim fails in this run."
    else:
        verdict = f"The claim holds in part: not {' and not '.join(failing)}."
    when = listed([f"{what} at step {step}" for what, step in dates.items()])
    return (
        f"**{verdict}** There is {when}. For {percent(quiet)} of the training the score stays "
        f"below a tenth of what it will be; in the next {percent(rise)} it reaches nine tenths."
    )


def _written(scores: HeadScores, carriers: Sequence[Head]) -> float:
    """What these heads write to the logit difference, in its units."""
    rows = [scores.heads.index(head) for head in carriers]
    gap = scores.arrays["clean"].mean() - scores.arrays["corrupted"].mean()
    return float(-scores.score("direct")[rows].sum() * gap)


def _first(steps: Sequence[int], reached: Sequence[bool] | np.ndarray) -> int:
    return steps[int(np.argmax(reached))]
