"""What sixteen bits do to circuits and heads: the comparison with float32, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_scores import TITLES, HeadScores
from circuitbook.studies.precision import against, decided_alike, heads_against

# {dtype: (circuits, what could not be measured)}, each as `measure_in` gives it
InDtypes = Mapping[str, tuple[Sequence[CircuitResult], Sequence[str]]]


def dtype_table(reference: Sequence[CircuitResult], narrow: InDtypes) -> pd.DataFrame:
    """A row per dtype in which there are circuits: how they differ from the reference's."""
    rows = []
    for dtype, (circuits, failed) in narrow.items():
        compared = against(reference, circuits)
        alike, both = decided_alike(reference, circuits)
        if compared.empty:
            continue
        rows.append(
            {
                "dtype": dtype,
                "circuits": len(compared),
                "same verdict": f"{alike} of {both}",
                "least correlation": f"{compared['correlation'].min():.4f}",
                "largest error of a score": f"{compared['largest'].max():.1%}",
                "edges shared, mean": f"{compared['edges'].mean():.1%}",
                "edges shared, least": f"{compared['edges'].min():.1%}",
                "size, ratio": f"{compared['ratio'].min():.2f}–{compared['ratio'].max():.2f}",
                "not finite": len(failed),
            }
        )
    return pd.DataFrame(rows)


def similarity_changes(compared: Mapping[str, pd.DataFrame]) -> str:
    """How the similarity of neighbouring checkpoints differs from float32's.

    compared: {dtype: a table as from `against`}.
    """
    parts = []
    for dtype, table in compared.items():
        change = (table["before"] - table["before_reference"]).dropna()
        if len(change):
            parts.append(
                f"{dtype} {change.mean():+.3f} in the mean, {change.abs().max():.2f} at most, over "
                f"{len(change)} pairs of checkpoints"
            )
    changes = "; ".join(parts) or "there are no two neighbouring checkpoints with circuits"
    return (
        f"*How the similarity of neighbouring checkpoints changes with the type: {changes}. Points "
        "on the diagonal: no change.*"
    )


def head_errors(
    reference: Sequence[HeadScores], narrow: Mapping[str, Sequence[HeadScores]]
) -> pd.DataFrame:
    """A row per score: its range over heads, and the largest error of any head in each dtype."""
    columns = {
        "range of the score": heads_against(reference, reference).set_index("score")["range"]
    }
    for dtype, scores in narrow.items():
        if scores:
            errors = heads_against(reference, scores).set_index("score")["largest"]
            columns[f"largest error, {dtype}"] = errors
    table = pd.DataFrame(columns).reindex(columns["range of the score"].index)
    return table.rename(index=TITLES).rename_axis(None)
