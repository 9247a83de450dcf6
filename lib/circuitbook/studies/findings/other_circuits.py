"""Is a circuit the only one? Other circuits that pass, and what other methods find."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from circuitbook.circuits.similarity import jaccard
from circuitbook.studies.findings.circuit_tests import FEWEST, LABELS
from circuitbook.studies.other_circuits import METHODS, STRANGERS, Others, different
from circuitbook.wording import TASK_SHORT, bullets, counted, percent

OTHERS_COLUMNS = [*LABELS, "kept", "disjoint", "pruned", "pruned pass", "alike", "different"]
METHOD_COLUMNS = [*LABELS, "method", "size", "kept", "jaccard", "alike by prompts"]


def _labels(others: Others) -> dict[str, object]:
    result = others.result
    values = (result.model, TASK_SHORT[result.task], result.circuit.n_edges, others.n)
    return dict(zip(LABELS, values, strict=True))


def others_table(measured: Sequence[Others], threshold: float) -> pd.DataFrame:
    """Other circuits of each model and task, on fresh prompts.

    Columns: `LABELS`; kept (of the circuit itself); disjoint (circuits found that share no edge
    with it); pruned, and how many of these keep the threshold; alike (mean Jaccard of the circuit
    and the pruned ones, in pairs); different (how many of all that keep the threshold are pairwise
    below `STRANGERS`).
    """
    rows = []
    for others in measured:
        masks = [others.result.circuit.mask, *(mask for mask, _ in others.pruned)]
        pairs = [jaccard(a, b) for a, b in combinations(masks, 2)]
        rows.append(
            _labels(others)
            | {"kept": others.kept, "disjoint": len(others.disjoint), "pruned": len(others.pruned)}
            | {"pruned pass": sum(kept >= threshold for _, kept in others.pruned)}
            | {"alike": np.mean(pairs) if pairs else np.nan}
            | {"different": len(different(others.passing(threshold)))}
        )
    return pd.DataFrame(rows, columns=OTHERS_COLUMNS)


def others_in_words(measured: Sequence[Others], threshold: float) -> str:
    """How many circuits there are, and how different they are."""
    table = others_table([one for one in measured if one.n >= FEWEST], threshold)
    if table.empty:
        return "No circuit was found beside which others could be tried on fresh prompts."
    apart, pruned = int((table["disjoint"] > 0).sum()), int(table["pruned"].sum())
    several = int((table["different"] > 1).sum())
    first = int((table["kept"] >= threshold).sum())
    none = int((table["different"] == 0).sum())
    if apart:
        disjoint = (
            f"**A circuit with none of the first one's edges exists** in {apart} of {len(table)}."
        )
    else:
        disjoint = (
            f"**No search found a circuit without the first one's edges** ({len(table)} searches)."
        )
    return bullets(
        [
            disjoint,
            f"Circuits pruned from other orders share {percent(table['alike'].mean())} of their "
            "edges with one another and with the first one. On fresh prompts "
            f"{int(table['pruned pass'].sum())} of {counted(pruned, 'circuit')} still keep "
            f"{percent(threshold)}, the first one in {first} of {len(table)}.",
            f"**Two or more clearly different circuits** (less than {percent(STRANGERS)} of their "
            "edges in common, with one another and not only with the first one) keep "
            f"{percent(threshold)} on fresh prompts in {several} of "
            f"{len(table)} cases; in {none} no circuit does.",
        ]
    )


def others_caption(measured: Sequence[Others], threshold: float) -> str:
    """How many other circuits are far from the first one and keep the threshold: a caption."""
    shown = [
        (jaccard(mask, one.result.circuit.mask), kept)
        for one in measured
        for mask, kept in (*one.disjoint, *one.pruned)
    ]
    far = sum(alike < STRANGERS and kept >= threshold for alike, kept in shown)
    return (
        f"*{far} of {counted(len(shown), 'other circuit')} share less than {percent(STRANGERS)} of "
        f"their edges with the first one and still keep {percent(threshold)} on fresh prompts: "
        "those would lie at the top left.*"
    )


def methods_table(measured: Sequence[Others]) -> pd.DataFrame:
    """What every method of `METHODS` finds on the same few prompts.

    Columns: `LABELS` (of the circuit of the book); method; size (edges); kept, on fresh prompts;
    jaccard, with what EAP-IG finds on these prompts; "alike by prompts", the Jaccard of that with
    the circuit of the book: how much other prompts change by themselves.
    """
    rows = []
    for others in measured:
        reference = others.methods.get("eap-ig")
        if reference is None:
            continue
        ceiling = jaccard(reference[0], others.result.circuit.mask)
        for name, (mask, kept) in others.methods.items():
            same = jaccard(mask, reference[0])
            values = (METHODS[name], int(mask.sum()), kept, same, ceiling)
            rows.append(_labels(others) | dict(zip(METHOD_COLUMNS[4:], values, strict=True)))
    return pd.DataFrame(rows, columns=METHOD_COLUMNS)


def methods_in_words(measured: Sequence[Others]) -> str:
    """Do other methods find the same edges, fewer of them, and as faithful ones?"""
    table = methods_table([one for one in measured if one.n >= FEWEST])
    places = ["model", "task"]
    lines = []
    reference = table[table["method"] == METHODS["eap-ig"]].set_index(places)
    for name in list(METHODS)[1:]:
        of_method = table[table["method"] == METHODS[name]].set_index(places)
        if of_method.empty:
            continue
        same = reference.loc[of_method.index]
        ratio = np.median(of_method["size"] / same["size"])
        lines.append(
            f"**{METHODS[name]}** ({counted(len(of_method), 'circuit')}): "
            f"{ratio:.2f} times as many edges as EAP-IG on the same prompts (Jaccard "
            f"{percent(of_method['jaccard'].mean())}); on fresh prompts it keeps "
            f"{percent(of_method['kept'].mean())}, EAP-IG {percent(same['kept'].mean())}."
        )
    if not lines:
        return "No graph here is small enough for the other methods, or no prompt is held out."
    return bullets(lines)
