"""The numbers of "Abilities over training": tables, and the sentences that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from circuitbook.model.loaded import Model
from circuitbook.stats import Emergence
from circuitbook.studies.abilities import (
    OnsetComparison,
    compare_onsets,
    emergences,
    summarise,
)
from circuitbook.studies.chapter import Chapter
from circuitbook.studies.runs import but_smallest
from circuitbook.suites.names import base_model
from circuitbook.tasks.registry import get_task
from circuitbook.wording import TASK_SHORT, TASK_TITLES, in_markdown, short_number

Onsets = Mapping[str, Mapping[str, Emergence]]  # {task: {model: when its ability forms}}
Groups = Mapping[str, Sequence[str]]  # {what they are: models}
Comparisons = Mapping[tuple[str, str], OnsetComparison]  # {(task, group): how far apart they are}

ALL_SIZES = "all sizes"
BUT_SMALLEST = "without the smallest"  # as the paper has it
SEEDS = "seeds of "
MEASURES = ("accuracy", "rank_zero", "logit_difference", "probability_difference", "answer_mass")


# ------------------------------------------------------------------ what is measured


def what_is_measured(chapter: Chapter, prompts: int) -> str:
    """Suite, models, and how many checkpoints and prompts."""
    return (
        f"Measured here: suite **{in_markdown(chapter.suite.name)}**, "
        f"models {in_markdown(*chapter.models)}; "
        f"{chapter.chosen.checkpoints} checkpoints, {prompts} prompts per task."
    )


def example_prompts(model: Model, tasks: Sequence[str], n: int, seed: int) -> pd.DataFrame:
    """The first pair of each task's prompts: task, clean, corrupted, metric, and their number."""
    rows = []
    for task in tasks:
        pairs = get_task(task).prompts(model.tokenizer, n=n, seed=seed)
        first = pairs.table.iloc[0]
        rows.append(
            {
                "task": TASK_TITLES[task],
                "clean": first["clean"],
                "corrupted": first["corrupted"],
                "metric": pairs.metric_name.replace("_", " "),
                "prompts": len(pairs),
            }
        )
    return pd.DataFrame(rows)


# ------------------------------------------------------------------ when abilities form


def onsets(
    answers: pd.DataFrame, tasks: Sequence[str], share: float
) -> dict[str, dict[str, Emergence]]:
    """When each model's ability at each task reaches `share` of its final value."""
    return {task: emergences(answers, task, share) for task in tasks}


def _has_ability(onset: Emergence) -> bool:
    return len(onset.samples) > 0


def order_of_tasks(half: Onsets, models: Sequence[str]) -> pd.Series:
    """Tokens at which a task's ability forms, the median over these models, earliest task first.

    Tasks that none of the models can do are left out.
    """
    tokens = {
        task: pd.Series([by_model[name].tokens for name in models], dtype=float).median()
        for task, by_model in half.items()
    }
    return pd.Series(tokens, dtype=float).dropna().sort_values(kind="stable")


def what_forms_when(half: Onsets, models: Sequence[str]) -> str:
    """In which order the tasks' abilities form in `models`, and which do not, in any model."""
    paragraphs = []
    order = order_of_tasks(half, models)
    if len(order):
        formed = "; ".join(
            f"{TASK_TITLES[task]} ({short_number(tokens)} tokens)" for task, tokens in order.items()
        )
        paragraphs.append(
            "Half of the final value is reached, by the median over sizes, in this order: "
            f"{formed}."
        )
    missing = [
        f"{TASK_TITLES[task]} in {in_markdown(name)} (final score {onset.final:.2f})"
        for task, by_model in half.items()
        for name, onset in by_model.items()
        if not _has_ability(onset)
    ]
    if missing:
        paragraphs.append(f"**What did not emerge:** {'; '.join(missing)}.")
    else:
        paragraphs.append("Every ability is there at the end, in every model.")
    return "\n\n".join(paragraphs)


def with_interval(onset: Emergence) -> str:
    """An onset in tokens with its interval: "1.5M  [1.2M, 2M]", or "no ability"."""
    if not _has_ability(onset):
        return "no ability"
    low, high = short_number(onset.low), short_number(onset.high)
    return f"{short_number(onset.tokens)}  [{low}, {high}]"


def onset_table(half: Onsets, most: Onsets, tasks: Sequence[str]) -> pd.DataFrame:
    """The final score of each task and model, and the tokens to half and to 90 % of it."""
    rows = [
        {
            "task": TASK_SHORT[task],
            "model": name,
            "final score": f"{onset.final:.2f}",
            "half of it after": with_interval(onset),
            "90 % of it after": with_interval(most[task][name]),
        }
        for task in tasks
        for name, onset in half[task].items()
    ]
    return pd.DataFrame(rows).set_index(["task", "model"])


def dates(onsets: Mapping[str, Emergence], abilities: Mapping[str, Emergence]) -> dict[str, str]:
    """{model: tokens of its onset}; "no ability" where there is no onset, or no ability at all.

    onsets: by any measure. abilities: by the task's own score, which says whether there is one.
    """
    dated = {}
    for name, onset in onsets.items():
        able = _has_ability(onset) and _has_ability(abilities[name])
        dated[name] = short_number(onset.tokens) if able else "no ability"
    return dated


# ------------------------------------------------------------------ the same at every size?


