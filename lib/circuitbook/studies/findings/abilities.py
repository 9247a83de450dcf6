"""The numbers of "Abilities over training": tables, and the sentences that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from circuitbook.model.loaded import Model
from circuitbook.stats import Emergence
from circuitbook.studies.abilities import emergences, summarise
from circuitbook.studies.chapter import Chapter
from circuitbook.tasks.registry import get_task
from circuitbook.wording import (
    TASK_SHORT,
    TASK_TITLES,
    in_markdown,
    listed,
    short_number,
    two_digits,
)

Onsets = Mapping[str, Mapping[str, Emergence]]  # {task: {model: when its ability forms}}
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
    """In which order the tasks' abilities form in `models`: a sentence."""
    order = order_of_tasks(half, models)
    if order.empty:
        return "No task is learned by the last checkpoint."
    formed = listed(
        f"{TASK_TITLES[task]} ({short_number(tokens)} tokens)" for task, tokens in order.items()
    )
    return f"Half of the final score is there, in the median over sizes, in this order: {formed}."


def what_is_not_learned(half: Onsets) -> str:
    """Which models have not learned which tasks by the last checkpoint; empty if there are none."""
    missing = [
        f"{TASK_TITLES[task]} in {in_markdown(name)} (final score {two_digits(onset.final)})"
        for task, by_model in half.items()
        for name, onset in by_model.items()
        if not _has_ability(onset)
    ]
    return f"**Not learned by the last checkpoint:** {'; '.join(missing)}." if missing else ""


def with_interval(onset: Emergence) -> str:
    """An onset in tokens with its interval: "1.5M  [1.2M, 2M]", or "no ability"."""
    if not _has_ability(onset):
        return "no ability"
    low, high = short_number(onset.low), short_number(onset.high)
    return f"{short_number(onset.tokens)}  [{low}, {high}]"


def onset_table(half: Onsets, most: Onsets, tasks: Sequence[str]) -> pd.DataFrame:
    """The final score of each task and model, and the tokens to half and to 90% of it."""
    rows = [
        {
            "task": TASK_SHORT[task],
            "model": name,
            "final score": f"{onset.final:.2f}",
            "half of it after": with_interval(onset),
            "90% of it after": with_interval(most[task][name]),
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


# ------------------------------------------------------------------ beside the paper's


def tokens_beside_the_papers(curves: pd.DataFrame, paper: pd.DataFrame) -> str:
    """How many times the tokens of ours the paper's models see; columns tokens_seen."""
    times = paper["tokens_seen"].max() / max(curves["tokens_seen"].max(), 1)
    if times >= 2:
        return f"The paper's models see {times:,.0f} times as many tokens as ours."
    if times <= 0.5:
        return f"Our models see {1 / times:,.0f} times as many tokens as the paper's."
    return "The paper's models see about as many tokens as ours."


# ------------------------------------------------------------------ other ways to score


def by_measure(answers: pd.DataFrame, tasks: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The curves (as from `summarise`) of these tasks in each of `MEASURES`."""
    of_tasks = answers[answers["task"].isin(tasks)]
    of_tasks = of_tasks.assign(rank_zero=(of_tasks["rank"] == 0).astype(float))
    return {measure: summarise(of_tasks, measure) for measure in MEASURES}


def kind_before_answer(answers: pd.DataFrame, half: Onsets, models: Sequence[str]) -> str:
    """Does a model learn what kind of word comes next before it learns which one?

    half: of the tasks' own scores. Compared are the tokens at half of the final answer mass and at
    half of the final score, in each of `models` that has both.
    """
    first = [
        mass[name].tokens < onset.tokens
        for task, by_model in half.items()
        for mass in [emergences(answers, task, 0.5, value="answer_mass")]
        for name, onset in by_model.items()
        if name in models and _has_ability(onset) and _has_ability(mass[name])
    ]
    if not first:
        return "No model has learned a task: there is nothing to compare."
    text = (
        f"In {sum(first)} of {len(first)} cases (a task in a model) the probability of all answers "
        "is at half of its final value before the score is"
    )
    if sum(first) > 0.75 * len(first):
        return f"{text}: a model first learns which kind of word comes next, then which word."
    if sum(first) < 0.25 * len(first):
        return f"{text}: a model learns the word no later than the kind of word."
    return f"{text}: neither comes first as a rule."


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

    `other_number`: agreement past a noun of the other number, as from `summarise`. Step 0, where
    a model knows nothing, does not count.
    """
    trained = other_number[other_number["tokens_seen"] > 0]
    if trained.empty:
        return "No checkpoint after the start of training was measured."
    worst = trained.sort_values("mean").iloc[0]
    mean, low, high = (two_digits(worst[column]) for column in ("mean", "low", "high"))
    lowest = (
        f"the lowest point of the left panel is {mean} [{low}, {high}], "
        f"in {in_markdown(worst['model'])} after {short_number(worst['tokens_seen'])} tokens"
    )
    if worst["high"] < 0:
        return (
            f"Yes, the wrong rule comes first: {lowest}, which is worse than chance. "
            "The model then agrees with the nearest noun, and finds the subject later."
        )
    return (
        f"No, or it is over before our checkpoints see it: {lowest}, "
        "which is not worse than chance beyond doubt."
    )
