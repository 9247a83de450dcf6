"""Hypothesis tests of a circuit (Shi et al. 2024, arXiv 2410.13032), and what their p-values say.

Each null hypothesis is what an ideal circuit would satisfy, so that a small p-value speaks against
the circuit, and a large one for nothing: few prompts reject nothing. Where many circuits or edges
are tested, `holm` keeps the chance of any false rejection at the level of one test.

    equivalence    on a prompt the circuit beats the model as often as not, to within epsilon
    independence   the score of the model without the circuit's edges is independent of the model's
    minimality     an edge of the circuit matters more than a share q of edges added at random

(In the code published with that paper, the mean difference of scores stands where the test of
equivalence needs the share of prompts that the circuit wins. We count wins.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.stats import binom, binomtest

EPSILON = 0.1  # of equivalence, the authors'
QUANTILE = 0.9  # of minimality, the authors'


def holm(p_values: ArrayLike) -> np.ndarray:
    """p-values corrected for their number (Holm 1979): rejecting what is at most alpha keeps the
    chance of any false rejection below alpha, whatever the tests' dependence. nan stays nan, and
    counts for no test.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    out = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    corrected = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    out[order] = np.minimum(corrected, 1.0)
    return out


# ------------------------------------------------------------------ equivalence


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """How often a circuit beats the model."""

    share: float
    """Of prompts; half of a tie."""
    low: float
    """The 95% interval of that share (Clopper and Pearson)."""
    high: float
    p: float
    """Of the null |share - 1/2| <= epsilon."""


def equivalence(
    circuit: Float[np.ndarray, " n"], model: Float[np.ndarray, " n"], epsilon: float = EPSILON
) -> Equivalence:
    """The sign test of scores of the same prompts: does the circuit win half of them?

    The p-value is that of the least favourable share in the null, 1/2 + epsilon: the probability of
    a share as far from 1/2. With epsilon 0 it is the two-sided sign test. A tie counts as half a
    win, rounded towards a half of all.
    """
    circuit, model = np.asarray(circuit, float), np.asarray(model, float)
    n = len(circuit)
    if n == 0:
        raise ValueError("there are no prompts to compare a circuit and a model on")
    share = float(((circuit > model) + 0.5 * (circuit == model)).mean())
    wins = int(np.floor(share * n) if share > 0.5 else np.ceil(share * n))
    possible = np.arange(n + 1)
    as_far = np.abs(possible / n - 0.5) >= abs(wins / n - 0.5) - 1e-12
    p = min(1.0, float(binom.pmf(possible[as_far], n, 0.5 + epsilon).sum()))
    between = binomtest(wins, n).proportion_ci(0.95, method="exact")
    return Equivalence(share=share, low=float(between.low), high=float(between.high), p=p)


# ------------------------------------------------------------------ independence


@dataclass(frozen=True, kw_only=True)
class Independence:
    """How much the scores of two models depend on each other."""

    hsic: float
    """The Hilbert-Schmidt independence criterion over what it would be of each with itself: 0 for
    independent scores, 1 for the same ones."""
    p: float
    """Of the null that they are independent, by permutations."""


def independence(
    a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], draws: int = 999, seed: int = 0
) -> Independence:
    """The HSIC permutation test (Gretton et al. 2007) of the scores of the same prompts.

    Gaussian kernels, each as wide as the median distance between its own scores. p is the share of
    permutations, the given order among them, with at least this HSIC. Where all scores of one are
    the same, nothing depends on them: hsic 0, p 1.
    """
    kernels = [_centred_kernel(np.asarray(scores, float)) for scores in (a, b)]
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"{len(a)} and {len(b)} scores: independence needs pairs, at least two")
    k, other = kernels
    norm = float(np.sqrt((k * k).sum() * (other * other).sum()))
    if norm == 0:
        return Independence(hsic=0.0, p=1.0)
    observed, rng = float((k * other).sum()), np.random.default_rng(seed)
    orders = (rng.permutation(len(a)) for _ in range(draws))
    permuted = np.array([(k * other[np.ix_(order, order)]).sum() for order in orders])
    as_large = int((permuted >= observed - 1e-12 * norm).sum())
    return Independence(hsic=observed / norm, p=(1 + as_large) / (1 + draws))


def _centred_kernel(scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
    apart = np.abs(scores[:, None] - scores)
    width = float(np.median(apart[np.triu_indices(len(scores), 1)])) if len(scores) > 1 else 0.0
    width = width or float(apart.max())
    if width == 0:
        return np.zeros_like(apart)
    kernel = np.exp(-np.square(apart) / (2 * width**2))
    kernel -= kernel.mean(0)
    return kernel - kernel.mean(1, keepdims=True)


# ------------------------------------------------------------------ minimality


def superfluous(
    effects: Float[np.ndarray, " edge"],
    at_random: Float[np.ndarray, " draw"],
    quantile: float = QUANTILE,
) -> np.ndarray:
    """The p-value of each edge of a circuit for the null that it matters more than a share
    `quantile` of edges added at random; not corrected for the number of edges.

    effects: how far knocking out the edge moves the circuit's score; at_random: the same for edges
    that were added to the circuit at random and knocked out again. A small p: the edge does no
    more than such an edge does.

    >>> superfluous(np.array([5.0, 0.0]), np.arange(4.0), 0.5).tolist()
    [1.0, 0.0625]
    """
    beaten = (np.asarray(effects)[:, None] > np.asarray(at_random)).sum(1)
    return binom.cdf(beaten, len(at_random), quantile)
