"""What each trap does, in words: slips of the authors' scripts and of their scores of heads.

A function per row of the errata's table. It takes what was measured (see `studies.errata`) and
gives a `Trap`, or None where there is nothing to say. Those of circuits: `errata_of_circuits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from circuitbook.heads.names import Head
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.size import correlation
from circuitbook.suites.pythia import MISTYPED_PARAMETERS, PYTHIA_PARAMETERS
from circuitbook.wording import TASK_SHORT, head_label

SLIP, CHOICE = "slip", "choice"


@dataclass(frozen=True)
class Trap:
    """A row of the table: what goes wrong, how much it does here, what of the paper it touches.

    kind: `SLIP`, what nobody meant, or `CHOICE`, of a method that could have been another.
    """

    trap: str
    effect: str
    touches: str
    kind: str = SLIP


def trap_table(traps: Sequence[Trap | None]) -> pd.DataFrame:
    """The traps that were measured, numbered from 1."""
    measured = [trap for trap in traps if trap is not None]
    return pd.DataFrame(
        {
            "#": range(1, len(measured) + 1),
            "trap": [trap.trap for trap in measured],
            "it is a": [trap.kind for trap in measured],
            "effect, as measured here": [trap.effect for trap in measured],
            "touches": [trap.touches for trap in measured],
        }
    )


# ---- the scripts of the figures


def mistyped_sizes(node_counts: pd.DataFrame) -> Trap:
    """node_counts: of `published`."""
    parts = []
    for task, counts in node_counts.groupby("task", sort=False):
        models = counts["model"].str.removeprefix("pythia-")
        typed, right = (
            correlation(models.map(sizes), counts["value"]).pearson
            for sizes in (MISTYPED_PARAMETERS, PYTHIA_PARAMETERS)
        )
        parts.append(f"{TASK_SHORT[task]} {typed:.3f}, {right:.3f}")
    return Trap(
        "Model sizes of 1.4b and 2.8b typed ten times too large in the size correlation",
        f"r as typed and with the right sizes: {'; '.join(parts)} (published node counts)",
        "section 4.3",
    )


def rescaled_panel() -> Trap:
    return Trap(
        "A panel of copy suppression is multiplied by 0.01, and older ones show copy scores "
        "instead",
        "a factor of 100 on the axis, by reading; nothing to measure",
        "Figure 3's script",
    )


def interpolated_performance(
    task_performance: pd.DataFrame, edge_counts: pd.DataFrame, model: str = "pythia-410m"
) -> Trap:
    """Both tables: of `published`."""
    measured = task_performance[task_performance["model"] == model].sort_values("step")
    plotted = (edge_counts["model"] == model).sum()
    return Trap(
        "Task performance is interpolated between measured checkpoints, and held constant after "
        "the last",
        f"of {plotted} plotted points of {model} {len(measured)} are measured; between two of "
        f"these the logit difference moves by up to {measured['value'].diff().abs().max():.2f}",
        "IOI curves beside edge counts",
        CHOICE,
    )


# ---- heads


def sliced_swaps(swaps: pd.DataFrame) -> Trap:
    """swaps: see `swap_effect`."""
    parts = []
    for swap in swaps.itertuples():
        part = f"{swap.model} {swap.own:+.2f} before, {swap.right:+.2f} with the heads"
        if pd.notna(swap.published):  # absent where there is no fused matrix to slice
            part += f", {swap.published:+.2f} with the published slice"
        parts.append(part)
    effect = (
        "logit difference of the last checkpoint before IOI, with the final heads that carry IOI: "
        + "; ".join(parts)
    )
    return Trap(
        "Head swaps slice the fused matrix by input columns, ignore its order by head, and leave "
        "the output: they do not swap the heads they name",
        effect if parts else "no heads that carry IOI",
        "section 4.1, swaps",
    )


def attention_by_prompt(as_published: Sequence[HeadScores], ours: Sequence[HeadScores]) -> Trap:
    """Scores by the authors' recipe and by ours, of the same checkpoints."""
    theirs, true = _both_scores(as_published, ours, "to_IO")
    off = np.abs(theirs - true)
    return Trap(
        "Attention to IO is indexed by prompt where it should be by head: each head gets the mean "
        "of all heads on one prompt",
        f"difference from the true attention {off.mean():.2f} on average, {off.max():.2f} at most; "
        f"correlation over heads {_correlation(theirs, true):.2f}",
        "name movers' filter",
    )


