"""Our analysis of the series that the paper's authors printed: nothing of it is measured here."""

from __future__ import annotations

import pandas as pd

from circuitbook.studies.findings.turnover import correlation_text
from circuitbook.studies.size import correlation
from circuitbook.studies.turnover import ewma
from circuitbook.suites.pythia import PYTHIA_PARAMETERS

LATE = 1000  # the step from which the authors' series are published


def split_series(jaccard: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(the printed moving averages, the raw series with ours) of `published("jaccard")`.

    The raw ones get columns `ours`, their moving average, and `late`, the one that begins at step
    1,000 (nan before).
    """
    is_raw = jaccard["metric"] == "jaccard_raw"
    raw = jaccard[is_raw].sort_values(["model", "step"])
    for _, series in raw.groupby("model"):
        late = series[series["step"] >= LATE]
        raw.loc[series.index, "ours"] = ewma(series["value"])
        raw.loc[late.index, "late"] = ewma(late["value"])
    return jaccard[~is_raw], raw


def what_the_series_say(
    edge_counts: pd.DataFrame, averages: pd.DataFrame, raw: pd.DataFrame
) -> str:
    """What the series say of sizes, of where an average begins, and of larger models: a caption.

    averages, raw: from `split_series`; edge_counts: `published("edge_counts")`.
    """
    edges = edge_counts.groupby("model")["value"].agg(["min", "max"]).astype(int)
    late = raw[raw["step"] >= LATE]
    apart = (late["ours"] - late["late"]).abs()
    pronoun = averages[averages["task"] == "gendered_pronoun"].groupby("model")["value"].mean()
    sizes = [PYTHIA_PARAMETERS[model.removeprefix("pythia-")] for model in pronoun.index]
    found = correlation(sizes, pronoun)
    larger = "higher" if found.p < 0.05 and found.pearson > 0 else "not higher beyond chance"
    return (
        "*What the authors printed. One model's circuit has "
        f"{edges.loc['pythia-410m', 'min']} to {edges.loc['pythia-410m', 'max']} edges over "
        f"training (410m, IOI). Similarity is {larger} in larger models (the pronoun task: "
        f"{correlation_text(found)}). Begun at step 1,000 instead of before, the moving average of "
        f"the raw series (1.4b, SVA) differs by {apart.iloc[0]:.2f} there.*"
    )
