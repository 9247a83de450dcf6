"""A circuit that is known, and how well methods find it: what the numbers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from circuitbook.model.compiled import KINDS
from circuitbook.studies.findings.methods import TITLES
from circuitbook.studies.known_circuit import ALL, DESIGNS, METHODS, graph_of_known, truth
from circuitbook.wording import capitalised, counted, in_markdown, listed, percent, two_digits

DESIGN_TITLES = {
    "soft": "soft attention",
    "sharp": "sharp attention",
    "norms": "sharp attention with norms",
}
KIND_TITLES = {
    ALL: "all edges",
    "needed": "needed",
    "backup in attention": "backup, attention",
    "backup in an MLP": "backup, MLP",
    "cancelling": "cancelling",
}
NAMES = {name: in_markdown(title) for name, title in TITLES.items()}  # in a sentence
NAMES["patching"] = "patching every edge"
# AUROC from which a kind is found, and up to which it is missed: four edges among 245 others are
# above it once in twenty times by chance alone
FOUND, MISSED = 0.95, 0.74
FALLS = 0.05  # of the average precision: what is told
ROUNDING = 1e-9  # of a logit: what is below it is rounding in float64


def methods_of(table: pd.DataFrame) -> list[str]:
    """The methods of a table, less random numbers."""
    return [str(name) for name in dict.fromkeys(table["method"]) if name != "random"]


def by_design(table: pd.DataFrame, kind: str, value: str = "auroc") -> pd.DataFrame:
    """[method, design] of one kind of edge."""
    part = table[table["kind"] == kind].pivot(index="method", columns="design", values=value)
    return part.reindex(index=methods_of(table), columns=list(dict.fromkeys(table["design"])))


def answer(table: pd.DataFrame) -> str:
    """The page's answer, in bold: whether any method finds the circuit, and what the others miss.

    table: of `recovery_table`.
    """
    auroc = by_design(table, ALL)
    mean = auroc.mean(axis=1)
    whole = [name for name in auroc.index if (auroc.loc[name] >= 1 - ROUNDING).all()]
    best = [name for name in auroc.index if mean[name] >= mean.max() - 0.005]
    forms = f"in each of its {len(auroc.columns)} forms"
    if whole:
        first = f"{_names(whole)} put{_s(whole)} every edge of a known circuit first, {forms}"
    else:
        first = (
            f"No method puts all edges of a known circuit first {forms}; "
            f"{_names(best)} come{_s(best)} closest"
        )
    told = [*(whole or best), *(["patching"] if "patching" in auroc.index else [])]
    numbers = [
        f"{NAMES[name]} {listed(two_digits(value) for value in auroc.loc[name])}"
        for name in dict.fromkeys(told)
    ]
    if len(rest := auroc.drop(index=told)):
        low, high = (two_digits(value) for value in (rest.min().min(), rest.max().max()))
        numbers.append(f"the others from {low} to {high}")
    said = f"**{capitalised(first)}.** The AUROC in the {len(auroc.columns)} forms: "
    said += f"{'; '.join(numbers)}; by chance 0.50."
    if missed := [name for name in auroc.index if _misses_backups(table, name)]:
        they = "It tells" if len(missed) == 1 else "They tell"
        said += (
            f" {capitalised(_names(missed))} miss{'es' if len(missed) == 1 else ''} nodes that "
            f"stand in for each other. {they} the edges of two that feed an MLP from those outside "
            "the circuit no better than chance."
        )
    return said


def _misses_backups(table: pd.DataFrame, method: str) -> bool:
    """Whether it misses the backups in an MLP in every form."""
    return bool((by_design(table, "backup in an MLP").loc[method] <= MISSED).all())


def _names(methods: Sequence[str]) -> str:
    return listed(NAMES[method] for method in methods)


def _s(names: Sequence[str]) -> str:
    return "s" if len(names) == 1 else ""


def kinds_in_words(table: pd.DataFrame) -> list[str]:
    """A line per kind of edge: which methods find it in every design, and which miss it in some."""
    lines = []
    for kind in KINDS:
        auroc = by_design(table, kind)
        found = [name for name in auroc.index if (auroc.loc[name] >= FOUND).all()]
        missed = [name for name in auroc.index if (auroc.loc[name] <= MISSED).any()]
        between = [name for name in auroc.index if name not in (*found, *missed)]
        parts = []
        if found:
            parts.append(f"found by {_names(found)}")
        forms: dict[tuple[str, ...], list[str]] = {}  # in which form: which methods miss it there
        for name in missed:
            where = auroc.columns[list(auroc.loc[name] <= MISSED)]
            forms.setdefault(tuple(map(str, where)), []).append(name)
        for where_missed, names in forms.items():
            part = f"missed by {_names(names)}"
            if len(where_missed) < len(auroc.columns):
                part += f" (in: {'; '.join(DESIGN_TITLES[name] for name in where_missed)})"
            parts.append(part)
        if between:
            low = ", ".join(
                f"{NAMES[name]} {two_digits(auroc.loc[name].min())}" for name in between
            )
            parts.append(f"found in part by {_names(between)} (lowest AUROC: {low})")
        edges = counted(len(KINDS[kind]), "edge")
        lines.append(f"*{capitalised(KIND_TITLES[kind])}* ({edges}): {'; '.join(parts)}.")
    return lines


def norms_in_words(table: pd.DataFrame) -> str:
    """Whether norms that divide by a constant change what methods find."""
    precision = by_design(table, ALL, "precision")
    change = precision["norms"] - precision["sharp"]
    falls = [name for name in precision.index if change[name] <= -FALLS]
    stay = [name for name in precision.index if abs(change[name]) < FALLS]
    if not falls:
        return (
            "Norms take from no method: with them the average precision falls by less than "
            f"{two_digits(FALLS)} everywhere."
        )
    numbers = listed(
        f"{NAMES[name]} from {two_digits(precision.loc[name, 'sharp'])} to "
        f"{two_digits(precision.loc[name, 'norms'])}"
        for name in falls
    )
    said = (
        "The norms here divide by a constant, whatever is patched. A gradient does not know: it "
        "takes the straight way between two one-hot vectors, on which the norm does change, and "
        "gives a score to edges that nothing reads. With norms the average precision falls: of "
        f"{numbers}."
    )
    if stay:
        they_were = "it was" if len(stay) == 1 else "they were"
        said += f" {capitalised(_names(stay))} stay{_s(stay)} as {they_were}."
    return said


def verified_table(measured: Mapping[str, Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """What brute force says of the truth, as text: a row per design and kind, and one for edges
    outside the circuit.

    Columns: model; edges; alone and beside its backup: the smallest effect of an edge of the kind
    (of those outside, the largest).
    """
    graph, rows = graph_of_known(), []
    for design, arrays in measured.items():
        for kind in KINDS:
            inside = truth(graph, kind)
            beside = float(arrays["with backup"][inside].min())
            rows.append(
                {
                    "model": DESIGN_TITLES[design],
                    "edges": f"{KIND_TITLES[kind]} ({inside.sum()})",
                    "patched alone": _effect(float(arrays["alone"][inside].min())),
                    "beside its backup": _effect(beside) if "backup" in kind else "",
                }
            )
        outside = graph.mask & ~truth(graph)
        rows.append(
            {
                "model": DESIGN_TITLES[design],
                "edges": f"outside the circuit ({outside.sum()}), largest",
                "patched alone": _effect(float(arrays["alone"][outside].max())),
                "beside its backup": "",
            }
        )
    return pd.DataFrame(rows)


def _effect(value: float) -> str:
    return f"{value:.2f}" if value > ROUNDING else "0"


def verified_in_words(measured: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Whether the construction is what it claims to be, by patching every edge."""
    graph = graph_of_known()
    outside = graph.mask & ~truth(graph)
    faults = []
    for design, arrays in measured.items():
        seen = np.maximum(arrays["alone"], arrays["with backup"]) > ROUNDING
        wrong = int((arrays["alone"][outside] > ROUNDING).sum())
        silent = int((truth(graph) & ~seen).sum())
        right = float(arrays["right"])
        if wrong or silent or right < 1:
            faults.append(
                f"with {DESIGN_TITLES[design]} it answers {percent(right)} of the prompts right, "
                f"{counted(wrong, 'edge')} outside the circuit {'does' if wrong == 1 else 'do'} "
                f"something, and {counted(silent, 'edge')} inside do{'es' if silent == 1 else ''} "
                "nothing"
            )
    if faults:
        return f"**The truth does not hold**: {'; '.join(faults)}."
    return (
        f"It holds: all prompts are answered right, patching any of the {int(outside.sum())} edges "
        f"outside changes nothing, and each of the {int(truth(graph).sum())} edges inside changes "
        "the answer's logits on some prompt, the backups once the other is patched too."
    )


