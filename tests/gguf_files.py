"""Tiny GGUF files, written as llama.cpp's convert_hf_to_gguf.py writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from transformers.convert_slow_tokenizer import bytes_to_unicode

MERGES = ["Ġ M", "a r", "ar y", "ĠM ary", "1 7"]
TOKENS = ["<|endoftext|>", *bytes_to_unicode().values(), *(m.replace(" ", "") for m in MERGES)]

LLAMA = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GPT2 = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def write_gguf(
    path: Path,
    network: Any,
    *,
    architecture: str | None = None,
    quantized: bool = False,
    tokenizer: bool = True,
    change: dict[str, object] | None = None,
    drop: tuple[str, ...] = (),
    extra: dict[str, np.ndarray] | None = None,
) -> Path:
    """A Llama or GPT-2 in float32, or `quantized` to 8 bits, and a byte-level tokenizer.

    architecture: another than is true; change: {key: value} beyond or instead of the usual ones;
    drop: keys and tensors to leave out; extra: tensors beyond the usual ones.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    config = network.config
    kind = config.model_type
    writer = GGUFWriter(path, architecture or kind)
    fields: dict[str, object] = {
        f"{kind}.block_count": config.num_hidden_layers,
        f"{kind}.context_length": config.max_position_embeddings,
        f"{kind}.embedding_length": config.hidden_size,
        f"{kind}.attention.head_count": config.num_attention_heads,
    }
    if kind == "llama":
        fields |= {
            "llama.feed_forward_length": config.intermediate_size,
            "llama.attention.head_count_kv": config.num_key_value_heads,
            "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
            "llama.rope.freq_base": float(config.rope_parameters["rope_theta"]),
            "llama.rope.dimension_count": config.hidden_size // config.num_attention_heads,
            "llama.vocab_size": config.vocab_size,
        }
    else:
        fields["gpt2.attention.layer_norm_epsilon"] = config.layer_norm_epsilon
    if tokenizer:
        assert len(TOKENS) == config.vocab_size
        fields |= {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": TOKENS,
            "tokenizer.ggml.token_type": [3] + [1] * (len(TOKENS) - 1),  # 3: control
            "tokenizer.ggml.merges": MERGES,
            "tokenizer.ggml.bos_token_id": 0,
            "tokenizer.ggml.eos_token_id": 0,
        }
    for key, value in (fields | (change or {})).items():
        if key in drop:
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for name, weight in tensors_of(network).items():
        if name in drop:
            continue
        if quantized and weight.ndim == 2:
            writer.add_tensor(name, blocks_of(weight), raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, weight)
    for name, weight in (extra or {}).items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors_of(network: Any) -> dict[str, np.ndarray]:
    """{GGUF's name: weight}: queries and keys with their rotary rows paired, GPT-2's turned."""
    config, tensors = network.config, {}
    for full, parameter in network.named_parameters():
        name, _, what = full.rpartition(".")
        weight = parameter.detach().float().numpy()
        prefix = ""
        if ".layers." in name or ".h." in name:
            number, name = name.split(".", 3)[2:]
            prefix = f"blk.{number}."
        short = (LLAMA if config.model_type == "llama" else GPT2)[name]
        if config.model_type == "llama" and short in ("attn_q", "attn_k"):
            pair = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
            weight = paired(weight, pair[short])
        if config.model_type == "gpt2" and weight.ndim == 2 and prefix:
            weight = weight.T  # Conv1D keeps it the other way round
        tensors[f"{prefix}{short}.{what}"] = np.ascontiguousarray(weight)
    return tensors


def paired(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows i and i + d/2 of each head, which rotate together, side by side."""
    rows = []
    d_head = len(weight) // heads
    for head in range(heads):
        for i in range(d_head // 2):
            rows += [weight[head * d_head + i], weight[head * d_head + d_head // 2 + i]]
    return np.stack(rows)


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """What 8 bits leave of a matrix: of each 32 numbers, whole multiples of the largest / 127."""
    blocks = weight.detach().reshape(-1, 32)
    scale = (blocks.abs().amax(1, keepdim=True) / 127).half().float()
    return (blocks / scale).round().clamp(-127, 127).mul(scale).reshape(weight.shape)


def blocks_of(weight: np.ndarray) -> np.ndarray:
    """The same as bytes: a float16 scale and 32 whole numbers at a time."""
    blocks = torch.from_numpy(weight.copy()).reshape(-1, 32)
    scale = (blocks.abs().amax(1, keepdim=True) / 127).half()
    whole = (blocks / scale.float()).round().clamp(-127, 127).to(torch.int8)
    rows = np.concatenate([scale.numpy().view(np.uint8), whole.numpy().view(np.uint8)], 1)
    return rows.reshape(len(weight), -1)
