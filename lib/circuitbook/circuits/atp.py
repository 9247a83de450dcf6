"""AtP*: attribution patching with its two repairs, for edges (Kramár et al. 2024, arXiv
2403.00745).

A gradient at the clean prompt, as EAP takes it, overlooks two things that patching shows:

-   Where attention is saturated, the softmax is flat: a query or key that would move attention
    elsewhere seems to do nothing. So the pattern A is computed anew with the patched query or key,
    and only what follows is linear (section 3.1.1, the fix for queries and keys).
-   Where a direct and an indirect effect cancel, a small error of either decides what is left. So
    gradients are taken without what comes back through one layer, for each layer in turn, and their
    absolute scores are averaged (section 3.1.2, GradDrop).

The paper scores nodes: a query, key or value at one position, and what a head or an MLP writes. For
an edge u -> v, in their place,

    into a query      sum over A's entries of (A(q', k) - A(q, k)) dL/dA
    into a key        sum over A's entries of (A(q, k') - A(q, k)) dL/dA
    into the rest     (a_u(corrupted) - a_u(clean)) . dL/dx_v, as in EAP

with q' and k' what the head makes of its clean input plus a_u(corrupted) - a_u(clean), norm and
all: exactly the query or key of the patched edge. An edge is patched at all positions at once, so
its keys change together, where the paper patches each by itself; for queries it is the same. dL/dA
is g_z . v, with g_z the gradient of what attention gives, through a norm behind the heads if there
is one. This is "eap-qk"; it keeps the sign of a score, which the paper drops.

"atp*" takes that with GradDrop: of a prompt, the mean of |score| over the layers whose attention
and MLP are cut out of the gradient, other than v's own, where nothing would come back (L - 1 layers
of L; L for `logits`). The sum over positions is made first, as in every score here. It has no sign.
Left out is the paper's diagnostic, which patches random sets of nodes to bound what was missed.

Cost: as many patterns as there are edges into queries and keys, but no pass behind them; and L
gradients with GradDrop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.backward import LayerGradients, gradients_at
from circuitbook.circuits.gradients import BothRuns, add_edges, both_runs, note_losses
from circuitbook.circuits.score_sums import Chunk, ScoreSums
from circuitbook.model.graph import HEAD_INPUTS, Graph
from circuitbook.model.layers import CosSin, Layer
from circuitbook.model.memory import SOURCES
from circuitbook.model.network import Edit, Network, attention_pattern
from circuitbook.model.parts import CappedScale, Norm, with_gradient_times


def add_chunk_of_patterns(
    sums: ScoreSums, network: Network, graph: Graph, chunk: Chunk, drop: bool
) -> None:
    """Adds the scores of these prompts to the sums.

    drop: whether layers are cut out; version k of a prompt is then without layer k.
    """
    both = both_runs(sums, network, graph, chunk)
    layers = range(graph.n_layers)[chunk.versions]
    back = gradients_at(
        network,
        chunk.pairs,
        both.between(chunk.points),
        chunk.start,
        chunk.prefix,
        both.end,
        both.weights,
        edit=_cut_out(layers) if drop else None,
        of_z=True,
    )
    note_losses(sums, chunk, both, back)
    of_patterns = _of_patterns(network, graph, chunk, both, back.layers)
    for k, of_version in enumerate(of_patterns):
        own, alone = sums.of_chunk(chunk, of_version)
        add_edges(own, network, graph, alone, both, back.version(k), kinds="v")
        if drop:
            _without_own_layer(of_version, graph, layers[k])
            of_version.abs_()
        sums.add_of_prompts(chunk, of_version, slice(None))


def _cut_out(layers: range) -> Edit:
    """No gradient comes back through attention and MLP of the layer that belongs to a version."""

    def edit(what: str, layer: int, now: Tensor) -> Tensor:
        if what not in ("z", "mlp") or layer not in layers:
            return now
        factor = now.new_ones(len(layers))
        factor[layers.index(layer)] = 0
        return with_gradient_times(factor.view(-1, *[1] * (now.ndim - 2)), now)

    return edit


def _without_own_layer(scores: Float[Tensor, "prompt src dst"], graph: Graph, layer: int) -> None:
    """Edges into the layer that is cut out count nothing, and there is one less of the others."""
    scores[:, :, graph.destination(layer, 0) : graph.destination(layer) + 1] = 0
    scores[:, :, -1] *= (graph.n_layers - 1) / graph.n_layers


# ------------------------------------------------------------------ patterns computed anew


@torch.no_grad()
def _of_patterns(
    network: Network, graph: Graph, chunk: Chunk, both: BothRuns, back: list[LayerGradients]
) -> Float[Tensor, "version prompt src dst"]:
    """The scores of the edges into queries and keys; 0 elsewhere."""
    difference = both.difference
    _, n_prompts, n_pos, _ = difference.shape
    scores = difference.new_zeros(chunk.points.shape[1], n_prompts, graph.n_src, graph.n_dst)
    cos_sin = network.rotary_cos_sin(both.x, chunk.start, n_pos)
    for i, layer in enumerate(network.layers):
        norm, x = layer.norm_attention, back[i].x[:, :1].to(difference.dtype)
        prefix = chunk.prefix[i] if chunk.start else None
        clean = _normed(norm, x)
        heads = [
            _Head.on_clean(layer, h, clean, back[i], cos_sin, network.scale, prefix)
            for h in range(graph.n_heads)
        ]
        reach = int(graph.reach[graph.destination(i, 0)])
        for sources in torch.arange(reach).split(SOURCES):
            patched = _normed(norm, x + difference[sources].transpose(0, 1))
            for h, head in enumerate(heads):
                for kind in "qk":
                    column = graph.destination(i, h, kind)
                    scores[:, :, sources, column] = head.effects(kind, patched)
    return scores


def _normed(norm: Norm, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
    """In the dtype of x."""
    normed, _ = norm.standardise(x, x.dtype)
    return normed.mul_(norm.weight.to(x.dtype)).add_(norm.bias.to(x.dtype))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Head:
    """One head on the clean prompts, in the dtype of the sums."""

    layer: Layer
    index: int
    cos_sin: CosSin | None
    scale: float | CappedScale
    """Of attention scores."""
    q: Float[Tensor, "prompt 1 pos 1 d_head"]
    """As attention takes it; so is k."""
    k: Float[Tensor, "prompt 1 pos 1 d_head"]
    prefix: tuple[Tensor, Tensor] | None
    """Its own keys and values of the positions before."""
    at_pattern: Float[Tensor, "prompt version query before_and_key"]
    """The gradient of its pattern."""

    @classmethod
    def on_clean(
        cls,
        layer: Layer,
        index: int,
        normed: Float[Tensor, "prompt 1 pos d_model"],
        back: LayerGradients,
        cos_sin: CosSin | None,
        scale: float | CappedScale,
        prefix: tuple[Tensor, Tensor] | None,
    ) -> _Head:
        """From what the layer's heads read, after the norm, and the gradients at what they give."""
        assert back.at_z is not None
        q, k, v = (_made_of(layer, index, kind, normed, cos_sin) for kind in HEAD_INPUTS)
        values = v[:, 0]
        if prefix is not None:
            own_keys, own_values = (part[:, :, index, None].to(v.dtype) for part in prefix)
            prefix, values = (own_keys, own_values), torch.cat([own_values, values], 1)
        at_pattern = einsum(
            back.at_z[:, :, :, index].to(v.dtype),
            values[:, :, 0],
            "prompt version query d_head, prompt key d_head -> prompt version query key",
        )
        return cls(
            layer=layer,
            index=index,
            cos_sin=cos_sin,
            scale=scale,
            q=q,
            k=k,
            prefix=prefix,
            at_pattern=at_pattern,
        )

    def effects(
        self, kind: str, normed: Float[Tensor, "prompt src pos d_model"]
    ) -> Float[Tensor, "version prompt src"]:
        """What the head's queries or keys of these streams do to the loss, by way of its pattern:
        above 0 where they raise it."""
        now = _made_of(self.layer, self.index, kind, normed, self.cos_sin)
        q, k = (now, self.k.expand_as(now)) if kind == "q" else (self.q.expand_as(now), now)
        moved = attention_pattern(q, k, self.scale, self.prefix)
        moved -= attention_pattern(self.q, self.k, self.scale, self.prefix)
        return einsum(
            moved[:, :, 0],
            self.at_pattern,
            "prompt src query key, prompt version query key -> version prompt src",
        )


def _made_of(
    layer: Layer,
    head: int,
    kind: str,
    normed: Float[Tensor, "prompt src pos d_model"],
    cos_sin: CosSin | None,
) -> Float[Tensor, "prompt src pos 1 d_head"]:
    """A head's queries, keys or values, as attention takes them, of a stream after the norm."""
    made = layer.project_one(kind, normed, head)
    return layer.attended(kind, made[..., None, :], cos_sin)
