"""Seeds against checkpoints, in words: which of the two a circuit is more like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.studies.head_scores import TITLES
from circuitbook.studies.seeds import COMPARED
from circuitbook.studies.transfer import WHERE
from circuitbook.wording import TASK_SHORT, counted, percent

OTHER_PROMPTS, NEXT_CHECKPOINT, OTHER_SEED, MATCHED, RANDOM = COMPARED
SAME_RUN, IN_ANOTHER_SEED, _ = WHERE


def has_seeds(compared: pd.DataFrame) -> bool:
    """Whether there are two seeds of any size in what `comparisons` gave."""
    return bool((compared["like"] == OTHER_SEED).any())


def seeds_against_checkpoints(compared: pd.DataFrame, tasks: Sequence[str]) -> str:
    """In how many tasks a circuit is more like that of the next checkpoint than like another
    seed's, and how much matching heads helps, as a caption. compared: from `comparisons`.
    """
    mean = _by_task(compared, tasks)
    known = mean.dropna(subset=[NEXT_CHECKPOINT])
    ahead = int((known[NEXT_CHECKPOINT] > known[MATCHED]).sum())
    chance = int((mean[MATCHED] > mean[RANDOM]).sum())
    return (
        f"*In {ahead} of {counted(len(known), 'task')} a circuit is more like that of the next "
        f"checkpoint than like another seed's, even with heads matched. Of the edges in "
        f"either seed {percent(mean[OTHER_SEED].mean())} are in both; with heads matched "
        f"{percent(mean[MATCHED].mean())}, which is more than random circuits have in {chance} of "
        f"{counted(len(mean), 'task')}.*"
    )


def _by_task(compared: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """Mean similarities, a row for each task that two seeds have circuits of."""
    mean = compared.pivot_table(index="task", columns="like", values="edges")
    mean = mean.reindex(columns=list(COMPARED)).dropna(subset=[MATCHED])
    return mean.reindex([task for task in tasks if task in mean.index])


def seeds_table(
    compared: pd.DataFrame, transferred: pd.DataFrame, tasks: Sequence[str]
) -> pd.DataFrame:
    """A row per task: how similar circuits are, and what they keep elsewhere.

    transferred: from `transfer_summary`.
    """
    circuits = transferred[transferred["what"] == "circuit"]
    kept = circuits.pivot(index="task", columns="where", values="mean")
    kept = kept.reindex(columns=[SAME_RUN, IN_ANOTHER_SEED])
    rows = []
    for task, similar in _by_task(compared, tasks).iterrows():
        keeps = kept.loc[task] if task in kept.index else pd.Series(np.nan, kept.columns)
        rows.append(
            {
                "task": TASK_SHORT[str(task)],
                "the next checkpoint": _written(similar[NEXT_CHECKPOINT]),
                "another seed": _written(similar[OTHER_SEED]),
                "heads matched": _written(similar[MATCHED]),
                "random, matched": _written(similar[RANDOM]),
                "keeps at another checkpoint": _written(keeps[SAME_RUN]),
                "keeps in another seed": _written(keeps[IN_ANOTHER_SEED]),
            }
        )
    return pd.DataFrame(rows)


def heads_table(kinds: pd.DataFrame) -> pd.DataFrame:
    """How similar the sets of heads of each kind are at the next checkpoint and in another seed.

    kinds: from `same_heads`.
    """
    mean = kinds.pivot_table(index="kind", columns="like", values="heads")
    mean = mean.reindex(columns=[NEXT_CHECKPOINT, OTHER_SEED])
    return pd.DataFrame(
        [
            {
                "heads above the bar": TITLES[kind].split(" (")[0].lower(),
                "the next checkpoint": _written(following),
                "another seed": _written(seed),
            }
            for kind, following, seed in mean.itertuples()
        ]
    )


def _written(share: float) -> str:
    return "–" if np.isnan(share) else percent(share)
