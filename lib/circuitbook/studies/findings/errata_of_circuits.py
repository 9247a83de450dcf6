"""What each trap does, in words: traps of circuits, of classes of heads and of curves of circuits.

See `errata`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.circuits.circuit import Circuit
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.errata import width_by_prompts
from circuitbook.studies.findings.errata import CHOICE, Trap
from circuitbook.studies.findings.head_classes import last_of_each
from circuitbook.studies.head_classes import HeadClasses
from circuitbook.studies.turnover import ewma
from circuitbook.wording import TASK_SHORT

# ---- scores of edges, and the search


def narrow_dtype(summed: pd.DataFrame) -> Trap | None:
    """Scores added up in bfloat16. summed: see `accumulation`."""
    rough = summed[summed["sums"] == "in bfloat16"]
    if rough.empty:
        return None
    return Trap(
        "EAP-IG in bfloat16, with the scores of batches and points added up in bfloat16",
        f"IOI: {_off(rough)}. The same added up in float32: {_off(summed.drop(rough.index))}",
        "all circuits",
    )


def _off(rough: pd.DataFrame) -> str:
    """How far scores are from those in float32."""
    worst = rough.loc[rough["edges"].idxmin()]
    return (
        f"correlation with float32 at least {rough['correlation'].min():.5f}, a score off by up to "
        f"{rough['largest'].max():.1%} of the largest, {rough['edges'].mean():.0%} of the edges of "
        f"a circuit of the same size shared on average, {worst['edges']:.0%} at worst "
        f"({worst['model']})"
    )


def narrow_model(rough: pd.DataFrame) -> Trap | None:
    """The model in bfloat16, scores added up in float32. rough: see `precision`."""
    if rough.empty:
        return None
    worst = rough.loc[rough["edges"].idxmin()]
    where = f"{TASK_SHORT[worst['task']]}, {worst['model']}"
    return Trap(
        "The model in bfloat16 (scores added up in float32)",
        f"all tasks: {_off(rough).rsplit(' (', 1)[0]} ({where})",
        "all circuits",
        CHOICE,
    )


def short_batch(batch: pd.DataFrame) -> Trap | None:
    """batch: see `last_batch`."""
    if batch.empty:
        return None
    return Trap(
        "The metric is a batch mean, so the prompts of a short last batch weigh more "
        "(70 prompts in batches of 32)",
        f"such a prompt weighs {batch['weight'].max():.1f} times another; IOI circuits of the same "
        f"size share {batch['edges'].mean():.0%} of their edges with those of equal weights, "
        f"{batch['edges'].min():.0%} at worst",
        "all circuits",
    )


def faithfulness_as_ratio(
    as_published: Sequence[CircuitResult], ours: Sequence[CircuitResult]
) -> Trap:
    """Circuits of a model by the authors' recipe; by ours, of these checkpoints and of others."""
    normalised = {(one.model, one.step, one.task): one.circuit for one in ours}
    too_early = [
        one
        for one in as_published
        if one.circuit.found and normalised[one.model, one.step, one.task].not_done
    ]
    effect = (
        f"the ratio reports a circuit at {len(too_early)} of {len(as_published)} checkpoints and "
        f"tasks of {as_published[0].model} at which the task is not done beyond doubt"
    )
    ratios = size_ratios([one.circuit for one in ours if one.task == "ioi"])
    if ratios:
        effect += (
            f"; where both do, IOI circuits have {np.median(ratios):.2f} times the edges (median), "
            "since 0.8 is 0.9 normalised there"
        )
    return Trap(
        "Faithfulness as a ratio, without the corrupted baseline",
        effect,
        "when circuits appear; their size",
        CHOICE,
    )


def size_ratios(circuits: Sequence[Circuit], threshold: float = 0.8) -> list[float]:
    """Edges of the smallest circuit by the ratio over those by the normalised form, per curve."""
    ratios = []
    for circuit in circuits:
        curve = circuit.curve
        if curve is None or not circuit.found:
            continue
        by_ratio = curve.loc[curve["ratio"] >= threshold, "edges"].min()
        normalised = curve.loc[curve["normalised"] >= threshold, "edges"].min()
        if normalised:
            ratios.append(by_ratio / normalised)
    return ratios


# ---- classes of heads


def no_name_mover(head_classes: Sequence[HeadClasses]) -> Trap:
    able = [one for one in head_classes if "direct" in one.patched]
    without = [one for one in able if not one.classes["name mover"].any()]
    models = ", ".join(dict.fromkeys(one.model for one in without)) or "none"
    return Trap(
        "The S-inhibition step needs a name mover and fails without one",
        f"no name mover at {len(without)} of {len(able)} checkpoints that do IOI ({models})",
        "Figure 4 C and D",
    )


def few_prompts(head_classes: Sequence[HeadClasses]) -> Trap | None:
    last = [one for one in last_of_each(head_classes).values() if "direct" in one.patched]
    widths = width_by_prompts(last).groupby("prompts")["width"].mean()
    if widths.empty:
        return None
    listed = "; ".join(f"{width:.1%} with {prompts} prompts" for prompts, width in widths.items())
    return Trap(
        "Figure 4 of 2.8b rests on 20 prompts, the others on 70",
        f"mean width of the 95% interval of B at the last checkpoint: {listed}",
        "Figure 4, 2.8b",
        CHOICE,
    )


def last_column(read: pd.DataFrame) -> Trap:
    """read: see `wrong_position`."""
    listed = "; ".join(
        f"{row.wrong:.2f} instead of {row.right:.2f} ({row.model})" for row in read.itertuples()
    )
    return Trap(
        "Logits read at the last column of right-padded prompts instead of END",
        f"{read['padded'].mean():.0%} of the IOI prompts are padded; the logit difference reads "
        f"{listed}",
        "an early notebook on direct effects",
    )


# ---- Figure 5


def unequal_distances(published: pd.DataFrame, similarities: pd.DataFrame) -> Trap:
    """published: "jaccard" of `published`; similarities: see `by_ratio`."""
    steps = published["step_next"] - published["step"]
    effect = f"{int(steps.min()):,} to {int(steps.max()):,} steps in the printed tables"
    near = similarities.loc[similarities["ratio"] < 1.5, "edges"]
    far = similarities.loc[similarities["ratio"] > 3, "edges"]
    if len(near) and len(far):
        effect += (
            f"; in this suite two circuits share {near.mean():.0%} of their edges below a ratio of "
            f"tokens of 1.5, and {far.mean():.0%} above 3"
        )
    return Trap("Figure 5 compares checkpoints at unequal distances", effect, "Figure 5", CHOICE)


def average_begins_early(published: pd.DataFrame, first_shown: int = 1000) -> Trap:
    """published: "jaccard" of `published`."""
    raw = published[published["metric"] == "jaccard_raw"].sort_values("step")
    shown = raw["step"] >= first_shown
    from_the_start = ewma(raw["value"])[shown.to_numpy()]
    from_the_first_shown = ewma(raw.loc[shown, "value"])
    off = from_the_start - from_the_first_shown
    return Trap(
        "The moving average of Figure 5 starts before the first point shown",
        f"published raw series (1.4b, SVA): {off[0]:+.3f} at step {first_shown:,}, {off[4]:+.3f} "
        "four pairs on",
        "Figure 5, left end",
        CHOICE,
    )
