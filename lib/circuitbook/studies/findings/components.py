"""Which heads stand for each kind, how recipes score them, and which kinds did not appear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from circuitbook.heads.names import Head
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings.kinds import is_measured, kind_name
from circuitbook.studies.formation import BARS, figure_2_head
from circuitbook.studies.head_scores import TITLES, HeadScores
from circuitbook.wording import bullets, counted, head_label, in_markdown, short_number

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


def in_circuits_in_words(
    chosen: Mapping[tuple[str, str], Head], scores: pd.DataFrame, models: Sequence[str]
) -> str:
    """In how many cases the circuit had a head of the kind; chosen: see `figure_2_heads`."""
    measured = [kind for kind in BARS if is_measured(scores, kind)]
    return (
        f"In {len(chosen)} of {len(measured) * len(models)} cases (a kind in a model) "
        "a head of the kind was ever in the circuit of its task."
    )


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


# ---- every head of a kind


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


def disagreement_in_words(compared: pd.DataFrame, models: Sequence[str]) -> str:
    """In which score two recipes differ most, and by how much; compared: of `compare_recipes`."""
    worst = compared.loc[compared["mean difference"].idxmax()]
    heads = f"all heads of {counted(len(models), 'model')}"
    if worst["mean difference"] == 0:
        return f"Over {heads} the two recipes give the same scores."
    name = str(worst["score"])
    return (
        f"Over {heads} the recipes differ most in {name[:1].lower()}{name[1:]}: by "
        f"{worst['mean difference']:.2f} on average and {worst['largest']:.2f} at most."
    )


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
        short_of_it = [row for _, row in best.reindex(models).iterrows() if row[kind] < bar]
        name = f"**{kind_name(kind)}** (bar {bar:g})"
        if len(short_of_it) == len(models) > 1:
            largest = max(short_of_it, key=lambda row: row[kind])
            lines.append(f"{name}: in no model; the nearest is {_largest(largest, kind)}.")
        elif short_of_it:
            never = ", ".join(_largest(row, kind) for row in short_of_it)
            lines.append(f"{name}: never in {never}.")
    return bullets(lines) or "Every kind of head appears in every model."


def _largest(row: pd.Series, kind: str) -> str:
    head, when = head_label((row["layer"], row["head"])), short_number(row["tokens_seen"])
    return f"{in_markdown(row.name)} (largest {row[kind]:.2f}, head {head} after {when})"
