"""Do heads form before or after the abilities that they serve? (Tigges et al. 2024, 3.2)"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from circuitbook.stats import Emergence
from circuitbook.studies.abilities import OnsetComparison, compare_onsets, emergences
from circuitbook.studies.findings.kinds import HEADS, kind_name
from circuitbook.studies.formation import BARS, SERVES, Lead, formation, lead
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.runs import but_smallest
from circuitbook.suites.names import base_model
from circuitbook.wording import TASK_TITLES, capitalised, counted, listed, short_number


@dataclass(frozen=True)
class HeadAndAbility:
    """When heads of a kind form in a model, and when it can do what they serve."""

    kind: str
    model: str
    head: Emergence
    ability: Emergence

    @property
    def lead(self) -> Lead:
        """Which of the two comes first."""
        return lead(self.head, self.ability)


def date_heads_and_abilities(
    heads: Sequence[HeadScores], answers: pd.DataFrame, models: Sequence[str], share: float = 0.5
) -> list[HeadAndAbility]:
    """Every kind in every model: heads at `share` of their largest score, abilities at half."""
    dates = []
    for kind in BARS:
        abilities = emergences(answers, SERVES[kind], 0.5)
        for model in models:
            head = formation(heads, model, kind, share)
            dates.append(HeadAndAbility(kind, model, head, abilities[model]))
    return dates


def dates_table(dates: Sequence[HeadAndAbility]) -> pd.DataFrame:
    """Tokens at half of the head and of the ability, and which comes first, by kind and model."""
    rows = [
        {
            "kind": kind_name(pair.kind),
            "model": pair.model,
            "head": _tokens(pair.head),
            "ability": _tokens(pair.ability),
            "ratio": _ratio(pair.lead),
            "the head is": pair.lead.answer,
        }
        for pair in dates
    ]
    return pd.DataFrame(rows).set_index(["kind", "model"])


def _tokens(emergence: Emergence) -> str:
    if len(emergence.samples):
        return short_number(emergence.tokens)
    return "unsure" if np.isnan(emergence.absent_until) else "none"


def _ratio(comparison: Lead) -> str:
    if np.isnan(comparison.ratio):
        return ""
    return f"{comparison.ratio:.2f} [{comparison.low:.2f}, {comparison.high:.2f}]"


def order_table(dates: Sequence[HeadAndAbility], main: Sequence[str]) -> pd.DataFrame:
    """In how many models heads of each kind come before or after; and do sizes differ?

    main: the models that are compared with one another, one of each size.
    """
    rows = []
    for kind, pairs in _by_kind(dates).items():
        answers, sizes = Counter(pair.lead.answer for pair in pairs), over_sizes(pairs, main)
        decided = ("before", "after", "can't tell")
        row: dict[str, object] = {"heads": HEADS[kind], "ability": TASK_TITLES[SERVES[kind]]}
        row |= {answer: answers[answer] for answer in decided}
        row["nothing to date"] = len(pairs) - sum(answers[answer] for answer in decided)
        ratio = ""
        if not np.isnan(sizes.ratio):
            ratio = f"{sizes.ratio:.2f} [{sizes.low:.2f}, {sizes.high:.2f}]"
        rows.append(row | {"slowest / quickest size": ratio, "the same?": sizes.answer})
    return pd.DataFrame(rows)


def _by_kind(dates: Sequence[HeadAndAbility]) -> dict[str, list[HeadAndAbility]]:
    kinds = dict.fromkeys(pair.kind for pair in dates)
    return {kind: [pair for pair in dates if pair.kind == kind] for kind in kinds}


def over_sizes(pairs: Sequence[HeadAndAbility], main: Sequence[str]) -> OnsetComparison:
    """How far apart sizes lie in the date of one kind of head: see `compare_onsets`."""
    onsets = {pair.model: pair.head for pair in pairs}
    groups: dict[str, list[str]] = {}
    for model in onsets:
        groups.setdefault(base_model(model), []).append(model)
    return compare_onsets(onsets, sizes=but_smallest(main), seeds=list(groups.values()))


# ---- in words


def answer(dates: Sequence[HeadAndAbility]) -> str:
    """The chapter's answer: which kinds come before the ability they serve, and which after."""
    before, after, both, unsure = [], [], [], []
    late = 0
    for kind, pairs in _by_kind(dates).items():
        answers = Counter(pair.lead.answer for pair in pairs)
        first, last, open_ = (answers[name] for name in ("before", "after", "can't tell"))
        n, late = first + last + open_, late + last
        if not n:
            continue
        in_runs = f"in {first or last} of {counted(n, 'run')}"
        if first and last:
            both.append(HEADS[kind])
        elif 2 * first > n:
            before.append(f"{HEADS[kind]} form before {TASK_TITLES[SERVES[kind]]} {in_runs}")
        elif 2 * last > n:
            after.append(f"{HEADS[kind]} form after {TASK_TITLES[SERVES[kind]]} {in_runs}")
        else:
            unsure.append(HEADS[kind])
    if not before + after + both + unsure:
        return "**No head and the ability that it serves both form in any model here.**"
    clauses = before + after
    if both:
        clauses.append(
            f"{listed(both)} form before the ability in some runs and after it in others"
        )
    if unsure:
        clauses.append(f"for {listed(unsure)} we can't tell which comes first in most runs")
    text = f"**{capitalised('; '.join(clauses))}.**"
    return text if late else f"{text} None of them comes after the ability beyond doubt."


def when_in_words(dates: Sequence[HeadAndAbility]) -> str:
    """In which order the kinds form, by the median over the models that have them."""
    tokens = {
        kind: np.median([pair.head.tokens for pair in pairs if len(pair.head.samples)])
        for kind, pairs in _by_kind(dates).items()
        if any(len(pair.head.samples) for pair in pairs)
    }
    if not tokens:
        return "No head passes a bar in any model."
    order = [
        f"{HEADS[kind]} ({short_number(float(tokens[kind]))} tokens)"
        for kind in sorted(tokens, key=lambda kind: tokens[kind])
    ]
    return f"They form in this order, by the median over runs: {listed(order)}."


def sizes_in_words(dates: Sequence[HeadAndAbility], main: Sequence[str]) -> str:
    """Do the kinds form after the same number of tokens at every size, within a factor of two?"""
    if len(main) < 2:
        return ""
    kinds: dict[str, list[str]] = {"yes": [], "no": [], "can't tell": []}
    for kind, pairs in _by_kind(dates).items():
        kinds[over_sizes(pairs, main).answer].append(HEADS[kind])
    same, other, unknown = (listed(heads) for heads in kinds.values())
    every = "at every size but the smallest" if len(main) > 2 else "at every size"
    clauses = []
    if same:
        clauses.append(
            f"within a factor of two, {same} form after the same number of tokens {every}"
        )
    if other:
        clauses.append(f"{other} need more than twice the tokens at the slowest size")
    if unknown and clauses:
        clauses.append(f"for {unknown} we can't tell")
    elif unknown:
        clauses.append(
            f"we can't tell whether {unknown} form after the same number of tokens {every}"
        )
    return capitalised("; ".join(clauses)) + "."
