"""Does every size learn a task after the same number of tokens? The paper's claim, answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from circuitbook.stats import Emergence, interval
from circuitbook.studies.abilities import (
    OnsetComparison,
    compare_onsets,
    dates_of_sizes,
    emergences,
)
from circuitbook.studies.findings.abilities import Onsets, order_of_tasks
from circuitbook.studies.runs import but_smallest
from circuitbook.suites.names import base_model
from circuitbook.wording import (
    TASK_SHORT,
    TASK_TITLES,
    capitalised,
    counted,
    in_markdown,
    listed,
    short_number,
)

Groups = Mapping[str, Sequence[str]]  # {what they are: models}
Comparisons = Mapping[tuple[str, str], OnsetComparison]  # {(task, group): how far apart they are}

ALL_SIZES = "all sizes"
BUT_SMALLEST = "without the smallest"  # as the paper has it
SEEDS = "seeds of "


def groups_to_compare(models: Sequence[str], main: Sequence[str]) -> dict[str, list[str]]:
    """All sizes but the smallest (`main`, small to large), all, and the seeds of each size."""
    groups = {BUT_SMALLEST: list(but_smallest(main)), ALL_SIZES: list(main)}
    runs: dict[str, list[str]] = {}
    for name in models:
        runs.setdefault(base_model(name), []).append(name)
    for size, names in runs.items():
        if len(names) > 1:
            groups[f"{SEEDS}{size}"] = names
    return groups


def compare_groups(
    half: Onsets, groups: Groups, tasks: Sequence[str]
) -> dict[tuple[str, str], OnsetComparison]:
    """How far apart the onsets within each group are, for each task.

    Of sizes, the intervals resample the seeds, too, where there are some.
    """
    seeds = [names for group, names in groups.items() if group.startswith(SEEDS)]
    return {
        (task, group): compare_onsets(
            half[task], sizes=names, seeds=() if group.startswith(SEEDS) else seeds
        )
        for task in tasks
        for group, names in groups.items()
    }


def comparison_table(comparisons: Comparisons) -> pd.DataFrame:
    """Slowest over quickest of each task and group with its interval, and: is it the same?"""
    rows = []
    for (task, group), compared in comparisons.items():
        ratio = ""
        if not np.isnan(compared.ratio):
            ratio = f"{compared.ratio:.2f}  [{compared.low:.2f}, {compared.high:.2f}]"
        rows.append(
            {
                "task": TASK_SHORT[task],
                "models": group,
                "slowest / quickest": ratio,
                "the same?": compared.answer,
            }
        )
    return pd.DataFrame(rows).set_index(["task", "models"])


# ---- in words


def answer(
    comparisons: Comparisons, half: Onsets, tasks: Sequence[str], sizes: Sequence[str]
) -> str:
    """The chapter's answer: where every size needs as many tokens, and which task comes first.

    sizes: models from small to large.
    """
    order = order_of_tasks({task: half[task] for task in tasks}, sizes)
    if order.empty:
        return f"**None of the tasks is learned by the last checkpoint of {in_markdown(*sizes)}.**"
    first, last = order.index[0], order.index[-1]
    when = f"{TASK_TITLES[first]} is learned first, after {short_number(order[first])} tokens"
    if first != last:
        when += f", and {TASK_TITLES[last]} last, after {short_number(order[last])}"
    else:
        when = when.replace(" first", "")
    if len(sizes) == 1:
        return f"**{when}.** That is {in_markdown(*sizes)}, the only size measured here."
    titles: dict[str, list[str]] = {"yes": [], "no": [], "can't tell": []}
    for task in tasks:
        titles[comparisons[task, BUT_SMALLEST].answer].append(TASK_TITLES[task])
    every = "every size but the smallest" if len(sizes) > 2 else "every size"
    same, other, unknown = titles.values()
    return f"**{_said(every, same, other, unknown)}.** {when} (medians over sizes)."


def _said(every: str, same: Sequence[str], other: Sequence[str], unknown: Sequence[str]) -> str:
    """One sentence, without its full stop, on the tasks of each answer: yes, no, can't tell."""
    clauses = []
    if same:
        clauses.append(
            f"within a factor of two, {every} learns {listed(same)} after the same number of tokens"
        )
    if other:
        clauses.append(
            f"for {listed(other)} the slowest size needs more than twice the tokens of the quickest"
        )
    if unknown and clauses:
        clauses.append(f"for {listed(unknown)} we can't tell")
    elif unknown:
        clauses.append(
            f"we can't tell whether {every} learns {listed(unknown)} after the same number of "
            "tokens, within a factor of two"
        )
    return capitalised("; ".join(clauses))


