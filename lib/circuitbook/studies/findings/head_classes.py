"""Which heads are in which class, in tables and sentences: changes, signals, two recipes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.studies.class_changes import SURE
from circuitbook.studies.classifying import SIGNALS
from circuitbook.studies.head_classes import PANELS, HeadClasses, class_members
from circuitbook.wording import (
    counted,
    head_label,
    head_labels,
    in_markdown,
    percent,
    short_number,
)

LETTERS = (
    "N name mover, C copy suppression, n and c their negatives, S S-inhibition, I induction, "
    "D duplicate token"
)


def last_of_each(head_classes: Sequence[HeadClasses]) -> dict[str, HeadClasses]:
    """The last checkpoint of each model, in the order of the models."""
    last: dict[str, HeadClasses] = {}
    for classes in head_classes:
        if classes.model not in last or classes.step > last[classes.model].step:
            last[classes.model] = classes
    return last


def change_sentence(changes: pd.DataFrame, head_classes: Sequence[HeadClasses]) -> str:
    """In which models heads enter or leave a class more often between checkpoints than between two
    draws of prompts at one checkpoint; what the letters mean. changes: see `class_changes`.
    """
    if changes.empty:
        return f"*{LETTERS}.*"
    beyond = [row.model for row in changes.itertuples() if row.low > 0]
    tested = int(changes["low"].notna().sum())
    if beyond:
        said = f"in {in_markdown(*beyond)} ({len(beyond)} of {counted(tested, 'model')})"
        said = f"Training moves heads between classes, beyond what other prompts do, {said}"
    elif tested:
        said = "Heads change class no more between checkpoints than between two draws of prompts"
    else:
        said = "There are too few checkpoints to tell training from another draw of prompts"
    placed = np.concatenate(
        [
            (one.probability(name) >= SURE)[found]
            for one in head_classes
            for name, found in one.classes.items()
        ]
    )
    hatched = f"{int((~placed).sum())} of {len(placed)} cells are hatched, since they flicker"
    return f"*{said}. {hatched}. {LETTERS}.*"


def changes_shown(changes: pd.DataFrame) -> pd.DataFrame:
    """`class_changes` under names for readers."""
    return pd.DataFrame(
        {
            "model": changes["model"],
            "pairs of checkpoints": changes["pairs"],
            "classes differ": changes["changed"].map(percent),
            "between two draws at one checkpoint": changes["redrawn"].map(percent),
            "difference, 95%": [
                "–" if np.isnan(low) else f"{percent(low)} to {percent(high)}"
                for low, high in zip(changes["low"], changes["high"], strict=True)
            ],
        }
    )


# ---- what S-inhibition heads say


def signal_table(head_classes: Sequence[HeadClasses]) -> pd.DataFrame:
    """Effects of each S-inhibition head by what was corrupted: a row per checkpoint and head.

    Columns: model, step, tokens_seen, head, and the names of `SIGNALS`.
    """
    rows = [
        (classes.model, classes.step, classes.tokens_seen, head_label(classes.heads[row]))
        + tuple(classes.signals[row])
        for classes in head_classes
        for row in classes.classes["S-inhibition"].nonzero()[0]
    ]
    return pd.DataFrame(rows, columns=["model", "step", "tokens_seen", "head", *SIGNALS])


def final_signals(signals: pd.DataFrame) -> pd.DataFrame:
    """The rows of a `signal_table` at each model's last checkpoint with such heads, in words."""
    final = signals[signals["step"] == signals.groupby("model")["step"].transform("max")]
    shown = {"model": final["model"], "tokens": final["tokens_seen"].map(short_number)}
    shown["head"] = final["head"]
    for signal, title in SIGNALS.items():
        shown[f"e, {title}"] = final[signal].map("{:+.3f}".format)
    return pd.DataFrame(shown)


def signal_sentence(signals: pd.DataFrame) -> str:
    """The largest effect of the place and of the person over all rows of a `signal_table`."""
    if signals.empty:
        return "No head of any checkpoint is S-inhibition by this recipe."
    place, person = signals["order"].abs().max(), signals["token"].abs().max()
    if person > 2 * place:
        said = "They say *who* the subject is, not where it stood"
    elif place > 2 * person:
        said = "They say *where* the subject stood, not who it is"
    else:
        said = "They say both, *who* the subject is and *where* it stood"
    return (
        f"**{said}**: over all checkpoints the largest effect of the person is {person:.3f}, of "
        f"the place {place:.3f}."
    )


# ---- two recipes


def compare_recipes(
    ours: Sequence[HeadClasses], theirs: Sequence[HeadClasses], names: tuple[str, str]
) -> pd.DataFrame:
    """The heads of each class and the shares of each stage by two recipes, called by these names.

    A row per checkpoint of `theirs`, beside the last one that `ours` has of the model.
    """
    last, (our_name, their_name) = last_of_each(ours), names
    return pd.DataFrame(
        [
            {
                "model": other.model,
                f"classes, {our_name}": members_listed(last[other.model]),
                f"classes, {their_name}": members_listed(other),
                f"shares, {our_name}": shares_listed(last[other.model]),
                f"shares, {their_name}": shares_listed(other),
            }
            for other in theirs
        ]
    )


def recipes_agree(
    ours: Sequence[HeadClasses], theirs: Sequence[HeadClasses], names: tuple[str, str]
) -> str:
    """In how many models both recipes put the same heads into the same classes, in a sentence."""
    last = last_of_each(ours)
    same = [one for one in theirs if class_members(one) == class_members(last[one.model])]

    def placed(classes: HeadClasses) -> int:
        return sum(map(len, class_members(classes).values()))

    return (
        f"Both recipes put the same heads into the same classes in {len(same)} of "
        f"{counted(len(theirs), 'model')}. `{names[1]}` finds "
        f"{counted(sum(map(placed, theirs)), 'head')} in classes, `{names[0]}` "
        f"{sum(placed(last[one.model]) for one in theirs)}."
    )


def members_listed(classes: HeadClasses) -> str:
    """The heads of each class: "name mover: 2.1; S-inhibition: 1.2, 1.3"."""
    parts = [f"{name}: {head_labels(heads)}" for name, heads in class_members(classes).items()]
    return "; ".join(parts) or "none"


def shares_listed(classes: HeadClasses) -> str:
    """The share of each stage in the circuit: "B 71%, C 97%, D none"."""
    parts = []
    for stage, panel in PANELS.items():
        share = classes.share(stage)
        parts.append(f"{panel} none" if np.isnan(share) else f"{panel} {share:.0%}")
    return ", ".join(parts)
