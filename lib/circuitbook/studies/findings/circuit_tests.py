"""What the field's tests say of circuits: random ones, completeness, minimality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.circuits.hypotheses import (
    holm,
    superfluous,
)
from circuitbook.heads.names import Head
from circuitbook.stats import Verdict, bootstrap_draws, interval
from circuitbook.studies.circuit_tests import Trial
from circuitbook.studies.head_classes import HeadClasses, class_members
from circuitbook.wording import TASK_SHORT, bullets, counted, in_markdown, percent

FEWEST = 10  # prompts: with fewer nothing is tested
LEVEL = 0.05
BAR = 0.2  # of the behaviour: no further apart than that, a circuit is like the model
MATTERS = 0.01  # an edge matters that changes this share of the behaviour
UNSURE = "can't tell"
LABELS = ["model", "task", "edges", "prompts"]
NO_PROMPTS = "No circuit was found that could be tried on fresh prompts."


def classes_by_place(
    classified: Sequence[HeadClasses],
) -> dict[tuple[str, int], dict[str, list[Head]]]:
    """{(model, step): {class: heads}}, as `measure_trials` takes the classes of IOI."""
    return {(one.model, one.step): class_members(one) for one in classified}


def tested(trials: Sequence[Trial]) -> list[Trial]:
    """Those with enough fresh prompts."""
    return [trial for trial in trials if trial.n >= FEWEST]


def answer(trials: Sequence[Trial]) -> str:
    """The chapter's answer: how many circuits are complete, how many have no edge too many, and
    what as many random edges keep.
    """
    some = tested(trials)
    if not some:
        return f"**{NO_PROMPTS}**"
    verdicts = completeness_verdicts(trials)
    complete, lacking = verdicts.count(Verdict.HOLDS), verdicts.count(Verdict.FAILS)
    table = minimality_table(trials)
    spare = (table["do not"] > 0) | (table["superfluous"].fillna(0) > 0)
    random = np.concatenate([trial.kept(trial.floors["random edges"]) for trial in some])
    if complete == len(verdicts):
        said = "Yes: these circuits are complete"
        said += ", and some have edges too many" if spare.any() else ", with no edge too many shown"
    else:
        said = (
            "Not quite: only some of these circuits are complete"
            if complete
            else "No: none of these circuits is shown to be complete"
        )
    return (
        f"**{said}.** {complete} of {counted(len(verdicts), 'circuit')} are complete, {lacking} "
        f"are not, and of {len(verdicts) - complete - lacking} we can't tell; "
        f"in {int((~spare).sum())} no edge is shown to be superfluous. Random circuits of as many "
        f"edges keep {percent(np.median(random))} of the behaviour in the median."
    )


def left_out_in_words(trials: Sequence[Trial]) -> str:
    """How many circuits are tried, and which are not tested, for want of prompts."""
    few = [trial for trial in trials if trial.n < FEWEST]
    if not trials:
        return NO_PROMPTS
    tried = f"{counted(len(trials), 'circuit')} of the last checkpoints, on fresh prompts."
    if not few:
        return tried
    names = [f"{trial.result.model} {TASK_SHORT[trial.result.task]}" for trial in few]
    return (
        f"{tried} Fewer than {FEWEST} are left for {in_markdown(*names)}: "
        f"{'it is' if len(few) == 1 else 'they are'} shown, but not tested."
    )


def labels(trial: Trial) -> dict[str, object]:
    """What a row about a circuit begins with, {of `LABELS`: value}."""
    result = trial.result
    values = (result.model, TASK_SHORT[result.task], result.circuit.n_edges, trial.n)
    return dict(zip(LABELS, values, strict=True))


# ---- random circuits and the complement


def floors_table(trials: Sequence[Trial]) -> pd.DataFrame:
    """What each circuit keeps on fresh prompts, and what others keep: the mean over draws.

    Columns: `LABELS`, circuit, complement, and the kinds of `Trial.floors`; nan where a kind has no
    circuit but this one, or where no prompt is held out.
    """
    rows = []
    for trial in trials:
        row = labels(trial)
        kept = {
            "circuit": trial.circuit[None],
            "complement": trial.complement[None],
            **trial.floors,
        }
        for name, metric in kept.items():
            row[name] = float(trial.kept(metric).mean()) if trial.n and len(metric) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def floors_in_words(trials: Sequence[Trial]) -> str:
    """How much circuits at random keep, and what is left without the circuit."""
    some = tested(trials)
    if not some:
        return NO_PROMPTS
    random = np.concatenate([trial.kept(trial.floors["random edges"]) for trial in some])
    left = np.array([float(trial.kept(trial.complement)) for trial in some])
    lines = [
        f"**As many random edges** keep {percent(np.median(random))} in the median of "
        f"{counted(len(random), 'draw')}; {percent((random > 0.1).mean())} of the draws keep more "
        "than a tenth.",
        f"**The complement**, the model without the circuit's edges, keeps at most "
        f"{percent(left.max())}: {_complement(left)}.",
        _replaced(some),
        _degrees(some),
    ]
    return bullets(lines)


def _complement(left: np.ndarray) -> str:
    if left.max() < 0.1:
        return "without these edges nothing of the behaviour is left"
    return f"in {counted(int((left >= 0.1).sum()), 'case')} a tenth or more is left without them"


def _replaced(some: Sequence[Trial]) -> str:
    kinds = [name for name in some[0].floors if name.endswith("replaced")]
    shares = []
    for kind in kinds:
        of_whole = [
            trial.kept(trial.floors[kind]).mean() / trial.kept(trial.circuit) for trial in some
        ]
        replaced = kind.removesuffix(" replaced")
        shares.append(f"{percent(np.median(of_whole))} with {replaced}")
    return (
        "**With some edges replaced** by others between the same nodes, of what a circuit kept "
        f"there remains {', '.join(shares)} (medians)."
    )


def _degrees(some: Sequence[Trial]) -> str:
    with_others = [trial for trial in some if len(trial.floors["same degrees"])]
    alone = len(some) - len(with_others)
    told = ""
    if with_others:
        means = [trial.kept(trial.floors["same degrees"]).mean() for trial in with_others]
        told = f" Rewired circuits keep {percent(min(means))} to {percent(max(means))}."
    return (
        f"**With the same degrees** we find no other circuit for {alone} of {len(some)}: small "
        f"circuits have few others of their degrees.{told}"
    )


# ---- completeness


def completeness_table(trials: Sequence[Trial]) -> pd.DataFrame:
    """How unlike the model a circuit is without sets K of its nodes, on fresh prompts.

    Columns: `LABELS`, sets (how many K), mean (of |F(C less K) - F(M less K)|, as a share of
    clean - corrupted), worst (the largest), K (that K), C less K and M less K (what circuit and
    model keep without it).
    """
    rows = []
    for trial in trials:
        if not trial.n or not trial.removed:
            continue
        names = list(trial.removed)
        kept = np.array([trial.kept(trial.removed[name]) for name in names])
        apart = np.abs(kept[:, 0] - kept[:, 1])
        worst = int(apart.argmax())
        rows.append(
            labels(trial)
            | {"sets": len(names), "mean": apart.mean(), "worst": apart[worst]}
            | {"K": names[worst], "C less K": kept[worst, 0], "M less K": kept[worst, 1]}
        )
    columns = [*LABELS, "sets", "mean", "worst", "K", "C less K", "M less K"]
    return pd.DataFrame(rows, columns=columns)


def completeness_in_words(trials: Sequence[Trial], bar: float = BAR) -> str:
    """How many circuits stay like the model whatever is taken out: to within `bar`, beyond doubt
    over prompts, for every K that was tried."""
    some = [trial for trial in tested(trials) if trial.removed]
    if not some:
        return NO_PROMPTS
    verdicts = completeness_verdicts(trials, bar)
    counts = {verdict: verdicts.count(verdict) for verdict in Verdict}
    every = [
        np.abs(np.subtract(*trial.kept(both))) for trial in some for both in trial.removed.values()
    ]
    return (
        f"*{counts[Verdict.HOLDS]} of {counted(len(some), 'circuit')} stay within {percent(bar)} "
        f"of the model for every $K$ that was tried; {counts[Verdict.FAILS]} do not; of "
        f"{counts[Verdict.OPEN]} we can't tell. Each point is a $K$; below the diagonal the model "
        "does better without $K$ than the circuit does. On average over "
        f"{counted(len(every), 'set')} they are {percent(np.mean(every))} of the behaviour apart.*"
    )


def completeness_verdicts(trials: Sequence[Trial], bar: float = BAR) -> list[Verdict]:
    """Of each tested circuit, whether it stays like the model, to within `bar`, for every K."""
    return [_stays_like_the_model(trial, bar) for trial in tested(trials) if trial.removed]


def _stays_like_the_model(trial: Trial, bar: float) -> Verdict:
    """That |F(C less K) - F(M less K)| lies below the bar for all K."""
    draws, level = bootstrap_draws(trial.n), 1 - LEVEL / len(trial.removed)
    whole = draws @ (trial.clean - trial.corrupted)
    verdicts = []
    for circuit, model in trial.removed.values():
        low, high = interval(draws @ (circuit - model) / whole, level)
        if low > bar or high < -bar:
            return Verdict.FAILS
        verdicts.append(-bar < low and high < bar)
    return Verdict.HOLDS if all(verdicts) else Verdict.OPEN


# ---- minimality


def edges_that_matter(trial: Trial) -> list[Verdict]:
    """Of each edge, whether it changes at least `MATTERS` of the behaviour in the best K.

    The K was chosen on other prompts; the interval over prompts is corrected for the number of
    edges (Bonferroni). It fails where the change is beyond doubt smaller in size.
    """
    draws, level = bootstrap_draws(trial.n), 1 - LEVEL / max(1, len(trial.at_best))
    whole = draws @ (trial.clean - trial.corrupted)
    verdicts = []
    for with_edge, without in trial.at_best:
        low, high = interval(draws @ (with_edge - without) / whole, level)
        if low > MATTERS or high < -MATTERS:
            verdicts.append(Verdict.HOLDS)
        else:
            inside = low > -MATTERS and high < MATTERS
            verdicts.append(Verdict.FAILS if inside else Verdict.OPEN)
    return verdicts


def superfluous_edges(trial: Trial) -> np.ndarray:
    """Corrected p-values of the edges (Holm) of `superfluous`; mean absolute changes of the metric
    over prompts."""
    effects = np.abs(trial.single - trial.circuit).mean(-1)
    added = np.abs(trial.random_edges[:, 0] - trial.random_edges[:, 1]).mean(-1)
    if not len(added):
        return np.full(len(effects), np.nan)
    return holm(superfluous(effects, added))


def minimality_table(trials: Sequence[Trial]) -> pd.DataFrame:
    """How many edges of each circuit matter, by both tests, on fresh prompts.

    Columns: `LABELS`; matter, do not, can't tell (see `edges_that_matter`); superfluous (edges for
    which it is rejected that they matter more than `QUANTILE` of edges added at random).
    """
    rows = []
    for trial in tested(trials):
        verdicts = edges_that_matter(trial)
        p = superfluous_edges(trial)
        rows.append(
            labels(trial)
            | {
                "matter": verdicts.count(Verdict.HOLDS),
                "do not": verdicts.count(Verdict.FAILS),
                UNSURE: verdicts.count(Verdict.OPEN),
                "superfluous": int((p <= LEVEL).sum()) if not np.isnan(p).any() else pd.NA,
            }
        )
    columns = [*LABELS, "matter", "do not", UNSURE, "superfluous"]
    return pd.DataFrame(rows, columns=columns)


def minimality_in_words(trials: Sequence[Trial]) -> str:
    """What share of all edges matter, and how many do no more than an edge added at random."""
    table = minimality_table(trials)
    if table.empty:
        return NO_PROMPTS
    edges = int(table["edges"].sum())
    idle = int(table["superfluous"].fillna(0).sum())
    without = table[(table["do not"] == 0) & (table["superfluous"].fillna(0) == 0)]
    return (
        f"**Of {counted(edges, 'edge')}, {percent(table['matter'].sum() / edges)} change at least "
        f"{percent(MATTERS)} of the behaviour**, beyond doubt, in the $K$ that shows them best; "
        f"{percent(table['do not'].sum() / edges)} change less. Against edges added at random, "
        f"{idle} {'is' if idle == 1 else 'are'} superfluous. {len(without)} of "
        f"{counted(len(table), 'circuit')} have no edge that fails either test."
    )
