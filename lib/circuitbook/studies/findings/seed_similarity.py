"""Seeds against checkpoints, in words: which of the two a circuit is more like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.studies.head_scores import TITLES
from circuitbook.studies.seeds import COMPARED
from circuitbook.studies.transfer import WHERE
from circuitbook.wording import TASK_SHORT

OTHER_PROMPTS, NEXT_CHECKPOINT, OTHER_SEED, MATCHED, RANDOM = COMPARED
SAME_RUN, IN_ANOTHER_SEED, _ = WHERE


def has_seeds(compared: pd.DataFrame) -> bool:
    """Whether there are two seeds of any size in what `comparisons` gave."""
    return bool((compared["like"] == OTHER_SEED).any())


def seeds_against_checkpoints(
    compared: pd.DataFrame, kinds: pd.DataFrame, transferred: pd.DataFrame, tasks: Sequence[str]
) -> str:
    """A list in Markdown: circuits, heads of a kind, and what circuits keep elsewhere.

    compared: from `comparisons`; kinds: from `same_heads`; transferred: from `transfer_summary`.
    """
    lines = [
        *circuit_lines(compared, tasks),
        heads_line(kinds),
        *transfer_lines(transferred, tasks),
    ]
    return "\n".join(f"- {line}" for line in lines)


def circuit_lines(compared: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    """Mean similarities of a task's circuits, for the tasks that two seeds have circuits of."""
    mean = compared.pivot_table(index="task", columns="like", values="edges")
    mean = mean.reindex(columns=list(COMPARED)).dropna(subset=[MATCHED])
    lines = []
    for task in (task for task in tasks if task in mean.index):
        similar = mean.loc[task]
        lines.append(
            f"**{TASK_SHORT[task]}**: next checkpoint {_written(similar[NEXT_CHECKPOINT])}; "
            f"another seed {similar[OTHER_SEED]:.2f}, with heads matched {similar[MATCHED]:.2f} "
            f"(random circuits {similar[RANDOM]:.2f})."
        )
    return lines


def _written(similarity: float) -> str:
    return "none" if np.isnan(similarity) else f"{similarity:.2f}"


def heads_line(kinds: pd.DataFrame) -> str:
    """How similar the sets of heads of each kind are at the next checkpoint and in another seed."""
    mean = kinds.pivot_table(index="kind", columns="like", values="heads")
    mean = mean.reindex(columns=[NEXT_CHECKPOINT, OTHER_SEED])
    parts = [
        f"{TITLES[kind].split(' (')[0].lower()} next checkpoint {_written(following)}, "
        f"another seed {_written(seed)}"
        for kind, following, seed in mean.itertuples()
    ]
    return f"**Heads of a kind** (the sets of heads above the bar): {'; '.join(parts)}."


def transfer_lines(transferred: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    """What a circuit of each task keeps at another checkpoint of its run, and in another seed."""
    circuits = transferred[transferred["what"] == "circuit"]
    kept = circuits.pivot(index="task", columns="where", values="mean")
    kept = kept.reindex(columns=[SAME_RUN, IN_ANOTHER_SEED]).dropna()
    return [
        f"**What a circuit of {TASK_SHORT[task]} keeps** elsewhere: {kept.loc[task, SAME_RUN]:.0%} "
        f"at another checkpoint of the run, {kept.loc[task, IN_ANOTHER_SEED]:.0%} in another seed."
        for task in tasks
        if task in kept.index
    ]
