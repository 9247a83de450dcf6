"""Edges between positions: a head's key or value at one position, as a query at another sees it.

In Haklay et al. 2025 (PEAP, arXiv 2502.04577, "crossing edges") what is read into a head at one
position leads to what it writes at that position and all later ones. So between an edge into a key
or a value and what the head writes there is one edge more for each query: (to, at, dst). Patched,
the query at `to`, and no other, sees at `at` the key or value `dst` that the head has there in the
corrupted run, as attention takes it (after rotary, clipped or normed). To first order this adds to
the loss

    key      A[to, at] (g . v[at] - g . z[to]) s,    s = scale q[to] . (k'[at] - k[at])
    value    A[to, at] g . (v'[at] - v[at])

with A the head's pattern, z what attention gives at `to` and g = dL/dz there; k' - k and v' - v are
the corrupted run's less the clean one's, and all else is averaged over the points of interpolation.
These are the scores by "gradient". PEAP computes the pattern anew with the patched key, and only
what follows is linear ("pattern"). Since one entry of a softmax changes at a time, that is the same
with

    (exp(s) - 1) / (1 + A[to, at] (exp(s) - 1))

in place of s.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.backward import Gradients
from circuitbook.circuits.score_sums import Chunk, ScoreSums
from circuitbook.model.graph import Graph
from circuitbook.model.network import Network, attend, attention_pattern, run


@torch.no_grad()
def add_between(
    sums: ScoreSums,
    network: Network,
    graph: Graph,
    chunk: Chunk,
    x: Float[Tensor, "prompt two pos d_model"],
    back: Gradients,
    anew: bool,
) -> None:
    """Adds the scores of these prompts and points to the sums.

    x: clean and corrupted embeddings; back: with gradients of z, summed by the points' weights.
    anew: whether the pattern is computed anew with a patched key.
    """
    n_pos, dtype = x.shape[2], sums.values.dtype
    cos_sin = network.rotary_cos_sin(x, chunk.start, n_pos)
    runs = run(network, x, chunk.start, chunk.prefix)
    for i, (layer, done) in enumerate(zip(network.layers, runs, strict=True)):
        of_layer = back.layers[i]
        assert of_layer.at_z is not None
        q, k, v = (layer.attended(kind, of_layer.inputs[kind], cos_sin) for kind in "qkv")
        prefix = chunk.prefix[i] if chunk.start else None
        pattern = attention_pattern(q, k, network.scale, prefix)[..., -n_pos:].to(dtype)
        z, at_z = attend(q, k, v, network.scale, prefix).to(dtype), of_layer.at_z.to(dtype)
        rise = einsum(at_z, v.to(dtype), f"{QUERY}, {KEY} -> {PATTERN}")
        rise -= (at_z * z).sum(-1).movedim(-1, 2)[..., None]
        moved = {kind: _second_less_first(getattr(done, kind), dtype) for kind in "kv"}
        by_key = network.scale * einsum(q.to(dtype), moved["k"], f"{QUERY}, {MOVED} -> {PATTERN}")
        if anew:
            grown = by_key.clamp(max=80).expm1()  # more overflows, and changes nothing
            by_key = grown / (1 + pattern * grown)
        by_value = einsum(at_z, moved["v"], f"{QUERY}, {MOVED} -> {PATTERN}")
        for kind, change in (("k", rise * by_key), ("v", by_value)):
            sums.add_between(chunk, (pattern * change).sum(1), graph.readers(i, kind))


QUERY, KEY = "prompt version query head d_head", "prompt version key head d_head"
MOVED, PATTERN = "prompt key head d_head", "prompt version head query key"


def _second_less_first(
    versions: Float[Tensor, "prompt two ..."], dtype: torch.dtype
) -> Float[Tensor, "prompt ..."]:
    return versions[:, 1].to(dtype) - versions[:, 0].to(dtype)
