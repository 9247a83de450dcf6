"""What the hypothesis tests of equivalence and independence say of circuits."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.circuits.hypotheses import EPSILON, equivalence, holm, independence
from circuitbook.stats import Verdict, decide
from circuitbook.studies.circuit_tests import Trial
from circuitbook.studies.findings.circuit_tests import LABELS, LEVEL, NO_PROMPTS, labels, tested
from circuitbook.wording import bullets, counted


def hypothesis_table(trials: Sequence[Trial]) -> pd.DataFrame:
    """Equivalence and independence of each circuit, p-values corrected for the number of circuits.

    Columns: `LABELS`; wins (share of prompts on which the circuit beats the model) with low and
    high, p equivalence; hsic (of the complement's scores and the model's), p independence; p no
    edge (of the scores on corrupted prompts and the model's: a circuit without any edge).
    """
    rows, some = [], tested(trials)
    for trial in some:
        same = equivalence(trial.circuit, trial.clean)
        apart = independence(trial.complement, trial.clean)
        rows.append(
            labels(trial)
            | {"wins": same.share, "low": same.low, "high": same.high, "p equivalence": same.p}
            | {"hsic": apart.hsic, "p independence": apart.p}
            | {"p no edge": independence(trial.corrupted, trial.clean).p}
        )
    tests = ["p equivalence", "hsic", "p independence", "p no edge"]
    table = pd.DataFrame(rows, columns=[*LABELS, "wins", "low", "high", *tests])
    for name in ("p equivalence", "p independence", "p no edge"):
        table[name] = holm(table[name].to_numpy(dtype=float))
    return table


def equivalence_verdict(low: float, high: float) -> Verdict:
    """That the circuit wins a half of the prompts to within `EPSILON`, from the interval.

    A p-value alone can only speak against it.
    """
    if low > 0.5 + EPSILON or high < 0.5 - EPSILON:
        return Verdict.FAILS
    inside = decide(low, high, 0.5 - EPSILON), decide(-high, -low, -0.5 - EPSILON)
    return Verdict.HOLDS if inside == (Verdict.HOLDS, Verdict.HOLDS) else Verdict.OPEN


def hypotheses_in_words(trials: Sequence[Trial]) -> str:
    """How many circuits each null hypothesis is rejected for, and what that means."""
    table = hypothesis_table(trials)
    if table.empty:
        return NO_PROMPTS
    verdicts = [
        equivalence_verdict(*ends) for ends in zip(table["low"], table["high"], strict=True)
    ]
    unequal = table["p equivalence"] <= LEVEL
    dependent = table["p independence"] <= LEVEL
    by_prompt = dependent & (table["p no edge"] <= LEVEL)
    rejected = table[unequal]
    worse = int((rejected["wins"] < 0.5).sum())
    return bullets(
        [
            f"**Equivalence** is rejected for {int(unequal.sum())} of "
            f"{counted(len(table), 'circuit')}: {worse} do worse than the model on too many "
            f"prompts, {len(rejected) - worse} do better. It is shown for "
            f"{verdicts.count(Verdict.HOLDS)}. A circuit that keeps most of the metric may lose "
            "nearly every prompt by a little: this test asks for more than the search did.",
            f"**Independence** is rejected for {int(dependent.sum())}: there the scores of the "
            "model without the circuit still tell something about the whole model's. For "
            f"{int(by_prompt.sum())} of these it is rejected of the scores on corrupted prompts, "
            "too, where no edge is left at all: those prompts are easy or hard by themselves, and "
            "the test says nothing about the circuit.",
        ]
    )
