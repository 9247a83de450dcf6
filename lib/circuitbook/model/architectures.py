"""From the modules of transformers to a `Network`: all that is known of how each architecture keeps
its weights."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from circuitbook.model.loaded import Model
from circuitbook.model.network import MLP, Layer, Network, Norm
from circuitbook.model.shape import Shape

# ------------------------------------------------------------------ from transformers


def network_of(model: Model) -> Network:
    """The network of a loaded model (an architecture that is not in `model.ARCHITECTURES` was
    refused when it was loaded)."""
    return _NETWORKS[model.hf_model.config.model_type](model.hf_model, model.shape)


def _gpt_neox(bare, shape: Shape) -> Network:
    body, layers = bare.base_model, []
    for block in body.layers:
        attention, mlp = block.attention, block.mlp
        qkv = _bridged(attention) or _fused(
            *_linear(attention.query_key_value), shape.n_heads, per_head=True
        )
        layers.append(
            _layer(
                shape,
                _layer_norm(block.input_layernorm),
                _layer_norm(block.post_attention_layernorm),
                *qkv,
                attention.dense,
                MLP(*_linear(mlp.dense_h_to_4h), *_linear(mlp.dense_4h_to_h), mlp.act),
            )
        )
    return Network(
        body.embed_in.weight.detach(),
        tuple(layers),
        _layer_norm(body.final_layer_norm),
        bare.lm_head.weight.detach(),
        body.rotary_emb,
        shape.d_head**-0.5,
        shape.parallel,
    )


def _gpt2(bare, shape: Shape) -> Network:
    body, layers = bare.base_model, []
    for block in body.h:
        attention, mlp = block.attn, block.mlp
        qkv = _bridged(attention) or _fused(
            *_linear(attention.c_attn), shape.n_heads, per_head=False
        )
        layers.append(
            _layer(
                shape,
                _layer_norm(block.ln_1),
                _layer_norm(block.ln_2),
                *qkv,
                attention.c_proj,
                MLP(*_linear(mlp.c_fc), *_linear(mlp.c_proj), mlp.act),
            )
        )
    return Network(
        body.wte.weight.detach(),
        tuple(layers),
        _layer_norm(body.ln_f),
        bare.lm_head.weight.detach(),
        None,
        shape.d_head**-0.5,
        shape.parallel,
        body.wpe.weight.detach(),
    )


def _llama(bare, shape: Shape) -> Network:
    """Llama and OLMo, which differ in their norms alone."""
    body, layers, norm = bare.base_model, [], lambda module: _llama_norm(module, bare)
    for block in body.layers:
        attention, mlp = block.self_attn, block.mlp
        qkv = _bridged(attention) or _by_kind(
            _linear(getattr(attention, f"{kind}_proj")) for kind in "qkv"
        )
        layers.append(
            _layer(
                shape,
                norm(block.input_layernorm),
                norm(block.post_attention_layernorm),
                *qkv,
                attention.o_proj,
                MLP(
                    *_linear(mlp.up_proj),
                    *_linear(mlp.down_proj),
                    mlp.act_fn,
                    _linear(mlp.gate_proj),
                ),
            )
        )
    return Network(
        body.embed_tokens.weight.detach(),
        tuple(layers),
        norm(body.norm),
        bare.lm_head.weight.detach(),
        body.rotary_emb,
        shape.d_head**-0.5,
        shape.parallel,
    )


_NETWORKS = {"gpt_neox": _gpt_neox, "gpt2": _gpt2, "llama": _llama, "olmo": _llama}


def _layer(
    shape: Shape,
    norm_attention: Norm,
    norm_mlp: Norm,
    weights: dict[str, Tensor],
    biases: dict[str, Tensor],
    output,
    mlp: MLP,
) -> Layer:
    """A layer from the rows of q, k and v [h e, d] (k and v may have fewer heads), their biases [h
    e] and the output's module."""
    heads = lambda rows: rows.unflatten(0, (-1, shape.d_head))
    groups = (
        lambda part: part
        if len(part) == shape.n_heads
        else part.repeat_interleave(shape.n_heads // len(part), 0)
    )
    w_out, b_out = _linear(output)
    return Layer(
        norm_attention,
        norm_mlp,
        {kind: groups(heads(w)) for kind, w in weights.items()},
        {kind: groups(heads(b)) for kind, b in biases.items()},
        heads(w_out.t()),
        b_out,
        mlp,
    )


Parts = tuple[dict[str, Tensor], dict[str, Tensor]]  # weights and biases by kind


def _by_kind(linear: Iterable[tuple[Tensor, Tensor]]) -> Parts:
    weights, biases = zip(*linear)
    return dict(zip("qkv", weights)), dict(zip("qkv", biases))


def _bridged(attention) -> Parts | None:
    """A bridge has wrapped the model: then its own q, k and v count."""
    return (
        _by_kind(_linear(getattr(attention, kind)) for kind in "qkv")
        if hasattr(attention, "q")
        else None
    )


def _fused(weight: Tensor, bias: Tensor, n_heads: int, per_head: bool) -> Parts:
    """Out of one matrix, whose rows are each head's q, k and v (GPT-NeoX), or all q, all k, all v
    (GPT-2)."""
    e = len(bias) // (3 * n_heads)
    part = lambda rows, i: (
        rows.unflatten(0, (n_heads, 3, e))[:, i].flatten(0, 1).contiguous()
        if per_head
        else rows.chunk(3)[i]
    )
    return _by_kind((part(weight, i), part(bias, i)) for i in range(3))


def _layer_norm(module) -> Norm:
    return Norm(module.weight.detach(), module.bias.detach(), module.eps)


def _llama_norm(module, bare) -> Norm:
    """Llama's RMSNorm, or OLMo's LayerNorm, which has no weights."""
    one = bare.lm_head.weight.new_ones(bare.config.hidden_size)
    if bare.config.model_type == "olmo":
        return Norm(one, 0 * one, 1e-5)
    return Norm(module.weight.detach(), 0 * one, bare.config.rms_norm_eps, centred=False)


def _linear(module) -> tuple[Tensor, Tensor]:
    """Weight [out, in] and bias [out] of a Linear, or of GPT-2's Conv1D, which stores its weight
    the other way round."""
    weight = module.weight.detach().t() if hasattr(module, "nf") else module.weight.detach()
    return weight, weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach()
