"""Are the weights of a file all in the model, and the model's all from the file?

transformers says what it could not place and goes on: a third layer that config.json does not know
is left out, and what the file lacks stays at random values. Either way it would be another model
that is measured.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

# What older versions of transformers saved besides weights: masks and rotary frequencies, which
# follow from config.json
_BUFFERS = re.compile(
    r"\b(attn|attention|self_attn)\.(bias|masked_bias)$"
    r"|\brotary_emb\.(inv_freq|cos_cached|sin_cached)$|\bposition_ids$"
)
_WRAPPER = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_LAYER = re.compile(r"\b(?:layers|h)\.(\d+)\.")
_ADAPTER = re.compile(r"lora_|adapter|\bbase_layer\.")
_STATES = (
    "state_dict",
    "model_state_dict",
    "model",
    "optimizer",
)  # what a training saves of itself
_TORCHS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_NUMBERS = tuple(_TORCHS.values())
_UNEMBEDDING = ("lm_head.", "embed_out.")  # of a GPT-NeoX: transformers' name has changed
_MODULES = ("gpt_neox.", "transformer.", "model.")  # which hold all but the unembedding


def account_for(report: Mapping[str, Any], folder: Path, n_layers: int) -> None:
    """ValueError, in one line with the cause, unless every tensor has its place.

    report: transformers' of loading the weights in `folder`.
    """
    missing = sorted(report["missing_keys"])
    left_over = sorted(name for name in report["unexpected_keys"] if not _BUFFERS.search(name))
    where = f"the weights in {folder}"
    adapter = any(_ADAPTER.search(name) for name in left_over)
    wrapper = next((match[0] for name in left_over if (match := _WRAPPER.search(name, 1))), None)
    if wrapper:
        raise ValueError(
            f"{where} have names with {wrapper!r} in them, as of a model whose parts were wrapped "
            "when it was saved (torch.compile, FSDP, checkpointing): save them again without, "
            f"{{name.replace({wrapper!r}, ''): w for name, w in weights.items()}}"
        )
    if not adapter and (prefix := _prefix(left_over, missing)):
        raise ValueError(
            f"{where} have names that begin with {prefix!r}, as of a model that was wrapped when "
            "it was saved (torch.compile, DataParallel): save them again without, "
            f"{{name.removeprefix({prefix!r}): w for name, w in weights.items()}}"
        )
    if left_over:
        raise ValueError(
            f"{where} hold {some(left_over)}, for which its model has no place: "
            f"{_cause(left_over, n_layers)}"
        )
    if missing:  # transformers left these at random values
        raise ValueError(
            f"{where} lack {some(missing)}: is config.json another model's? Save or download both "
            "again"
        )
    for name, found, wanted in sorted(report["mismatched_keys"], key=lambda entry: entry[0]):
        raise ValueError(
            f"{where} hold {name} of shape {list(found)}, and by config.json it has "
            f"{list(wanted)}: config.json or the weights are another model's; put the right one "
            "there"
        )


def refuse_other_numbers(files: Sequence[Path]) -> None:
    """ValueError where a weight is not a floating-point number of 16 bits or more.

    transformers makes such numbers of it, whatever they stood for before: of a quantised weight
    without its scale another weight.
    """
    for file in files:
        for name, dtype in _dtypes(file).items():
            if dtype not in _NUMBERS and not _BUFFERS.search(name):
                raise ValueError(
                    f"the weights in {file} hold {name} as {dtype}: quantised weights are not "
                    f"read; save them as plain numbers first ({', '.join(_NUMBERS)})"
                )


def refuse_rivals(files: Sequence[Path], places: Collection[str]) -> None:
    """ValueError where two tensors that differ would go to one place of the model.

    transformers reads some weights under several names, and all files of a sharded set; the last
    one wins. places: names of the model's weights.
    """
    found = defaultdict(list)
    for file in files:
        for name in _names(file):
            found[_place(name, places)].append((file, name))
    for rivals in found.values():
        (file, name), *others = rivals
        for other, name_there in others:
            if not torch.equal(_tensor(file, name), _tensor(other, name_there)):
                raise ValueError(
                    f"the weights in {file.parent} hold {name} ({file.name}) and {name_there} "
                    f"({other.name}), which differ and are the same weight of the model: remove "
                    "the one that is not its own"
                )


def _place(name: str, places: Collection[str]) -> str:
    """Which of the model's weights a tensor becomes; its own name where that is none.

    >>> [_place(name, ["lm_head.w", "model.norm.w"]) for name in ("embed_out.w", "norm.w", "x")]
    ['lm_head.w', 'model.norm.w', 'x']
    """
    names = [name]
    for old in _UNEMBEDDING:
        names += [new + name.removeprefix(old) for new in _UNEMBEDDING if name.startswith(old)]
    for module in _MODULES:
        names += [module + name, name.removeprefix(module)]
    return next((one for one in names if one in places), name)


def _names(file: Path) -> list[str]:
    if file.suffix != ".safetensors":
        return list(unpickled(file))
    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())


def _tensor(file: Path, name: str) -> torch.Tensor:
    if file.suffix != ".safetensors":
        return unpickled(file)[name]
    with safe_open(file, framework="pt") as opened:
        return opened.get_tensor(name)


def _dtypes(file: Path) -> dict[str, str]:
    """{tensor: its dtype}, in safetensors' words where these are other than torch's; no numbers are
    read."""
    if file.suffix != ".safetensors":
        return {
            name: str(tensor.dtype).removeprefix("torch.")
            for name, tensor in unpickled(file).items()
        }
    with safe_open(file, framework="pt") as opened:
        found = {name: opened.get_slice(name).get_dtype() for name in list(opened.keys())}
    return {name: _TORCHS.get(dtype, dtype) for name, dtype in found.items()}


def unpickled(file: Path) -> dict[str, torch.Tensor]:
    """The tensors in a pickle; their numbers stay on disk until they are asked for."""
    mapped = zipfile.is_zipfile(file)  # torch before 1.6 wrote another format
    return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)


def some(names: Collection[str], most: int = 3) -> str:
    """The first few names, and how many there are besides.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    first = ", ".join(list(names)[:most])
    return first if len(names) <= most else f"{first} and {len(names) - most} more"


def _cause(left_over: Collection[str], n_layers: int) -> str:
    """Why these tensors may be left over, and the way out."""
    layers = [int(match[1]) for name in left_over if (match := _LAYER.search(name))]
    if any(_ADAPTER.search(name) for name in left_over):
        return "they are an adapter's (LoRA); merge it into the weights and save these"
    if any(name in _STATES for name in left_over):
        return "this is the state of a training; save the model's weights alone"
    if layers and max(layers) >= n_layers:
        return (
            f"config.json says num_hidden_layers {n_layers}, and there are {max(layers) + 1}; "
            "mend it"
        )
    if all(name.endswith("bias") for name in left_over):
        return "config.json denies these biases (attention_bias, mlp_bias?); mend it"
    return "config.json is another model's, or the file holds more than the model; put that right"


def _prefix(left_over: Collection[str], missing: Collection[str]) -> str:
    """What stands before the names in a file, "" if nothing does.

    >>> _prefix(["module.lm_head.weight"], ["lm_head.weight"])
    'module.'
    """
    wanted = set(missing)
    for module in _MODULES:
        wanted |= {name.removeprefix(module) for name in missing if name.startswith(module)}
    for name in left_over:
        parts = name.split(".")
        for i in range(1, len(parts) - 1):
            if ".".join(parts[i:]) in wanted:
                return ".".join(parts[:i]) + "."
    return ""
