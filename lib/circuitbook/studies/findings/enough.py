"""What circuits are and are not enough for, and whether other searches find the same edges."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from circuitbook.circuits.ablations import ABLATIONS
from circuitbook.stats import Verdict, decide
from circuitbook.wording import TASK_SHORT, counted, in_markdown, percent

BOUND = 0.8  # what the search asks of a circuit; here of every measure
ALIKE = 0.1  # a Jaccard that is less than this below that of other prompts: about the same edges
ABLATION_TITLES = {
    "swap": "swap",
    "resample": "another prompt (IOI: abc)",
    "mean": "mean",
    "optimal": "optimal",
}
MEASURE_TITLES = {
    "faithfulness": "the metric's difference",
    "top1": "naming the answer",
    "kl": "the distribution",
}
UNDER_TITLES = {
    "swap": "swap, metric (this book's)",
    "resample": "another prompt (IOI: abc), metric",
    "kl": "swap, KL",
    "both": "abc, KL",
}
NO_CIRCUIT = "No model has a circuit at its last checkpoint."


def verdict(row: pd.Series, measure: str) -> Verdict:
    """Whether a circuit is enough: a row of `measure_enough` by one measure.

    For the metric's difference: it keeps `BOUND` of it. For naming the answer: it does so on
    `BOUND` of the share of prompts on which the model does. For the distribution: of the divergence
    that ablating everything makes, no more than 1 - `BOUND` is left.
    """
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    if measure == "kl":
        return decide(-high, -low, BOUND - 1)
    return decide(low, high, BOUND * (row["model_top1"] if measure == "top1" else 1.0))


def enough_table(enough: pd.DataFrame) -> pd.DataFrame:
    """A row for each task and measure, a column for each ablation; see `enough_caption`.

    enough: of `measure_enough`. The rows are over its circuits, one of each model.
    """
    rows = []
    for task, of_task in enough.groupby("task", sort=False):
        for measure, title in MEASURE_TITLES.items():
            row = {"task": TASK_SHORT[str(task)], "enough for": title}
            for ablation in ABLATIONS:
                part = of_task[of_task["ablation"] == ablation]
                row[ABLATION_TITLES[ablation]] = _cell(part, measure)
            rows.append(row)
    columns = ["task", "enough for", *ABLATION_TITLES.values()]
    return pd.DataFrame(rows, columns=columns)


def _cell(part: pd.DataFrame, measure: str) -> str:
    if part.empty:
        return ""
    said = [verdict(row, measure) for _, row in part.iterrows()]
    numbers = " / ".join(str(said.count(one)) for one in (Verdict.HOLDS, Verdict.OPEN))
    return f"{span(_kept(part, measure))}; {numbers} / {said.count(Verdict.FAILS)}"


def _kept(part: pd.DataFrame, measure: str) -> pd.Series:
    """So that 1 is good: of the distribution, what is not left of the divergence."""
    return 1 - part["kl"] if measure == "kl" else part[measure]


def span(values: Iterable[float], digits: int = 2) -> str:
    """Smallest to largest.

    >>> span([0.5, 0.25]), span([0.5])
    ('0.25 to 0.50', '0.50')
    """
    low, high = (f"{end:.{digits}f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def enough_caption(enough: pd.DataFrame) -> str:
    """What the numbers of `enough_table` are, and on which prompts they were taken."""
    if enough.empty:
        return NO_CIRCUIT
    text = (
        "In each cell of the table: the range over the models; then how many of their circuits are "
        "enough / can't be decided / are not, by 95% intervals over prompts. A circuit is enough "
        f"if it keeps {BOUND:.0%} of the metric's difference, names the answer on {BOUND:.0%} of "
        f"the share of prompts on which the model does, or removes {BOUND:.0%} of the divergence."
    )
    found_on = enough.loc[~enough["held_out"].astype(bool), "task"].unique()
    if len(found_on) == 0:
        return text + " All on prompts that the circuits were not found on."
    names = in_markdown(*(TASK_SHORT[task] for task in found_on))
    return (
        text + " On prompts that the circuits were not found on, except for "
        f"{names}, which has no such prompts left."
    )


def enough_sentence(enough: pd.DataFrame) -> str:
    """The chapter's answer: whether circuits that keep the metric's difference name the answer."""
    if enough.empty:
        return NO_CIRCUIT
    sentences = []
    swap = enough[enough["ablation"] == "swap"]
    usual = (
        f"By the usual measure, the {counted(len(swap), 'circuit')} of the last checkpoints keep "
        f"{percent(swap['faithfulness'].median())} in the median."
    )
    for task, part in enough[enough["ablation"] == "resample"].groupby("task", sort=False):
        said = [verdict(row, "top1") for _, row in part.iterrows()]
        if Verdict.FAILS not in said:
            continue
        by = "three other names (abc)" if task == "ioi" else "another prompt"
        sentences.append(
            f"with {by} on the other edges, {said.count(Verdict.FAILS)} of "
            f"{counted(len(part), f'{TASK_SHORT[str(task)]} circuit')} no longer "
            f"name the answer (on {_percent_span(part['top1'])} of the prompts; the model on "
            f"{_percent_span(part['model_top1'])})"
        )
    if not sentences:
        return (
            "**A circuit that keeps the difference between right and wrong answers also names the "
            f"answer, whatever we put on the other edges.** {usual}"
        )
    return (
        "**A circuit can keep the difference between two answers and not be enough to give the "
        f"answer:** {'; '.join(sentences)}. {usual}"
    )


def _percent_span(values: Iterable[float]) -> str:
    """Smallest to largest share, in percent."""
    low, high = percent(min(values)), percent(max(values))
    return low if low == high else f"{low} to {high}"


def inputs_sentence(enough: pd.DataFrame) -> str:
    """How many circuits say where heads look: have edges into a query or a key."""
    swap = enough[enough["ablation"] == "swap"]
    if swap.empty:
        return NO_CIRCUIT
    neither = int(((swap["queries"] == 0) & (swap["keys"] == 0)).sum())
    return (
        f"**{neither} of {counted(len(swap), 'circuit')} have no edge into a query or a key**: "
        "these say what is moved, not why it is moved there."
    )


def per_circuit(enough: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{measure: a row per circuit, a column per ablation}, 1 is good; for a figure."""
    labels = [
        f"{TASK_SHORT[task]}, {model}"
        for task, model in zip(enough["task"], enough["model"], strict=True)
    ]
    order = {task: place for place, task in enumerate(TASK_SHORT)}
    rows = enough.assign(label=labels, order=enough["task"].map(order))
    rows = rows.sort_values("order", kind="stable")
    frames = {}
    for measure, title in MEASURE_TITLES.items():
        values = rows.assign(value=_kept(rows, measure))
        frame = values.pivot(index="label", columns="ablation", values="value")
        frame = frame.reindex(index=rows["label"].unique(), columns=list(ABLATIONS))
        frame = frame.rename(columns={"resample": "other"})
        if measure == "top1":
            model = rows.drop_duplicates("label").set_index("label")["model_top1"]
            frame.insert(0, "model", model)
        frames[title] = frame
    return frames


