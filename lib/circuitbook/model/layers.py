"""One block's weights as plain tensors: what its heads read, ask for and write.

Axes as in `model.network`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.model.parts import MLP, JointNorm, Norm

Turn = tuple[Float[Tensor, "pos 1 rotary"], Float[Tensor, "pos 1 rotary"]]  # cosines and sines
CosSin = Mapping[str, Turn]  # by `Layer.way`


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """One block: attention and MLP.

    Keys and values that several heads share stand there once for each of them, and are computed
    once.
    """

    norm_attention: Norm
    norm_mlp: Norm
    w_in: dict[str, Float[Tensor, "head d_head d_model"]]
    """By kind, "q", "k" or "v": the query of head h is w_in["q"][h] @ x + b_in["q"][h]."""
    b_in: dict[str, Float[Tensor, "head d_head"]]
    w_out: Float[Tensor, "head d_head d_model"]
    """Head h writes z @ w_out[h], unless there is a norm behind it: see `scaled`."""
    b_out: Float[Tensor, " d_model"]
    mlp: MLP
    shared: int = 1
    """How many heads in a row have the same key and value."""
    after: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    """By kind, what is done to queries, keys or values [..., head, d_head] before rotary, to each
    head by itself: clipped (OLMo 1), normed (Qwen 3), scaled by the layer (GPT-2)."""
    turned: bool = True
    """Whether rotary embedding turns the layer's queries and keys; in SmolLM3 not in all layers."""
    way: str = ""
    """Which rotary embedding does, where layers have several (Gemma 3): see `Network.rotary`."""
    norm_in: Mapping[str, JointNorm] = field(default_factory=dict)
    """By kind, a norm over the queries or keys of all heads (OLMo 2). A head takes it over all that
    the maps make of the stream which that head reads."""
    norm_out: Norm | None = None
    """A norm behind the sum of the heads (OLMo 2, Gemma); see `scaled`."""

    def once(self, kind: str) -> int:
        """Every how manieth head has a query, key or value of its own."""
        return 1 if kind == "q" else self.shared

    def linear(
        self, kind: str, x: Float[Tensor, "*axes d_model"]
    ) -> Float[Tensor, "*axes own_head d_head"]:
        """What the maps give, of heads with a query, key or value of their own."""
        once = self.once(kind)
        weight, bias = self.w_in[kind][::once].to(x), self.b_in[kind][::once].to(x)
        return F.linear(x, weight.flatten(0, 1), bias.flatten()).unflatten(-1, bias.shape)

    def project(
        self, kind: str, x: Float[Tensor, "*axes d_model"]
    ) -> Float[Tensor, "*axes head d_head"]:
        """Queries, keys or values of all heads that read x, normed if they are so together; see
        `attended` for the rest."""
        result, once = self.linear(kind, x), self.once(kind)
        if kind in self.norm_in:
            result = self.norm_in[kind](result)
        return result if once == 1 else result.repeat_interleave(once, -2)

    def project_each(
        self, kind: str, x: Float[Tensor, "input *axes d_model"], heads: Int[Tensor, " input"]
    ) -> Float[Tensor, "input *axes d_head"]:
        """The same of heads that each read a stream of their own."""
        if kind in self.norm_in:
            places = torch.arange(len(heads), device=heads.device)
            return self.project(kind, x).movedim(-2, 1)[places, heads]
        value = einsum(
            x,
            self.w_in[kind][heads],
            "input ... d_model, input d_head d_model -> input ... d_head",
        )
        bias = self.b_in[kind][heads]
        return value + bias.view(len(heads), *[1] * (x.ndim - 2), -1)

    def project_one(
        self, kind: str, x: Float[Tensor, "*axes d_model"], head: int
    ) -> Float[Tensor, "*axes d_head"]:
        """`project` of one head alone."""
        if kind in self.norm_in:
            return self.project(kind, x)[..., head, :]
        return F.linear(x, self.w_in[kind][head].to(x), self.b_in[kind][head].to(x))

    def scaled(self, z: Float[Tensor, "*axes head d_head"]) -> Float[Tensor, "*axes head d_head"]:
        """z such that head h writes scaled(z)[h] @ w_written[h].

        Behind a norm of their sum a head writes its share of the normed sum: what it gave, times
        the norm's weight, over the root mean square of what all heads of the layer gave.
        """
        return z if self.norm_out is None else z * self.share(z)

    def share(self, z: Float[Tensor, "*axes head d_head"]) -> Float[Tensor, "*axes 1 1"]:
        """What `scaled` multiplies by: 1 without a norm behind the heads."""
        if self.norm_out is None:
            return torch.ones_like(z[..., :1, :1])
        total = F.linear(z.flatten(-2), self.w_out.to(z).flatten(0, 1).t())
        return self.norm_out.standardise(total, z.dtype)[1][..., None]

    @property
    def w_written(self) -> Float[Tensor, "head d_head d_model"]:
        """See `scaled`."""
        if self.norm_out is None:
            return self.w_out
        return (self.w_out * self.norm_out.weight).to(self.w_out.dtype)

    def attention(self, z: Float[Tensor, "*axes head d_head"]) -> Float[Tensor, "*axes d_model"]:
        """What the heads together add to the stream."""
        total = F.linear(z.flatten(-2), self.w_out.flatten(0, 1).t(), self.b_out)
        return total if self.norm_out is None else self.norm_out(total)

    def add_up(self, written: Float[Tensor, "*axes head d_head"]) -> Float[Tensor, "*axes d_model"]:
        """The same from what `scaled` gives, or from what heads are to write in its place."""
        weight = self.w_written.to(written.dtype).flatten(0, 1)
        return F.linear(written.flatten(-2), weight.t(), self.b_out)

    def attended(
        self, kind: str, x: Float[Tensor, "*axes pos head d_head"], cos_sin: CosSin | None
    ) -> Float[Tensor, "*axes pos head d_head"]:
        """Queries, keys or values as attention takes them, from what `project` gave."""
        if kind in self.after:
            x = self.after[kind](x)
        if kind == "v" or cos_sin is None or not self.turned:
            return x
        return rotate(x, cos_sin[self.way])


def rotate(
    x: Float[Tensor, "*axes pos head d_head"], turn: Turn
) -> Float[Tensor, "*axes pos head d_head"]:
    """Rotary embedding of the first r of d_head dimensions."""
    cos, sin = turn
    turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = turned.chunk(2, -1)
    turned = turned * cos + torch.cat([-second, first], -1) * sin
    return torch.cat([turned.to(x.dtype), rest], -1)  # OLMo's cos and sin are float32
