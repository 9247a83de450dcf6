"""How well scores tell the edges of a known circuit from all others.

Both measures look at the order of the absolute scores alone. Ties count as what a random order of
them gives, which is what makes scores that are 0 all over worth a half.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

FLOOR = 1e-6  # of the largest score: what is below it is rounding, and counts as 0


def strengths(scores: Float[np.ndarray, "src dst"]) -> Float[np.ndarray, "src dst"]:
    """Absolute scores of all edges, with those below `FLOOR` of the largest made 0."""
    absolute = np.abs(np.asarray(scores, dtype=np.float64))
    return np.where(absolute < FLOOR * absolute.max(initial=0.0), 0.0, absolute)


def auroc(strength: Float[np.ndarray, " edge"], truth: Bool[np.ndarray, " edge"]) -> float:
    """The area under the ROC curve: how often an edge of the circuit is above one that is not.

    1 if all of them are, 0.5 by chance; a tie is half. This is Mann and Whitney's U over the number
    of pairs. ValueError where all edges are in the circuit, or none.

    >>> auroc(np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False]))
    0.625
    """
    inside = int(truth.sum())
    outside = len(truth) - inside
    if not inside or not outside:
        raise ValueError(
            f"of {len(truth)} edges {inside} are in the circuit: nothing to tell apart"
        )
    u = rankdata(strength)[truth].sum() - inside * (inside + 1) / 2
    return float(u / (inside * outside))


def average_precision(
    strength: Float[np.ndarray, " edge"], truth: Bool[np.ndarray, " edge"]
) -> float:
    """The area under precision over recall, as a step function (scikit-learn's definition).

    The mean, over the edges of the circuit, of the share of circuit edges among all that score at
    least as much. By chance it is about the share of edges that are in the circuit. ValueError
    where none is.

    >>> average_precision(np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False]))
    0.75
    """
    if not truth.any():
        raise ValueError(f"none of {len(truth)} edges is in the circuit: nothing to find")
    at_least = strength[truth][:, None] <= strength
    return float((at_least[:, truth].sum(1) / at_least.sum(1)).mean())