def taken_apart_in_words(measured: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """How many minimal circuits the known one holds, of the four that its backups allow."""
    parts = []
    for design, arrays in measured.items():
        circuits = arrays["minimal"].astype(bool)
        different = len(np.unique(circuits, axis=0))
        edges = circuits.sum((1, 2))
        sizes = (
            f"{edges.min()}" if edges.min() == edges.max() else f"{edges.min()} to {edges.max()}"
        )
        parts.append((f"{different} of {sizes} edges", DESIGN_TITLES[design], len(circuits)))
    orders = parts[0][2]
    if len({said for said, _, _ in parts}) == 1:
        found = f"{parts[0][0]} each, in every form"
    else:
        found = listed(f"{said} with {title}" for said, title, _ in parts)
    return f"{orders} random orders leave this many different circuits: {found}."


def completeness_in_words(measured: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """How many points EAP-IG took."""
    points = {name: int(arrays["points"]) for name, arrays in measured.items()}
    worst = max(abs(float(arrays["gap"])) for arrays in measured.values())
    numbers = listed(f"{n} with {DESIGN_TITLES[name]}" for name, n in points.items())
    return (
        f"EAP-IG took points until its scores added up: {numbers} (completeness gap at most "
        f"{percent(worst, 1)} of the change of the loss). Where attention is sharp the loss "
        "changes on a small stretch of the way, and few points in equal steps would miss it."
    )


def recovery_summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row per method and design, all edges together, as text."""
    part = table[table["kind"] == ALL]
    titles = TITLES | {"random": "random (mean)"}
    return pd.DataFrame(
        {
            "method": [titles[name] for name in part["method"]],
            "model": [DESIGN_TITLES[name] for name in part["design"]],
            "AUROC": [two_digits(value) for value in part["auroc"]],
            "average precision": [two_digits(value) for value in part["precision"]],
            "true among the first": [percent(value) for value in part["first"]],
        }
    )


def panels(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{title of a design: AUROC [method, kind]}, with titles, for the figure."""
    shown = {}
    for design in [name for name in DESIGNS if name in set(table["design"])]:
        part = table[table["design"] == design]
        frame = part.pivot(index="method", columns="kind", values="auroc")
        methods = [name for name in METHODS if name in frame.index]
        frame = frame.reindex(index=methods, columns=list(KIND_TITLES))
        shown[DESIGN_TITLES[design]] = frame.rename(index=TITLES, columns=KIND_TITLES)
    return shown
