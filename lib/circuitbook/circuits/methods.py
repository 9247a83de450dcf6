"""Which methods there are to score edges: at which points, and how a chunk's scores are added.

eap                 gradients on the clean prompt (Syed et al. 2023)
eap-ig              on the way from clean to corrupted embeddings (Hanna et al. 2024)
clean-corrupted     at both its ends, the mean of two (hannamw/EAP-IG)
eap-ig-activations  on the way from clean to corrupted activations: `circuits.ig_activations`
eap-qk, atp*        with attention's softmax computed anew, and with GradDrop: `circuits.atp`
relp, gim           with other slopes on the way back: `circuits.rules`
ifr                 no gradients, but shares of what is read: `circuits.flow_routes`
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from circuitbook.circuits.atp import add_chunk_of_patterns
from circuitbook.circuits.flow_routes import add_chunk_of_routes
from circuitbook.circuits.gradients import add_chunk
from circuitbook.circuits.ig_activations import add_chunk_of_activations
from circuitbook.circuits.quadrature import Points, interpolation_points
from circuitbook.circuits.rules import RULES_OF, with_rules
from circuitbook.circuits.score_sums import Chunk, ScoreSums
from circuitbook.model.graph import Graph
from circuitbook.model.network import Network
from circuitbook.model.parts import CappedScale

AUTHORS_RULE = {"eap-ig-activations": "left"}  # of all others "right"

WITHOUT_POSITIONS = {  # and why
    "eap-qk": "the softmax takes all keys of an edge together",
    "ifr": "shares are averaged over positions",
}
WITHOUT_POSITIONS["atp*"] = WITHOUT_POSITIONS["eap-qk"]

WITH_BETWEEN = ("eap", "eap-ig", "clean-corrupted")  # attention's gradients are the true ones
BETWEEN = ("gradient", "pattern")  # how edges between positions are scored: `circuits.between`

AddChunk = Callable[[ScoreSums, Network, Graph, Chunk], None]


def points_of(method: str, rule: str, points: int, n: int, n_layers: int) -> Points:
    """Where each of n prompts has gradients taken to begin with; all count the same.

    ValueError for an unknown method or rule, a number of points that is not possible, or a model
    for which the method says nothing.
    """
    t = interpolation_points(method, rule, points)
    if method == "eap-ig-activations":
        t = t.repeat(1 + 2 * n_layers)
    elif method == "atp*":
        t = t.repeat(n_layers)
    parts = len(t)
    if method == "atp*":
        if n_layers == 1:
            raise ValueError(
                'method="atp*" leaves out the gradient of one layer after the other, and this '
                'model has a single one; take "eap-qk"'
            )
        parts = n_layers - 1
    t = t.expand(n, -1)
    return Points(t, torch.full_like(t, 1 / parts))


def adder_of(method: str, network: Network, points: int, between: str | None = None) -> AddChunk:
    """What adds a chunk's scores to the sums.

    between: how edges between positions are scored, if they are. ValueError where the method has
    no such scores.
    """
    if between is not None and between not in BETWEEN:
        raise ValueError(
            f"there are no scores between positions by {between!r}; there are: {', '.join(BETWEEN)}"
        )
    if between is not None and method not in WITH_BETWEEN:
        raise ValueError(
            f'method="{method}" has no scores between positions; take '
            f"{', '.join(WITH_BETWEEN[:-1])} or {WITH_BETWEEN[-1]}"
        )
    if between is not None and isinstance(network.scale, CappedScale):
        raise ValueError(
            "scores between positions: not for a model whose attention scores are capped (Gemma 2)"
        )
    if method == "eap-ig-activations":
        return partial(add_chunk_of_activations, m=points)
    if method == "ifr":
        return add_chunk_of_routes
    if method in ("eap-qk", "atp*"):
        return partial(add_chunk_of_patterns, drop=method == "atp*")
    back_through = with_rules(network, RULES_OF[method]) if method in RULES_OF else network
    return partial(add_chunk, back_through=back_through, between=between)
