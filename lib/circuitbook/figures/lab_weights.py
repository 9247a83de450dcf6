"""Weights as files that the lab loads, beside the site: one checkpoint each, of the mini suite and
of the runs on ordered lists.

A page opened from disk may not read other files, but it may load scripts. So a file is a script
that puts the checkpoint's float16 numbers, as base64, under its name: see `js/weights.js`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from circuitbook.suites.suite import Suite

BUDGET = 30_000_000  # bytes of all files: a site stays small enough for any host
FOLDER = "lab"  # in _static

_LAYER = (
    "input_layernorm.weight",
    "input_layernorm.bias",
    "post_attention_layernorm.weight",
    "post_attention_layernorm.bias",
    "attention.query_key_value.weight",
    "attention.query_key_value.bias",
    "attention.dense.weight",
    "attention.dense.bias",
    "mlp.dense_h_to_4h.weight",
    "mlp.dense_h_to_4h.bias",
    "mlp.dense_4h_to_h.weight",
    "mlp.dense_4h_to_h.bias",
)


def names_of(layers: int) -> Iterator[str]:
    """Names of the weights in the order in which a file has them."""
    yield "gpt_neox.embed_in.weight"
    for layer in range(layers):
        yield from (f"gpt_neox.layers.{layer}.{name}" for name in _LAYER)
    yield from ("gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias")
    yield "embed_out.weight"


def shape_of(folder: Path) -> dict[str, Any]:
    """What `js/weights.js` must know of a model besides its weights, from its config.json.

    ValueError if the lab's engine cannot run it: it is for GPT-NeoX with parallel blocks alone.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    asked = {"model_type": "gpt_neox", "use_parallel_residual": True, "hidden_act": "gelu"}
    for name, value in asked.items():
        if config.get(name) != value:
            raise ValueError(f"{folder}: the lab runs models with {name} {value!r} only")
    rope = config["rope_parameters"]
    d_head = config["hidden_size"] // config["num_attention_heads"]
    return {
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "width": config["hidden_size"],
        "hidden": config["intermediate_size"],
        "vocab": config["vocab_size"],
        "rotary": int(d_head * rope["partial_rotary_factor"]),
        "base": rope["rope_theta"],
        "eps": config["layer_norm_eps"],
        "context": config["max_position_embeddings"],
    }


def weights_script(folder: Path, key: str) -> str:
    """The file of a checkpoint, whose weights are in `folder`: its numbers under `key`."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    order = names_of(shape_of(folder)["layers"])
    halves = np.concatenate([tensors[name].astype("<f2").ravel() for name in order])
    text = base64.b64encode(halves.tobytes()).decode()
    return f'(globalThis.labWeights??={{}})["{key}"]="{text}";\n'


def key_of(model: str, step: int) -> str:
    """The name of a checkpoint, and of its file without ending."""
    return f"{model}-{step}"


def file_size(folder: Path) -> int:
    """About how many bytes the checkpoint's file has, and hardly too few."""
    return 4 * -(-(folder / "model.safetensors").stat().st_size // 3) + 100


def shipped(suite: Suite, budget: int = BUDGET) -> dict[str, list[int]]:
    """Which checkpoints lie beside the site, {model: steps}.

    Small to large, all of a model's as long as they leave room for the last of every other model;
    of the others the last, and the seeds' last where there is room.
    """
    steps = {model: suite.steps(model) for model in suite.models}
    last = {model: _bytes(suite, model, steps[model][-1:]) for model in suite.models}
    left = budget
    chosen: dict[str, list[int]] = {}
    for i, model in enumerate(suite.standard):
        whole = _bytes(suite, model, steps[model])
        others = sum(last[other] for other in suite.standard[i + 1 :])
        wanted = steps[model] if whole + others <= left else steps[model][-1:]
        chosen |= _if_it_fits(model, wanted, _bytes(suite, model, wanted), left)
        left -= _bytes(suite, model, chosen.get(model, []))
    for model in suite.variants:
        chosen |= _if_it_fits(model, steps[model][-1:], last[model], left)
        left -= last[model] if model in chosen else 0
    return chosen


def beside_the_site(suite: Suite) -> dict[str, list[int]]:
    """Which checkpoints of a suite that comes with the book its site has, {model: steps}: of the
    mini suite what `shipped` says, of another the last ones."""
    if suite.name == "mini":
        return shipped(suite)
    return {model: list(suite.steps(model)[-1:]) for model in suite.models}


def _if_it_fits(model: str, steps: Iterable[int], size: int, left: int) -> dict[str, list[int]]:
    return {model: list(steps)} if size <= left else {}


def _bytes(suite: Suite, model: str, steps: Iterable[int]) -> int:
    return sum(file_size(suite.checkpoint(model, step).fetch()) for step in steps)


def weights_files(
    suite: Suite, checkpoints: Mapping[str, Iterable[int]] | None = None
) -> Iterator[tuple[str, str]]:
    """(name of a file in _static, its text) of the checkpoints; those of `beside_the_site`, unless
    told."""
    chosen = beside_the_site(suite) if checkpoints is None else checkpoints
    for model, steps in chosen.items():
        for step in steps:
            key = key_of(model, step)
            folder = suite.checkpoint(model, step).fetch()
            yield f"{FOLDER}/{key}.js", weights_script(folder, key)