def trend_with_size(
    onsets: Mapping[str, Emergence], sizes: Sequence[str], seeds: Sequence[Sequence[str]] = ()
) -> str:
    """Whether larger models are earlier or later, beyond doubt: by the rank correlation of tokens
    with size, its 95% interval over prompts and over the runs of a size (`seeds`).

    sizes: models from small to large. Empty where fewer than three of them have a date.
    """
    dates = list(dates_of_sizes(onsets, sizes, seeds)[0].values())
    if len(dates) < 3:
        return ""
    samples = np.stack([date.samples for date in dates])
    low, high = interval(_rank_correlation_with_order(samples))
    if high < 0:
        return "earlier"
    return "later" if low > 0 else "no trend"


def _rank_correlation_with_order(samples: np.ndarray) -> np.ndarray:
    """Spearman's, of the numbers in each column of [sizes, draws] with their rows, [draws]."""
    ranks, rows = rankdata(samples, axis=0), np.arange(len(samples))
    ranks = ranks - ranks.mean(0)
    spread = np.sqrt((ranks**2).sum(0) * ((rows - rows.mean()) ** 2).sum())
    return (rows - rows.mean()) @ ranks / np.where(spread > 0, spread, 1)


def trends_in_words(half: Onsets, tasks: Sequence[str], groups: Groups) -> str:
    """For which tasks larger models are earlier, or later; groups: see `groups_to_compare`."""
    seeds = [names for group, names in groups.items() if group.startswith(SEEDS)]
    trends = {task: trend_with_size(half[task], groups[ALL_SIZES], seeds) for task in tasks}
    told = [task for task in tasks if trends[task]]
    if not told:
        return ""
    said = []
    for trend in ("earlier", "later"):
        names = [TASK_TITLES[task] for task in told if trends[task] == trend]
        if names:
            said.append(f"over all sizes, larger models learn {listed(names)} {trend}")
    if not said:
        return "For no task are larger models earlier, or later, beyond doubt."
    if "no trend" in trends.values():
        said.append("for the rest there is no trend beyond doubt")
    return capitalised("; ".join(said)) + "."


def sizes_and_seeds(comparisons: Comparisons, groups: Groups, tasks: Sequence[str]) -> str:
    """Do sizes differ more than the seeds of one size? Empty where there are no seeds.

    Compared are the groups without the smallest size and of the first size with seeds, which
    should be as many models: of more models, slowest and quickest lie further apart.
    """
    seeds = next((group for group in groups if group.startswith(SEEDS)), None)
    if seeds is None:
        return ""
    ratios = {
        task: (comparisons[task, BUT_SMALLEST].ratio, comparisons[task, seeds].ratio)
        for task in tasks
    }
    ratios = {task: pair for task, pair in ratios.items() if not np.isnan(pair).any()}
    if not ratios:
        return ""
    of_sizes, of_seeds = zip(*ratios.values(), strict=True)
    further = sum(seed >= size for size, seed in ratios.values())
    as_much = 2 * further >= len(ratios)
    meaning = "the seed matters as much as the size" if as_much else "size matters more than seed"
    return (
        f"The slowest of {len(groups[BUT_SMALLEST])} sizes needs {_span(of_sizes)} times the "
        f"tokens of the quickest; the slowest of {len(groups[seeds])} seeds of one size, "
        f"{_span(of_seeds)} times. In {further} of {counted(len(ratios), 'task')} the seeds lie "
        f"at least as far apart as the sizes: **{meaning}**."
    )


def _span(ratios: Sequence[float]) -> str:
    low, high = f"{min(ratios):.1f}", f"{max(ratios):.1f}"
    return low if low == high else f"{low} to {high}"


# ---- with fewer prompts


def verdicts_by_prompts(
    answers: pd.DataFrame, tasks: Sequence[str], counts: Sequence[int]
) -> pd.DataFrame:
    """Is it the same at every size, by the first so many prompts? A row per task and count.

    Columns: task, prompts, ratio, low, high, the same?
    """
    rows = []
    for task in tasks:
        for count in counts:
            first = answers[answers["prompt"] < count]
            compared = compare_onsets(emergences(first, task, 0.5))
            row = {"task": TASK_SHORT[task], "prompts": count, "ratio": compared.ratio}
            row |= {"low": compared.low, "high": compared.high, "the same?": compared.answer}
            rows.append(row)
    return pd.DataFrame(rows)


def fewer_prompts_in_words(verdicts: pd.DataFrame) -> str:
    """What fewer prompts do to intervals and verdicts; verdicts: of `verdicts_by_prompts`."""
    many, few = (
        verdicts[verdicts["prompts"] == count].set_index("task")
        for count in (verdicts["prompts"].max(), verdicts["prompts"].min())
    )
    wider = (few["high"] - few["low"]) > (many["high"] - many["low"])
    text = f"The interval is wider for {int(wider.sum())} of {counted(len(wider), 'task')}"
    moved = [
        f"{task} (from {many.loc[task, 'the same?']} to {few.loc[task, 'the same?']})"
        for task in many.index
        if many.loc[task, "the same?"] != few.loc[task, "the same?"]
    ]
    if not moved:
        return f"{text}, and no verdict changes."
    return f"{text}, and the verdict changes for {listed(moved)}."
