"""Where in a prompt the edges of a circuit are needed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pandas as pd

from circuitbook.studies.positions import KINDS
from circuitbook.wording import counted, in_markdown, listed, percent

KIND_TITLES = {
    "everywhere": "at all positions",
    "numbers": "at some, by their numbers",
    "spans": "at some spans",
    "between": "at some spans, and between some",
}
TITLES = {
    "model": "model",
    "kind": "edges are in",
    "edges": "edges",
    "between": "between spans",
    "at_positions": "edges of a prompt",
    "pairs": "pairs of positions",
    "normalised": "kept",
    "fresh": "kept, fresh prompts",
}
NONE = "No model has a circuit for IOI at its last checkpoint, so there is nothing to ask."
INPUTS = {"k": "keys", "v": "values"}
FEW = 0.5  # of the edges of a prompt: below it, most are not needed


def positions_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row per model and kind of circuit, of `measure_positions`, as it is shown."""
    shown = table.assign(kind=[KIND_TITLES[kind] for kind in table["kind"]])
    return shown[list(TITLES)].rename(columns=TITLES)


def positions_in_words(table: pd.DataFrame) -> str:
    """How many edges of a prompt circuits keep with positions and without.

    table: of `measure_positions`. Only models count in which a circuit of every kind passes.
    """
    if table.empty:
        return NONE
    passing = table[table.groupby("model")["edges"].transform("count") == len(KINDS)]
    if passing.empty:
        return "In no model does a circuit of each kind keep the threshold: we can't compare them."
    by_kind = {kind: part.set_index("model") for kind, part in passing.groupby("kind")}
    everywhere, spans, between = (by_kind[kind] for kind in ("everywhere", "spans", "between"))
    share = spans["at_positions"] / everywhere["at_positions"]
    models = listed(map(in_markdown, everywhere.index))
    few = "Most edges of a prompt are not needed" if (share < FEW).all() else "With positions"
    return (
        f"**{few}: at the right spans, {span(share, percent)} of those that a circuit without "
        f"positions has are enough.** In {models} that circuit has {span(everywhere['edges'])} "
        f"edges, which are {span(everywhere['at_positions'])} on a "
        f"prompt, since each counts at every position; with spans there are "
        f"{span(spans['at_positions'])}. By the numbers of positions, where another word stands in "
        f"each template, it takes {span(by_kind['numbers']['at_positions'])}. Queries see the keys "
        f"and values of the circuit with spans over {span(spans['pairs'])} pairs of positions; "
        f"where edges between spans are chosen, too, {span(between['pairs'])} are left, and the "
        f"edges of a prompt are {span(between['at_positions'])}. On fresh prompts circuits with "
        f"spans keep {span(spans['fresh'], percent)}, those with edges between spans "
        f"{span(between['fresh'], percent)}, those without positions "
        f"{span(everywhere['fresh'], percent)}."
    )


def span(values: pd.Series, write: Callable[[float], str] = "{:,.0f}".format) -> str:
    """Smallest to largest.

    >>> span(pd.Series([7.0, 1434.6])), span(pd.Series([0.111, 0.114]), percent)
    ('7 to 1,435', '11%')
    """
    low, high = write(values.min()), write(values.max())
    return low if low == high else f"{low} to {high}"


# ------------------------------------------------------------------ where queries look


def seen_table(table: pd.DataFrame) -> pd.DataFrame:
    """The edges between spans of each model's circuit: a row per model and pair of spans.

    Columns: model; from (where the query is); at; keys, values: the heads that see those there.
    """
    rows = []
    for _, row in table.dropna(subset="seen").iterrows():
        places: dict[tuple[str, str], dict[str, list[str]]] = {}
        for edge in filter(None, row["seen"].split("; ")):
            found = re.fullmatch(r"(.+): a(\d+)\.h(\d+)<(.)> at (.+)", edge)
            assert found is not None, edge
            to, layer, head, kind, at = found.groups()
            heads = places.setdefault((to, at), {name: [] for name in INPUTS.values()})
            heads[INPUTS[kind]].append(f"{layer}.{head}")
        for (to, at), heads in places.items():
            labels = {name: ", ".join(sorted(heads[name])) for name in heads}
            rows.append({"model": row["model"], "from": to, "at": at} | labels)
    return pd.DataFrame(rows, columns=["model", "from", "at", *INPUTS.values()])


def seen_in_words(table: pd.DataFrame) -> str:
    """Where END looks in each model's circuit, with how many heads, and who else looks anywhere."""
    sentences = []
    for model, part in seen_table(table).groupby("model", sort=False):
        looks = [
            f"{_said(row['at'])} ({counted(_heads(row), 'head')})"
            for _, row in part[part["from"] == "END"].iterrows()
        ]
        others = part.loc[part["from"] != "END", "from"].unique()
        sentence = f"In {in_markdown(model)} END looks at {listed(looks) if looks else 'nothing'}"
        if len(others):
            sentence += f"; queries also look from {listed(map(_said, others))}"
        sentences.append(f"{sentence}.")
    return " ".join(sentences)


def _said(name: str) -> str:
    """A span's name in a sentence.

    >>> _said("S2"), _said("after S2")
    ('S2', 'what follows S2')
    """
    return name.replace("after ", "what follows ") if name.startswith("after ") else name


def _heads(row: pd.Series) -> int:
    return len({head for name in INPUTS.values() for head in row[name].split(", ") if head})
