"""Norms and MLPs, as functions of a stream; and what is done to queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Norm:
    """A LayerNorm, x -> weight * (x - mean) / sqrt(var + eps) + bias, or an RMSNorm."""

    weight: Float[Tensor, " d_model"]
    """Of a wider dtype than the model's where its 1 + weight would be rounded (Gemma): then the
    norm is computed in that one."""
    bias: Float[Tensor, " d_model"]
    """0 in an RMSNorm."""
    eps: float
    centred: bool = True
    """False for an RMSNorm, which takes no mean away and has no bias."""
    frozen: bool = False
    """Whether a gradient takes what it divides by for a constant: see `circuits.rules`."""

    @property
    def constant(self) -> bool:
        """Whether what it divides by does not change, as far as a gradient can tell."""
        return self.frozen

    def __call__(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        if _narrower(x, self.weight):
            return self(x.to(self.weight.dtype)).to(x.dtype)
        if self.frozen:
            return self.standardise(x, x.dtype)[0] * self.weight + self.bias
        if self.centred:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)

    def centre(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        """x - mean, if this norm takes the mean away."""
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def standardise(
        self, x: Float[Tensor, "*axes d_model"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "*axes d_model"], Float[Tensor, "*axes 1"]]:
        """(x - mean) / sqrt(var + eps), and 1 / sqrt(var + eps), in `dtype`."""
        x = self.centre(x.to(dtype))
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        scale = scale.detach() if self.frozen else scale
        return x * scale, scale


@dataclass(frozen=True, eq=False)
class NoNorm(Norm):
    """Where there is none, and a layer reads the stream as it is (OLMo 2); its weight is 1."""

    constant = True

    def __call__(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        return x.view_as(x)  # what is read: its gradient is not that of the whole stream

    def centre(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        return x

    def standardise(
        self, x: Float[Tensor, "*axes d_model"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "*axes d_model"], Float[Tensor, "*axes 1"]]:
        x = x.to(dtype)
        return x, torch.ones_like(x[..., :1])


@dataclass(frozen=True, eq=False, kw_only=True)
class MLP:
    """Two linear maps around an activation; a gated one, as in Llama, has a third.

    What it writes is behind `norm_out`, where there is such a norm (OLMo 2, Gemma).

    Weights and biases are as torch.nn.Linear has them.
    """

    w_in: Float[Tensor, "d_mlp d_model"]
    b_in: Float[Tensor, " d_mlp"]
    w_out: Float[Tensor, "d_model d_mlp"]
    b_out: Float[Tensor, " d_model"]
    activation: Callable[[Tensor], Tensor]
    gate: tuple[Float[Tensor, "d_mlp d_model"], Float[Tensor, " d_mlp"]] | None = None
    """With it, the hidden layer is activation(gate x) * (in x), not activation(in x)."""
    halved: bool = False
    """Whether both factors of that product get half of its gradient: see `circuits.rules`."""
    norm_out: Norm | None = None

    def __call__(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        hidden = F.linear(x, self.w_in, self.b_in)
        if self.gate is None:
            hidden = self.activation(hidden)
        else:
            hidden = self.activation(F.linear(x, *self.gate)) * hidden
            hidden = with_gradient_times(0.5, hidden) if self.halved else hidden
        written = F.linear(hidden, self.w_out, self.b_out)
        return written if self.norm_out is None else self.norm_out(written)

    def without_norm(self) -> MLP:
        """The maps alone."""
        return replace(self, norm_out=None)


@dataclass(frozen=True, eq=False)
class HeadNorm:
    """The RMSNorm of each head's queries or keys, before rotary (Qwen 3, Gemma 3)."""

    weight: Float[Tensor, " d_head"]
    """Its dtype as in `Norm`."""
    eps: float
    frozen: bool = False
    """As in `Norm`."""

    def __call__(self, x: Float[Tensor, "*axes d_head"]) -> Float[Tensor, "*axes d_head"]:
        if _narrower(x, self.weight):
            return self(x.to(self.weight.dtype)).to(x.dtype)
        if self.frozen:
            scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
            return x * scale.detach() * self.weight
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


@dataclass(frozen=True, eq=False)
class JointNorm:
    """One RMSNorm over the queries, or the keys, of all heads together (OLMo 2)."""

    weight: Float[Tensor, "head d_head"]
    eps: float
    frozen: bool = False
    """As in `Norm`."""

    def __call__(self, x: Float[Tensor, "*axes head d_head"]) -> Float[Tensor, "*axes head d_head"]:
        return self.standardise(x)[0] * self.weight

    def standardise(
        self, x: Float[Tensor, "*axes head d_head"]
    ) -> tuple[Float[Tensor, "*axes head d_head"], Float[Tensor, "*axes 1 1"]]:
        """x / sqrt(mean over all heads of x^2 + eps), and 1 / that root."""
        scale = torch.rsqrt(x.square().mean((-2, -1), keepdim=True) + self.eps)
        scale = scale.detach() if self.frozen else scale
        return x * scale, scale


@dataclass(frozen=True)
class Clip:
    """Every number of a query, key or value between -most and most (OLMo 1, clip_qkv)."""

    most: float

    def __call__(self, x: Float[Tensor, "*axes d_head"]) -> Float[Tensor, "*axes d_head"]:
        return x.clamp(-self.most, self.most)


@dataclass(frozen=True)
class SoftCap:
    """Every number drawn between -most and most, the further out the more (Gemma 2)."""

    most: float

    def __call__(self, x: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return self.most * torch.tanh(x / self.most)

    def slope(self, x: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        """The derivative at x."""
        return 1 - torch.tanh(x / self.most).square()


@dataclass(frozen=True)
class CappedScale:
    """What attention scores are multiplied by, and capped behind it (Gemma 2).

    Stands where a number would: CappedScale(factor, cap) * products is cap(factor * products).
    """

    factor: float
    cap: SoftCap

    def __mul__(self, products: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return self.cap(self.factor * products)


@dataclass(frozen=True)
class Scaled:
    """Queries times a factor of their layer (GPT-2, scale_attn_by_inverse_layer_idx)."""

    factor: float

    def __call__(self, x: Float[Tensor, "*axes d_head"]) -> Float[Tensor, "*axes d_head"]:
        return x * self.factor


def _narrower(x: Tensor, weight: Tensor) -> bool:
    return x.dtype.itemsize < weight.dtype.itemsize


def with_gradient_times(factor: float | Tensor, x: Tensor) -> Tensor:
    """x, whose gradient is multiplied by a factor on the way back."""
    part = factor * x
    return part + (x - part).detach()
