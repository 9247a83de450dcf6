"""Scores of heads as tables: all heads, the last checkpoints, the best of a kind."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.heads.names import Head
from circuitbook.studies.head_scores import TITLES, HeadScores
from circuitbook.wording import head_label, in_markdown, listed

# several of a kind, in a sentence
HEADS = {
    "successor": "successor heads",
    "induction": "induction heads",
    "copy_suppression": "copy-suppression heads",
    "copy": "name movers",
}


def kind_name(kind: str) -> str:
    """A kind's title without what is in brackets.

    >>> kind_name("copy")
    'Name mover'
    """
    return TITLES[kind].split(" (")[0]


def score_table(heads: Sequence[HeadScores]) -> pd.DataFrame:
    """All heads at all checkpoints, a row for each: see `HeadScores.table`."""
    return pd.concat([at.table() for at in heads], ignore_index=True)


def at_last_checkpoint(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of each model's last checkpoint."""
    return scores[scores["step"] == scores.groupby("model")["step"].transform("max")]


def heads_in(scores: pd.DataFrame) -> list[Head]:
    """The heads (layer, head) of a table's rows, in their order."""
    return [
        (int(layer), int(head)) for layer, head in zip(scores["layer"], scores["head"], strict=True)
    ]


def best_heads(scores: pd.DataFrame, kinds: Sequence[str]) -> list[Head]:
    """The head with the highest score of each kind, each head once; `scores` has a row per head."""
    best = scores.loc[[scores[kind].idxmax() for kind in kinds]]
    return list(dict.fromkeys(heads_in(best)))


def best_in_words(scores: pd.DataFrame, kinds: Sequence[str]) -> str:
    """The head with the highest score of each kind, with it; `scores` has a row per head."""
    best = [scores.loc[scores[kind].idxmax()] for kind in kinds]
    said = [
        f"{kind_name(kind).lower()} {head_label((row['layer'], row['head']))} ({row[kind]:.2f})"
        for kind, row in zip(kinds, best, strict=True)
    ]
    model = in_markdown(best[0]["model"])
    return f"The strongest heads of {model}, with their scores: {listed(said)}."


# as the head browser names them
BROWSED = {
    "previous": "Previous token",
    "duplicate": "Duplicate token",
    "induction": "Induction",
    "successor": "Successor",
    "copy": "Copying",
    "negative_copy": "Negative copying",
    "copy_suppression": "Copy suppression",
}


def browser_titles(scores: pd.DataFrame) -> dict[str, str]:
    """{kind: title} of what the head browser shows: the kinds that are measured."""
    return {kind: title for kind, title in BROWSED.items() if is_measured(scores, kind)}


def browser_tables(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{model: its scores}, a CSPA below 0 as 0."""
    shown = scores.assign(copy_suppression=scores["copy_suppression"].clip(0, 1))
    return dict(list(shown.groupby("model", sort=False)))


def is_measured(scores: pd.DataFrame, kind: str) -> bool:
    """Whether every head has a score; copy suppression has none where there is no text for it."""
    return bool(scores[kind].notna().all())
