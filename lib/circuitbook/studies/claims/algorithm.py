"""Claims about circuits and the algorithm (sections 2, 4.1 and 4.2, Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitbook.recipes import PAPER_SHARE
from circuitbook.stats import bootstrap_draws
from circuitbook.studies.claims.changes import edges_needed
from circuitbook.studies.claims.deciding import Answer, Part, percent
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.claims.formation import DRAWS, SAME, Test
from circuitbook.studies.head_classes import CLAIMED, STAGES, HeadClasses
from circuitbook.studies.runs import Estimate, over_runs, runs_of
from circuitbook.studies.transfer import places_moved

MATTERS = 0.01  # a head with a smaller effect does nothing
NEARLY_ALL = 0.9  # quantile: "at most", "wherever"
HALFWAY = 0.5  # from what shuffled heads keep to what the target's own keeps


def _counts(units: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of so many units is drawn, [DRAWS, units]."""
    return rng.multinomial(units, np.full(units, 1 / units), size=DRAWS)


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Along the last axis, the smallest value below or at which lies this share of the weights; nan
    where nothing has any weight.
    """
    order = np.argsort(values, axis=-1)
    below = np.cumsum(np.take_along_axis(weights, order, -1), axis=-1)
    whole = below[..., -1:]
    first = (below >= share * whole - 1e-9).argmax(-1)
    found = np.take_along_axis(np.take_along_axis(values, order, -1), first[..., None], -1)[..., 0]
    return np.where(whole[..., 0] > 0, found, np.nan)


# ------------------------------------------------------------------ section 2: circuits


def small_circuits(evidence: Evidence) -> Answer:
    """Do at most 5% of the edges suffice in nearly all searches of a size?"""
    parts, missing = [], []
    for size in evidence.main:
        share = _edges_of_most(evidence, runs_of(size, evidence.seeds))
        if share is None:
            missing.append(size)
        else:
            parts.append(Part(size, share, PAPER_SHARE, above=False, write=_tenths))
    if not parts:
        return Answer.open("no model does any of the tasks")
    said = f"no task is done in {', '.join(missing)}" if missing else ""
    return Answer(tuple(parts), said, ", ".join(missing))


def _tenths(share: float) -> str:
    return f"{share:.1%}"


def _edges_of_most(evidence: Evidence, runs: Sequence[str]) -> Estimate | None:
    """The share of the edges that suffices in nine of ten searches of these runs, where the task is
    done; a search that finds none needs all. Runs, their checkpoints and prompts are resampled.
    """
    rng, values, weights, plain = np.random.default_rng([0, 7]), [], [], []
    searches = {
        run: [one for one in evidence.circuits if one.model == run and not one.circuit.not_done]
        for run in runs
    }
    searches = {run: found for run, found in searches.items() if found}
    if not searches:
        return None
    of_runs = _counts(len(searches), rng)
    for column, found in enumerate(searches.values()):
        steps = sorted({one.step for one in found})
        of_steps = dict(zip(steps, _counts(len(steps), rng).T, strict=True))
        for one in found:
            edges = one.circuit.graph.n_edges
            needed = edges_needed(one.circuit, rng.normal(size=DRAWS))
            values.append(np.nan_to_num(needed / edges, nan=1.0))
            plain.append(one.circuit.n_edges / edges if one.circuit.found else 1.0)
            weights.append(of_runs[:, column] * of_steps[one.step])
    samples = _quantile(np.stack(values, 1), np.stack(weights, 1), NEARLY_ALL)
    samples = samples[np.isfinite(samples)]
    value = float(_quantile(np.array(plain), np.ones(len(plain)), NEARLY_ALL))
    return Estimate(value, samples)


# ---- sections 4.1 and 4.2: what the classes do


def share_of(stage: str) -> Test:
    """Do the classes of a stage explain more of its effect than the paper says, in every run that
    has the stage, and at every checkpoint from the first on that does?

    A run that never has it (no head that others could steer, or inform) says nothing about it.
    """

    def test(evidence: Evidence) -> Answer:
        parts, without, unknown, elsewhere = [], [], [], []
        asked = () if stage == "direct" else evidence.elsewhere  # every suite has a direct effect
        others = dict.fromkeys(at.model for at in asked)
        for run in (*evidence.runs, *others):
            shares = {at.step: _share(at, stage) for at in evidence.of_classes(run)}
            known = {step: share for step, share in shares.items() if share is not None}
            unknown += [f"{run} at step {step:,}" for step in shares if step not in known]
            there = [step for step, share in known.items() if share is not NOT_THERE]
            if known and not there:
                without.append(run)
            elif there and run in others:
                elsewhere.append(run)
            for step in [step for step in known if there and step >= there[0]]:
                name = f"{run} at step {step:,}"
                parts.append(Part(name, known[step], CLAIMED[stage], write=percent))
        if not parts and without:
            return Answer.open(f"nothing to explain in {', '.join(without)}, so not tested by them")
        if not parts:
            return Answer.open("no model does IOI, or none has a circuit for it")
        said = [f"nothing to explain in {', '.join(without)}"] if without else []
        said += [f"{', '.join(elsewhere)}: runs on ordered lists"] if elsewhere else []
        said += [f"no circuit for {', '.join(unknown)}"] if unknown else []
        return Answer(tuple(parts), "; ".join(said), ", ".join(unknown))

    return test


NOT_THERE = Estimate.exact(0.0, DRAWS)


def _share(classes: HeadClasses, stage: str) -> Estimate | None:
    """The stage's share at a checkpoint; `NOT_THERE` where it has no receivers or no head does
    anything to them; None where no circuit says which heads count.
    """
    if not classes.in_circuit.any():
        return None
    if stage not in classes.patched or classes.counted(stage) is None:
        return NOT_THERE
    samples = np.asarray(classes.share(stage, weights=bootstrap_draws(classes.prompts, DRAWS)))
    return Estimate(float(classes.share(stage)), samples)


SHARES = {stage: share_of(stage) for stage in CLAIMED}

NEEDED = {  # of the IOI algorithm: what each step is, and the classes that can do it
    "name movers": ("name mover",),
    "S-inhibition": ("S-inhibition",),
    "induction or duplicate-token heads": ("induction", "duplicate token"),
}


def heads_exist(evidence: Evidence) -> Answer:
    """Has every size, in the end, heads for each step of the algorithm, and do they matter?"""
    last = {run: evidence.of_classes(run)[-1:] for run in evidence.runs}
    parts, missing = [], []
    for step, names in NEEDED.items():
        of_runs = {run: strength(at[0], names) for run, at in last.items() if at}
        sizes = over_runs(of_runs, evidence.main, evidence.seeds)
        missing = [size for size in evidence.main if size not in sizes]
        parts += [Part(f"{size}, {step}", number, MATTERS) for size, number in sizes.items()]
    if not parts:
        return Answer.open("no model does IOI")
    said = "; ".join(_steps_of(size, at[0]) for size, at in last.items() if at)
    if missing:
        said += f"; IOI is not done in {', '.join(missing)}"
    return Answer(tuple(parts), said, ", ".join(missing))


def strength(classes: HeadClasses, names: Sequence[str]) -> Estimate:
    """The largest effect of a head in these classes, on its stage; 0 where there is none."""
    best = NOT_THERE
    for stage, of_stage in STAGES.items():
        inside = [name for name in names if name in of_stage]
        members = classes.members_of(*inside) if inside else np.zeros(len(classes.heads), bool)
        if stage not in classes.patched or not members.any():
            continue
        weights = bootstrap_draws(classes.prompts, DRAWS)
        samples = np.abs(classes.effects(stage, weights)[:, members]).max(1)
        value = float(np.abs(classes.effects(stage)[members]).max())
        best = max(best, Estimate(value, samples), key=lambda one: one.value)
    return best


def _steps_of(name: str, classes: HeadClasses) -> str:
    """Which steps a model has heads for: "mini-s has no name movers"."""
    without = [step for step, names in NEEDED.items() if not any(classes.members_of(*names))]
    return f"{name} has {'all' if not without else 'no ' + ', no '.join(without)}"


# ---- put to another checkpoint


def moved(what: str, where: str) -> Test:
    """Does what is moved keep on average `SAME` of what the target's own keeps, and in nine of ten
    pairs more than half way up to it from shuffled heads?
    """

    def test(evidence: Evidence) -> Answer:
        pairs = places_moved(evidence.transfers, "ioi", what, evidence.seeds)
        pairs = pairs[pairs["where"] == where].reset_index(drop=True)
        if pairs.empty:
            return Answer.open("there are no two such circuits")
        weights = pair_weights(pairs, evidence)
        kept, own, null = (pairs[name].to_numpy() for name in ("faithfulness", "own", "null"))
        room = np.where(np.abs(own - null) < 1e-9, np.nan, own - null)
        way_up = np.nan_to_num((kept - null) / room, nan=0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (weights @ kept) / (weights @ own)
        low = _quantile(np.broadcast_to(way_up, weights.shape), weights, 1 - NEARLY_ALL)
        ones = np.ones(len(pairs))
        mean = Estimate(float(kept.mean() / own.mean()), means[np.isfinite(means)])
        lowest = Estimate(float(_quantile(way_up, ones, 1 - NEARLY_ALL)), low[np.isfinite(low)])
        parts = (
            Part("mean, of the target's own", mean, SAME, write=percent),
            Part("way up to it, lowest tenth of pairs", lowest, HALFWAY, write=percent),
        )
        measured = (
            f"keeps {kept.mean():.0%} on average, {kept.min():.0%} at worst ({len(pairs)} pairs); "
            f"the target's own {own.mean():.0%}, shuffled heads {null.mean():.0%}"
        )
        return Answer(parts, measured)

    return test


def pair_weights(pairs: pd.DataFrame, evidence: Evidence) -> np.ndarray:
    """How often each pair is drawn, [draws, pairs]: sizes, of each the runs, and of each the
    checkpoints are drawn with replacement, and a pair as often as its ends together.
    """
    rng = np.random.default_rng([0, 8])
    steps: dict[str, set[int]] = {}
    for end in ("source", "target"):
        for run, step in zip(pairs[end], pairs[f"{end}_step"], strict=True):
            steps.setdefault(run, set()).add(step)
    size_of = {run: size for size in evidence.main for run in runs_of(size, evidence.seeds)}
    groups: dict[str, list[str]] = {}
    for run in steps:
        groups.setdefault(size_of.get(run, run), []).append(run)
    of_runs: dict[str, np.ndarray] = {}
    of_steps: dict[tuple[str, int], np.ndarray] = {}
    for runs, of_size in zip(groups.values(), _counts(len(groups), rng).T, strict=True):
        for run, of_run in zip(runs, _counts(len(runs), rng).T, strict=True):
            of_runs[run] = of_size * of_run
            drawn = _counts(len(steps[run]), rng).T
            of_steps |= {(run, step): n for step, n in zip(sorted(steps[run]), drawn, strict=True)}
    weights = []
    for source, source_step, target, target_step in zip(
        *(pairs[name] for name in ("source", "source_step", "target", "target_step")), strict=True
    ):
        both = of_runs[source] * of_steps[source, source_step] * of_steps[target, target_step]
        weights.append(both if source == target else both * of_runs[target])
    return np.stack(weights, 1).astype(float)
