"""A model's weights as plain tensors, and its forward pass, split where nodes meet the stream.

All that attribution and circuits know of an architecture is in this module. Axes: prompt; version
of a prompt (an interpolation point, or clean and corrupted); pos; head; d_head; d_model. A comment
such as [b, k, s, h, e] has them in this order, with e = d_head; the stream is [b, k, s, d].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.layers import CosSin, Layer
from circuitbook.model.parts import CappedScale, Norm, SoftCap

# ------------------------------------------------------------------ the weights

# (x, positions [1, s]) -> cos, sin [1, s, r]
Rotary = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """The model, ready to run in pieces.

    Its tensors are the loaded model's own; only q, k and v are cut out of theirs.
    """

    w_embed: Float[Tensor, "vocab d_model"]
    layers: tuple[Layer, ...]
    norm_final: Norm
    w_unembed: Float[Tensor, "vocab d_model"]
    rotary: Rotary | Mapping[str, Rotary] | None
    """Of all layers; by `Layer.way`, where they turn in different ways; None without rotary
    embedding."""
    scale: float | CappedScale
    """Of attention scores."""
    parallel: bool = True
    """Whether attention and MLP of a layer read the same stream."""
    w_positions: Float[Tensor, "max_pos d_model"] | None = None
    """Learned, where there is no rotary embedding."""
    temperature: float = 1.0
    """Of attention on the way back alone: see `circuits.rules`."""
    embed_scale: float = 1.0
    """What embeddings are multiplied by (Gemma)."""
    cap: SoftCap | None = None
    """Of logits (Gemma 2)."""

    def refuse_capped_logits(self, what: str) -> None:
        """ValueError for what adds up parts of a logit, where logits are capped (Gemma 2)."""
        if self.cap is not None:
            raise ValueError(
                f"{what}: not for a model whose logits are capped (Gemma 2), which are no sum of "
                "what its parts write; scores of edges and circuits are"
            )

    def embed(
        self, tokens: Int[Tensor, "*axes pos"], start: int = 0
    ) -> Float[Tensor, "*axes pos d_model"]:
        """The stream that enters, of tokens at positions start, start + 1, ..."""
        x = self.words(tokens)
        if self.w_positions is None:
            return x
        return x + self.w_positions[start : start + tokens.shape[-1]]

    def words(self, tokens: Int[Tensor, "*axes"]) -> Float[Tensor, "*axes d_model"]:
        """Their embeddings, without positions."""
        x = F.embedding(tokens, self.w_embed)
        return x if self.embed_scale == 1 else x * self.embed_scale

    def rotary_cos_sin(self, x: Tensor, start: int, s: int) -> CosSin | None:
        """What `Layer.attended` needs for s positions from `start` on; None without rotary
        embedding.

        Of x only the dtype and the device count.
        """
        if self.rotary is None:
            return None
        ways = self.rotary if isinstance(self.rotary, Mapping) else {"": self.rotary}
        at = torch.arange(start, start + s, device=x.device)[None]
        turned = {way: rotary(x, at) for way, rotary in ways.items()}
        return {way: (cos[0, :, None], sin[0, :, None]) for way, (cos, sin) in turned.items()}

    def logits(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes vocab"]:
        """Logits of the last residual stream."""
        return self.logits_of_normed(self.norm_final(x))

    def logits_of_normed(
        self, normed: Float[Tensor, "*axes d_model"], tokens: Int[Tensor, " token"] | None = None
    ) -> Float[Tensor, "*axes token"]:
        """Logits, of what the final norm gives: of these tokens, or of the whole vocabulary."""
        logits = F.linear(normed, self.w_unembed if tokens is None else self.w_unembed[tokens])
        return logits if self.cap is None else self.cap(logits)


# ------------------------------------------------------------------ the forward pass


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """What one layer did in a forward pass."""

    layer: Layer
    x: Float[Tensor, "prompt version pos d_model"]
    """The stream that its heads read."""
    x_mlp: Float[Tensor, "prompt version pos d_model"]
    """The stream that its MLP reads: x in a parallel block."""
    inputs: dict[str, Float[Tensor, "prompt version pos head d_head"]]
    """By kind, "q", "k" or "v", as `Layer.project` gives them."""
    q: Float[Tensor, "prompt version pos head d_head"]
    """As attention takes it, after rotary; so are k and v."""
    k: Float[Tensor, "prompt version pos head d_head"]
    v: Float[Tensor, "prompt version pos head d_head"]
    z: Float[Tensor, "prompt version pos head d_head"]
    """As attention gives it."""
    replaced: Float[Tensor, "prompt version pos head d_head"] | None
    """What heads are made to write, if an edit does so; see `written`."""
    mlp_in: Float[Tensor, "prompt version pos d_model"]
    """After its norm."""
    mlp_out: Float[Tensor, "prompt version pos d_model"]
    out: Float[Tensor, "prompt version pos d_model"]
    """The stream after the layer."""

    @property
    def written(self) -> Float[Tensor, "prompt version pos head d_head"]:
        """Head h writes written[h] @ layer.w_written[h]; z itself, unless there is a norm behind
        the heads (`Layer.scaled`)."""
        return self.layer.scaled(self.z) if self.replaced is None else self.replaced


# Rotated keys, and values, of the positions before the first: by layer
Prefix = Sequence[
    tuple[Float[Tensor, "prompt before head d_head"], Float[Tensor, "prompt before head d_head"]]
]

# (what, layer, tensor) -> the tensor to go on with. what: "q", "k", "v" (as `Layer.project` gives
# them), "z", "written" (as in `Run`), "mlp" (what the MLP reads, normed) or "mlp_out" (what it
# writes)
Edit = Callable[[str, int, Tensor], Tensor]


def _leave(what: str, layer: int, tensor: Tensor) -> Tensor:
    """The edit that changes nothing."""
    return tensor


def run(
    network: Network,
    x: Float[Tensor, "prompt version pos d_model"],
    start: int = 0,
    prefix: Prefix | None = None,
    edit: Edit | None = None,
    first: int = 0,
    stop: int | None = None,
) -> Iterator[Run]:
    """Runs the layers one after the other from the embeddings x of positions start, start + 1, ...

    prefix: what `keys_and_values` gave for the positions 0 .. start - 1; all versions share it.
    edit: may replace what heads and MLPs read or write.
    first, stop: the layer to begin with, whose stream x is, and the one behind the last.
    """
    cos_sin = network.rotary_cos_sin(x, start, x.shape[2])
    edit = edit or _leave
    for i, layer in enumerate(network.layers[first:stop], first):
        read = layer.norm_attention(x)
        inputs = {kind: edit(kind, i, layer.project(kind, read)) for kind in "qkv"}
        q, k, v = (layer.attended(kind, inputs[kind], cos_sin) for kind in "qkv")
        before = prefix[i] if prefix and start else None
        z = attend(q, k, v, network.scale, before, temperature=network.temperature)
        z = edit("z", i, z)
        written = z if edit is _leave else layer.scaled(z)
        now = edit("written", i, written)
        replaced = None if now is written else now
        between = x + (layer.attention(z) if replaced is None else layer.add_up(replaced))
        x_mlp = x if network.parallel else between
        mlp_in = edit("mlp", i, layer.norm_mlp(x_mlp))
        mlp_out = edit("mlp_out", i, layer.mlp(mlp_in))
        out = between + mlp_out
        yield Run(
            layer=layer,
            x=x,
            x_mlp=x_mlp,
            inputs=inputs,
            q=q,
            k=k,
            v=v,
            z=z,
            replaced=replaced,
            mlp_in=mlp_in,
            mlp_out=mlp_out,
            out=out,
        )
        x = out


def last_stream(
    network: Network,
    x: Float[Tensor, "prompt version pos d_model"],
    edit: Edit | None = None,
    first: int = 0,
) -> Float[Tensor, "prompt version pos d_model"]:
    """The stream after the last layer, of whole prompts; arguments as those of `run`."""
    for done in run(network, x, edit=edit, first=first):
        x = done.out
    return x


def keys_and_values(
    network: Network, tokens: Int[Tensor, "prompt before"]
) -> list[tuple[Tensor, Tensor]]:
    """The prefix of `run` for these tokens; empty for none."""
    if tokens.shape[1] == 0:
        return []
    runs = run(network, network.embed(tokens)[:, None])
    return [(done.k[:, 0], done.v[:, 0]) for done in runs]


def attend(
    q: Float[Tensor, "prompt version query head d_head"],
    k: Float[Tensor, "prompt version key head d_head"],
    v: Float[Tensor, "prompt version key head d_head"],
    scale: float | CappedScale,
    prefix: tuple[Tensor, Tensor] | None = None,
    later: Bool[Tensor, "*prompt_version_head query key"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, "prompt version query head d_head"]:
    """Attention over the keys, and over a prefix that all versions share.

    later: which keys a query does not see; None: queries and keys stand at the same positions, and
    attention is causal.
    """
    s = k.shape[2]
    pattern = attention_pattern(q, k, scale, prefix, later, temperature)
    z = einsum(
        pattern[..., -s:],
        v,
        "prompt version head query key, prompt version key head d_head"
        " -> prompt version query head d_head",
    )
    if prefix is None:
        return z
    return z + einsum(
        pattern[..., :-s],
        prefix[1],
        "prompt version head query key, prompt key head d_head -> prompt version query head d_head",
    )


def attention_pattern(
    q: Float[Tensor, "prompt version query head d_head"],
    k: Float[Tensor, "prompt version key head d_head"],
    scale: float | CappedScale,
    prefix: tuple[Tensor, Tensor] | None = None,
    later: Bool[Tensor, "*prompt_version_head query key"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, "prompt version head query before_and_key"]:
    """How much each position attends to each, from rotated q and k; see `attend`.

    temperature: T. The gradient is that of T softmax(scores / T), which is flatter for T above 1;
    the pattern is softmax(scores) all the same.
    """
    scores = scale * einsum(
        q,
        k,
        "prompt version query head d_head, prompt version key head d_head"
        " -> prompt version head query key",
    )
    if later is None:
        s = q.shape[2]
        later = torch.ones(s, s, dtype=torch.bool, device=q.device).triu(1)
    scores = scores.masked_fill(later, -torch.inf)
    if prefix is not None:
        to_prefix = scale * einsum(
            q,
            prefix[0],
            "prompt version query head d_head, prompt key head d_head"
            " -> prompt version head query key",
        )
        scores = torch.cat([to_prefix, scores], -1)
    pattern = scores.softmax(-1, dtype=sums_dtype(q.dtype))
    if temperature != 1:
        flatter = temperature * (scores / temperature).softmax(-1, dtype=pattern.dtype)
        pattern = pattern.detach() + (flatter - flatter.detach())
    return pattern.to(q.dtype)
