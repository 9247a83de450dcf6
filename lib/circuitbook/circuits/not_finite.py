"""Where NaN or infinity first appears in a model: for the error that attribution raises."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.batches import at_end, metric_of_stream
from circuitbook.circuits.gradients import gradients_at
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.loaded import Model
from circuitbook.model.network import Network, run
from circuitbook.tasks.base import PromptPairs


@torch.no_grad()
def where_not_finite(
    model: Model,
    network: Network,
    pairs: PromptPairs,
    rows: Tensor,
    points: Float[Tensor, "prompt version"],
) -> str:
    """A sentence that names checkpoint, prompt and layer. `rows`: the numbers of these prompts."""
    checkpoint = f"{model.checkpoint.model} at step {model.checkpoint.step}"
    way_out = "use float32 or bfloat16"
    if model.dtype != torch.float16:
        way_out = "the weights of this checkpoint may be damaged"
    for i, row in enumerate(rows.tolist()):
        pair = pairs.subset([i])
        if place := _place(model, network, pair, points[i]):
            prompt = f"prompt {row} of {pairs.task} ({pair.table['clean'].iloc[0]!r})"
            what = place.format(prompt=prompt)
            return f"{checkpoint} has NaN or infinity in the {what} in {model.dtype}; {way_out}"
    beyond = f"beyond what {sums_dtype(model.dtype)} can hold"
    return f"{checkpoint} gives scores of {pairs.task} {beyond}"


def _place(
    model: Model, network: Network, pair: PromptPairs, points: Float[Tensor, " version"]
) -> str | None:
    """What is not finite in the runs of one prompt, with {prompt} where its name belongs."""
    clean = network.embed(pair.clean.to(model.device))
    corrupted = network.embed(pair.corrupted.to(model.device))
    shares = (0, *points.tolist(), 1)
    versions = [(clean + share * (corrupted - clean)).to(model.dtype) for share in shares]
    embeddings = torch.stack(versions, 1)
    end = pair.end.to(model.device)
    if not _finite(embeddings):
        return "embeddings of {prompt}"
    for layer, done in enumerate(run(network, embeddings)):
        parts = {"heads": done.z, "MLP": done.mlp_out, "residual stream": done.out}
        for name, tensor in parts.items():
            if not _finite(tensor):
                return f"{name} of layer {layer} on {{prompt}}"
        last = done.out
    if not _finite(metric_of_stream(network, pair, at_end(last, end))):
        return f"logits, after layer {layer}, on {{prompt}}"
    weights = torch.ones(1, len(versions), device=model.device)
    gradients = gradients_at(network, pair, embeddings, 0, [], end, weights).layers
    for layer in reversed(range(len(gradients))):
        if not gradients[layer].all_finite():
            return f"gradients of layer {layer} on {{prompt}}"
    return None


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
