"""One rule for all claims: what is claimed of which numbers, and what their samples say of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from circuitbook.stats import Verdict, decide, holm, interval, p_above
from circuitbook.studies.runs import Estimate

LEVEL = 0.95


def two_digits(value: float) -> str:
    """A number as the report writes it.

    >>> two_digits(1.2345), two_digits(float("inf"))
    ('1.23', 'any')
    """
    return f"{value:.2f}" if np.isfinite(value) else "any"


def percent(value: float) -> str:
    """A share as the report writes it."""
    return f"{value:.0%}"


@dataclass(frozen=True, eq=False)
class Part:
    """A number of which it is claimed that it lies above a bound (or below it).

    `smallest_p`: no design with as many units can give a smaller p (four sizes have 24 pairings, so
    2/24); where that is above what the level asks, nothing can be told.
    """

    name: str
    number: Estimate
    bound: float
    above: bool = True
    smallest_p: float = 0.0
    write: Callable[[float], str] = two_digits

    def verdict(self, level: float) -> Verdict:
        """What its interval at this level says."""
        if self.smallest_p > 1 - level:
            return Verdict.OPEN
        low, high = map(float, interval(self.number.samples, level))
        return decide(low, high, self.bound) if self.above else decide(-high, -low, -self.bound)

    def p(self, holds: bool) -> float:
        """The p of the claim that it is on the claimed side, or (not `holds`) on the other."""
        sign = 1 if self.above == holds else -1
        return max(p_above(sign * self.number.samples, sign * self.bound), self.smallest_p)

    @property
    def margin(self) -> float:
        """How far it is on the claimed side, in half widths of its interval."""
        low, high = map(float, interval(self.number.samples, LEVEL))
        off = (self.number.value - self.bound) * (1 if self.above else -1)
        return off / max((high - low) / 2, 1e-9) if np.isfinite(high - low) else off

    def __str__(self) -> str:
        low, high = (self.write(float(end)) for end in interval(self.number.samples, LEVEL))
        return f"{self.name} {self.write(self.number.value)} [{low}, {high}]".strip()


@dataclass(frozen=True, eq=False)
class Answer:
    """What the evidence says of a claim that all `parts` lie where it puts them.

    It holds where each part does, and fails where one fails at the level that allows for there
    being several (Bonferroni); else we can't tell. `missing`: of whom nothing can be said, so that
    the claim cannot hold. Without parts there is nothing to decide; `measured` says why.
    """

    parts: tuple[Part, ...] = ()
    measured: str = ""
    missing: str = ""

    @classmethod
    def open(cls, why: str) -> Answer:
        """Nothing to decide."""
        return cls(measured=why)

    @property
    def verdict(self) -> Verdict:
        if not self.parts:
            return Verdict.OPEN
        apart = 1 - (1 - LEVEL) / len(self.parts)
        if any(part.verdict(apart) is Verdict.FAILS for part in self.parts):
            return Verdict.FAILS
        if self.missing or any(part.verdict(LEVEL) is not Verdict.HOLDS for part in self.parts):
            return Verdict.OPEN
        return Verdict.HOLDS

    @property
    def doubt(self) -> str:
        """Why it can't be decided, as a clause; "" where it can, or where there are no parts."""
        if not self.parts or self.verdict is not Verdict.OPEN:
            return ""
        if self.missing:
            return f"nothing can be said of {self.missing}"
        if any(part.smallest_p > 1 - LEVEL for part in self.parts):
            return "so few sizes cannot show a trend beyond chance"
        open_parts = sum(part.verdict(LEVEL) is not Verdict.HOLDS for part in self.parts)
        if len(self.parts) == 1:
            return "the interval reaches across the bound"
        reach = "reaches" if open_parts == 1 else "reach"
        return f"{open_parts} of {len(self.parts)} intervals {reach} across the bound"

    @property
    def p(self) -> float:
        """The smaller p of the claim and of its opposite; nan without parts."""
        if not self.parts:
            return float("nan")
        against = len(self.parts) * min(part.p(holds=False) for part in self.parts)
        holds = 1.0 if self.missing else max(part.p(holds=True) for part in self.parts)
        return min(against, holds, 1.0)

    @property
    def shown(self) -> str:
        """The parts with their intervals, up to four, or else the one furthest off."""
        named = {str(part): part for part in self.parts}
        if len(named) <= 4:
            return "; ".join(named)
        worst = min(self.parts, key=lambda part: part.margin)
        return f"{worst}, the least of {len(self.parts)}"


def corrected(answers: Sequence[Answer]) -> list[Verdict]:
    """The verdicts that stand when all these claims are asked at once (Holm 1979); else "can't
    tell".

    Claims of which there was nothing to decide do not count.
    """
    asked = [i for i, answer in enumerate(answers) if answer.parts]
    verdicts = [Verdict.OPEN] * len(answers)
    for i, p in zip(asked, holm([answers[i].p for i in asked]), strict=True):
        if p < 1 - LEVEL:
            verdicts[i] = answers[i].verdict
    return verdicts
