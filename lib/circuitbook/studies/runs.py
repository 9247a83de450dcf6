"""Sizes and the training runs of each: what a number of a size is when its seeds differ.

A size with one run only says nothing of how its seeds differ. Where another size of the suite has
several, their deviations stand in for it: on the assumption that the seeds of one size differ about
as much as those of another, which is better than that they do not differ at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from circuitbook.stats import mean_of_resampled


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number and its samples, [draws], from resampling what it was measured on."""

    value: float
    samples: np.ndarray

    @classmethod
    def exact(cls, value: float, draws: int) -> Estimate:
        """A number that nothing was resampled for."""
        return cls(value, np.full(draws, float(value)))


def runs_of(size: str, seeds: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The runs of a size, itself first: those of its group in `seeds`.

    >>> runs_of("s", [["l"], ["s-seed2", "s"]]), runs_of("m", [])
    (('s', 's-seed2'), ('m',))
    """
    group = next((group for group in seeds if size in group), [])
    return (size, *(name for name in group if name != size))


def but_smallest(sizes: Sequence[str]) -> tuple[str, ...]:
    """The sizes, small to large, without the smallest, as the paper has it; two are two.

    >>> but_smallest(["s", "m", "l"]), but_smallest(["s", "m"])
    (('m', 'l'), ('s', 'm'))
    """
    return tuple(sizes[1:] if len(sizes) > 2 else sizes)


def over_runs(
    of_runs: Mapping[str, Estimate],
    sizes: Sequence[str],
    seeds: Sequence[Sequence[str]],
    seed: int = 0,
) -> dict[str, Estimate]:
    """A number of each size, from those of its runs: their mean, whose samples draw the runs with
    replacement. Sizes none of whose runs is in `of_runs` are left out.

    A size with one run gets the deviations of the runs of sizes with several (each from their mean,
    times the root of n / (n - 1)) added to its samples. All of `of_runs` have as many samples, and
    draw k of each is on the same prompts.
    """
    rng = np.random.default_rng([seed, 2])
    found = {
        size: [of_runs[run] for run in runs_of(size, seeds) if run in of_runs] for size in sizes
    }
    found = {size: runs for size, runs in found.items() if runs}
    deviations = _deviations([[of_runs[run] for run in group if run in of_runs] for group in seeds])
    numbers = {}
    for size, runs in found.items():
        samples = mean_of_resampled(np.stack([run.samples for run in runs]), rng, crossed=True)
        if len(runs) == 1 and len(deviations):
            samples = samples + rng.choice(deviations, len(samples))
        numbers[size] = Estimate(float(np.mean([run.value for run in runs])), samples)
    return numbers


def _deviations(groups: Sequence[Sequence[Estimate]]) -> np.ndarray:
    """Of the runs of every group with several, the deviations from their mean, to either side."""
    parts = [np.empty(0)]
    for runs in groups:
        if len(runs) > 1:
            values = np.array([run.value for run in runs])
            off = (values - values.mean()) * np.sqrt(len(runs) / (len(runs) - 1))
            parts += [off, -off]
    return np.concatenate(parts)
