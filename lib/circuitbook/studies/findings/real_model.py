"""The chapter on a real language model: its tables, and the sentences that hold their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from circuitbook.stats import Verdict
from circuitbook.studies.claims.algorithm import NEEDED
from circuitbook.studies.class_shares import verdict
from circuitbook.studies.findings.algorithm import STAGE_TITLES
from circuitbook.studies.head_classes import CLAIMED, CLASSES, PANELS, STAGES, HeadClasses
from circuitbook.suites import Suite
from circuitbook.tasks import get_task
from circuitbook.wording import TASK_SHORT, TASK_TITLES, head_labels, in_markdown, listed, percent

SHORT_NAMES = {
    "direct": "heads that answer",
    "steering": "S-inhibition heads",
    "tertiary": "induction and duplicate-token heads",
}
EXPLAINED = {
    "direct": "the direct effect",
    "steering": "what steers those",
    "tertiary": "what informs these",
}
# ------------------------------------------------------------------ the answer


def answer(classes: HeadClasses, shares: pd.DataFrame, held_out: pd.DataFrame) -> str:
    """The chapter in three sentences: the algorithm, what its heads explain, and its circuit."""
    steps = {step: classes.members_of(*names).any() for step, names in NEEDED.items()}
    missing = [step for step, there in steps.items() if not there]
    without = [name for name in CLASSES if not classes.classes[name].any()]
    if not missing:
        what = "has heads for each step of the paper's IOI algorithm"
    elif len(missing) == len(steps):
        what = "has no head for any step of the paper's IOI algorithm"
    else:
        what = f"has part of the paper's IOI algorithm: no {' and no '.join(missing)}"
    explained = [
        f"{SHORT_NAMES[stage]} explain {percent(row['share'])} of {EXPLAINED[stage]}"
        f"{_of_the_negative(classes) if stage == 'direct' else ''}"
        for stage in STAGES
        if (row := absolute_share(shares, stage)) is not None
    ]
    if without and not missing:
        which = "class" if len(without) == 1 else "classes"
        what += f", but none in the {which} {listed(without)}"
    parts = [f"**{in_markdown(classes.model)} {what}.**"]
    if explained:
        parts.append(f"Its {'; '.join(explained)}.")
    ioi = held_out[held_out["task"] == "ioi"]
    if len(ioi):
        row = ioi.iloc[0]
        fresh = not np.isnan(row["held_out"])
        kept = percent(row["held_out"] if fresh else row["found_on"])
        parts.append(
            f"Its circuit is {row['edges']:,} of {row['edges'] / row['share']:,.0f} edges and "
            f"keeps {kept} of the behaviour{' on fresh prompts' if fresh else ''}."
        )
    return " ".join(parts)


def _of_the_negative(classes: HeadClasses) -> str:
    """How much of what the answering heads explain is of negative name movers, in brackets."""
    counted = classes.counted("direct")  # as for the share itself
    effects = np.abs(classes.effects("direct")) * (0 if counted is None else counted)
    negative = effects[classes.classes["negative name mover"]].sum()
    if not negative:
        return ""
    part = negative / effects[classes.members_of(*STAGES["direct"])].sum()
    return f" ({percent(part)} of that is of negative name movers)"


def absolute_share(shares: pd.DataFrame, stage: str, form: str = "absolute") -> pd.Series | None:
    """The row of a `share_table` of one checkpoint; None where there is nothing to share."""
    rows = shares[(shares["stage"] == stage) & (shares["form"] == form)].dropna(subset=["share"])
    return None if rows.empty else rows.iloc[-1]


# ------------------------------------------------------------------ what it can do


def abilities_table(answers: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """A row per task: its metric on clean and corrupted prompts, accuracy, mass of the answers.

    answers: see `measure_abilities`, of one checkpoint.
    """
    rows = []
    for task in tasks:
        part = answers[answers["task"] == task]
        rows.append(
            {
                "task": TASK_TITLES[task],
                "prompts": len(part),
                "clean": f"{part['metric'].mean():.2f}",
                "corrupted": f"{part['corrupted_metric'].mean():.2f}",
                "accuracy": f"{part['accuracy'].mean():.0%}",
                "probability of all answers": f"{part['answer_mass'].mean():.0%}",
            }
        )
    return pd.DataFrame(rows)


def abilities_sentence(answers: pd.DataFrame, tasks: Sequence[str]) -> str:
    """How often the right answers together have more probability than the wrong ones: the task with
    the lowest accuracy and that with the highest. answers: see `measure_abilities`.
    """
    accuracy = answers.groupby("task")["accuracy"].mean()
    accuracy = accuracy[[task for task in tasks if task in accuracy.index]].sort_values()
    ends = dict.fromkeys([accuracy.index[0], accuracy.index[-1]])
    named = " to ".join(f"{percent(accuracy[task])} ({TASK_SHORT[str(task)]})" for task in ends)
    return f"The right answer is ahead of the wrong one on {named} of the prompts."


def next_words_table(words: pd.DataFrame) -> pd.DataFrame:
    """A row per prompt: task, prompt, and its best next words with their probabilities.

    words: see `measure_next_words`.
    """
    rows = []
    for (task, _, of), part in words.groupby(["task", "prompt", "of"], sort=False):
        best = part.sort_values("rank")
        listed = ", ".join(
            f"{_shown(word)} {p:.0%}"
            for word, p in zip(best["word"], best["probability"], strict=True)
        )
        text = part[of].iloc[0]
        rows.append({"task": TASK_SHORT[task], "prompt": of, "text": text, "next": listed})
    return pd.DataFrame(rows)


def _shown(word: str) -> str:
    """A token for people: without the space in front, and visible where it is nothing else."""
    return word.strip() or repr(word)


def little_mass(answers: pd.DataFrame, task: str = "sva", bar: float = 0.1) -> str:
    """On which kinds of prompts the answers of a task get little probability altogether."""
    part = answers[answers["task"] == task]
    mass = part.groupby("kind", sort=False)["answer_mass"].mean().sort_values()
    low = mass[mass < bar]
    if low.empty:
        return (
            f"On every kind of {TASK_SHORT[task]} prompt the answers together get at least "
            f"{mass.min():.0%} of the probability."
        )
    kinds = ", ".join(f"{kind.replace('_', ' ')} ({value:.0%})" for kind, value in low.items())
    return (
        f"{TASK_SHORT[task]} is measured on little: after {kinds}, all answers together get less "
        f"than {percent(bar)} of the probability, since much besides a verb may follow."
    )


def bos_sentence(suite: Suite) -> str:
    """Whether prompts begin with a begin-of-sequence token."""
    if suite.prepend_bos:
        return "Prompts begin with the beginning-of-sequence token; the paper's have none."
    return "Prompts have no beginning-of-sequence token, as in the paper."


def left_out_sentence(tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str]) -> str:
    """Which words of each task's lists this tokenizer does not have as the task needs them."""
    parts = []
    for task in tasks:
        left_out = get_task(task).prompts(tokenizer, n=1).left_out
        lists = [f"{len(words)} of {name} ({', '.join(words)})" for name, words in left_out.items()]
        parts += [f"{TASK_SHORT[task]}, {'; '.join(lists)}"] if lists else []
    if not parts:
        return "Of the tasks' words none had to be left out."
    return (
        "Left out, since a word must be one token, or its two forms equally many: "
        f"{'. '.join(parts)}."
    )


