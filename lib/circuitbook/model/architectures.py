"""From transformers' modules to a `Network`: how each architecture keeps its weights, and no more.

A new architecture is a function here, in `NETWORKS`, and its name in `model.shape.ARCHITECTURES`;
`layer_of` and what follows it are for such functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import HEAD_INPUTS
from circuitbook.model.layers import Layer
from circuitbook.model.loaded import Model, logit_cap
from circuitbook.model.network import Network, Rotary
from circuitbook.model.parts import (
    MLP,
    CappedScale,
    Clip,
    HeadNorm,
    JointNorm,
    NoNorm,
    Norm,
    Scaled,
    SoftCap,
)
from circuitbook.model.shape import Shape

Linear = tuple[Float[Tensor, "out in"], Float[Tensor, " out"]]  # weight and bias
ByKind = dict[str, Linear]  # of "q", "k" and "v"


def network_of(model: Model) -> Network:
    """The network of a loaded model, whose architecture was checked when it was loaded."""
    return NETWORKS[model.hf_model.config.model_type](model.hf_model, model.shape)


# ------------------------------------------------------------------ one function an architecture


def _gpt_neox(hf_model: PreTrainedModel, shape: Shape) -> Network:
    body: Any = hf_model.base_model
    return Network(
        w_embed=body.embed_in.weight.detach(),
        layers=tuple(_gpt_neox_layer(block, shape) for block in body.layers),
        norm_final=layer_norm(body.final_layer_norm),
        w_unembed=hf_model.lm_head.weight.detach(),
        rotary=body.rotary_emb,
        scale=shape.d_head**-0.5,
        parallel=shape.parallel,
    )


def _gpt_neox_layer(block: Any, shape: Shape) -> Layer:
    attention = block.attention
    return layer_of(
        shape,
        norm_attention=layer_norm(block.input_layernorm),
        norm_mlp=layer_norm(block.post_attention_layernorm),
        qkv=_bridged(attention)
        or _split_by_head(*linear(attention.query_key_value), n_heads=shape.n_heads),
        output=attention.dense,
        mlp=two_maps(block.mlp.dense_h_to_4h, block.mlp.dense_4h_to_h, block.mlp.act),
    )


def _gpt2(hf_model: PreTrainedModel, shape: Shape) -> Network:
    """GPT-2; in the runs of stanford-crfm layer i divides its attention scores by i + 1."""
    body: Any = hf_model.base_model
    inverse = hf_model.config.scale_attn_by_inverse_layer_idx
    return Network(
        w_embed=body.wte.weight.detach(),
        layers=tuple(
            _gpt2_layer(block, shape, 1 / (i + 1) if inverse else 1.0)
            for i, block in enumerate(body.h)
        ),
        norm_final=layer_norm(body.ln_f),
        w_unembed=hf_model.lm_head.weight.detach(),
        rotary=None,
        scale=shape.d_head**-0.5,
        parallel=shape.parallel,
        w_positions=body.wpe.weight.detach(),
    )


def _gpt2_layer(block: Any, shape: Shape, factor: float) -> Layer:
    return layer_of(
        shape,
        norm_attention=layer_norm(block.ln_1),
        norm_mlp=layer_norm(block.ln_2),
        qkv=_bridged(block.attn) or _split_in_three(*linear(block.attn.c_attn)),
        output=block.attn.c_proj,
        mlp=two_maps(block.mlp.c_fc, block.mlp.c_proj, block.mlp.act),
        after={} if factor == 1 else {"q": Scaled(factor)},
    )


def _llama(hf_model: PreTrainedModel, shape: Shape) -> Network:
    """Llama and its kin: OLMo 1 has other norms and may clip queries, keys and values; Qwen 3 norms
    the queries and keys of each head; SmolLM3 has layers without rotary."""
    body: Any = hf_model.base_model
    turned = getattr(hf_model.config, "no_rope_layers", None) or [True] * shape.n_layers
    return Network(
        w_embed=body.embed_tokens.weight.detach(),
        layers=tuple(
            _llama_layer(block, shape, hf_model, bool(turns))
            for block, turns in zip(body.layers, turned, strict=True)
        ),
        norm_final=_llama_norm(body.norm, hf_model),
        w_unembed=hf_model.lm_head.weight.detach(),
        rotary=body.rotary_emb,
        scale=shape.d_head**-0.5,
        parallel=shape.parallel,
    )


def _llama_layer(block: Any, shape: Shape, hf_model: PreTrainedModel, turned: bool) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    return layer_of(
        shape,
        norm_attention=_llama_norm(block.input_layernorm, hf_model),
        norm_mlp=_llama_norm(block.post_attention_layernorm, hf_model),
        qkv=_llama_qkv(attention),
        output=attention.o_proj,
        mlp=two_maps(mlp.up_proj, mlp.down_proj, mlp.act_fn, gate=linear(mlp.gate_proj)),
        after=_after(attention, hf_model.config),
        turned=turned,
    )


def _llama_qkv(attention: Any) -> ByKind:
    return _bridged(attention) or by_kind(
        linear(getattr(attention, f"{kind}_proj")) for kind in HEAD_INPUTS
    )


def _olmo2(hf_model: PreTrainedModel, shape: Shape) -> Network:
    """OLMo 2 and 3: Llama's maps, with norms behind attention and MLP, none before them, and one
    over the queries, and the keys, of all heads together."""
    body: Any = hf_model.base_model
    rotary, ways = _rotary_by_way(hf_model)
    return Network(
        w_embed=body.embed_tokens.weight.detach(),
        layers=tuple(
            replace(_olmo2_layer(block, shape, hf_model), way=way)
            for block, way in zip(body.layers, ways, strict=True)
        ),
        norm_final=_llama_norm(body.norm, hf_model),
        w_unembed=hf_model.lm_head.weight.detach(),
        rotary=rotary,
        scale=shape.d_head**-0.5,
        parallel=shape.parallel,
    )


def _olmo2_layer(block: Any, shape: Shape, hf_model: PreTrainedModel) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    ones = hf_model.lm_head.weight.new_ones(shape.d_model)
    none = NoNorm(ones, 0 * ones, 0.0, centred=False)
    norm_mlp = _llama_norm(block.post_feedforward_layernorm, hf_model)
    maps = two_maps(mlp.up_proj, mlp.down_proj, mlp.act_fn, gate=linear(mlp.gate_proj))
    layer = layer_of(
        shape,
        norm_attention=none,
        norm_mlp=none,
        qkv=_llama_qkv(attention),
        output=attention.o_proj,
        mlp=replace(maps, norm_out=norm_mlp),
    )
    norms = {kind: getattr(attention, f"{kind}_norm") for kind in "qk"}
    return replace(
        layer,
        norm_in={
            kind: JointNorm(_heads(norm.weight.detach(), shape), hf_model.config.rms_norm_eps)
            for kind, norm in norms.items()
        },
        norm_out=_llama_norm(block.post_attention_layernorm, hf_model),
    )


def _gemma(hf_model: PreTrainedModel, shape: Shape) -> Network:
    """Gemma 2 and 3: norms before and behind attention and MLP, whose weights are 1 + what is
    stored; embeddings times the root of d_model. Gemma 2 caps attention scores and logits, Gemma 3
    norms the queries and keys of each head, and turns them by the kind of layer."""
    body: Any = hf_model.base_model
    config: Any = hf_model.config
    rotary, ways = _rotary_by_way(hf_model)
    scale = config.query_pre_attn_scalar**-0.5
    most = config.attn_logit_softcapping
    return Network(
        w_embed=body.embed_tokens.weight.detach(),
        layers=tuple(
            replace(_gemma_layer(block, shape, config.rms_norm_eps), way=way)
            for block, way in zip(body.layers, ways, strict=True)
        ),
        norm_final=_gemma_norm(body.norm, config.rms_norm_eps),
        w_unembed=hf_model.lm_head.weight.detach(),
        rotary=rotary,
        scale=scale if most is None else CappedScale(scale, SoftCap(most)),
        parallel=shape.parallel,
        embed_scale=float(body.embed_tokens.embed_scale.to(body.embed_tokens.weight.dtype)),
        cap=logit_cap(config),
    )


def _gemma_layer(block: Any, shape: Shape, eps: float) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    maps = two_maps(mlp.up_proj, mlp.down_proj, mlp.act_fn, gate=linear(mlp.gate_proj))
    norms = {kind: getattr(attention, f"{kind}_norm", None) for kind in "qk"}
    layer = layer_of(
        shape,
        norm_attention=_gemma_norm(block.input_layernorm, eps),
        norm_mlp=_gemma_norm(block.pre_feedforward_layernorm, eps),
        qkv=_llama_qkv(attention),
        output=attention.o_proj,
        mlp=replace(maps, norm_out=_gemma_norm(block.post_feedforward_layernorm, eps)),
        after={
            kind: HeadNorm(_one_more(norm), eps) for kind, norm in norms.items() if norm is not None
        },
    )
    return replace(layer, norm_out=_gemma_norm(block.post_attention_layernorm, eps))


def _rotary_by_way(hf_model: PreTrainedModel) -> tuple[Rotary | dict[str, Rotary], list[str]]:
    """The model's rotary embedding, and which way each layer takes: see `Layer.way`."""
    config: Any = hf_model.config
    rotary: Any = hf_model.base_model.rotary_emb
    if config.model_type not in ("olmo3", "gemma3_text"):  # theirs asks for the kind of layer
        return rotary, [""] * config.num_hidden_layers
    kinds = config.layer_types
    return {kind: partial(rotary, layer_type=kind) for kind in sorted(set(kinds))}, kinds


