"""A model's weights as plain tensors, and its forward pass split where the graph's nodes meet the residual stream.

All that attribution and circuits know of an architecture is in this module. Shapes: b prompts, k versions of each prompt
(interpolation points, or clean and corrupted), s positions, h heads, e = d_head, d = d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import Model


@dataclass(frozen=True, eq=False)
class Norm:
    """A LayerNorm: x -> weight * (x - mean) / sqrt(var + eps) + bias."""

    weight: Tensor                                     # [d]
    bias: Tensor                                       # [d]
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def standardise(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(x - mean) / sqrt(var + eps) [..., d], and 1 / sqrt(var + eps) [..., 1], in `dtype`."""
        x = x.to(dtype)
        scale = torch.rsqrt(x.var(-1, keepdim=True, unbiased=False) + self.eps)
        return (x - x.mean(-1, keepdim=True)) * scale, scale


@dataclass(frozen=True, eq=False)
class Layer:
    """One parallel GPT-NeoX block."""

    norm_attention: Norm
    norm_mlp: Norm
    w_in: dict[str, Tensor]                            # "q", "k", "v": [h, e, d]; head h of kind q is w_in["q"][h] @ x
    b_in: dict[str, Tensor]                            # [h, e]
    w_out: Tensor                                      # [h, e, d]; a head writes z @ w_out[h]
    b_out: Tensor                                      # [d]
    mlp: tuple[Tensor, Tensor, Tensor, Tensor]         # weights and biases in and out, as torch.nn.Linear has them
    activation: Callable[[Tensor], Tensor]

    def project(self, kind: str, x: Tensor) -> Tensor:
        """Queries, keys or values of all heads, before rotary: [..., d] -> [..., h, e]."""
        weight, bias = self.w_in[kind], self.b_in[kind]
        return F.linear(x, weight.flatten(0, 1), bias.flatten()).unflatten(-1, bias.shape)

    def run_mlp(self, x: Tensor) -> Tensor:
        w_in, b_in, w_out, b_out = self.mlp
        return F.linear(self.activation(F.linear(x, w_in, b_in)), w_out, b_out)


@dataclass(frozen=True, eq=False)
class Network:
    """The model, ready to run in pieces. Its tensors are the loaded model's own; only q, k and v are cut out of theirs."""

    w_embed: Tensor                                    # [vocab, d]
    layers: tuple[Layer, ...]
    norm_final: Norm
    w_unembed: Tensor                                  # [vocab, d]
    rotary: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]        # (x, positions [1, s]) -> cos, sin [1, s, r]
    scale: float                                       # of attention scores

    def embed(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.w_embed)

    def logits(self, x: Tensor) -> Tensor:
        """Logits of the last residual stream, [..., d] -> [..., vocab]."""
        return F.linear(self.norm_final(x), self.w_unembed)


def network_of(model: Model) -> Network:
    """The network of a loaded GPT-NeoX (any other architecture was refused when it was loaded)."""
    bare = model.network
    body = bare.base_model
    h, e = model.shape.n_heads, model.shape.d_head
    layers = []
    for block in body.layers:
        attention, mlp = block.attention, block.mlp
        weights, biases, out = _split(attention, h, e)
        layers.append(Layer(
            _norm(block.input_layernorm), _norm(block.post_attention_layernorm), weights, biases,
            out.weight.detach().t().unflatten(0, (h, e)), _bias(out),
            (mlp.dense_h_to_4h.weight.detach(), _bias(mlp.dense_h_to_4h),
             mlp.dense_4h_to_h.weight.detach(), _bias(mlp.dense_4h_to_h)), mlp.act))
    return Network(body.embed_in.weight.detach(), tuple(layers), _norm(body.final_layer_norm),
                   bare.lm_head.weight.detach(), body.rotary_emb, e**-0.5)


def _split(attention, h: int, e: int) -> tuple[dict[str, Tensor], dict[str, Tensor], torch.nn.Module]:
    """Weights [h, e, d] and biases [h, e] of q, k and v, and the output module."""
    if hasattr(attention, "q"):                        # a bridge has wrapped the model: its own q, k and v count
        parts = {kind: getattr(attention, kind) for kind in "qkv"}
        return ({kind: part.weight.detach().unflatten(0, (h, e)) for kind, part in parts.items()},
                {kind: _bias(part).unflatten(0, (h, e)) for kind, part in parts.items()}, attention.o)
    fused = attention.query_key_value                  # rows per head: its q, its k, its v
    weight, bias = fused.weight.detach().unflatten(0, (h, 3, e)), _bias(fused).unflatten(0, (h, 3, e))
    return ({kind: weight[:, i].contiguous() for i, kind in enumerate("qkv")},
            {kind: bias[:, i].contiguous() for i, kind in enumerate("qkv")}, attention.dense)