def inputs_table(enough: pd.DataFrame) -> pd.DataFrame:
    """Edges of each task's circuits that end in queries and in keys: task, circuits, edges ..."""
    rows = []
    for task, part in enough[enough["ablation"] == "swap"].groupby("task", sort=False):
        neither = (part["queries"] == 0) & (part["keys"] == 0)
        row = {"task": TASK_SHORT[str(task)], "circuits": len(part)}
        for name in ("edges", "queries", "keys"):
            row[name if name == "edges" else f"into {name}"] = span(part[name], 0)
        rows.append(row | {"with neither": int(neither.sum())})
    columns = ["task", "circuits", "edges", "into queries", "into keys", "with neither"]
    return pd.DataFrame(rows, columns=columns)


# ---- other searches


def found_table(alike: pd.DataFrame) -> pd.DataFrame:
    """Circuits of other searches beside this book's: a row for each task and search.

    alike: the first table of `measure_found_under`.
    """
    rows = []
    for (task, under), part in alike.groupby(["task", "under"], sort=False):
        found, ceilings = part.dropna(subset=["edges"]), part["ceiling"].dropna()
        row = {
            "task": TASK_SHORT[task],
            "searched by": UNDER_TITLES[under],
            "found": f"{len(found)} of {len(part)}",
            "edges": span(found["edges"], 0) if len(found) else "none",
            "this book's": span(part["own_edges"], 0),
        }
        row["Jaccard"] = span(found["jaccard"]) if len(found) else "none"
        row["at its size"] = span(found["at_size"]) if len(found) else "none"
        rows.append(row | {"other prompts": span(ceilings) if len(ceilings) else "none"})
    columns = ["task", "searched by", "found", "edges", "this book's", "Jaccard", "at its size"]
    return pd.DataFrame(rows, columns=[*columns, "other prompts"])


