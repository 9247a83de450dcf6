"""EAP-IG on activations: what nodes write goes from clean to corrupted, one place at a time.

EAP-IG moves the embeddings, and everything behind them follows as the model has it. Here the
embeddings, the heads of a layer together, or an MLP (1 + 2 L places in L layers) write

    (1 - t) a(clean) + t a(corrupted)

while all else runs on the clean prompt; and the gradients at the readers are averaged over m points
t and over all places. What is moved is a constant: no gradient goes back through it, so that a
version in which a layer's heads are moved says nothing of the edges into these heads. That is
hannamw/EAP-IG's "EAP-IG-activations", with rule="left" (from clean on); a score is the change of
the source times that mean, as in EAP-IG. It need not add up to the change of the loss.

Theirs differs in one place: where the embeddings are moved, it records no gradient at the inputs of
the first layer, before which autograd then sees no weight (unless positions are learned). So its
edges from `input` into that layer lack 1 of 1 + 2 L places. Here they have all.

Cost: (1 + 2 L) m gradients of each prompt, so it grows with the layers.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.backward import gradients_at
from circuitbook.circuits.gradients import add_edges, both_runs, note_losses
from circuitbook.circuits.score_sums import Chunk, ScoreSums
from circuitbook.model.graph import Graph
from circuitbook.model.network import Edit, Network, run


def add_chunk_of_activations(
    sums: ScoreSums, network: Network, graph: Graph, chunk: Chunk, m: int
) -> None:
    """Adds the scores of these prompts, and of these versions of them, to the sums.

    m: points of each place. Versions c m ... c m + m - 1 are of place c: 0 the embeddings, 1 + 2 l
    the heads of layer l, 2 + 2 l its MLP.
    """
    both = both_runs(sums, network, graph, chunk)
    places = torch.arange((1 + 2 * graph.n_layers) * m)[chunk.versions] // m
    points = chunk.points.to(both.difference)
    with torch.no_grad():
        runs = run(network, both.x, chunk.start, chunk.prefix)
        written = [{"written": done.written, "mlp_out": done.mlp_out} for done in runs]
    of_embeddings = points * (places == 0).to(points)
    back = gradients_at(
        network,
        chunk.pairs,
        both.between(of_embeddings),
        chunk.start,
        chunk.prefix,
        both.end,
        both.weights,
        edit=_moving(places, written, points),
    )
    note_losses(sums, chunk, both, back)
    add_edges(sums, network, graph, chunk, both, back)


def _moving(
    places: Int[Tensor, " version"],
    written: list[dict[str, Float[Tensor, "prompt two pos ..."]]],
    points: Float[Tensor, "prompt version"],
) -> Edit:
    """Puts what heads and MLPs write between clean and corrupted, in their place's versions."""

    def edit(what: str, layer: int, now: Tensor) -> Tensor:
        if what not in written[layer]:
            return now
        here = (places == 1 + 2 * layer + (what == "mlp_out")).nonzero()[:, 0].to(now.device)
        if not len(here):
            return now
        clean, corrupted = written[layer][what].to(points.dtype).unbind(1)
        t = points[:, here].view(len(clean), -1, *[1] * (clean.ndim - 1))
        now = now.clone()
        now[:, here] = (clean[:, None] + t * (corrupted - clean)[:, None]).to(now.dtype)
        return now

    return edit
