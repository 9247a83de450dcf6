"""Circuit size against model size: this suite's beside the paper's published numbers for Pythia."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from circuitbook.model.graph import Graph
from circuitbook.studies.findings.turnover import growth_of
from circuitbook.studies.size import Correlation, correlation
from circuitbook.suites.pythia import MISTYPED_PARAMETERS, PYTHIA_PARAMETERS, PYTHIA_SHAPES
from circuitbook.wording import TASK_SHORT, percent


def mean_nodes(circuits: pd.DataFrame, sizes: Mapping[str, float]) -> pd.DataFrame:
    """Mean nodes of the circuits over training: columns task, model, nodes, size.

    circuits: a row per checkpoint and task (`circuit_tables.table`); sizes: {model: parameters}.
    """
    found = circuits[circuits["found"] & circuits["model"].isin(sizes)]
    mean = found.groupby(["task", "model"], sort=False)["nodes"].mean().reset_index()
    return mean.assign(size=mean["model"].map(sizes))


def with_pythia_sizes(node_counts: pd.DataFrame) -> pd.DataFrame:
    """The published node counts, with columns nodes, size and share (of all the model's nodes)."""
    name = node_counts["model"].str.removeprefix("pythia-")
    counts = node_counts.rename(columns={"value": "nodes"})
    return counts.assign(
        size=name.map(PYTHIA_PARAMETERS),
        size_as_typed=name.map(MISTYPED_PARAMETERS),
        share=counts["nodes"] / name.map(nodes_of_pythia()),
    )


def nodes_of_pythia() -> dict[str, int]:
    """{size: nodes of the graph, the logits among them}.  nodes_of_pythia()["70m"] -> 56"""
    return {
        size: Graph(shape.n_layers, shape.n_heads).n_src + 1
        for size, shape in PYTHIA_SHAPES.items()
    }


def correlations(
    suite: str, growth: pd.DataFrame, published: pd.DataFrame, tasks: Sequence[str]
) -> pd.DataFrame:
    """A row per task and source: how the mean number of nodes goes with the model's size.

    growth: as from `size_table`; published: as from `with_pythia_sizes`.
    """
    rows = []
    for task in tasks:
        theirs = published[published["task"] == task]
        sources = {f"suite {suite}": growth_of(growth, task)}
        if len(theirs):
            sources["Pythia, right sizes"] = correlation(theirs["size"], theirs["nodes"])
            sources["Pythia, sizes as typed"] = correlation(
                theirs["size_as_typed"], theirs["nodes"]
            )
        for source, found in sources.items():
            if found is not None:
                rows.append({"task": TASK_SHORT[task], "circuits of": source, **_written(found)})
    return pd.DataFrame(rows).fillna("")


def _written(found: Correlation) -> dict[str, str | int]:
    if np.isnan(found.pearson):
        return {"models": found.n}  # too few of them
    return {
        "r": f"{found.pearson:.3f}",
        "95%": f"[{found.low:.2f}, {found.high:.2f}]",
        "p, all pairings": f"{found.p:.3f}",
        "r with log size": f"{found.pearson_log:.3f}",
        "Spearman": f"{found.spearman:.2f}",
        "models": found.n,
    }


def published_shares(published: pd.DataFrame) -> str:
    """How the published circuits change from the smallest model to the largest, as a caption:
    their nodes, and the share of the model's nodes that they take.
    """
    mean = published.groupby(["size", "model"])[["nodes", "share"]].mean().reset_index("model")
    first, last = mean.iloc[0], mean.iloc[-1]
    small, large = (row["model"].removeprefix("pythia-") for row in (first, last))
    return (
        "*Circuit size against model size. The published circuits of Pythia "
        f"{'grow' if last['nodes'] > first['nodes'] else 'shrink'} in numbers of nodes, and "
        f"{'shrink' if last['share'] < first['share'] else 'grow'} as a share of the model's: from "
        f"{percent(first['share'])} ({small}) to {percent(last['share'])} ({large}).*"
    )