def _norm(module) -> Norm:
    return Norm(module.weight.detach(), module.bias.detach(), module.eps)


def _bias(module) -> Tensor:
    return module.weight.new_zeros(len(module.weight)) if module.bias is None else module.bias.detach()


# ------------------------------------------------------------------ the forward pass

@dataclass(frozen=True, eq=False)
class Run:
    """What one layer did in a forward pass; all [b, k, s, ...]."""

    x: Tensor                                          # [..., d] the stream that its heads and its MLP read
    inputs: dict[str, Tensor]                          # "q", "k", "v": [..., h, e], before rotary
    q: Tensor                                          # [..., h, e], after rotary
    k: Tensor
    z: Tensor                                          # [..., h, e]
    mlp_in: Tensor                                     # [..., d], after its norm
    mlp_out: Tensor                                    # [..., d]
    out: Tensor                                        # [..., d] the stream after the layer


Prefix = Sequence[tuple[Tensor, Tensor]]               # per layer: rotated keys and values of earlier positions, [b, p, h, e]
# (what, layer, tensor) -> tensor to go on with; what: "q", "k", "v" (before rotary), "z", "mlp" (what the MLP reads, normed)
Edit = Callable[[str, int, Tensor], Tensor]


def run(network: Network, x: Tensor, start: int = 0, prefix: Prefix | None = None, edit: Edit | None = None,
        first: int = 0) -> Iterator[Run]:
    """Runs the layers one after the other from the embeddings x [b, k, s, d] of positions start .. start + s - 1.

    `prefix`: what `keys_and_values` gave for the positions 0 .. start - 1; all versions of a prompt share it.
    `edit` may replace what heads and MLPs read or write; `first`: the layer to begin with, then x is its stream.
    """
    positions = torch.arange(start, start + x.shape[2], device=x.device)[None]
    cos, sin = (part[0, :, None] for part in network.rotary(x, positions))              # [s, 1, r]
    edit = edit or (lambda what, layer, tensor: tensor)
    for i, layer in enumerate(network.layers[first:], first):
        read = layer.norm_attention(x)
        inputs = {kind: edit(kind, i, layer.project(kind, read)) for kind in "qkv"}
        q, k = rotate(inputs["q"], cos, sin), rotate(inputs["k"], cos, sin)
        z = edit("z", i, attend(q, k, inputs["v"], network.scale, prefix[i] if start else None))
        mlp_in = edit("mlp", i, layer.norm_mlp(x))
        mlp_out = layer.run_mlp(mlp_in)
        out = x + F.linear(z.flatten(-2), layer.w_out.flatten(0, 1).t(), layer.b_out) + mlp_out
        yield Run(x, inputs, q, k, z, mlp_in, mlp_out, out)
        x = out


def keys_and_values(network: Network, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The prefix of `run` for tokens [b, p]."""
    if tokens.shape[1] == 0:
        return []
    return [(one.k[:, 0], one.inputs["v"][:, 0]) for one in run(network, network.embed(tokens)[:, None])]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of the first r of e dimensions: [..., s, h, e] with cos and sin [s, 1, r]."""
    turning, still = x[..., : cos.shape[-1]], x[..., cos.shape[-1]:]
    first, second = turning.chunk(2, -1)
    return torch.cat([turning * cos + torch.cat([-second, first], -1) * sin, still], -1)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, prefix: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Causal attention of [b, k, s, h, e] over itself and over a prefix [b, p, h, e] that all k share: z [b, k, s, h, e]."""
    s = q.shape[2]
    pattern = attention_pattern(q, k, scale, prefix)
    z = torch.einsum("bkhqt,bkthe->bkqhe", pattern[..., -s:], v)
    return z if prefix is None else z + torch.einsum("bkhqt,bthe->bkqhe", pattern[..., :-s], prefix[1])


def attention_pattern(q: Tensor, k: Tensor, scale: float, prefix: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """How much each position attends to each, [b, k, h, s, p + s], from rotated q and k; see `attend`."""
    s = q.shape[2]
    scores = torch.einsum("bkqhe,bkthe->bkhqt", q, k) * scale
    later = torch.ones(s, s, dtype=torch.bool, device=q.device).triu(1)
    scores = scores.masked_fill(later, -torch.inf)
    if prefix is not None:
        scores = torch.cat([torch.einsum("bkqhe,bthe->bkhqt", q, prefix[0]) * scale, scores], -1)
    return scores.softmax(-1, dtype=sums_dtype(q.dtype)).to(q.dtype)


def sums_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums are taken in: float32, or float64 for a float64 model."""
    return torch.float64 if dtype == torch.float64 else torch.float32