def tied_successors(ways: pd.DataFrame) -> Trap:
    """ways: see `successor_ways`."""
    off = ways["ties"] - ways["strict"]
    return Trap(
        "Successor score: in bfloat16 a wrong word whose logit equals the right one's counts as a "
        "hit; of the Roman numerals XVII stands twice and XVIII not at all",
        f"ties raise a head's score by {off.mean():.3f} on average, by {off.max():.2f} at most; "
        f"the strongest head is the same with and without them in {_same_best(ways, 'strict')}. "
        "The list is by reading (the mini suite's language has no Roman numerals)",
        "Figures 2 and 3, successor heads",
    )


def successors_without_norms(ways: pd.DataFrame) -> Trap:
    """ways: see `successor_ways`."""
    off = (ways["no norms"] - ways["ours"]).abs()
    return Trap(
        "Successor score: a word is what MLP 0 makes of its embedding, without a LayerNorm before "
        "it or before the head",
        f"scores correlate {_correlation(ways['no norms'], ways['ours']):.2f} with those that have "
        f"the model's LayerNorms, and are {off.mean():.2f} off on average; the strongest head is "
        f"the same in {_same_best(ways, 'no norms', 'ours')}",
        "Figures 2 and 3, successor heads",
        CHOICE,
    )


def _same_best(ways: pd.DataFrame, way: str, other: str = "ties") -> str:
    """ "3 of 4 models" """
    models = [part for _, part in ways.groupby("model", sort=False)]
    same = sum(int(part[way].idxmax() == part[other].idxmax()) for part in models)
    return f"{same} of {len(models)} models"


def _both_scores(
    as_published: Sequence[HeadScores], ours: Sequence[HeadScores], kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of all heads by either recipe, one checkpoint after the other."""
    theirs = [scores.score(kind) for scores in as_published]
    true = [_same_place(scores, ours).score(kind) for scores in as_published]
    return np.concatenate(theirs), np.concatenate(true)


def _same_place(scores: HeadScores, others: Sequence[HeadScores]) -> HeadScores:
    place = (scores.model, scores.step)
    return next(other for other in others if (other.model, other.step) == place)


def _correlation(a: np.ndarray | pd.Series, b: np.ndarray | pd.Series) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def unseeded_draws(redrawn: pd.DataFrame) -> Trap:
    """redrawn: see `redraws`."""
    by_model = redrawn.groupby(["what", "model"])["value"].agg(["mean", "std"])
    by_data = by_model.groupby("what").agg({"mean": "mean", "std": "max"})
    draws = redrawn["seed"].nunique()
    parts = [
        f"{TASK_SHORT[what]} {numbers['std']:.3f} (mean {numbers['mean']:.2f})"
        for what, numbers in by_data.iterrows()
    ]
    return Trap(
        "Greater-Than, agreement and the random induction sequences are drawn unseeded, anew at "
        "every checkpoint",
        f"standard deviation over {draws} draws, largest of all models: {'; '.join(parts)}",
        "all curves over training",
    )


def strongest_suppression(scores: Sequence[HeadScores]) -> tuple[HeadScores, Head]:
    """Of all these checkpoints the head with the highest CSPA, and its checkpoint."""

    def suppression(scored: HeadScores) -> np.ndarray:
        return np.nan_to_num(scored.score("copy_suppression"), nan=-1)

    strongest = max(scores, key=lambda scored: suppression(scored).max())
    return strongest, strongest.heads[int(suppression(strongest).argmax())]


def few_texts(redrawn: pd.DataFrame, model: str, head: Head) -> Trap:
    """redrawn: of this head, see `suppression_redraws`."""
    effect = "not measured: no text (parameter TEXT)"
    if len(redrawn):
        ranges = redrawn.groupby("texts")["value"].agg(["min", "max"])
        parts = [
            f"{values['min']:.2f} to {values['max']:.2f} with {texts} texts"
            for texts, values in ranges.iterrows()
        ]
        draws = redrawn["draw"].nunique()
        effect = (
            f"CSPA of head {head_label(head)} of {model} over {draws} draws: {'; '.join(parts)}"
        )
    return Trap(
        "Copy suppression is measured on 17 beginnings of texts",
        effect,
        "Figure 2, copy suppression; classes of Figure 4",
        CHOICE,
    )


def divided_lens() -> Trap:
    return Trap(
        "Copy suppression's logit lens divides by the final LayerNorm's deviation at an earlier "
        "layer",
        "none: only the order of tokens at one position is used, and a positive factor does not "
        "change it",
        "nothing",
    )
