"""When kinds of heads form: before or after the abilities they serve? (Tigges et al. 2024, 3.2)"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from circuitbook.heads.names import Head
from circuitbook.stats import Emergence
from circuitbook.studies.abilities import compare_onsets, emergences
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings.kinds import is_measured, kind_name
from circuitbook.studies.formation import BARS, SERVES, Lead, figure_2_head, formation, lead
from circuitbook.studies.head_scores import TITLES, HeadScores
from circuitbook.studies.runs import but_smallest
from circuitbook.suites.names import base_model
from circuitbook.wording import TASK_TITLES, bullets, counted, head_label, in_markdown, short_number

# ---- the scores of Figure 2


def figure_2_heads(
    heads: Sequence[HeadScores], circuits: Sequence[CircuitResult], models: Sequence[str]
) -> dict[tuple[str, str], Head]:
    """{(kind, model): the head that stands for it}; without those for which there is none."""
    chosen = {
        (kind, model): figure_2_head(heads, circuits, model, kind)
        for kind in BARS
        for model in models
    }
    return {key: head for key, head in chosen.items() if head is not None}


def curves_of(
    scores: pd.DataFrame, chosen: Mapping[tuple[str, str], Head]
) -> dict[str, dict[str, pd.DataFrame]]:
    """{kind: {model: the chosen head over training}}, columns tokens_seen and score, 0 to 1."""
    curves: dict[str, dict[str, pd.DataFrame]] = {kind: {} for kind in BARS}
    for (kind, model), (layer, head) in chosen.items():
        here = (scores["model"] == model) & (scores["layer"] == layer) & (scores["head"] == head)
        curves[kind][model] = scores[here].assign(score=scores.loc[here, kind].clip(0, 1))
    return curves


def highest_scores(scores: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """{kind: {model: the highest of all heads}}, with columns tokens_seen and score, 0 to 1."""
    by_model = dict(list(scores.groupby("model", sort=False)))
    return {
        kind: {
            model: part.groupby("tokens_seen")[kind].max().clip(0, 1).rename("score").reset_index()
            for model, part in by_model.items()
            if is_measured(part, kind)
        }
        for kind in BARS
    }


def strongest_heads(
    last: pd.DataFrame, models: Sequence[str], chosen: Mapping[tuple[str, str], Head]
) -> pd.DataFrame:
    """The strongest head of each kind with its score, and the chosen one: "1.3: 0.53 (1.1)".

    last: the scores at each model's last checkpoint. A row per model, a column per kind.
    """
    rows = []
    for model in models:
        part = last[last["model"] == model]
        row = {"model": model}
        for kind in BARS:
            row[kind_name(kind).lower()] = _strongest(part, kind, chosen.get((kind, model)))
        rows.append(row)
    return pd.DataFrame(rows).set_index("model")


def _strongest(part: pd.DataFrame, kind: str, chosen: Head | None) -> str:
    if not is_measured(part, kind):
        return "no text"
    best = part.loc[part[kind].idxmax()]
    in_circuit = head_label(chosen) if chosen else "none"
    return f"{head_label((best['layer'], best['head']))}: {best[kind]:.2f} ({in_circuit})"


# ---- heads and abilities


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
    return short_number(emergence.tokens) if len(emergence.samples) else "none"


def _ratio(comparison: Lead) -> str:
    if np.isnan(comparison.ratio):
        return ""
    return f"{comparison.ratio:.2f} [{comparison.low:.2f}, {comparison.high:.2f}]"


def order_in_words(dates: Sequence[HeadAndAbility], main: Sequence[str]) -> str:
    """Does the head come first, and after the same number of tokens at every size? A line per kind.

    main: the models that are compared with one another, one of each size.
    """
    lines = []
    for kind in dict.fromkeys(pair.kind for pair in dates):
        of_kind = [pair for pair in dates if pair.kind == kind]
        lines.append(_order_of_kind(kind, of_kind) + _spread_of_kind(of_kind, main))
    return bullets(lines)


def _order_of_kind(kind: str, dates: Sequence[HeadAndAbility]) -> str:
    answers = Counter(pair.lead.answer for pair in dates)
    words = {
        "before": "before the ability",
        "after": "after it",
        "can't tell": "can't tell",
    }
    counts = [f"{answers[answer]} {text}" for answer, text in words.items() if answers[answer]]
    line = f"**{kind_name(kind)}** and {TASK_TITLES[SERVES[kind]]}: "
    line += ", ".join(counts) or "nothing to compare"
    without = len(dates) - sum(answers[answer] for answer in words)
    if without:
        line += f"; in {counted(without, 'model')} there is no such head, or no ability"
    return line + "."


def _spread_of_kind(dates: Sequence[HeadAndAbility], main: Sequence[str]) -> str:
    onsets = {pair.model: pair.head for pair in dates}
    groups: dict[str, list[str]] = {}
    for model in onsets:
        groups.setdefault(base_model(model), []).append(model)
    sizes = compare_onsets(onsets, sizes=but_smallest(main), seeds=list(groups.values()))
    if np.isnan(sizes.ratio):
        return ""
    which = ", without the smallest" if len(main) > 2 else ""
    return (
        f" Slowest over quickest size{which}: {sizes.ratio:.2f} [{sizes.low:.2f}, "
        f"{sizes.high:.2f}]; within a factor of two: {sizes.answer}."
    )


def passing_in_words(scored: pd.DataFrame, bar: float, model: str) -> str:
    """Which heads of a model ever pass the bar, and when; `scored` as from `trajectories`."""
    first = {head: scored.index[(scored[head] >= bar).argmax()] for head in scored}
    passing = sorted(
        (head for head in scored if scored[head].max() >= bar), key=lambda head: first[head]
    )
    if not passing:
        return f"None of the {scored.shape[1]} heads of {in_markdown(model)} passes the bar."
    when = [f"{head_label(head)} after {short_number(first[head])}" for head in passing]
    return (
        f"{len(passing)} of {scored.shape[1]} heads of {in_markdown(model)} pass the bar: "
        f"{'; '.join(when)} tokens."
    )


# ---- recipes, and what did not appear

COMPARED = ("previous", "induction", "successor", "copy", "copy_suppression", "to_IO")


def compare_recipes(
    last: pd.DataFrame, others: pd.DataFrame, models: Sequence[str]
) -> pd.DataFrame:
    """How two recipes' scores of the same heads differ: a row per score, over `models`.

    last, others: a row per head at the last checkpoint. Columns: score, mean difference, largest,
    correlation, same strongest head (in how many models). A score without a text has no row.
    """
    of_models = last[last["model"].isin(models)]
    both = of_models.merge(others, on=["model", "layer", "head"], suffixes=("", " other"))
    kinds = [kind for kind in COMPARED if is_measured(both, kind)]
    return pd.DataFrame([_compare_scores(both, kind, models) for kind in kinds])


def _compare_scores(both: pd.DataFrame, kind: str, models: Sequence[str]) -> dict[str, object]:
    ours, theirs = both[kind], both[f"{kind} other"]
    by_model = both["model"]
    same = ours.groupby(by_model).idxmax() == theirs.groupby(by_model).idxmax()
    if kind == "copy_suppression":  # below 0 it says no more than 0
        ours, theirs = ours.clip(0, 1), theirs.clip(0, 1)
    apart = (ours - theirs).abs()
    return {
        "score": kind_name(kind),
        "mean difference": apart.mean(),
        "largest": apart.max(),
        "correlation": ours.corr(theirs),
        "same strongest head": f"{same.sum()} of {len(models)}",
    }


def disagreement_in_words(compared: pd.DataFrame, models: Sequence[str], recipes: str) -> str:
    """In which score two recipes, named as in "robust against paper", differ most."""
    worst = compared.loc[compared["mean difference"].idxmax(), "score"]
    compared_heads = f"Over all heads of {counted(len(models), 'model')}, {recipes}."
    return f"{compared_heads} The recipes differ most in: {worst}."


def missing_in_words(scores: pd.DataFrame, models: Sequence[str]) -> str:
    """Kinds of which no head of a model ever passes the bar, with the largest score."""
    lines = []
    for kind, bar in (BARS | {"duplicate": 0.25}).items():
        if scores[kind].isna().all():
            lines.append(
                f"{TITLES[kind]}: not measured, since there is no text for it (parameter TEXT)."
            )
            continue
        scored = scores.dropna(subset=[kind])
        best = scored.loc[scored.groupby("model")[kind].idxmax()].set_index("model")
        short_of_it = [
            _largest(row, kind) for _, row in best.reindex(models).iterrows() if row[kind] < bar
        ]
        if short_of_it:
            lines.append(f"**{kind_name(kind)}** (bar {bar:g}): never in {', '.join(short_of_it)}.")
    return bullets(lines) or "Every kind of head appears in every model."


def _largest(row: pd.Series, kind: str) -> str:
    head, when = head_label((row["layer"], row["head"])), short_number(row["tokens_seen"])
    return f"{in_markdown(row.name)} (largest {row[kind]:.2f}, head {head} after {when})"
