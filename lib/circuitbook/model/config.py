"""config.json of a checkpoint: read, and refused where no right numbers could come of it.

Nothing is built for it, so a configuration of 100,000 layers is refused at once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from circuitbook.model.olmo_format import OWN, transformers_config
from circuitbook.model.progress import quiet
from circuitbook.model.shape import ARCHITECTURES
from circuitbook.weights.files import CONFIG
from circuitbook.weights.json_files import read_object, shown

# Settings that change what a layer computes: {model_type: {setting: the value that is supported}}
_ONLY: dict[str, dict[str, object]] = {
    "gpt2": {
        "scale_attn_weights": True,
        "add_cross_attention": False,
    },
    # a bias behind which a norm stands belongs to no head, and is not the same for all inputs
    "olmo2": {"attention_bias": False},
    "olmo3": {"attention_bias": False},
    "gemma2": {"attention_bias": False, "use_bidirectional_attention": False},
    "gemma3_text": {
        "attention_bias": False,
        "use_bidirectional_attention": False,
        "attn_logit_softcapping": None,  # which transformers reads and does not heed
    },
}

# Why some that people ask for are not read
_EXPERTS = "a mixture of experts, which has no single MLP"
_NOT_READ = {
    "gemma3": "of images and text, of which only the language model is read, saved by itself (in "
    "transformers: text = Gemma3ForCausalLM(both.config.text_config); text.model = "
    "both.model.language_model; text.tie_weights(); text.save_pretrained(folder))",
    "mixtral": _EXPERTS,
    "olmoe": _EXPERTS,
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
}

# How attention is computed is chosen here, not by a checkpoint (which may ask for what is not
# installed).
_OURS = ("_attn_implementation", "attn_implementation", "_attn_implementation_internal")

_QUANTISED = ("quantization_config", "compression_config")

# transformers' names of sizes, and those that may be left open
_SIZES = (
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_size",
    "vocab_size",
    "max_position_embeddings",
)
_OPEN_SIZES = ("num_key_value_heads", "intermediate_size", "n_inner", "head_dim", "sliding_window")
_MOST = {"num_hidden_layers": 1000}  # the deepest language models have some 130
_LARGEST = 2**31 - 1
_ABOVE_0 = (
    "clip_qkv",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
)
_EPSILONS = ("layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps")

# What layers attend to: all that stands before, or a window, beyond which prompts are refused
_LAYERS = ("full_attention", "sliding_attention")

# Rotary positions that do not depend on how long a prompt is. With the others a prompt's first
# tokens, which circuits run once for all that follows, would have to be run again.
_ROTARY = ("default", "linear", "llama3", "yarn")


def read_config(folder: Path, what: str = "") -> dict[str, Any]:
    """config.json of a supported model, without its choice of an attention implementation.

    what: the checkpoint, for errors. ValueError, naming the file, where it is damaged, of an
    architecture, or with settings or sizes, that are not supported.
    """
    file = folder / CONFIG
    config = {name: value for name, value in read_object(file).items() if name not in _OURS}
    if config.get("model_type") == OWN:
        config = transformers_config(config, file)
    _check_architecture(config, what or str(file), file)
    for name in _QUANTISED:
        if config.pop(name, None):
            raise ValueError(
                f"{file} has a {name}: quantised weights are not read; save them as plain numbers "
                "first (in transformers: model.dequantize(), then save_pretrained)"
            )
    _check_sizes(config, file)
    return config


def _check_architecture(config: dict[str, Any], what: str, file: Path) -> None:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        known = ", ".join(f"{name!r} ({who})" for name, (_, who) in ARCHITECTURES.items())
        why = f", {_NOT_READ[kind]}" if kind in _NOT_READ else ""
        raise ValueError(
            f"{what} is of architecture {shown(kind)}{why}; these are supported: {known} "
            f"(see {file})"
        )
    for setting, supported in _ONLY.get(kind, {}).items():
        value = config.get(setting, supported)
        if value != supported and (value or supported):  # null is as good as False
            raise ValueError(
                f"{what} is of architecture {kind!r} with {setting} = {value!r}; "
                f"only {supported!r} is supported (see {file})"
            )


def _check_sizes(config: dict[str, Any], file: Path) -> None:
    """ValueError unless a model can have these sizes."""
    from transformers import AutoConfig

    for name, value in config.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{file}: {name} is {value}; a number is needed")
    try:
        with quiet():
            c: Any = AutoConfig.for_model(**config)  # knows each architecture's names and defaults
    except Exception as error:  # whatever transformers makes of a value
        raise ValueError(f"{file} cannot be used: {_one_line(error)}") from error
    name_of = {name: c.attribute_map.get(name, name) for name in (*_SIZES, *_OPEN_SIZES)}
    for name, written in name_of.items():
        value, most = getattr(c, name, None), _MOST.get(name, _LARGEST)
        if value is None and name in _OPEN_SIZES:
            continue
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(
                f"{file}: {written} is {shown(value)}; a whole number from 1 to {most:,} is needed"
            )
    heads, width = c.num_attention_heads, c.hidden_size
    if not config.get("head_dim") and width % heads:
        raise ValueError(
            f"{file}: {name_of['hidden_size']} {width} cannot be divided among {heads} heads"
        )
    if heads % (shared := getattr(c, "num_key_value_heads", None) or heads):
        raise ValueError(f"{file}: {heads} heads cannot share {shared} keys and values evenly")
    for name in _EPSILONS:
        if not _is_number(eps := getattr(c, name, 0.0)) or eps < 0:
            raise ValueError(f"{file}: {name} is {shown(eps)}; a small number is expected")
    for name in _ABOVE_0:
        value = getattr(c, name, None)
        if value is not None and (not _is_number(value) or value <= 0):
            raise ValueError(
                f"{file}: {name} is {shown(value)}; null or a number above 0 is expected"
            )
    turned = getattr(c, "no_rope_layers", None)
    if turned is not None and len(turned) != c.num_hidden_layers:
        raise ValueError(
            f"{file}: no_rope_layers speaks of {len(turned)} layers, and the model has "
            f"{c.num_hidden_layers}"
        )
    for kind in getattr(c, "layer_types", None) or []:
        if kind not in _LAYERS:
            raise ValueError(
                f"{file}: layers of type {shown(kind)} are not supported, only "
                f"{' and '.join(map(repr, _LAYERS))}"
            )
    if config["model_type"] != "gpt2":
        _check_rotary(c, file)


def _check_rotary(c: Any, file: Path) -> None:
    """ValueError for rotary positions that the forward pass does not reproduce exactly."""
    ropes = getattr(c, "rope_parameters", None) or {}
    kinds = [kind for kind in ropes if kind in (getattr(c, "layer_types", None) or [])]
    for rope in [ropes[kind] for kind in kinds] or [ropes]:  # each kind of layer may have its own
        _check_one_rotary(rope or {}, c, file)


def _check_one_rotary(rope: dict[str, Any], c: Any, file: Path) -> None:
    kind = rope.get("rope_type", "default")
    if kind not in _ROTARY:
        way = ""
        if kind == "dynamic":
            way = (
                f'; up to {c.max_position_embeddings} tokens "default" gives the same numbers: '
                "change it to that if prompts are no longer"
            )
        raise ValueError(
            f"{file}: rotary positions of type {shown(kind)} are not supported, only "
            f"{', '.join(map(repr, _ROTARY))}{way}"
        )
    for name in ("rope_theta", "factor"):
        if not _is_number(value := rope.get(name, 1.0)) or value <= 0:
            raise ValueError(f"{file}: {name} is {shown(value)}; a number above 0 is expected")
    share = rope.get("partial_rotary_factor", 1.0)
    d_head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    turned = 2 * math.ceil(int(d_head * share) / 2) if _is_number(share) and share >= 0 else -1
    if not 0 <= turned <= d_head or (turned < d_head and c.model_type != "gpt_neox"):
        raise ValueError(
            f"{file}: rotary positions cannot turn {shown(share)} of a head's {d_head} dimensions: "
            "in pairs, no more than there are and, but for GPT-NeoX, all"
        )


def _is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and abs(value) < 2**63 and math.isfinite(value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
