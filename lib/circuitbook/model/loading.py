"""From the files of a checkpoint to a model in memory, each tensor accounted for."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel

from circuitbook.model.devices import check_device
from circuitbook.model.loaded import PREPEND_BOS, CheckpointLike, Model
from circuitbook.model.memory import refuse_what_cannot_fit
from circuitbook.model.progress import no_progress_bars
from circuitbook.model.shape import ARCHITECTURES, count_parameters, shape_of, transformers_class
from circuitbook.weights.files import tokenizer_folder, weight_files

# Settings that change what a layer computes: {model_type: {setting: the value that is supported}}
_ONLY: dict[str, dict[str, object]] = {
    "gpt2": {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    "olmo": {"clip_qkv": None},
}


def load_model(
    checkpoint: CheckpointLike, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Model:
    """The checkpoint as a Model on `device`, its weights in `dtype`; float32 unless told otherwise.

    ValueError for a device that is not there or has too little memory, an architecture that is not
    supported, or weights that cannot be read. Pickled weights are read as weights only: a pickle
    that holds code is refused and nothing in it runs.
    """
    device = check_device(device)
    dtype = dtype or torch.float32
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(
            f"dtype {dtype!r} is not one for weights; give torch.float32 or torch.bfloat16"
        )
    if dtype == torch.float16 and checkpoint.model.startswith("pythia"):
        warnings.warn(
            "float16 is too narrow for Pythia (70m gives NaN); use torch.bfloat16 or float32",
            stacklevel=3,
        )
    folder = checkpoint.fetch()
    what = f"{checkpoint.model} at step {checkpoint.step}"
    check_architecture(folder, what)
    if tokenizer_folder(folder) is None:
        raise ValueError(
            f"{folder} holds no tokenizer: tokenizer.json is expected beside the weights, or in "
            "the folder above"
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    refuse_what_cannot_fit(what, shape_of(config), dtype, device, count_parameters(config))
    return read_model(checkpoint, folder, device, dtype)


def read_model(
    checkpoint: CheckpointLike, folder: Path, device: torch.device, dtype: torch.dtype
) -> Model:
    """The model in a folder that was checked: what of the loading determines a number."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    files = weight_files(folder, checkpoint.prefer)
    hf_model: Any = _read_weights(folder, files, dtype, config["model_type"])
    hf_model = hf_model.to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(
        tokenizer_folder(folder), trust_remote_code=False, local_files_only=True
    )
    if checkpoint.prepend_bos:
        tokenizer.init_kwargs[PREPEND_BOS] = True
    return Model(
        checkpoint=checkpoint,
        hf_model=hf_model,
        tokenizer=tokenizer,
        shape=shape_of(config),
        device=device,
        dtype=dtype,
        folder=folder,
    )


def check_architecture(folder: Path, what: str) -> None:
    """ValueError, naming the architecture, unless the folder's model is of a supported one."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        known = ", ".join(f"{name!r} ({who})" for name, (_, who) in ARCHITECTURES.items())
        raise ValueError(f"{what} is of architecture {kind!r}; these are supported: {known}")
    for setting, supported in _ONLY.get(kind, {}).items():
        if (value := config.get(setting, supported)) != supported:
            raise ValueError(
                f"{what} is of architecture {kind!r} with {setting} = {value!r}; "
                f"only {supported!r} is supported"
            )


def _read_weights(
    folder: Path, files: tuple[Path, ...], dtype: torch.dtype, kind: str
) -> PreTrainedModel:
    """The transformers model from exactly these weight files, each tensor accounted for."""
    model_class: Any = transformers_class(kind)
    try:
        with no_progress_bars():
            hf_model, report = model_class.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=files[0].suffix == ".safetensors",
                weights_only=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except pickle.UnpicklingError as error:
        reason = "holds more than weights, or is damaged"
        raise ValueError(f"{files[0]} {reason}; it is not read, since it might run code") from error
    except (SafetensorError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"the weights in {folder} cannot be read ({reason}): restore or download them"
        ) from error
    if report["missing_keys"]:  # transformers would leave these at random values
        raise ValueError(
            f"the weights in {folder} lack {', '.join(sorted(report['missing_keys']))}"
        )
    return hf_model