def _after(attention: Any, config: Any) -> dict[str, Callable[[Tensor], Tensor]]:
    """What is done to queries, keys and values between their maps and rotary; see `Layer.after`."""
    if (most := getattr(config, "clip_qkv", None)) is not None:
        return dict.fromkeys(HEAD_INPUTS, Clip(float(most)))
    norms = {kind: getattr(attention, f"{kind}_norm", None) for kind in "qk"}
    return {
        kind: HeadNorm(norm.weight.detach(), config.rms_norm_eps)
        for kind, norm in norms.items()
        if norm is not None
    }


# model_type -> from a model of transformers and its shape to its network
NETWORKS: dict[str, Callable[[Any, Shape], Network]] = {
    "gpt_neox": _gpt_neox,
    "gpt2": _gpt2,
    **dict.fromkeys(("llama", "olmo", "mistral", "qwen2", "qwen3", "smollm3"), _llama),
    **dict.fromkeys(("olmo2", "olmo3"), _olmo2),
    **dict.fromkeys(("gemma2", "gemma3_text"), _gemma),
}


# ------------------------------------------------------------------ parts that they share


def layer_of(
    shape: Shape,
    *,
    norm_attention: Norm,
    norm_mlp: Norm,
    qkv: ByKind,
    output: nn.Module,
    mlp: MLP,
    after: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    turned: bool = True,
) -> Layer:
    """A layer from its parts; in `qkv`, keys and values may have fewer heads."""
    w_out, b_out = linear(output)
    return Layer(
        norm_attention=norm_attention,
        norm_mlp=norm_mlp,
        w_in={kind: _for_every_head(weight, shape) for kind, (weight, _) in qkv.items()},
        b_in={kind: _for_every_head(bias, shape) for kind, (_, bias) in qkv.items()},
        w_out=_heads(w_out.t(), shape),
        b_out=b_out,
        mlp=mlp,
        shared=shape.n_heads * shape.d_head // len(qkv["k"][0]),
        after=after or {},
        turned=turned,
    )


