"""Small random models of every architecture, to try on them that its numbers are right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from circuitbook.model.shape import attention_of

ROTARY = {"rope_type": "default", "rope_theta": 10_000.0}
BY_LAYER = {
    "sliding_attention": ROTARY | {"rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 8.0},
}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An architecture as transformers has it, with the settings that make it what it is."""

    model_type: str
    example: str
    difference: str
    """From the others, in a line."""
    settings: dict[str, Any] = field(default_factory=dict)


_LIKE_LLAMA = {"pad_token_id": 0, "rope_parameters": ROTARY}


def _kin(model_type: str, example: str, difference: str, **settings: Any) -> Sample:
    """Of Llama's kin, with heads that share keys and values."""
    shared = _LIKE_LLAMA | {"num_key_value_heads": 2}
    return Sample(
        model_type=model_type, example=example, difference=difference, settings=shared | settings
    )


_GEMMA = {
    "head_dim": 8,
    "query_pre_attn_scalar": 6,
    "sliding_window": 32,
    "layer_types": ["sliding_attention", "full_attention"],
    "tie_word_embeddings": True,
}


SAMPLES = {
    "gpt_neox": Sample(
        model_type="gpt_neox",
        example="Pythia, the mini suite",
        difference="heads and MLP of a layer read the same stream",
        settings={"rope_parameters": ROTARY | {"partial_rotary_factor": 0.25}},
    ),
    "gpt_neox, sequential": Sample(
        model_type="gpt_neox",
        example="use_parallel_residual = false",
        difference="the MLP reads what the heads of its layer wrote, as in all that follow",
        settings={
            "rope_parameters": ROTARY | {"partial_rotary_factor": 0.25},
            "use_parallel_residual": False,
        },
    ),
    "gpt2": Sample(
        model_type="gpt2", example="GPT-2", difference="learned positions instead of rotary"
    ),
    "gpt2, scaled": Sample(
        model_type="gpt2",
        example="the GPT-2 runs of stanford-crfm",
        difference="layer i divides its attention scores by i + 1",
        settings={"scale_attn_by_inverse_layer_idx": True},
    ),
    "llama": _kin(
        "llama",
        "Llama, SmolLM, SmolLM2, Amber",
        "RMSNorm; a gated MLP; heads may share keys and values",
    ),
    "olmo": Sample(
        model_type="olmo",
        example="OLMo 1",
        difference="as Llama, with a LayerNorm without weights",
        settings=_LIKE_LLAMA,
    ),
    "olmo, clipped": Sample(
        model_type="olmo",
        example="OLMo 1 of 2024",
        difference="clips queries, keys and values",
        settings=_LIKE_LLAMA | {"clip_qkv": 0.8},
    ),
    "mistral": _kin(
        "mistral", "Mistral", "as Llama; prompts no longer than its window", sliding_window=32
    ),
    "qwen2": _kin("qwen2", "Qwen 2, 2.5", "as Llama, with biases on queries, keys and values"),
    "qwen3": _kin("qwen3", "Qwen 3", "as Llama; each head norms its queries and keys", head_dim=8),
    "smollm3": _kin(
        "smollm3",
        "SmolLM3",
        "as Llama; some layers without rotary embedding",
        no_rope_layers=[1, 0],
    ),
    "olmo2": _kin(
        "olmo2",
        "OLMo 2",
        "norms behind attention and MLP, not before; one over all queries, or keys",
    ),
    "olmo3": _kin(
        "olmo3", "OLMo 3", "as OLMo 2; prompts no longer than its window", sliding_window=32
    ),
    "gemma2": _kin(
        "gemma2",
        "Gemma 2",
        "norms before and behind attention and MLP; attention scores and logits are capped",
        **_GEMMA,
        attn_logit_softcapping=3.0,
        final_logit_softcapping=6.0,
    ),
    "gemma3_text": _kin(
        "gemma3_text",
        "Gemma 3 of text alone",
        "as Gemma 2 without caps; each head norms its queries and keys; layers with a window "
        "turn them in another way",
        **_GEMMA | {"rope_parameters": BY_LAYER},
    ),
}

LAYERS, HEADS, WIDTH, VOCABULARY = 2, 4, 16, 20


def random_model(sample: Sample, seed: int = 0) -> Any:
    """transformers' model of this kind with two layers of four heads, in float64.

    Weights, biases and norms are random and so large that every part moves the logits.
    """
    config = AutoConfig.for_model(
        sample.model_type,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        hidden_size=WIDTH,
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
        **({} if sample.model_type == "gpt2" else {"intermediate_size": 4 * WIDTH}),
        **sample.settings,
    )
    hf_model: Any = AutoModelForCausalLM.from_config(
        config, attn_implementation=attention_of(sample.model_type)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in hf_model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            scale = 2 / WIDTH**0.5 if weight.ndim == 2 else 0.3
            of_norm = ("norm" in name or "ln_" in name) and name.endswith("weight")
            around_1 = of_norm and not sample.model_type.startswith("gemma")  # adds the 1 itself
            weight.copy_(noise * scale + around_1)
    return hf_model.double().eval()
