"""Edges whose score keeps its sign over resampled prompts (Nikankin et al. 2025, arXiv 2510.25786).

An edge that helps on some prompts and hurts on others has a mean score whose sign is luck. Such an
edge is put behind all edges with a sign that can be trusted (`selection.edge_order`), so that there
are circuits of every size, as in the authors' code.

Theirs takes 10 resamples, and asks whether their mean is further from 0 than z times their standard
deviation over the root of 10: an interval that shrinks with the number of resamples, so that in the
end every edge passes. Here it is the interval that holds the given share of the resampled means,
which does not.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool

from circuitbook.circuits.attribution import Scores
from circuitbook.stats import bootstrap_draws, interval

HELD = 64 << 20  # bytes of resampled means at a time


def stable_signs(
    scores: Scores, level: float = 0.95, *, draws: int = 2000, seed: int = 0
) -> Bool[np.ndarray, "src dst"]:
    """Where the score is above 0, or below, at both ends of its interval over resampled prompts.

    scores: with those of each prompt, `attribute(..., per_prompt=True)`. level: of the interval,
    between 0 and 1. An edge whose score is 0 on all prompts has no sign. Beside the scores of the
    prompts some sources' resampled means are held at a time. ValueError without the scores of each
    prompt, for a single prompt, or for a level that is none.
    """
    if scores.per_prompt is None:
        raise ValueError(
            "stable signs need the scores of each prompt: attribute(..., per_prompt=True)"
        )
    if not 0 < level < 1:
        raise ValueError(f"{level} is not the level of an interval; the usual one is 0.95")
    n, n_src, n_dst = scores.per_prompt.shape
    weights = torch.tensor(bootstrap_draws(n, draws, seed))
    stable = np.zeros((n_src, n_dst), bool)
    for rows in np.array_split(np.arange(n_src), -(-8 * draws * n_src * n_dst // HELD)):
        if not len(rows):
            continue
        of_prompts = scores.per_prompt[:, rows].double()
        means = torch.einsum("dn,nuv->duv", weights, of_prompts).numpy()
        low, high = interval(means, level)
        stable[rows] = (low > 0) | (high < 0)
    return stable & scores.graph.mask
