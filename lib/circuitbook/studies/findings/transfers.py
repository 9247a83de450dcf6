"""Circuits and patterns of classes put elsewhere, in a table and sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.studies.chapter import Chapter
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings.algorithm import ioi_row
from circuitbook.studies.masks import measure_masks
from circuitbook.studies.measurement import Measurer
from circuitbook.studies.transfer import transfer_matrix
from circuitbook.wording import counted, in_markdown, percent

ENOUGH = 0.8  # of what a model's own pattern keeps: the other pattern works, too


def same_circuit_sentence(summary: pd.DataFrame) -> str:
    """What a circuit keeps at another checkpoint of its run: see `transfer_summary`."""
    row = ioi_row(summary, "circuit", "same run")
    if row is None:
        return "No run has a circuit at two checkpoints."
    return (
        f"*Within a run, a circuit from another checkpoint keeps {percent(row['mean'])} on average "
        f"and {percent(row['lowest'])} at worst. Rows: where it was found; columns: where it is "
        "tried. The diagonal has each checkpoint's own circuit.*"
    )


def ioi_summary(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of `transfer_summary` that are about IOI, under names for readers."""
    titles = {"circuit": "circuit, edge by edge", "classes": "classes, other heads"}
    of_ioi = summary[summary["task"] == "ioi"].drop(columns="task")
    named = of_ioi.assign(what=of_ioi["what"].map(titles))
    return named.rename(columns={"own": "target's own", "null": "shuffled"})


def patterns_elsewhere(transfers: pd.DataFrame) -> pd.DataFrame:
    """What each model keeps with the other models' patterns of classes: a row per model with a
    pattern of its own that keeps something.

    Columns: model, own, others (how many patterns), work (names of those that keep at least
    `ENOUGH` of what the own one does), worst (the name of the one that keeps least), keeps.
    """
    patterns = transfer_matrix(transfers, "ioi", "classes")  # rows: found in; columns: put to
    rows = []
    for target in patterns.columns:
        own, others = patterns.loc[target, target], patterns[target].drop(target).dropna()
        if others.empty or np.isnan(own):
            continue
        works = list(others.index[others >= ENOUGH * own])
        rows.append((target, own, len(others), works, others.idxmin(), others.min()))
    return pd.DataFrame(rows, columns=["model", "own", "others", "work", "worst", "keeps"])


def who_runs_the_same(patterns: pd.DataFrame) -> str:
    """How many models' patterns of classes work in another: see `patterns_elsewhere`."""
    if patterns.empty:
        return "There are no two models with classes to compare."
    pairs, work = int(patterns["others"].sum()), sum(map(len, patterns["work"]))
    return (
        f"*Of {counted(pairs, 'pattern')} of classes put to another model, {work} keep at least "
        "four fifths of what the model's own pattern does there. Left: the circuit itself, edge by "
        "edge. Right: its pattern of classes.*"
    )


def patterns_shown(patterns: pd.DataFrame) -> pd.DataFrame:
    """`patterns_elsewhere` under names for readers."""
    return pd.DataFrame(
        {
            "in": patterns["model"],
            "its own pattern keeps": patterns["own"].map(percent),
            "as good (four fifths)": [", ".join(work) or "none" for work in patterns["work"]],
            "worst": [
                f"{model} ({percent(keeps)})"
                for model, keeps in zip(patterns["worst"], patterns["keeps"], strict=True)
            ],
        }
    )


def kept_by(chapter: Chapter, target: CircuitResult, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Normalised faithfulness of circuits, bool [src, dst] each, where `target` was found."""
    checkpoint = chapter.suite.checkpoint(target.model, target.step)
    here = Measurer((checkpoint,), chapter.store, **chapter.device)
    prompts, seed = chapter.recipe.prompts[target.task], chapter.recipe.seed
    metric = measure_masks(here, target.task, masks, prompts=prompts, seed=seed).mean(1)
    return faithfulness(metric[2:], metric[0], metric[1], "normalised")


def last_ioi_circuits(circuits: Sequence[CircuitResult]) -> dict[str, CircuitResult]:
    """The IOI circuit of each model's last checkpoint, where it has one."""
    of_ioi = [result for result in circuits if result.task == "ioi"]
    last = {result.model: result for result in sorted(of_ioi, key=lambda result: result.step)}
    models = dict.fromkeys(result.model for result in of_ioi)
    return {model: last[model] for model in models if last[model].circuit.found}


# ---- the exercises


def without_each(
    pattern: Sequence[tuple[str, str, str]], whole: float, kept: Sequence[float]
) -> pd.DataFrame:
    """What a pattern of class edges keeps without each one of them: without, keeps.

    whole: what it keeps with all. The edge that matters most comes first.
    """
    edges = [f"{a} to {b} <{at}>" if at else f"{a} to {b}" for a, b, at in pattern]
    table = pd.DataFrame({"without": edges, "keeps": kept})
    return table.sort_values("keeps", key=lambda keeps: -abs(keeps - whole), kind="stable")


def spare_sentence(model: str, whole: float, kept: Sequence[float]) -> str:
    """How many class edges of a model's pattern can go, one at a time, with little change."""
    spare = int((np.abs(np.array(kept) - whole) < 0.05).sum())
    return (
        f"The pattern of {in_markdown(model)} has {len(kept)} class edges and keeps {whole:.0%}. "
        f"{spare} of them can go, one at a time, with less than five points of change. "
        "Those that matter most:"
    )


def names_sentence(
    source: str,
    target: str,
    as_found: float,
    best: float,
    own: float,
    rewired: Sequence[float] = (),
) -> str:
    """How much of the gap between another seed's circuit and the own one the best order of heads
    closes, and how much a rewired circuit's.
    """
    source, target = in_markdown(source), in_markdown(target)
    sentences = [
        f"The circuit of {source} keeps {percent(as_found)} in {target}; with the heads of each "
        f"layer in the best order found, {percent(best)}; {target}'s own circuit {percent(own)}"
    ]
    if own <= as_found:
        return f"{sentences[0]}. There is no gap to close."
    sentences.append(
        f"So new numbers close {percent((best - as_found) / (own - as_found))} of the gap"
    )
    if rewired:
        kept = float(np.mean(rewired))
        closed = (kept - as_found) / (own - as_found)
        said = f"A rewired circuit keeps {percent(kept)} in its own best order"
        if kept > as_found:
            sentences.append(
                f"{said}: with the wrong edges, the search still closes {percent(closed)}"
            )
        else:
            sentences.append(f"{said}: with the wrong edges, the search closes nothing")
    else:
        sentences.append("The circuit cannot be rewired, so we can't say how much is the search")
    return ". ".join([*sentences, ""]).strip()
