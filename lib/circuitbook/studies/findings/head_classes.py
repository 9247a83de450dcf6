"""Which heads are in which class, in tables and sentences: changes, signals, two recipes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.studies.class_changes import SURE, class_changes, flickers
from circuitbook.studies.classifying import SIGNALS
from circuitbook.studies.head_classes import PANELS, HeadClasses, class_members
from circuitbook.wording import head_label, head_labels, in_markdown, short_number

LETTERS = (
    "*N name mover, C copy suppression, n and c their negatives, S S-inhibition, I induction, "
    "D duplicate token.*"
)


def last_of_each(head_classes: Sequence[HeadClasses]) -> dict[str, HeadClasses]:
    """The last checkpoint of each model, in the order of the models."""
    last: dict[str, HeadClasses] = {}
    for classes in head_classes:
        if classes.model not in last or classes.step > last[classes.model].step:
            last[classes.model] = classes
    return last


def change_sentence(head_classes: Sequence[HeadClasses]) -> str:
    """What the letters mean; how often heads enter or leave a class between checkpoints, and how
    often between two draws of prompts at one checkpoint.
    """
    changes = class_changes(head_classes)
    if changes.empty:
        return LETTERS
    listed = "; ".join(
        f"{in_markdown(row.model)} {row.changed:.0%} ({row.redrawn:.0%})"
        for row in changes.itertuples()
    )
    beyond = [row.model for row in changes.itertuples() if row.low > 0]
    surely = f"beyond doubt in {in_markdown(*beyond)}" if beyond else "in no model beyond doubt"
    placed = [
        (one.probability(name) >= SURE)[found]
        for one in head_classes
        for name, found in one.classes.items()
    ]
    sure, placements = int(sum(part.sum() for part in placed)), sum(map(len, placed))
    near = sum(
        int((flickers(one, name) & ~found).sum())
        for one in head_classes
        for name, found in one.classes.items()
    )
    return (
        f"{LETTERS} How often the sets of heads in the classes differ between one checkpoint and "
        "the next, each on its own draw of prompts (in brackets: between two draws at one "
        f"checkpoint): {listed}. The first is larger than the second {surely} (95 % over three "
        f"pairs of checkpoints or more). Of {placements} placements of a head in a class at a "
        f"checkpoint, {sure} are sure; the others flicker, and so do {near} that are in their "
        "class on fewer than half of the resamples."
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
    return (
        "Effects through the queries at END, last checkpoint of each model with such heads. "
        f"Over all checkpoints the largest effect of the place is {place:.3f}, of the person "
        f"{person:.3f}. The authors' own rule asks for the place alone, with a threshold of "
        "exactly zero."
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
