"""Whether circuits grow with the model (Tigges et al. 2024, section 4.3 and appendix)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats

from circuitbook.model.config import read_config
from circuitbook.model.memory import neox_parameters
from circuitbook.model.shape import count_parameters
from circuitbook.suites.pythia import PYTHIA_PARAMETERS, PYTHIA_SHAPES, size_of
from circuitbook.suites.suite import Suite

# ------------------------------------------------------------------ size


@dataclass(frozen=True)
class Correlation:
    """Of circuit size with model size over n models. low, high: 95% (Fisher's z), nan below four
    models; p: two-sided, from all n! pairings, so that it cannot be smaller than 2 / n!.
    """

    n: int
    pearson: float
    low: float
    high: float
    p: float
    pearson_log: float  # with log10 of the model size
    spearman: float


def correlation(sizes: Sequence[float], counts: Sequence[float]) -> Correlation:
    """Pearson and Spearman correlation of counts with sizes; nan with fewer than three models or
    where nothing varies.
    """
    x, y = np.asarray(sizes, dtype=float), np.asarray(counts, dtype=float)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} model sizes cannot be correlated with {len(y)} circuit sizes")
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(len(x), *[np.nan] * 6)
    # up to seven models scipy takes every pairing; beyond, its closed form is accurate
    all_pairings = scipy.stats.PermutationMethod() if len(x) <= 7 else None
    pearson = scipy.stats.pearsonr(x, y, method=all_pairings)
    low, high = pearson.confidence_interval() if len(x) > 3 else (np.nan, np.nan)
    return Correlation(
        len(x),
        float(pearson.statistic),
        float(low),
        float(high),
        float(pearson.pvalue),
        float(scipy.stats.pearsonr(np.log10(x), y).statistic),
        float(scipy.stats.spearmanr(x, y).statistic),
    )


def model_size(suite: Suite, model: str) -> float:
    """Parameters of a model: Pythia's by name (nominal ones from 70m on), else counted from its
    configuration; weights are not read.
    """
    if size := size_of(model):
        return PYTHIA_PARAMETERS.get(size) or float(neox_parameters(PYTHIA_SHAPES[size]))
    folder = Path(suite.checkpoint(model, suite.steps(model)[-1]).fetch())
    return float(count_parameters(read_config(folder)))


def size_table(
    table: pd.DataFrame, sizes: Mapping[str, float], what: str = "nodes"
) -> pd.DataFrame:
    """`correlation` per task of the mean circuit size over checkpoints with a circuit (`table` as
    `circuit_tables.table` makes it) with the model's: columns task, models (n) and those of
    Correlation.
    """
    rows = []
    for task, part in table[table["found"] & table["model"].isin(sizes)].groupby(
        "task", sort=False
    ):
        mean = part.groupby("model", sort=False)[what].mean()
        rows.append({"task": task, **vars(correlation([sizes[name] for name in mean.index], mean))})
    return pd.DataFrame(rows, columns=["task", *Correlation.__dataclass_fields__])
