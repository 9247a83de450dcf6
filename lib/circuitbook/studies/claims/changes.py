"""Claims that something changes: heads take up a job and lose it, circuits fluctuate (sections 4.1
and 4.3). What noise alone would do is taken off, or cannot get in.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from circuitbook.circuits.circuit import Circuit
from circuitbook.stats import bootstrap_draws, mean_of_resampled
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.claims.deciding import Answer, Part
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.claims.formation import DRAWS
from circuitbook.studies.formation import BARS
from circuitbook.studies.head_scores import TITLES, HeadScores
from circuitbook.studies.runs import Estimate, over_runs

FLUCTUATES = 0.2  # from one checkpoint to the next a circuit's size differs by a fifth
THRESHOLD = 0.8  # of faithfulness, where a circuit does not say by which it was found

# ---- heads take up a job and lose it


def heads_change(evidence: Evidence) -> Answer:
    """Is there at every size a head that passes the bar of its kind, and later falls below it?"""
    of_runs = {run: _job_lost(evidence.of_heads(run)) for run in evidence.runs}
    lost = over_runs(
        {run: found for run, found in of_runs.items() if found is not None},
        evidence.main,
        evidence.seeds,
    )
    missing = [size for size in evidence.main if size not in lost]
    if not lost:
        return Answer.open("no run has scores of heads at two checkpoints")
    parts = tuple(Part(size, margin, 0.0) for size, margin in lost.items())
    return Answer(parts, "", ", ".join(missing))


def _job_lost(training: Sequence[HeadScores]) -> Estimate | None:
    """By how much the clearest case of a run passes the bar and later falls below it, the smaller
    of the two, over the bar; None with fewer than two checkpoints.

    The case (kind, head, two checkpoints) is chosen on one half of the items of each score and
    measured on the other, so that looking at many makes none.
    """
    if len(training) < 2:
        return None
    found = []
    for kind in BARS:
        if all(np.isfinite(at.score(kind)).all() for at in training):
            halves = _halves(training[0].items(kind))
            one, other = (
                np.stack([at.score(kind, half).clip(0, 1) for at in training], 1) for half in halves
            )
            found.append(_chosen_and_measured(one, other, BARS[kind]))
    if not found:
        return None
    chosen, measured = (np.stack(part) for part in zip(*found, strict=True))
    samples = measured[chosen.argmax(0), np.arange(chosen.shape[1])]
    return Estimate(float(samples.mean()), samples)


def _halves(items: int, draws: int = DRAWS) -> tuple[np.ndarray, np.ndarray]:
    """Weights, [draws, items] each, of a random half of the items and of the other half."""
    order = np.random.default_rng([0, 5]).permuted(np.tile(np.arange(items), (draws, 1)), axis=1)
    first = order < items // 2
    return first / (items // 2), ~first / (items - items // 2)


def _chosen_and_measured(
    one: np.ndarray, other: np.ndarray, bar: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of scores [draws, checkpoint, head]: the largest margin of a head that is above the bar and
    later below it, by the one half, [draws], and what that case's margin is by the other half.
    """
    best = np.maximum.accumulate(one, axis=1)[:, :-1]  # the highest before each later checkpoint
    margin = np.minimum(best - bar, bar - one[:, 1:]) / bar
    draws, later, heads = margin.shape
    flat = margin.reshape(draws, -1).argmax(1)
    after, head = np.divmod(flat, heads)
    row = np.arange(draws)
    before = np.array(
        [
            one[k, : last + 1, column].argmax()
            for k, last, column in zip(row, after, head, strict=True)
        ]
    )
    taken, lost = other[row, before, head] - bar, bar - other[row, after + 1, head]
    return margin[row, after, head], np.minimum(taken, lost) / bar


