"""From the format of OLMo's own code ("hf_olmo") to a folder as transformers saves it, once.

transformers does not read that format, and the code that does is not run here. With RMSNorms that
have weights (DataDecide) it is a Llama; with LayerNorms that have none (the first OLMo) it is
transformers' OLMo. Only the layout differs: queries, keys and values lie in one matrix, and so do
the MLP's two input maps, the gate behind the other. What is neither is refused by its setting.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from circuitbook.model.accounting import some, unpickled
from circuitbook.model.tokenizers import find_tokenizer
from circuitbook.model.weight_io import readable, save_weights
from circuitbook.store.cache import cache_path, folder_once
from circuitbook.weights.files import (
    CONFIG,
    join_hashes,
    settings_ids,
    tokenizer_names,
    weight_files,
)
from circuitbook.weights.hash_memory import HASHES
from circuitbook.weights.json_files import read_object, shown

OWN = "hf_olmo"
_VERSION = "1"  # of this conversion
_PREFIX = "model.transformer."

# OLMo's settings, each with what it is where config.json does not say, and what is read
_READ: dict[str, tuple[object, Collection[object]]] = {
    "activation_type": ("swiglu", ("swiglu",)),
    "block_type": ("sequential", ("sequential",)),
    "block_group_size": (1, (1,)),
    "alibi": (False, (False,)),
    "rope": (False, (True,)),
    "attention_layer_norm": (False, (False,)),
    "embedding_layer_norm": (False, (False,)),
    "include_bias": (True, (False,)),
    "bias_for_layer_norm": (None, (False, None)),
    "scale_logits": (False, (False,)),
    "norm_after": (False, (False,)),
    "multi_query_attention": (None, (False, None)),
}

# Its names of sizes, and what they are where config.json does not say
_SIZES = {
    "d_model": None,
    "n_heads": None,
    "n_layers": None,
    "max_sequence_length": None,
    "vocab_size": None,
    "mlp_ratio": 4,
}


def as_transformers_has_it(folder: Path, prefer: str = "safetensors") -> Path:
    """The folder itself, or of one in OLMo's own format that in the cache which it becomes.

    That goes by the hashes of its files. ValueError where a setting or a tensor is not read.
    """
    if not (folder / CONFIG).is_file() or read_object(folder / CONFIG).get("model_type") != OWN:
        return folder
    hashes = [HASHES.sha256(file) for file in weight_files(folder, prefer)]
    hashes += [_VERSION, *sorted(settings_ids(folder).values())]
    place = cache_path() / "olmo" / join_hashes(hashes)[:32]
    return folder_once(place, lambda partial: _convert(folder, prefer, partial))


def _convert(folder: Path, prefer: str, into: Path) -> None:
    own = read_object(folder / CONFIG)
    config = transformers_config(own, folder / CONFIG)
    tensors: dict[str, Tensor] = {}
    files = weight_files(folder, prefer)
    with readable(folder, files):
        for file in files:
            tensors |= load_file(file) if file.suffix == ".safetensors" else unpickled(file)
    tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    weights = transformers_weights(tensors, config, str(folder))
    (into / CONFIG).write_text(json.dumps(config, indent=2))
    save_weights(weights, into)
    tokenizer = find_tokenizer(folder)
    for name in tokenizer_names({path.name for path in tokenizer.iterdir()}):
        shutil.copyfile(tokenizer / name, into / name)


def transformers_config(own: dict[str, Any], where: Path) -> dict[str, Any]:
    """transformers' config.json of a model whose own is `own`. ValueError, with `where`, for a
    setting that is not read."""
    for name, (default, read) in _READ.items():
        if (value := own.get(name, default)) not in read:
            raise ValueError(
                f"{where}: {name} is {shown(value)}; of OLMo's own format only "
                f"{' or '.join(shown(good) for good in read)} is read"
            )
    norm, affine = own.get("layer_norm_type", "default"), own.get("layer_norm_with_affine", True)
    if (norm, affine) not in (("rms", True), ("default", False)):
        raise ValueError(
            f"{where}: layer_norm_type is {shown(norm)}, layer_norm_with_affine {shown(affine)}; "
            "read are RMSNorms with weights and LayerNorms without"
        )
    sizes: dict[str, Any] = {name: own.get(name) or usual for name, usual in _SIZES.items()}
    sizes["mlp_hidden_size"] = own.get("mlp_hidden_size") or 2
    for name, value in sizes.items():
        if type(value) is not int or value < 1:
            raise ValueError(
                f"{where}: {name} is {shown(value)}; a whole number from 1 on is needed"
            )
    hidden = own.get("mlp_hidden_size") or sizes["mlp_ratio"] * sizes["d_model"]
    config = {
        "hidden_size": sizes["d_model"],
        "intermediate_size": hidden // 2,
        "num_attention_heads": sizes["n_heads"],
        "num_key_value_heads": own.get("n_kv_heads") or sizes["n_heads"],
        "num_hidden_layers": sizes["n_layers"],
        "max_position_embeddings": sizes["max_sequence_length"],
        "vocab_size": own.get("embedding_size", 50_304) or sizes["vocab_size"],
        "tie_word_embeddings": own.get("weight_tying", True),
        "rope_theta": own.get("rope_theta", 10_000),
        "eos_token_id": own.get("eos_token_id"),
        "pad_token_id": own.get("pad_token_id"),
        "bos_token_id": None,
        "attention_bias": False,
        "hidden_act": "silu",
    }
    eps, clip = own.get("layer_norm_eps", 1e-5), own.get("clip_qkv")
    if norm == "rms" and clip is None:
        return {"model_type": "llama", "rms_norm_eps": eps, "mlp_bias": False} | config
    if norm == "rms" or eps != 1e-5:
        name, value = ("clip_qkv", clip) if norm == "rms" else ("layer_norm_eps", eps)
        raise ValueError(f"{where}: {name} is {shown(value)}, which is not read with {norm} norms")
    return {"model_type": "olmo", "clip_qkv": clip} | config


def transformers_weights(
    tensors: dict[str, Tensor], config: dict[str, Any], where: str
) -> dict[str, Tensor]:
    """The weights under transformers' names; ValueError for one that is missing or left over."""
    left, weights = dict(tensors), {}
    d_head = config["hidden_size"] // config["num_attention_heads"]
    rows = [config[name] * d_head for name in ("num_attention_heads", *["num_key_value_heads"] * 2)]

    def take(name: str) -> Tensor:
        if name not in left:
            raise ValueError(f"the weights in {where} lack {_PREFIX}{name}: download them again")
        return left.pop(name)

    weights["model.embed_tokens.weight"] = take("wte.weight")
    if config["model_type"] == "llama":
        weights["model.norm.weight"] = take("ln_f.weight")
    if not config["tie_word_embeddings"]:
        weights["lm_head.weight"] = take("ff_out.weight")
    for i in range(config["num_hidden_layers"]):
        ours, theirs = f"model.layers.{i}.", f"blocks.{i}."
        for kind, part in zip("qkv", take(f"{theirs}att_proj.weight").split(rows), strict=True):
            weights[f"{ours}self_attn.{kind}_proj.weight"] = part
        weights[f"{ours}self_attn.o_proj.weight"] = take(f"{theirs}attn_out.weight")
        up, gate = take(f"{theirs}ff_proj.weight").chunk(2)
        weights[f"{ours}mlp.up_proj.weight"], weights[f"{ours}mlp.gate_proj.weight"] = up, gate
        weights[f"{ours}mlp.down_proj.weight"] = take(f"{theirs}ff_out.weight")
        if config["model_type"] == "llama":
            weights[f"{ours}input_layernorm.weight"] = take(f"{theirs}attn_norm.weight")
            weights[f"{ours}post_attention_layernorm.weight"] = take(f"{theirs}ff_norm.weight")
    if left:
        raise ValueError(
            f"the weights in {where} hold {some(sorted(left))}, for which its model has no place: "
            "config.json is another model's, or the file holds more than the model"
        )
    return {name: weight.contiguous() for name, weight in weights.items()}
