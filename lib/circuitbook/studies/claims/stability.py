"""Claims about stability and size (section 4.3, Figure 5), and Pythia's own numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from circuitbook.stats import bootstrap_draws, hierarchical_bootstrap
from circuitbook.studies.claims.deciding import Answer, Part
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.claims.formation import DRAWS, Test
from circuitbook.studies.runs import Estimate, but_smallest, over_runs

TOLERANCE = 0.15  # of a number that the authors print

# ---- section 4.3 and Figure 5: stability and size


def grows(of_runs: Mapping[str, Estimate], evidence: Evidence) -> Answer:
    """Does a number grow with the model, over the sizes but the smallest?

    Its correlation with the number of parameters. Sizes are units as well: to what resampling runs
    and checkpoints does to the correlation comes what so few sizes do (Fisher's z), and p is not
    below that of all pairings.
    """
    numbers = over_runs(of_runs, evidence.main, evidence.seeds)
    sizes = but_smallest(evidence.main)
    missing = ", ".join(size for size in sizes if size not in numbers)
    part = correlated({size: numbers[size] for size in sizes if size in numbers}, evidence)
    beside = ""
    if len(sizes) < len(evidence.main) and (every := correlated(numbers, evidence)):
        beside = f"with the smallest: {every}{evidence.about_smallest}"
    if part is None:
        few = f"{len(set(sizes) & set(numbers))} sizes are too few"
        return Answer.open("; ".join(said for said in (few, beside) if said))
    return Answer((part,), beside, missing)


def correlated(numbers: Mapping[str, Estimate], evidence: Evidence) -> Part | None:
    """The correlation with the models' sizes; None with fewer than four, or if nothing varies."""
    n, x = len(numbers), np.array([evidence.sizes[size] for size in numbers], dtype=float)
    y = np.array([number.value for number in numbers.values()])
    if n < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    samples = _correlations(x, np.stack([number.samples for number in numbers.values()]))
    noise = np.random.default_rng([0, 9]).normal(size=len(samples)) / math.sqrt(n - 3)
    r = Estimate(float(_correlations(x, y[:, None])[0]), np.tanh(np.arctanh(samples) + noise))
    return Part(f"r over {n} sizes", r, 0.0, smallest_p=2 / math.factorial(n))


def _correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of x [n] with each column of y [n, draws]; 0 where a column does not vary."""
    x, y = x - x.mean(), y - y.mean(0)
    size = np.sqrt((x**2).sum() * (y**2).sum(0))
    return np.clip((x @ y) / np.where(size > 0, size, 1), -1 + 1e-9, 1 - 1e-9)


def steadier(evidence: Evidence) -> Answer:
    """Are circuits of larger models more like those of the checkpoint before?"""
    of_runs = {}
    for run, pairs in evidence.turnover.groupby("model", sort=False):
        tasks = [part.to_numpy(dtype=float) for _, part in pairs.groupby("task")["edges"]]
        samples = np.mean([hierarchical_bootstrap(part, DRAWS) for part in tasks], axis=0)
        of_runs[str(run)] = Estimate(float(np.mean([part.mean() for part in tasks])), samples)
    return grows(of_runs, evidence)


def larger(task: str) -> Test:
    """Does the circuit of a task grow with the model?"""

    def test(evidence: Evidence) -> Answer:
        of_runs = {}
        for run in evidence.runs:
            found = [one.circuit for one in evidence.of_circuits(run, task) if one.circuit.found]
            if found:
                nodes = np.array([float(circuit.n_nodes) for circuit in found])
                of_runs[run] = Estimate(float(nodes.mean()), hierarchical_bootstrap(nodes, DRAWS))
        if not of_runs:
            return Answer.open("no circuits of the task")
        return grows(of_runs, evidence)

    return test


# ------------------------------------------------------------------ Pythia's own numbers


def logit_difference(model: str, expected: Mapping[int, float]) -> Test:
    """Is the mean IOI logit difference at these steps what the authors print, to within
    `TOLERANCE` of it?
    """

    def test(evidence: Evidence) -> Answer:
        answers = evidence.answers
        answers = answers[(answers["task"] == "ioi") & (answers["model"] == model)]
        parts, missing = [], []
        for step, theirs in expected.items():
            values = answers.loc[answers["step"] == step, "metric"].to_numpy(dtype=float)
            if len(values) < 2:
                missing.append(f"step {step}")
                continue
            mean = Estimate(float(values.mean()), bootstrap_draws(len(values), DRAWS) @ values)
            name = f"step {step} (theirs {theirs:g})"
            parts += [
                Part(name, mean, theirs * (1 - TOLERANCE)),
                Part(name, mean, theirs * (1 + TOLERANCE), above=False),
            ]
        if not parts:
            return Answer.open(f"{model} is not among the models")
        said = f"not measured: {', '.join(missing)}" if missing else ""
        return Answer(tuple(parts), said, ", ".join(missing))

    return test