def groups_to_compare(models: Sequence[str], main: Sequence[str]) -> dict[str, list[str]]:
    """All sizes but the smallest (`main`, small to large), all, and the seeds of each size."""
    groups = {BUT_SMALLEST: list(but_smallest(main)), ALL_SIZES: list(main)}
    runs: dict[str, list[str]] = {}
    for name in models:
        runs.setdefault(base_model(name), []).append(name)
    for size, names in runs.items():
        if len(names) > 1:
            groups[f"{SEEDS}{size}"] = names
    return groups


def compare_groups(
    half: Onsets, groups: Groups, tasks: Sequence[str]
) -> dict[tuple[str, str], OnsetComparison]:
    """How far apart the onsets within each group are, for each task.

    Of sizes, the intervals resample the seeds, too, where there are some.
    """
    seeds = [names for group, names in groups.items() if group.startswith(SEEDS)]
    return {
        (task, group): compare_onsets(
            half[task], sizes=names, seeds=() if group.startswith(SEEDS) else seeds
        )
        for task in tasks
        for group, names in groups.items()
    }


def comparison_table(comparisons: Comparisons) -> pd.DataFrame:
    """Slowest over quickest of each task and group with its interval, and: is it the same?"""
    rows = []
    for (task, group), compared in comparisons.items():
        ratio = ""
        if not np.isnan(compared.ratio):
            ratio = f"{compared.ratio:.2f}  [{compared.low:.2f}, {compared.high:.2f}]"
        rows.append(
            {
                "task": TASK_SHORT[task],
                "models": group,
                "slowest / quickest": ratio,
                "the same?": compared.answer,
            }
        )
    return pd.DataFrame(rows).set_index(["task", "models"])


def trend_with_size(onsets: Mapping[str, Emergence], sizes: Sequence[str]) -> str:
    """Whether larger models are earlier: always, or by the rank correlation of tokens and size.

    sizes: models from small to large. Empty where fewer than three of them have the ability,
    or all at the same time.
    """
    tokens = pd.Series([onsets[name].tokens for name in sizes], dtype=float).dropna()
    if len(tokens) < 3 or tokens.nunique() == 1:
        return ""
    if (tokens.diff().dropna() < 0).all():
        return "Larger models are always earlier."
    correlation = tokens.corr(tokens.index.to_series(), method="spearman")
    if correlation < -0.3:
        return "Larger models tend to be earlier."
    if correlation > 0.3:
        return "Larger models tend to be later."
    return "There is no trend with size."


def same_at_every_size(
    comparisons: Comparisons, half: Onsets, tasks: Sequence[str], sizes: Sequence[str]
) -> str:
    """The paper's claim, answered for each task. sizes: models from small to large."""
    lines = []
    for task in tasks:
        compared, every = comparisons[task, BUT_SMALLEST], comparisons[task, ALL_SIZES]
        line = f"- **{TASK_TITLES[task]}**: {compared.answer}{_ratio(compared)}"
        if len(sizes) > 2:
            line += f"; with the smallest {every.answer}{_ratio(every)}"
        lines.append(f"{line}. {trend_with_size(half[task], sizes)}".rstrip())
    leaving_out = " (the smallest left out, as in the paper)" if len(sizes) > 2 else ""
    return (
        f"**The paper's claim, in this suite.** Is the number of tokens the same at every size"
        f"{leaving_out}, within a factor of two?\n\n" + "\n".join(lines)
    )


def _ratio(compared: OnsetComparison) -> str:
    """ " (ratio 1.30, interval 1.00 to 1.75)", or nothing where there is none."""
    if np.isnan(compared.ratio):
        return ""
    return f" (ratio {compared.ratio:.2f}, interval {compared.low:.2f} to {compared.high:.2f})"


# ------------------------------------------------------------------ other ways to score


def by_measure(answers: pd.DataFrame, tasks: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The curves (as from `summarise`) of these tasks in each of `MEASURES`."""
    of_tasks = answers[answers["task"].isin(tasks)]
    of_tasks = of_tasks.assign(rank_zero=(of_tasks["rank"] == 0).astype(float))
    return {measure: summarise(of_tasks, measure) for measure in MEASURES}


# ------------------------------------------------------------------ a wrong rule


def agreement_by_attractor(
    answers: pd.DataFrame, models: Sequence[str]
) -> dict[bool, pd.DataFrame]:
    """Agreement over training with a noun between subject and verb, as from `summarise`.

    Under True where that noun has the other number, under False where it has the subject's.
    """
    agreement = answers[(answers["task"] == "sva") & answers["model"].isin(models)]
    agreement = agreement[agreement["attractor"].notna()]
    return {
        mismatch: summarise(agreement[agreement["attractor_mismatch"].eq(mismatch)])
        for mismatch in (True, False)
    }


def wrong_rule(other_number: pd.DataFrame) -> str:
    """Whether a model ever goes by the nearest noun: the lowest point of these curves.

    `other_number`: agreement past a noun of the other number, as from `summarise`.
    """
    worst = other_number.sort_values("mean").iloc[0]
    mean, low, high = (_two_digits(worst[column]) for column in ("mean", "low", "high"))
    lowest = (
        f"The lowest point on the left is {mean} [{low}, {high}], "
        f"{in_markdown(worst['model'])} after {short_number(worst['tokens_seen'])} tokens."
    )
    if worst["high"] < 0:
        return (
            f"{lowest} It is below zero: at that time the model agrees with the *nearest* noun, "
            "and is wrong more often than a coin would be. Then it finds the subject."
        )
    return (
        f"{lowest} It is not below zero beyond doubt: at these checkpoints there is no phase in "
        "which a model agrees with the nearest noun."
    )


def _two_digits(value: float) -> str:
    """Two digits, and never "-0.00"."""
    return f"{round(value, 2) + 0.0:.2f}"
