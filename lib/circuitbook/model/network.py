"""A model's weights as plain tensors, and its forward pass split where the graph's nodes meet the
residual stream.

All that attribution and circuits know of an architecture is in this module. Shapes: b prompts, k
versions of each prompt (interpolation points, or clean and corrupted), s positions, h heads, e =
d_head, d = d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from circuitbook.model.dtypes import sums_dtype


@dataclass(frozen=True, eq=False)
class Norm:
    """A LayerNorm, x -> weight * (x - mean) / sqrt(var + eps) + bias; not `centred`, an RMSNorm:
    the same without mean and bias."""

    weight: Tensor  # [d]
    bias: Tensor  # [d]; of an RMSNorm 0
    eps: float
    centred: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        if self.centred:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)

    def centre(self, x: Tensor) -> Tensor:
        """x - mean, if this norm takes the mean away."""
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def standardise(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(x - mean) / sqrt(var + eps) [..., d], and 1 / sqrt(var + eps) [..., 1], in `dtype`."""
        x = self.centre(x.to(dtype))
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x * scale, scale


@dataclass(frozen=True, eq=False)
class MLP:
    """Two linear maps (weights and biases as torch.nn.Linear has them) around an activation;
    `gate`: a third, as in Llama."""

    w_in: Tensor  # [m, d]
    b_in: Tensor  # [m]
    w_out: Tensor  # [d, m]
    b_out: Tensor  # [d]
    activation: Callable[[Tensor], Tensor]
    gate: tuple[Tensor, Tensor] | None = (
        None  # [m, d], [m]: activation(gate x) * (in x), not activation(in x)
    )

    def __call__(self, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.w_in, self.b_in)
        hidden = (
            self.activation(hidden)
            if self.gate is None
            else self.activation(F.linear(x, *self.gate)) * hidden
        )
        return F.linear(hidden, self.w_out, self.b_out)


@dataclass(frozen=True, eq=False)
class Layer:
    """One block: attention and MLP. Keys and values that several heads share stand there once for
    each of them."""

    norm_attention: Norm
    norm_mlp: Norm
    w_in: dict[str, Tensor]  # "q", "k", "v": [h, e, d]; head h of kind q is w_in["q"][h] @ x
    b_in: dict[str, Tensor]  # [h, e]
    w_out: Tensor  # [h, e, d]; a head writes z @ w_out[h]
    b_out: Tensor  # [d]
    mlp: MLP

    def project(self, kind: str, x: Tensor) -> Tensor:
        """Queries, keys or values of all heads, before rotary: [..., d] -> [..., h, e]."""
        weight, bias = self.w_in[kind], self.b_in[kind]
        return F.linear(x, weight.flatten(0, 1), bias.flatten()).unflatten(-1, bias.shape)


@dataclass(frozen=True, eq=False)
class Network:
    """The model, ready to run in pieces. Its tensors are the loaded model's own; only q, k and v
    are cut out of theirs."""

    w_embed: Tensor  # [vocab, d]
    layers: tuple[Layer, ...]
    norm_final: Norm
    w_unembed: Tensor  # [vocab, d]
    rotary: (
        Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None
    )  # (x, positions [1, s]) -> cos, sin [1, s, r]
    scale: float  # of attention scores
    parallel: bool = True  # attention and MLP of a layer read the same stream
    w_positions: Tensor | None = None  # [positions, d], learned, where there is no rotary

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """The stream that enters, [..., s] -> [..., s, d], of tokens at positions start .. start +
        s - 1."""
        x = F.embedding(tokens, self.w_embed)
        return (
            x
            if self.w_positions is None
            else x + self.w_positions[start : start + tokens.shape[-1]]
        )

    def turning(self, x: Tensor, start: int, s: int) -> tuple[Tensor, Tensor] | None:
        """What `rotate` needs for s positions from `start` on: cos and sin [s, 1, r]; None without
        rotary embedding."""
        if self.rotary is None:
            return None
        cos, sin = self.rotary(x, torch.arange(start, start + s, device=x.device)[None])
        return cos[0, :, None], sin[0, :, None]

    def logits(self, x: Tensor) -> Tensor:
        """Logits of the last residual stream, [..., d] -> [..., vocab]."""
        return F.linear(self.norm_final(x), self.w_unembed)


# ------------------------------------------------------------------ the forward pass


