"""Claims about when abilities and heads form (sections 3.1 and 3.2, Figures 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from circuitbook.stats import Emergence, Verdict, all_of, decide, interval
from circuitbook.studies.abilities import compare_onsets, emergences
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.formation import BARS, formation, of_model

ALIKE = 2.0  # "similar token counts": within this factor
SAME = 0.9  # what is moved works "as well" from this share of the target's own on

Answer = tuple[Verdict, str]  # the verdict, and what was measured, in words
Test = Callable[[Evidence], Answer]


def all_or_none(flags: list[bool]) -> Verdict:
    """It holds where all flags are set, fails where none is; between them we can't tell."""
    if all(flags):
        return Verdict.HOLDS
    return Verdict.OPEN if any(flags) else Verdict.FAILS


def within(low: float, high: float, first: float, last: float) -> Verdict:
    """Does what lies in [low, high] lie between `first` and `last`?"""
    return all_of([decide(low, high, first), decide(-high, -low, -last)])


# ------------------------------------------------------------------ section 3.1 and Figure 1


def alike(onsets: Mapping[str, Emergence]) -> Answer:
    """Within a factor of two over the sizes?"""
    compared = compare_onsets(onsets, ALIKE)
    dated = sum(len(onset.samples) > 0 for onset in onsets.values())
    if np.isnan(compared.ratio):
        return Verdict.OPEN, f"dated in {dated} of {len(onsets)} sizes"
    ratio = f"{compared.ratio:.2f} [{compared.low:.2f}, {compared.high:.2f}]"
    return compared.verdict, f"slowest over quickest of {dated} sizes: {ratio}"


def ability(task: str) -> Test:
    """Does the ability appear after similar numbers of tokens at every size?"""

    def test(evidence: Evidence) -> Answer:
        if task not in set(evidence.answers["task"]):
            return Verdict.OPEN, "the task was not measured"
        smallest, *larger = evidence.main
        every = emergences(evidence.answers, task, 0.5)
        onsets = {model: onset for model, onset in every.items() if model in evidence.main}
        verdict, measured = alike(onsets)
        rest = {model: onset for model, onset in onsets.items() if model != smallest}
        without = compare_onsets(rest, ALIKE).ratio
        if len(larger) > 1 and not np.isnan(without):
            measured += f"; without the smallest {without:.2f}"
        return verdict, measured

    return test


def learning_speed(evidence: Evidence) -> Answer:
    """Does the second smallest size take no more than twice the tokens of the largest?"""
    if len(evidence.main) < 3 or "ioi" not in set(evidence.answers["task"]):
        return Verdict.OPEN, "needs IOI in three sizes"
    onsets = emergences(evidence.answers, "ioi", 0.5)
    names = evidence.main[1], evidence.main[-1]
    second, largest = (onsets[name] for name in names)
    if not (len(second.samples) and len(largest.samples)):
        return Verdict.OPEN, "IOI is not dated in both sizes"
    n = min(len(second.samples), len(largest.samples))
    low, high = map(float, interval(second.samples[:n] / largest.samples[:n]))
    ratio = f"{second.tokens / largest.tokens:.2f} [{low:.2f}, {high:.2f}]"
    measured = f"tokens to half of IOI, {' over '.join(names)}: {ratio}"
    return within(low, high, 1 / ALIKE, ALIKE), measured


# ------------------------------------------------------------------ section 3.2 and Figure 2


def _onsets(evidence: Evidence, kind: str) -> dict[str, Emergence]:
    return {name: formation(evidence.heads, name, kind) for name in evidence.main}


def component(kind: str) -> Test:
    """Do heads of a kind form after similar numbers of tokens at every size?"""

    def test(evidence: Evidence) -> Answer:
        return alike(_onsets(evidence, kind))

    return test


def tokens_of(kind: str, first: float, last: float) -> Test:
    """Do such heads form between these tokens (Pythia's)?"""

    def test(evidence: Evidence) -> Answer:
        onsets = _onsets(evidence, kind)
        onsets = {name: onset for name, onset in onsets.items() if len(onset.samples)}
        dates = [f"{name} {onset.tokens / 1e9:.2g} billion" for name, onset in onsets.items()]
        dated = ", ".join(dates) or "no such heads"
        if not evidence.is_pythia or not onsets:
            return Verdict.OPEN, f"the tokens are Pythia's; here {dated}"
        ranges = [within(onset.low, onset.high, first, last) for onset in onsets.values()]
        return all_of(ranges), dated

    return test


def successors_fade(evidence: Evidence) -> Answer:
    """Is the strongest successor head weaker at the end than at its best?"""
    remains = {}
    for name in evidence.main:
        training = of_model(evidence.heads, name)
        best = np.array([scores.score("successor").max() for scores in training])
        if np.isfinite(best).all() and best.max() >= BARS["successor"]:
            remains[name] = best[-1] / best.max()
    if not remains:
        return Verdict.OPEN, "no successor head"
    shares = ", ".join(f"{name} {share:.2f}" for name, share in remains.items())
    verdict = all_or_none([share < SAME for share in remains.values()])
    return verdict, f"final over largest score of the strongest head: {shares}"


def suppression_helps(evidence: Evidence) -> Answer:
    """Is the direct effect of copy suppression heads on IOI negative, that is, does it help?"""
    effects, models = [], []
    for classes in evidence.head_classes:
        if "direct" not in classes.patched:
            continue
        for name in ("copy suppression", "negative copy suppression"):
            members = classes.effects("direct")[classes.classes[name].astype(bool)]
            effects += members.tolist()
            models += [classes.model] * len(members)
    if not effects:
        return Verdict.OPEN, "no copy suppression head at a checkpoint that does IOI"
    helps = [effect < 0 for effect in effects]
    measured = (
        f"helps at {sum(helps)} of {len(helps)} heads and checkpoints, in "
        f"{', '.join(dict.fromkeys(models))}; mean direct effect {-np.mean(effects):+.2f} of the "
        "whole"
    )
    return all_or_none(helps), measured