def head_drops(evidence: Evidence) -> Answer:
    """Head 4.6 of pythia-160m: is it above the bar of a kind at 2e10 tokens or before, and below
    half of that from 4e10 on?
    """
    training = evidence.of_heads("pythia-160m")
    before = [scores for scores in training if scores.tokens_seen <= 2e10]
    after = [scores for scores in training if scores.tokens_seen >= 4e10]
    if not before or not after:
        return Answer.open("pythia-160m is not among the models at such steps")
    row, margins, said = 4 * training[0].n_heads + 6, [], []
    for kind in ("induction", "copy"):
        weights = bootstrap_draws(training[0].items(kind), DRAWS)
        at_most, left = (
            np.max([scores.score(kind, weights)[:, row] for scores in part], axis=0)
            for part in (before, after)
        )
        margins.append(np.minimum(at_most - BARS[kind], at_most / 2 - left) / BARS[kind])
        largest, later = (
            max(scores.score(kind)[row] for scores in part) for part in (before, after)
        )
        said.append(f"{TITLES[kind].lower()} {largest:.2f} before, {later:.2f} after")
    samples = np.max(margins, axis=0)
    part = Part("margin", Estimate(float(np.median(samples)), samples), 0.0)
    return Answer((part,), "; ".join(said))


# ---- sizes of circuits


def edges_needed(circuit: Circuit, z: np.ndarray) -> np.ndarray:
    """How many edges a circuit needs, [draws], on other prompts: where its curve of faithfulness
    first reaches the threshold when all of it is moved by z [draws] of its standard errors.

    nan where no circuit was found.
    """
    curve = circuit.curve
    if not circuit.found:
        return np.full(len(z), np.nan)
    if curve is None or curve["low"].isna().all():
        return np.full(len(z), float(circuit.n_edges))
    error = ((curve["high"] - curve["low"]) / 3.92).fillna(0.0).to_numpy()
    of_prompts = curve[circuit.about.get("form", "normalised")].to_numpy()
    reached = of_prompts + z[:, None] * error >= circuit.about.get("threshold", THRESHOLD)
    edges = np.append(curve["edges"].to_numpy(dtype=float), float(circuit.graph.n_edges))
    return edges[np.where(reached.any(1), reached.argmax(1), len(curve))]


def fluctuates(evidence: Evidence) -> Answer:
    """Does the size of a circuit change by a fifth from one checkpoint to the next, beyond what
    other prompts do at one of them?
    """
    of_runs = {run: _fluctuation(evidence, run) for run in evidence.runs}
    squares = over_runs(
        {run: found for run, found in of_runs.items() if found is not None},
        evidence.main,
        evidence.seeds,
    )
    missing = [size for size in evidence.main if size not in squares]
    if not squares:
        return Answer.open("no task has circuits at three checkpoints of a run")
    parts = []
    for size, square in squares.items():
        root = Estimate(_root(square.value), np.sqrt(np.maximum(square.samples, 0)))
        parts.append(Part(size, root, FLUCTUATES))
    return Answer(tuple(parts), "", ", ".join(missing))


def _root(square: float) -> float:
    return float(np.sqrt(max(square, 0.0)))


def _fluctuation(evidence: Evidence, run: str) -> Estimate | None:
    """The variance of the logarithm of a circuit's size about its trend, less that of measuring
    it: the mean over tasks; None without three circuits of a task in a row.

    Half the mean squared difference of neighbours is the variance about any slow trend (von
    Neumann). Checkpoints are resampled.
    """
    rng, values, samples = np.random.default_rng([0, 6]), [], []
    for task in dict.fromkeys(one.task for one in evidence.circuits):
        found = [one for one in evidence.of_circuits(run, task) if one.circuit.found]
        if len(found) < 3:
            continue
        squares = _squares(found, rng)
        values.append(squares.mean())
        samples.append(mean_of_resampled(np.tile(squares[:, None], DRAWS), rng))
    if not values:
        return None
    return Estimate(float(np.mean(values)), np.mean(samples, axis=0))


def _squares(found: Sequence[CircuitResult], rng: np.random.Generator) -> np.ndarray:
    """Of neighbours, half the squared difference of log sizes less the mean variance of both."""
    sizes = np.log([float(one.circuit.n_edges) for one in found])
    noise = [np.log(edges_needed(one.circuit, rng.normal(size=500))).var() for one in found]
    return np.array(
        [
            (sizes[j] - sizes[i]) ** 2 / 2 - (noise[i] + noise[j]) / 2
            for i, j in itertools.pairwise(range(len(found)))
        ]
    )
