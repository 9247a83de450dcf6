"""Where on the way from clean to corrupted gradients are taken, and how much each of them counts.

The integral over the way is a weighted sum over points t, 0 the clean prompt and 1 the corrupted
one. Either the points are given, the same for every prompt; or they are put where the loss of a
prompt changes. In most models it hardly changes for most of the way and then rapidly, at another
place on each prompt, so that equal steps need many points to catch the bend. The losses at points
that were taken already say where it is. Let

    u(t) = (t + |the change of the loss up to t| / |the whole change|) / 2,

the mean of the way and of the loss gone through (in absolute steps). Midpoints of equal steps of u
are dense where the loss changes, and what is integrated over u, gradient times dt/du, is nearly
flat there. Between the known losses u is a monotone cubic (Fritsch and Carlson 1980).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from torch import Tensor

METHODS = (
    "eap",
    "eap-ig",
    "clean-corrupted",
    "eap-ig-activations",
    "eap-qk",
    "atp*",
    "relp",
    "gim",
    "ifr",
)
INTEGRATED = ("eap-ig", "eap-ig-activations")  # those with a rule and points
RULES = {"right": 1.0, "midpoint": 0.5, "left": 0.0}  # where in its step a point lies
MOST_POINTS = 200  # no more gradients of a prompt are taken to meet a tolerance
CLOSE = 9  # decimals: points at a step of the loss crowd together, and what is closer counts as one


@dataclass(frozen=True, eq=False)
class Points:
    """Points of each prompt, and what each counts."""

    t: Float[Tensor, "n m"]
    weights: Float[Tensor, "n m"]

    @property
    def m(self) -> int:
        """How many each prompt has."""
        return self.t.shape[1]


def interpolation_points(method: str, rule: str, points: int) -> Float[Tensor, " m"]:
    """Where gradients are taken, in float64: 0 is the clean prompt, 1 the corrupted one.

    >>> interpolation_points("eap-ig", "midpoint", 4).tolist()
    [0.125, 0.375, 0.625, 0.875]
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are: {', '.join(METHODS)}")
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; there are: {', '.join(RULES)}")
    if method == "clean-corrupted":
        return torch.tensor([0.0, 1.0], dtype=torch.float64)
    if method not in INTEGRATED:
        return torch.zeros(1, dtype=torch.float64)
    if points < 1 or points != int(points):
        raise ValueError(f"{points} points are not possible; give a whole number of at least 1")
    return (torch.arange(int(points), dtype=torch.float64) + RULES[rule]) / points


def where_losses_change(
    t: Float[Tensor, "n known"], losses: Float[Tensor, "n known"], m: int
) -> Points:
    """`m` midpoints of equal steps of u, for each prompt, from its losses at known points.

    t: in any order; 0 and 1 are among them.
    """
    pairs = [_of_one_prompt(*known, m) for known in zip(t.numpy(), losses.numpy(), strict=True)]
    points, weights = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))
    return Points(points, weights)


def _of_one_prompt(t: np.ndarray, losses: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights, each [m]."""
    t, first = np.unique(t.round(CLOSE), return_index=True)
    steps = np.abs(np.diff(losses[first].astype(float)))
    way = np.diff(t)
    gone = steps / steps.sum() if steps.sum() > 0 else way
    u = np.concatenate([[0.0], np.cumsum(way + gone)])
    inverse = PchipInterpolator(u / u[-1], t)
    midpoints = (np.arange(m) + 0.5) / m
    return inverse(midpoints), inverse(midpoints, 1) / m
