"""What the front page says was found: five sentences, each from the numbers of its figure.

What was found is in bold, and turns round where the numbers do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from circuitbook.stats import Verdict
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.enough import last_circuits
from circuitbook.studies.findings.algorithm import ioi_row, works
from circuitbook.studies.findings.enough import verdict as is_enough
from circuitbook.studies.transfer import transfer_summary
from circuitbook.wording import capitalised, counted, listed, percent

SMALL = 0.1  # of a model's edges: a small part of it
PLAIN = {  # what the tasks ask, for those who do not know their names
    "ioi": "naming who got the gift",
    "gendered_pronoun": "choosing a pronoun",
    "greater_than": "choosing a later year",
    "sva": "making the verb agree",
}

WORKS = {"well": "works", "mostly": "mostly works", "in part": "works in part", "not": "fails"}


def found(
    evidence: Evidence, claims: pd.DataFrame, real: pd.DataFrame | None, enough: pd.DataFrame
) -> dict[str, str]:
    """{name: sentences in Markdown}, in the front page's order.

    claims, real: as from `claims.report.report`, of the suite and of a real language model; enough:
    as from `measure_enough`.
    """
    return {
        "when": when(claims),
        "part": how_large_a_part(evidence.circuits),
        "lasts": how_long_it_lasts(evidence.transfers, evidence.seeds),
        "algorithm": which_algorithm(claims, real),
        "enough": what_it_is_enough_for(enough),
    }


def when(claims: pd.DataFrame) -> str:
    """Whether abilities form after as many tokens at every size but the smallest."""
    verdicts = claims.set_index("key")["verdict"].to_dict()
    names: dict[str, list[str]] = {str(verdict): [] for verdict in Verdict}
    for task, plain in PLAIN.items():
        if verdict := verdicts.get(f"ability {task}"):
            names[verdict].append(plain)
    alike, apart, undecided = names.values()
    if alike and apart:
        bold = "Some tasks are learned at the same time at every size, others are not."
    elif alike:
        bold = "Small and large models learn a task at about the same time."
    elif apart:
        bold = "Models of different sizes learn a task at different times."
    else:
        return (
            "**Do small and large models learn a task at about the same time?** We can't decide "
            "here."
        )
    parts = []
    if alike:
        parts.append(
            f"{listed(alike)} take the same number of tokens, within a factor of two, at every "
            "size but the smallest"
        )
    if apart:
        parts.append(f"for {listed(apart)}, sizes are more than a factor of two apart")
    if undecided:
        parts.append(f"for {listed(undecided)}, we can't decide here")
    text = "; ".join(parts)
    return f"**{bold}** {capitalised(text)}."


def how_large_a_part(circuits: Sequence[CircuitResult]) -> str:
    """How much of a model a task takes, over the last circuits of all models and tasks."""
    shares = [
        result.circuit.n_edges / result.circuit.graph.n_edges for result in last_circuits(circuits)
    ]
    if not shares:
        return "**How much of a model does a task take?** No model has a circuit at the end."
    middle, ends = float(np.median(shares)), between(shares)
    bold = "A small part" if middle < SMALL else "More than a small part"
    return (
        f"**{bold} of a model does a task.** At the end of training, the median of "
        f"{counted(len(shares), 'circuit')} that keep 80% of a task has {percent(middle)} of the "
        f"model's connections{f' (from {ends})' if ' to ' in ends else ''}."
    )


def how_long_it_lasts(transfers: pd.DataFrame, seeds: Sequence[Sequence[str]]) -> str:
    """What an IOI circuit keeps at other checkpoints of its run, and in another seed."""
    summary = transfer_summary(transfers, seeds)
    run, seed = (ioi_row(summary, "circuit", place) for place in ("same run", "other seed"))
    said, kept = [], []
    if run is not None:
        said.append(f"On average, a circuit {WORKS[works(run)]} at other times of its training")
        kept.append(
            f"{percent(run['mean'])} of the ability at other checkpoints of its run, where their "
            f"own circuits keep {percent(run['own'])}"
        )
    if seed is not None:
        said.append(f"{'it' if said else 'A circuit'} {WORKS[works(seed)]} in another seed")
        kept.append(
            f"{percent(seed['mean'])} in a model of the same size from another seed, whose own "
            f"circuit keeps {percent(seed['own'])}"
        )
    if not said:
        return "**Does a circuit last?** There is no other checkpoint or seed to put it to."
    return f"**{'; '.join(said)}.** The one for {PLAIN['ioi']} keeps {'; and '.join(kept)}."


def which_algorithm(claims: pd.DataFrame, real: pd.DataFrame | None) -> str:
    """Whether the heads of the paper's IOI algorithm are there, here and in a real model."""
    here, there = (_verdict(table, "heads exist") for table in (claims, real))
    heads = f"heads for each of the three steps that the paper finds for {PLAIN['ioi']}"
    if here is Verdict.HOLDS:
        text = f"**The paper's algorithm is there at every size.** Each has {heads}"
    elif here is Verdict.FAILS:
        text = f"**Models can do without the paper's algorithm.** Not every size here has {heads}"
    else:
        text = f"**Is the paper's algorithm there at every size?** We can't decide who has {heads}"
    if there is Verdict.HOLDS:
        text += "; a real language model has"
    elif there is Verdict.FAILS:
        text += "; a real language model has not"
    elif there is Verdict.OPEN:
        text += "; of a real language model we can't say"
    return f"{text}."


def _verdict(claims: pd.DataFrame | None, key: str) -> Verdict | None:
    if claims is None:
        return None
    return Verdict(claims.set_index("key").loc[key, "verdict"])


def what_it_is_enough_for(enough: pd.DataFrame) -> str:
    """Whether IOI circuits name the answer when absent edges carry other people."""
    ioi = enough[enough["task"] == "ioi"]
    usual, other = (ioi[ioi["ablation"] == name] for name in ("swap", "resample"))
    if usual.empty or other.empty:
        return "**What is a circuit enough for?** No model has one of IOI at the end."
    said = {is_enough(row, "top1") for _, row in other.iterrows()}
    if said == {Verdict.FAILS}:
        bold = "A circuit may work only for the question it was found by."
    elif said == {Verdict.HOLDS}:
        bold = "A circuit is enough for more than the question it was found by."
    else:
        bold = "Not every circuit is enough for more than the question it was found by."
    return (
        f"**{bold}** Those for {PLAIN['ioi']} keep {between(usual['faithfulness'])} of the right "
        f"name's lead, and name it on {between(usual['top1'])} of the prompts; when the rest of "
        f"the model reads about other people, {between(other['faithfulness'])} of the lead, and on "
        f"{between(other['top1'])} of the prompts (the model: {between(other['model_top1'])})."
    )


def between(shares: Iterable[float]) -> str:
    """The range of shares.

    >>> between([0.25, 0.004]), between([0.5])
    ('0.4% to 25%', '50%')
    """
    ends = dict.fromkeys(_share(float(end)) for end in (min(shares), max(shares)))
    return " to ".join(ends)


def _share(value: float) -> str:
    return f"{value:.1%}" if 0 < value < 0.005 else percent(value)
