"""The scores of one chunk of prompts: differences of what sources write, gradients at what
destinations read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from circuitbook.circuits.batches import at_end, pairs_metric
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import Graph
from circuitbook.model.loaded import Model
from circuitbook.model.network import Network, Norm, Run, keys_and_values, run
from circuitbook.tasks.base import PromptPairs

# ------------------------------------------------------------------ one chunk


@dataclass(frozen=True)
class _Sums:
    """Where a chunk's scores go: sums over prompts, and whatever else was asked for."""

    values: Tensor
    per_prompt: Tensor | None
    per_position: Tensor | None
    rows: Tensor
    start: int

    def add(self, difference: Tensor, gradient: Tensor, columns: slice) -> None:
        """difference [u, b, s, d] of the sources, gradient [v, b, s, d] at the destinations
        `columns`."""
        u, b, s, _ = difference.shape
        if self.per_prompt is None and self.per_position is None:
            self.values[:u, columns] += difference.flatten(1) @ gradient.flatten(1).t()
            return
        spelled = {
            (True, False): "ubsd,vbsd->buv",
            (False, True): "ubsd,vbsd->suv",
            (True, True): "ubsd,vbsd->bsuv",
        }
        found = torch.einsum(
            spelled[self.per_prompt is not None, self.per_position is not None],
            difference,
            gradient,
        )
        if self.per_prompt is not None:
            self.per_prompt[self.rows, :u, columns] += (
                found.sum(1) if found.ndim == 4 else found
            ).cpu()
        if self.per_position is not None:
            self.per_position[self.start : self.start + s, :u, columns] += (
                found.sum(0) if found.ndim == 4 else found
            ).cpu()
        self.values[:u, columns] += found.flatten(0, -3).sum(0)


def _add_chunk(
    network: Network,
    graph: Graph,
    pairs: PromptPairs,
    start: int,
    stop: int,
    t: Tensor,
    m: int,
    out: _Sums,
    change: Tensor,
    from_input: Tensor,
) -> None:
    """Adds the scores of these prompts and points (t, of m in all) to the sums."""
    device, dtype = network.w_embed.device, sums_dtype(network.w_embed.dtype)
    tokens = torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, start:stop].to(
        device
    )  # [b, 2, s]
    end = (pairs.end - start).to(device)
    with torch.no_grad():
        prefix = keys_and_values(network, pairs.clean[:, :start].to(device))
        x = network.embed(tokens, start)
        difference, last = _differences(network, graph, x, start, prefix, dtype)
        losses = -pairs_metric(pairs, network.logits(at_end(last, end)))
        change[out.rows] = (losses[:, 1] - losses[:, 0]).to(change)
        clean, step = x[:, :1].to(dtype), difference[0][:, None]  # [b, 1, s, d]
        z = (clean + t.to(device, dtype)[:, None, None] * step).to(x.dtype)  # [b, k, s, d]

    runs, last, last_gradient, gradients, z_gradient = _gradients(
        network, pairs, z, start, prefix, end
    )
    from_input[out.rows] += ((z_gradient.to(dtype).sum(1) * difference[0]).sum((1, 2)) / m).to(
        from_input
    )
    with torch.no_grad():
        here = torch.arange(len(end), device=device)
        at_logits = torch.zeros_like(difference[:1])  # only END is read
        at_logits[0, here, end] = (
            _through_norm(network.norm_final, last.to(dtype), last_gradient.to(dtype)).sum(1) / m
        )
        out.add(difference, at_logits, slice(graph.n_dst - 1, graph.n_dst))
        for layer, (weights, one) in enumerate(zip(network.layers, runs)):
            heads = _head_gradients(
                weights, one, {kind: gradients[layer][kind].to(dtype) for kind in "qkv"}, m
            )
            first, mlp = graph.destination(layer, 0), graph.destination(layer)
            out.add(difference[: graph.reach[first]], heads, slice(first, mlp))
            x, g = one.x_mlp.to(dtype), gradients[layer]["mlp"].to(dtype)
            out.add(
                difference[: graph.reach[mlp]],
                _through_norm(weights.norm_mlp, x, g).sum(1)[None] / m,
                slice(mlp, mlp + 1),
            )


def _differences(
    network: Network, graph: Graph, x: Tensor, start: int, prefix, dtype
) -> tuple[Tensor, Tensor]:
    """What every source writes on the corrupted prompt minus on the clean one, [src, b, s, d]; the
    last stream [b, 2, s, d]."""
    b, _, s, d = x.shape
    difference = torch.empty(graph.n_src, b, s, d, dtype=dtype, device=x.device)
    difference[0] = _second_less_first(x, dtype)
    for layer, (weights, one) in enumerate(zip(network.layers, run(network, x, start, prefix))):
        z = _second_less_first(one.z, dtype)  # [b, s, h, e]
        difference[graph.heads(layer)] = torch.einsum("bshe,hed->hbsd", z, weights.w_out.to(dtype))
        difference[graph.source(layer)] = _second_less_first(one.mlp_out, dtype)
        x = one.out
    return difference, x


def _second_less_first(versions: Tensor, dtype: torch.dtype) -> Tensor:
    return versions[:, 1].to(dtype) - versions[:, 0].to(dtype)