# ------------------------------------------------------------------ the algorithm


def stage_table(
    shares: pd.DataFrame,
    others: Mapping[str, pd.DataFrame] | None = None,
    name: str = "here",
) -> pd.DataFrame:
    """Figure 4 B, C and D at this checkpoint, beside random heads, the paper's bound, and others.

    others: {title of the column: `share_table` of another checkpoint}.
    """
    rows = []
    for stage, panel in PANELS.items():
        here = absolute_share(shares, stage)
        row = {"stage": f"{panel}: {STAGE_TITLES[stage]}", name: with_interval(here)}
        row["as many random heads"] = "" if here is None else f"{here['null']:.0%}"
        row["heads"] = "" if here is None else f"{here['members']} of {here['nodes']}"
        row["the paper, of Pythia"] = f"above {CLAIMED[stage]:.0%}"
        for title, table in (others or {}).items():
            row[title] = with_interval(absolute_share(table, stage))
        rows.append(row)
    return pd.DataFrame(rows)


def with_interval(row: pd.Series | None) -> str:
    if row is None:
        return "none"
    return f"{row['share']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"


def share_caption(shares: pd.DataFrame) -> str:
    """Which of the paper's three bounds this checkpoint is above, beyond the noise of prompts: a
    caption, in italics.
    """
    absolute = shares[shares["form"] == "absolute"]
    stages: dict[str, list[str]] = {}
    for stage, panel in PANELS.items():
        decided = verdict(absolute[absolute["stage"] == stage], CLAIMED[stage])
        said = str(decided.answer) if decided.checkpoints else "none"
        stages.setdefault(said, []).append(f"{panel} ({percent(CLAIMED[stage])})")
    words = {
        str(Verdict.HOLDS): "The classes explain more than the paper's bound (in brackets) in {}",
        str(Verdict.FAILS): "The classes stay below the paper's bound (in brackets) in {}",
        str(Verdict.OPEN): "We can't tell for {}",
        "none": "There are no such heads for {}",
    }
    found = ". ".join(
        text.format(" and ".join(stages[said])) for said, text in words.items() if said in stages
    )
    return (
        f"*{found}. The test is the paper's Figure 4 B, C and D, at single checkpoints. Dots: "
        "shares of the effects of heads in the circuit, with 95% intervals over prompts. Thin grey "
        "lines below: as many heads drawn at random (95% of the draws). Grey bars: the paper's "
        "bound for Pythia.*"
    )


def class_table(classes: HeadClasses) -> pd.DataFrame:
    """A row per class that has heads: the heads by the size of their effect, and that effect."""
    rows = []
    for stage, names in STAGES.items():
        for name in names:
            members = classes.classes[name].nonzero()[0]
            if not len(members) or stage not in classes.patched:
                continue
            effects = classes.effects(stage)[members]
            order = np.argsort(effects)
            listed = ", ".join(
                f"{head_labels([classes.heads[members[i]]])} ({effects[i]:+.0%})" for i in order
            )
            rows.append({"stage": PANELS[stage], "class": name, "heads (effect e)": listed})
    return pd.DataFrame(rows, columns=["stage", "class", "heads (effect e)"])


def order_of_layers(classes: HeadClasses) -> str:
    """Do the stages come one after the other in the layers, as an algorithm's steps would?"""
    means = []
    for names in reversed(STAGES.values()):
        layers = [
            classes.heads[row][0] for name in names for row in classes.classes[name].nonzero()[0]
        ]
        means.append(float(np.mean(layers)) if layers else np.nan)
    said = ", ".join(
        f"{PANELS[stage]} {mean:.1f}" for stage, mean in zip(reversed(STAGES), means, strict=True)
    )
    if np.isnan(means).any():
        return f"Mean layer of the heads of each stage: {said}."
    ordered = all(before < after for before, after in pairwise(means))
    what = "The stages follow one another" if ordered else "The stages do not follow one another"
    return f"{what} in the layers. Mean layer of the heads of each stage: {said}."