def _heads(rows: Tensor, shape: Shape) -> Tensor:
    """[heads * d_head, ...] -> [heads, d_head, ...]"""
    return rows.unflatten(0, (-1, shape.d_head))


def _for_every_head(rows: Tensor, shape: Shape) -> Tensor:
    """[heads * d_head, ...] -> [n_heads, d_head, ...]: heads that others share are repeated."""
    heads = _heads(rows, shape)
    if len(heads) == shape.n_heads:
        return heads
    return heads.repeat_interleave(shape.n_heads // len(heads), 0)


def by_kind(linear_maps: Iterable[Linear]) -> ByKind:
    """Of queries, keys and values in this order."""
    return dict(zip(HEAD_INPUTS, linear_maps, strict=True))


def _bridged(attention: Any) -> ByKind | None:
    """A bridge has wrapped the model: then its own q, k and v count."""
    if not hasattr(attention, "q"):
        return None
    return by_kind(linear(getattr(attention, kind)) for kind in HEAD_INPUTS)


def _split_by_head(weight: Tensor, bias: Tensor, *, n_heads: int) -> ByKind:
    """Out of a matrix whose rows are each head's q, k and v in turn, as GPT-NeoX has it."""
    d_head = len(bias) // (3 * n_heads)

    def rows_of(fused: Tensor, i: int) -> Tensor:
        return fused.unflatten(0, (n_heads, 3, d_head))[:, i].flatten(0, 1).contiguous()

    return by_kind((rows_of(weight, i), rows_of(bias, i)) for i in range(3))


def _split_in_three(weight: Tensor, bias: Tensor) -> ByKind:
    """Out of a matrix whose rows are all q, all k and all v, as GPT-2 has it."""
    return by_kind(zip(weight.chunk(3), bias.chunk(3), strict=True))


def two_maps(into: nn.Module, out: nn.Module, activation: Any, gate: Linear | None = None) -> MLP:
    w_in, b_in = linear(into)
    w_out, b_out = linear(out)
    return MLP(w_in=w_in, b_in=b_in, w_out=w_out, b_out=b_out, activation=activation, gate=gate)


def layer_norm(module: Any) -> Norm:
    return Norm(module.weight.detach(), module.bias.detach(), module.eps)


def _llama_norm(module: Any, hf_model: PreTrainedModel) -> Norm:
    """Llama's RMSNorm, or OLMo's LayerNorm, which has no weights."""
    ones = hf_model.lm_head.weight.new_ones(hf_model.config.hidden_size)
    if hf_model.config.model_type == "olmo":
        return Norm(ones, 0 * ones, 1e-5)
    return Norm(module.weight.detach(), 0 * ones, hf_model.config.rms_norm_eps, centred=False)


def _gemma_norm(module: Any, eps: float) -> Norm:
    weight = _one_more(module)
    return Norm(weight, torch.zeros_like(weight), eps, centred=False)


def _one_more(norm: Any) -> Tensor:
    """1 + the stored weight, which is near 0, in a dtype that keeps its digits."""
    weight = norm.weight.detach()
    return 1 + weight.to(sums_dtype(weight.dtype))


def linear(module: Any) -> Linear:
    """Of a Linear, or of GPT-2's Conv1D, which stores its weight the other way round."""
    weight = module.weight.detach().t() if hasattr(module, "nf") else module.weight.detach()
    return weight, weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach()