@dataclass(frozen=True, eq=False)
class Run:
    """What one layer did in a forward pass; all [b, k, s, ...]."""

    x: Tensor  # [..., d] the stream that its heads read
    x_mlp: Tensor  # [..., d] the stream that its MLP reads: x in a parallel block
    inputs: dict[str, Tensor]  # "q", "k", "v": [..., h, e], before rotary
    q: Tensor  # [..., h, e], after rotary
    k: Tensor
    z: Tensor  # [..., h, e]
    mlp_in: Tensor  # [..., d], after its norm
    mlp_out: Tensor  # [..., d]
    out: Tensor  # [..., d] the stream after the layer


Prefix = Sequence[
    tuple[Tensor, Tensor]
]  # per layer: rotated keys and values of earlier positions, [b, p, h, e]


# (what, layer, tensor) -> tensor to go on with; what: "q", "k", "v" (before rotary), "z", "mlp"
# (what the MLP reads, normed)
Edit = Callable[[str, int, Tensor], Tensor]


def run(
    network: Network,
    x: Tensor,
    start: int = 0,
    prefix: Prefix | None = None,
    edit: Edit | None = None,
    first: int = 0,
) -> Iterator[Run]:
    """Runs the layers one after the other from the embeddings x [b, k, s, d] of positions start ..
    start + s - 1.

    `prefix`: what `keys_and_values` gave for the positions 0 .. start - 1; all versions of a prompt
    share it. `edit` may replace what heads and MLPs read or write; `first`: the layer to begin
    with, then x is its stream.
    """
    turning = network.turning(x, start, x.shape[2])
    edit = edit or (lambda what, layer, tensor: tensor)
    for i, layer in enumerate(network.layers[first:], first):
        read = layer.norm_attention(x)
        inputs = {kind: edit(kind, i, layer.project(kind, read)) for kind in "qkv"}
        q, k = rotate(inputs["q"], turning), rotate(inputs["k"], turning)
        z = edit("z", i, attend(q, k, inputs["v"], network.scale, prefix[i] if start else None))
        between = x + F.linear(z.flatten(-2), layer.w_out.flatten(0, 1).t(), layer.b_out)
        x_mlp = x if network.parallel else between
        mlp_in = edit("mlp", i, layer.norm_mlp(x_mlp))
        mlp_out = layer.mlp(mlp_in)
        out = between + mlp_out
        yield Run(x, x_mlp, inputs, q, k, z, mlp_in, mlp_out, out)
        x = out


def keys_and_values(network: Network, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The prefix of `run` for tokens [b, p]."""
    if tokens.shape[1] == 0:
        return []
    return [
        (one.k[:, 0], one.inputs["v"][:, 0]) for one in run(network, network.embed(tokens)[:, None])
    ]


def rotate(x: Tensor, turning: tuple[Tensor, Tensor] | None) -> Tensor:
    """Rotary embedding of the first r of e dimensions: [..., s, h, e] with cos and sin [s, 1, r];
    None: x as it is."""
    if turning is None:
        return x
    cos, sin = turning
    moving, still = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = moving.chunk(2, -1)
    return torch.cat(
        [(moving * cos + torch.cat([-second, first], -1) * sin).to(x.dtype), still], -1
    )  # OLMo's are float32


def attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float, prefix: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Causal attention of [b, k, s, h, e] over itself and over a prefix [b, p, h, e] that all k
    share: z [b, k, s, h, e]."""
    s = q.shape[2]
    pattern = attention_pattern(q, k, scale, prefix)
    z = torch.einsum("bkhqt,bkthe->bkqhe", pattern[..., -s:], v)
    return (
        z if prefix is None else z + torch.einsum("bkhqt,bthe->bkqhe", pattern[..., :-s], prefix[1])
    )


def attention_pattern(
    q: Tensor, k: Tensor, scale: float, prefix: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """How much each position attends to each, [b, k, h, s, p + s], from rotated q and k; see
    `attend`."""
    s = q.shape[2]
    scores = torch.einsum("bkqhe,bkthe->bkhqt", q, k) * scale
    later = torch.ones(s, s, dtype=torch.bool, device=q.device).triu(1)
    scores = scores.masked_fill(later, -torch.inf)
    if prefix is not None:
        scores = torch.cat([torch.einsum("bkqhe,bthe->bkhqt", q, prefix[0]) * scale, scores], -1)
    return scores.softmax(-1, dtype=sums_dtype(q.dtype)).to(q.dtype)
