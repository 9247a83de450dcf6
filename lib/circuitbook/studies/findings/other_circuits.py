"""Is a circuit the only one? Other circuits that pass, and what other methods find."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from circuitbook.circuits.similarity import jaccard
from circuitbook.studies.findings.circuit_tests import FEWEST, LABELS
from circuitbook.studies.other_circuits import METHODS, STRANGERS, Others, different
from circuitbook.wording import TASK_SHORT, bullets, counted

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
            f"A circuit with none of the first one's edges exists in {apart} of {len(table)}."
        )
    else:
        disjoint = (
            f"**No search found a circuit without the first one's edges** ({len(table)} searches)."
        )
    return bullets(
        [
            disjoint,
            f"Circuits pruned from other orders share {table['alike'].mean():.0%} of their edges "
            "with one another and with the first one (mean Jaccard). All of them pass on the "
            "prompts they were pruned on, half of the first one's; on fresh prompts "
            f"{int(table['pruned pass'].sum())} of {counted(pruned, 'circuit')} still keep "
            f"{threshold:.0%}, the first one in {first} of {len(table)}.",
            f"**Two or more clearly different circuits** (Jaccard below {STRANGERS:g}) that keep "
            f"{threshold:.0%} on fresh prompts: in {several} of {len(table)}; in {none} no "
            "circuit at all does.",
        ]
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
            f"{ratio:.2f} times as many edges as EAP-IG on the same prompts (median), Jaccard "
            f"{of_method['jaccard'].mean():.2f} with it, where EAP-IG on other prompts has "
            f"{of_method['alike by prompts'].mean():.2f}; on fresh prompts it keeps "
            f"{of_method['kept'].mean():.2f}, EAP-IG {same['kept'].mean():.2f} (means)."
        )
    if not lines:
        return "No graph here is small enough for the other methods, or no prompt is held out."
    return bullets(lines)
