"""Where NaN or infinity first appears in a model: for the errors that say so."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.backward import gradients_at
from circuitbook.circuits.batches import at_end, metric_of_stream
from circuitbook.model.architectures import network_of
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
    way_out = way_out_of(model)
    for i, row in enumerate(rows.tolist()):
        pair = pairs.subset([i])
        if place := _place(model, network, pair, points[i]):
            prompt = f"prompt {row} of {pairs.task} ({pair.table['clean'].iloc[0]!r})"
            what = place.format(prompt=prompt)
            return f"{checkpoint} has NaN or infinity in the {what} in {model.dtype}; {way_out}"
    beyond = f"beyond what {sums_dtype(model.dtype)} can hold"
    return f"{checkpoint} gives scores of {pairs.task} {beyond}"


def refuse_not_finite(
    model: Model, pairs: PromptPairs, metric: Float[Tensor, "*axes prompt"], when: str = ""
) -> None:
    """FloatingPointError that names checkpoint, prompt and layer unless each prompt's metric is
    finite. when: what was done to the model, such as "when it is patched"."""
    bad = (~metric.isfinite()).reshape(-1, len(pairs)).any(0).nonzero()[:, 0].cpu()
    if not len(bad):
        return
    row, about = int(bad[0]), f"{model.checkpoint.model} at step {model.checkpoint.step}"
    pair, none = pairs.subset([row]), torch.zeros(0)
    prompt = f"prompt {row} of {pairs.task} ({pair.table['clean'].iloc[0]!r})"
    where = f"on {prompt}"
    with torch.no_grad():
        if place := _place(model, network_of(model), pair, none, gradients=False):
            where = f"in the {place.format(prompt=prompt)}"
    raise FloatingPointError(
        f"{about} has NaN or infinity {where}{when and ' ' + when} in {model.dtype}; "
        f"{way_out_of(model)}"
    )


def way_out_of(model: Model) -> str:
    """What to do about a model that gives NaN or infinity; a weight that holds such is named."""
    for name, weight in model.hf_model.named_parameters():
        if not _finite(weight):
            return f"its weight {name} is not finite: restore or download this checkpoint"
    if model.dtype == torch.float16:
        return "use float32 or bfloat16"
    return "use float32 or float64" if model.dtype != torch.float64 else "no dtype holds more"


def _place(
    model: Model,
    network: Network,
    pair: PromptPairs,
    points: Float[Tensor, " version"],
    *,
    gradients: bool = True,
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
    if not gradients:
        return None
    weights = torch.ones(1, len(versions), device=model.device)
    layers = gradients_at(network, pair, embeddings, 0, [], end, weights).layers
    for layer in reversed(range(len(layers))):
        if not layers[layer].all_finite():
            return f"gradients of layer {layer} on {{prompt}}"
    return None


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
