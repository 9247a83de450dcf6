"""Claims about when abilities and heads form (sections 3.1 and 3.2, Figures 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from circuitbook.stats import Emergence, interval
from circuitbook.studies.abilities import OnsetComparison, compare_onsets, emergences
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.formation import BARS, formation, of_model

ALIKE = 2.0  # "similar token counts": within this factor


SAME = 0.9  # what is moved works "as well" from this share of the target's own on


# ------------------------------------------------------------------ section 3.1 and Figure 1

Test = Callable[[Evidence], tuple[str, str]]


def _sameness(found: dict[str, Emergence]) -> tuple[str, str]:
    """Within a factor of two over the sizes?"""
    same: OnsetComparison = compare_onsets(found, ALIKE)
    there = [name for name, one in found.items() if len(one.samples)]
    if np.isnan(same.fold):
        return "can't tell", f"dated in {len(there)} of {len(found)} sizes"
    answer = {"yes": "holds", "no": "does not hold"}.get(same.answer, "can't tell")
    return (
        answer,
        f"slowest over quickest of {len(there)} sizes: {same.fold:.2f} [{same.low:.2f}, {same.high:.2f}]",
    )


def _ability(task: str) -> Test:
    def test(e: Evidence) -> tuple[str, str]:
        if task not in set(e.answers["task"]):
            return "can't tell", "the task was not measured"
        found = {m: one for m, one in emergences(e.answers, task, 0.5).items() if m in e.main}
        answer, measured = _sameness(found)
        if len(e.main) > 2 and not np.isnan(
            rest := compare_onsets(
                {m: one for m, one in found.items() if m != e.main[0]}, ALIKE
            ).fold
        ):
            measured += f"; without the smallest {rest:.2f}"
        return answer, measured

    return test


def _learning_speed(e: Evidence) -> tuple[str, str]:
    """Does the second smallest size take no more than twice the tokens of the largest?"""
    if len(e.main) < 3 or "ioi" not in set(e.answers["task"]):
        return "can't tell", "needs IOI in three sizes"
    found = emergences(e.answers, "ioi", 0.5)
    second, largest = found[e.main[1]], found[e.main[-1]]
    if not (len(second.samples) and len(largest.samples)):
        return "can't tell", "IOI is not dated in both sizes"
    n = min(len(second.samples), len(largest.samples))
    low, high = interval(second.samples[:n] / largest.samples[:n])
    answer = (
        "holds"
        if high < ALIKE and low > 1 / ALIKE
        else "does not hold"
        if low > ALIKE or high < 1 / ALIKE
        else "can't tell"
    )
    return (
        answer,
        f"tokens to half of IOI, {e.main[1]} over {e.main[-1]}: {second.tokens / largest.tokens:.2f} [{low:.2f}, {high:.2f}]",
    )


# ------------------------------------------------------------------ section 3.2 and Figure 2


def _dated(e: Evidence, kind: str) -> dict[str, Emergence]:
    return {name: formation(e.heads, name, kind) for name in e.main}


def _component(kind: str) -> Test:
    return lambda e: _sameness(_dated(e, kind))


def _tokens_of(kind: str, first: float, last: float) -> Test:
    """Do such heads form between these tokens (Pythia's)?"""

    def test(e: Evidence) -> tuple[str, str]:
        there = {name: one for name, one in _dated(e, kind).items() if len(one.samples)}
        dates = (
            ", ".join(f"{name} {one.tokens / 1e9:.2g} billion" for name, one in there.items())
            or "no such heads"
        )
        if not e.is_pythia or not there:
            return "can't tell", f"the tokens are Pythia's; here {dates}"
        inside = [first <= one.low and one.high <= last for one in there.values()]
        outside = [one.high < first or one.low > last for one in there.values()]
        return "holds" if all(inside) else "does not hold" if any(outside) else "can't tell", dates

    return test


def _successors_fade(e: Evidence) -> tuple[str, str]:
    """Is the strongest successor head weaker at the end than at its best?"""
    left = {}
    for name in e.main:
        best = np.array([one.score("successor").max() for one in of_model(e.heads, name)])
        if np.isfinite(best).all() and best.max() >= BARS["successor"]:
            left[name] = best[-1] / best.max()
    if not left:
        return "can't tell", "no successor head"
    said = ", ".join(f"{name} {value:.2f}" for name, value in left.items())
    answer = (
        "holds"
        if all(v < SAME for v in left.values())
        else "does not hold"
        if all(v >= SAME for v in left.values())
        else "can't tell"
    )
    return answer, f"final over largest score of the strongest head: {said}"


def _suppression_helps(e: Evidence) -> tuple[str, str]:
    effects = [
        (a.model, a.effects("direct")[row])
        for a in e.anatomies
        if "direct" in a.patched
        for name in ("copy suppression", "negative copy suppression")
        for row in a.classes[name].nonzero()[0]
    ]
    if not effects:
        return "can't tell", "no copy suppression head at a checkpoint that does IOI"
    helps = sum(value < 0 for _, value in effects)
    answer = "holds" if helps == len(effects) else "does not hold" if helps == 0 else "can't tell"
    return answer, (
        f"helps at {helps} of {len(effects)} heads and checkpoints, in {', '.join(dict.fromkeys(name for name, _ in effects))}; "
        f"mean direct effect {-np.mean([value for _, value in effects]):+.2f} of the whole"
    )