def _gradients(network: Network, pairs: PromptPairs, z: Tensor, start: int, prefix, end: Tensor):
    """Runs from the embeddings z [b, k, s, d] and back: the runs, the last stream at END and the
    gradient after its norm, [b, k, d], per layer the gradients of q, k, v and of the MLP's normed
    input, and the gradient of z."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        runs = list(run(network, z, start, prefix))
        last = at_end(runs[-1].out, end)  # [b, k, d]
        normed = network.norm_final(last)
        loss = -pairs_metric(pairs, torch.nn.functional.linear(normed, network.w_unembed)).sum()
        inputs = [tensor for one in runs for tensor in (*one.inputs.values(), one.mlp_in)]
        found = torch.autograd.grad(loss, [*inputs, normed, z])
    names = ("q", "k", "v", "mlp")
    gradients = [dict(zip(names, found[4 * i : 4 * i + 4])) for i in range(len(runs))]
    runs = [_without_graph(one) for one in runs]
    return runs, last.detach(), found[-2], gradients, found[-1]


def _without_graph(one: Run) -> Run:
    inputs = {kind: tensor.detach() for kind, tensor in one.inputs.items()}
    return Run(x=one.x.detach(), x_mlp=one.x_mlp.detach(), inputs=inputs, q=None, k=None, z=None, mlp_in=None, mlp_out=None, out=None)


def _through_norm(norm: Norm, x: Tensor, gradient: Tensor) -> Tensor:
    """From the gradient after a norm to the one before it, [..., d]."""
    normed, scale = norm.standardise(x, x.dtype)
    g = gradient * norm.weight.to(x.dtype)
    return scale * (norm.centre(g) - normed * (g * normed).mean(-1, keepdim=True))


def _head_gradients(weights, one: Run, gradients: dict[str, Tensor], m: int) -> Tensor:
    """Gradients at the q, k and v inputs of a layer's heads, mean over the points: [3h, b, s, d]
    (point 2 above)."""
    norm, dtype = weights.norm_attention, gradients["q"].dtype
    gamma, beta = norm.weight.to(dtype), norm.bias.to(dtype)
    normed, scale = norm.standardise(one.x, dtype)  # [b, k, s, d], [..., 1]
    found = []
    for kind in "qkv":
        weight = weights.w_in[kind].to(dtype)  # [h, e, d]
        g = gradients[kind] * scale[..., None] / m  # [b, k, s, h, e]
        constant = weight @ beta + weights.b_in[kind].to(dtype)  # what the norm's bias gives
        along = (g * (one.inputs[kind].to(dtype) - constant)).sum(
            -1
        ) / gamma.numel()  # [b, k, s, h]
        at_input = norm.centre(torch.einsum("bshe,hed->hbsd", g.sum(1), weight * gamma))
        at_input -= torch.einsum("bksh,bksd->hbsd", along, normed)
        found.append(at_input)
    return torch.cat(found)


# ------------------------------------------------------------------ what went wrong


@torch.no_grad()
def _where_not_finite(
    model: Model, network: Network, pairs: PromptPairs, rows: Tensor, t: Tensor
) -> str:
    """A sentence that names checkpoint, prompt and layer."""
    where, way_out = (
        f"{model.checkpoint.model} at step {model.checkpoint.step}",
        "use float32 or bfloat16",
    )
    if model.dtype != torch.float16:
        way_out = "the weights of this checkpoint may be damaged"
    for i, row in enumerate(rows.tolist()):
        one = pairs.subset([i])
        clean, corrupted = (
            network.embed(tokens.to(model.device)) for tokens in (one.clean, one.corrupted)
        )
        versions = torch.stack(
            [
                (clean + share * (corrupted - clean)).to(model.dtype)
                for share in (0, *t.tolist(), 1)
            ],
            1,
        )
        prompt = f"prompt {row} of {pairs.task} ({one.table['clean'].iloc[0]!r})"
        if not bool(versions.isfinite().all()):
            return f"{where} has NaN or infinity in the embeddings of {prompt} in {model.dtype}; {way_out}"
        for layer, done in enumerate(run(network, versions)):
            for what, tensor in (
                ("heads", done.z),
                ("MLP", done.mlp_out),
                ("residual stream", done.out),
            ):
                if not bool(tensor.isfinite().all()):
                    return f"{where} has NaN or infinity in the {what} of layer {layer} on {prompt} in {model.dtype}; {way_out}"
        last = at_end(done.out, one.end.to(model.device))
        if not bool(pairs_metric(one, network.logits(last)).isfinite().all()):
            return f"{where} has NaN or infinity in the logits, after layer {layer}, on {prompt} in {model.dtype}; {way_out}"
        gradients = _gradients(network, one, versions, 0, [], one.end.to(model.device))[3]
        for layer in reversed(range(len(gradients))):
            if not all(bool(tensor.isfinite().all()) for tensor in gradients[layer].values()):
                return f"{where} has NaN or infinity in the gradients of layer {layer} on {prompt} in {model.dtype}; {way_out}"
    return f"{where} gives scores of {pairs.task} beyond what {sums_dtype(model.dtype)} can hold"
