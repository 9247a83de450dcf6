"""Claims about when abilities and heads form (sections 3.1 and 3.2, Figures 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from circuitbook.stats import Emergence, bootstrap_draws, interval, mean_of_resampled
from circuitbook.studies.abilities import (
    compare_onsets,
    dates_of_sizes,
    emergences,
    slowest_over_quickest,
)
from circuitbook.studies.claims.deciding import Answer, Part, percent
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.formation import BARS, formation
from circuitbook.studies.head_classes import HeadClasses
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.runs import Estimate, but_smallest, over_runs

ALIKE = 2.0  # "similar token counts": within this factor
SAME = 0.9  # from this share on something is "as well", "as strong" as something else
DRAWS = 2000

Test = Callable[[Evidence], Answer]


# ------------------------------------------------------------------ section 3.1 and Figure 1


def alike(onsets: Mapping[str, Emergence], evidence: Evidence) -> Answer:
    """Within a factor of two over the sizes but the smallest?"""
    sizes = but_smallest(evidence.main)
    found = slowest_over_quickest(onsets, sizes, evidence.seeds)
    if found is None:
        return Answer.open(f"not dated in two of {', '.join(sizes)}")
    measured = _who_is_not_dated(onsets, sizes, evidence)
    every = compare_onsets(onsets, ALIKE, sizes=evidence.main, seeds=evidence.seeds)
    if len(sizes) < len(evidence.main) and not np.isnan(every.ratio):
        high = f"{every.high:.2f}" if np.isfinite(every.high) else "any"
        measured.append(
            f"with the smallest {every.ratio:.2f} [{every.low:.2f}, {high}], "
            f"{every.verdict}{evidence.about_smallest}"
        )
    part = Part(f"{', '.join(sizes)}:", found, ALIKE, above=False)
    return Answer((part,), "; ".join(measured))


def _who_is_not_dated(
    onsets: Mapping[str, Emergence], sizes: Sequence[str], evidence: Evidence
) -> list[str]:
    """Sizes that are later than the last checkpoint, and those of which nothing is known."""
    dates, later = dates_of_sizes(onsets, sizes, evidence.seeds)
    unknown = [size for size in sizes if size not in dates]
    absent = [size for size in sizes if size in later]
    said = [f"not there in {', '.join(absent)} by the last checkpoint"] if absent else []
    return said + ([f"not beyond doubt in {', '.join(unknown)}"] if unknown else [])


def ability(task: str) -> Test:
    """Does the ability appear after similar numbers of tokens at every size?"""

    def test(evidence: Evidence) -> Answer:
        if task not in set(evidence.answers["task"]):
            return Answer.open("the task was not measured")
        return alike(emergences(evidence.answers, task, 0.5), evidence)

    return test


def learning_speed(evidence: Evidence) -> Answer:
    """Does the second smallest size take as many tokens as the largest, within a factor of two?"""
    if len(evidence.main) < 3 or "ioi" not in set(evidence.answers["task"]):
        return Answer.open("needs IOI in three sizes")
    onsets = emergences(evidence.answers, "ioi", 0.5)
    smallest, second, *_, largest = evidence.main
    dates, later = dates_of_sizes(onsets, evidence.main, evidence.seeds)
    if {second, largest} - (set(dates) - later):
        return Answer.open(f"IOI is not dated in both {second} and {largest}")

    def over_largest(name: str) -> Estimate:
        ratio = np.exp(dates[name].samples - dates[largest].samples)
        return Estimate(float(np.exp(dates[name].value - dates[largest].value)), ratio)

    ratio, about = over_largest(second), f"{second} over {largest}"
    measured = ""
    if smallest in dates and smallest not in later:
        part = Part(f"{smallest} over {largest}", over_largest(smallest), ALIKE, above=False)
        measured = f"{part}{evidence.about_smallest}"
    parts = (Part(about, ratio, 1 / ALIKE), Part(about, ratio, ALIKE, above=False))
    return Answer(parts, measured)


# ------------------------------------------------------------------ section 3.2 and Figure 2


def _onsets(evidence: Evidence, kind: str) -> dict[str, Emergence]:
    measured = {scores.model for scores in evidence.heads}
    return {run: formation(evidence.heads, run, kind) for run in evidence.runs if run in measured}


def component(kind: str) -> Test:
    """Do heads of a kind form after similar numbers of tokens at every size?"""

    def test(evidence: Evidence) -> Answer:
        return alike(_onsets(evidence, kind), evidence)

    return test


def tokens_of(kind: str, first: float, last: float) -> Test:
    """Do such heads form between these tokens (Pythia's) at every size?"""

    def test(evidence: Evidence) -> Answer:
        onsets = _onsets(evidence, kind)
        dates, _ = dates_of_sizes(onsets, evidence.main, evidence.seeds)
        said = [f"{name} {np.exp(date.value) / 1e9:.2g} billion" for name, date in dates.items()]
        dated = ", ".join(said) or "no such heads"
        if not evidence.is_pythia or not dates:
            return Answer.open(f"the tokens are Pythia's; here {dated}")
        missing = [name for name in evidence.main if name not in dates]
        parts = []
        for name, date in dates.items():
            tokens = Estimate(float(np.exp(date.value)), np.exp(date.samples))
            parts += [
                Part(name, tokens, first, write=_billions),
                Part(name, tokens, last, above=False, write=_billions),
            ]
        return Answer(tuple(parts), dated, ", ".join(missing))

    return test


def _billions(tokens: float) -> str:
    return f"{tokens / 1e9:.2g} billion"


def successors_fade(evidence: Evidence) -> Answer:
    """Is the strongest successor head weaker in the later half of the checkpoints after it formed
    than in the earlier half?
    """
    of_runs = {run: fading(evidence.of_heads(run), "successor") for run in evidence.runs}
    remains = over_runs(
        {run: found for run, found in of_runs.items() if found is not None},
        evidence.main,
        evidence.seeds,
    )
    missing = [size for size in evidence.main if size not in remains]
    parts = (Part(size, share, SAME, above=False) for size, share in remains.items())
    measured = f"no successor head for long enough in {', '.join(missing)}" if missing else ""
    return Answer(tuple(parts), measured, ", ".join(missing))


def fading(training: Sequence[HeadScores], kind: str, formed: float = 0.9) -> Estimate | None:
    """The strongest head's mean score over the later half of the checkpoints since it first had
    `formed` of its largest score, over that of the earlier half; None where it is not beyond doubt
    above `BARS`, or has not two such checkpoints.

    The largest of several scores is too large by chance, so the final score over it is below one
    even where nothing fades; two means are not. Items and checkpoints are resampled.
    """
    best = np.array([at.score(kind).max() for at in training])
    if not len(best) or not np.isfinite(best).all() or best.max() <= 0:
        return None
    weights = bootstrap_draws(training[0].items(kind), DRAWS)
    samples = np.stack([at.score(kind, weights).max(1) for at in training])
    since = int((best >= formed * best.max()).argmax())
    if interval(samples[best.argmax()])[0] < BARS[kind] or len(best) - since < 2:
        return None
    middle = since + (len(best) - since + 1) // 2
    rng = np.random.default_rng([0, 3])
    early, late = (
        mean_of_resampled(part, rng, crossed=True)
        for part in (samples[since:middle], samples[middle:])
    )
    value = float(best[middle:].mean() / best[since:middle].mean())
    return Estimate(value, late / np.maximum(early, 1e-9))


def suppression_helps(evidence: Evidence) -> Answer:
    """Is the direct effect of copy suppression heads on IOI negative, that is, does it help?"""
    of_runs = {run: _help(evidence.of_classes(run)) for run in evidence.runs}
    there = {run: found for run, found in of_runs.items() if found is not None}
    helps = over_runs(there, evidence.main, evidence.seeds)
    missing = [size for size in evidence.main if size not in helps]
    if not helps:
        return Answer.open("no copy suppression head at a checkpoint that does IOI")
    parts = tuple(Part(size, share, 0.0, write=percent) for size, share in helps.items())
    without = [run for run in evidence.runs if run not in there]
    measured = f"no such head at a checkpoint that does IOI in {', '.join(without)}"
    return Answer(parts, measured if without else "", ", ".join(missing))


def _help(training: Sequence[HeadClasses]) -> Estimate | None:
    """Mean share of the logit difference that such heads give, over a run's checkpoints with some;
    checkpoints and prompts are resampled.
    """
    values, samples = [], []
    for classes in training:
        members = classes.members_of("copy suppression", "negative copy suppression")
        if members.any():
            weights = bootstrap_draws(classes.prompts, DRAWS)
            values.append(-classes.effects("direct")[members].mean())
            samples.append(-classes.effects("direct", weights)[:, members].mean(1))
    if not values:
        return None
    rng = np.random.default_rng([0, 4])
    together = mean_of_resampled(np.stack(samples), rng, crossed=True)
    return Estimate(float(np.mean(values)), together)
