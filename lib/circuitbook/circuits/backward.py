"""A pass forward and back: what heads and MLPs read, and the gradients of the loss there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.batches import at_end, metric_of_normed
from circuitbook.model.graph import HEAD_INPUTS
from circuitbook.model.network import Edit, Network, Prefix, run
from circuitbook.tasks.base import PromptPairs


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerGradients:
    """Of one layer: what was read, and the gradients of the loss."""

    x: Float[Tensor, "prompt version pos d_model"]
    """The stream that its heads read."""
    x_mlp: Float[Tensor, "prompt version pos d_model"]
    """The stream that its MLP reads."""
    inputs: dict[str, Float[Tensor, "prompt version pos head d_head"]]
    """Queries, keys and values, before rotary."""
    at_inputs: dict[str, Float[Tensor, "prompt version pos head d_head"]]
    """Gradients of these."""
    at_mlp: Float[Tensor, "prompt version pos d_model"]
    """Gradient of what the MLP reads, after its norm."""
    at_z: Float[Tensor, "prompt version pos head d_head"] | None
    """If asked for: gradient of what attention gives each head, before its output map."""

    def all_finite(self) -> bool:
        return all(bool(g.isfinite().all()) for g in (*self.at_inputs.values(), self.at_mlp))

    def version(self, k: int) -> LayerGradients:
        """Of one version alone."""
        return LayerGradients(
            x=self.x[:, k : k + 1],
            x_mlp=self.x_mlp[:, k : k + 1],
            inputs={kind: tensor[:, k : k + 1] for kind, tensor in self.inputs.items()},
            at_inputs={kind: tensor[:, k : k + 1] for kind, tensor in self.at_inputs.items()},
            at_mlp=self.at_mlp[:, k : k + 1],
            at_z=None,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Gradients:
    """A pass forward and back."""

    layers: list[LayerGradients]
    last: Float[Tensor, "prompt version d_model"]
    """The last stream at END."""
    at_last: Float[Tensor, "prompt version d_model"]
    """The gradient of that, after its norm."""
    at_embeddings: Float[Tensor, "prompt version pos d_model"]
    losses: Float[Tensor, "prompt version"]

    def version(self, k: int) -> Gradients:
        """Of one version alone."""
        return Gradients(
            layers=[layer.version(k) for layer in self.layers],
            last=self.last[:, k : k + 1],
            at_last=self.at_last[:, k : k + 1],
            at_embeddings=self.at_embeddings[:, k : k + 1],
            losses=self.losses[:, k : k + 1],
        )


def gradients_at(
    network: Network,
    pairs: PromptPairs,
    embeddings: Float[Tensor, "prompt version pos d_model"],
    start: int,
    prefix: Prefix,
    end: Int[Tensor, " prompt"],
    weights: Float[Tensor, "prompt version"],
    edit: Edit | None = None,
    of_z: bool = False,
) -> Gradients:
    """Runs from the embeddings to the loss, and back.

    The losses are summed up by their weights. edit: as in `network.run`; the gradients are of what
    it gives.
    """
    with torch.enable_grad():
        embeddings = embeddings.detach().requires_grad_()
        runs = list(run(network, embeddings, start, prefix, edit))
        last = at_end(runs[-1].out, end)
        normed = network.norm_final(last)
        losses = -metric_of_normed(network, pairs, normed)
        loss = (losses * weights.to(losses)).sum()
        read = [tensor for done in runs for tensor in (*done.inputs.values(), done.mlp_in)]
        read += [normed, embeddings] + ([done.z for done in runs] if of_z else [])
        gradients = torch.autograd.grad(loss, read)
    of_layers = gradients[: 4 * len(runs)]
    at_last, at_embeddings, *of_zs = gradients[4 * len(runs) :]
    layers = []
    for i, done in enumerate(runs):
        *of_heads, at_mlp = of_layers[4 * i : 4 * i + 4]
        layers.append(
            LayerGradients(
                x=done.x.detach(),
                x_mlp=done.x_mlp.detach(),
                inputs={kind: tensor.detach() for kind, tensor in done.inputs.items()},
                at_inputs=dict(zip(HEAD_INPUTS, of_heads, strict=True)),
                at_mlp=at_mlp,
                at_z=of_zs[i] if of_z else None,
            )
        )
    return Gradients(
        layers=layers,
        last=last.detach(),
        at_last=at_last,
        at_embeddings=at_embeddings,
        losses=losses.detach(),
    )