def same_edges(alike: pd.DataFrame) -> str:
    """Whether each of the other searches finds the same edges, as far as prompts can tell."""
    if alike.empty:
        return NO_CIRCUIT
    lines = []
    for under, part in alike.groupby("under", sort=False):
        part = part.dropna(subset=["edges"])
        if part.empty:
            lines.append(f"- **{UNDER_TITLES[str(under)]}**: no circuit is found.")
            continue
        at_size, ceiling = part["at_size"].median(), part["ceiling"].median()
        order = (
            "about the same first edges"
            if at_size >= ceiling - ALIKE
            else "other edges, beyond what other prompts change"
        )
        size = (part["edges"] / part["own_edges"]).median()
        line = (
            f"**{UNDER_TITLES[str(under)]}**: {order} (of as many edges, "
            f"{percent(at_size)} in common, {percent(ceiling)} under other prompts), and "
            f"{size:.1f} times as many of them"
        )
        lines.append(f"- {line}.")
    text = "\n".join(lines)
    if alike["edges"].isna().any():
        text += (
            "\n\nWhere no circuit is found, the other prompts do not lower the metric beyond doubt."
        )
    return text


def does_table(enough: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """How circuits of each search do by the others' measures: means over the models of `found`.

    enough: of `measure_enough`; found: the second table of `measure_found_under`. Columns: task,
    searched by, circuits, the metric's difference under swap and under another prompt, and the
    answer and the distribution under another prompt.
    """
    own = enough[enough["model"].isin(found["model"])]
    rows = []
    for (task, under), part in pd.concat([own, found]).groupby(["task", "under"], sort=False):
        swap, other = (part[part["ablation"] == name] for name in ("swap", "resample"))
        row = {
            "task": task,
            "searched by": under,
            "circuits": len(swap),
            "metric, swap": swap["faithfulness"].mean(),
            "metric, other": other["faithfulness"].mean(),
            "answer, swap": swap["top1"].mean(),
            "answer, other": other["top1"].mean(),
            "distribution, swap": 1 - swap["kl"].mean(),
            "distribution, other": 1 - other["kl"].mean(),
        }
        rows.append(row)
    columns = ["task", "searched by", "circuits"]
    columns += [
        f"{what}, {by}" for what in ("metric", "answer", "distribution") for by in ("swap", "other")
    ]
    table = pd.DataFrame(rows, columns=columns)
    place = {name: i for i, name in enumerate([*TASK_SHORT, *UNDER_TITLES])}
    table = table.sort_values(["task", "searched by"], key=lambda c: c.map(place), kind="stable")
    named = {"task": table["task"].map(TASK_SHORT), "searched by": table["searched by"]}
    return table.assign(
        task=named["task"], **{"searched by": named["searched by"].map(UNDER_TITLES)}
    )


def trade_sentence(enough: pd.DataFrame, found: pd.DataFrame) -> str:
    """What the search by both keeps of IOI, and what it gives up."""
    own = enough[enough["model"].isin(found["model"])]
    both = pd.concat([own, found])
    both = both[(both["task"] == "ioi") & (both["ablation"] == "resample")]
    means = both.groupby("under")[["faithfulness", "top1", "kl"]].mean()
    if not {"swap", "both"} <= set(means.index):
        return "No circuit of IOI was found by abc and KL."
    ours, theirs = means.loc["swap"], means.loc["both"]
    return (
        "Under abc, the IOI circuits found by abc and KL name the answer on "
        f"{percent(theirs['top1'])} of the prompts (this book's on {percent(ours['top1'])}), "
        f"{'but' if theirs['faithfulness'] < ours['faithfulness'] else 'and'} keep "
        f"{percent(theirs['faithfulness'])} of the difference between the two names (this book's "
        f"{percent(ours['faithfulness'])})."
    )
