"""From the files of a checkpoint to a model in memory, each tensor accounted for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from circuitbook.model.accounting import account_for, refuse_other_numbers, refuse_rivals
from circuitbook.model.config import read_config
from circuitbook.model.devices import check_device
from circuitbook.model.loaded import PREPEND_BOS, CheckpointLike, Model
from circuitbook.model.memory import refuse_what_cannot_fit
from circuitbook.model.olmo_format import as_transformers_has_it
from circuitbook.model.progress import no_progress_bars, quiet
from circuitbook.model.shape import (
    attention_of,
    count_parameters,
    shape_of,
    transformers_class,
)
from circuitbook.model.tokenizers import find_tokenizer, read_tokenizer
from circuitbook.model.weight_io import readable
from circuitbook.weights.files import (
    ADAPTER_ADVICE,
    CONFIG,
    TOKENIZER_FILES,
    adapter_in,
    weight_files,
)
from circuitbook.weights.json_files import read_object


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
    fetched = checkpoint.fetch()
    folder = as_transformers_has_it(fetched, checkpoint.prefer)
    what = f"{checkpoint.model} at step {checkpoint.step}"
    config = read_config(folder, what)
    if adapter := adapter_in(fetched):  # what is converted holds the weights alone
        raise ValueError(f"{fetched} holds {adapter} beside the weights: {ADAPTER_ADVICE}")
    if (tokenizer := find_tokenizer(folder) / TOKENIZER_FILES[0]).is_file():
        read_object(tokenizer)  # says more plainly than the Rust library what is wrong with it
    refuse_what_cannot_fit(what, shape_of(config), dtype, device, _count(config, folder))
    model = read_model(checkpoint, folder, config, device, dtype)
    files = weight_files(folder, checkpoint.prefer)
    refuse_other_numbers(files)
    refuse_rivals(files, model.hf_model.state_dict().keys())
    return model


def read_model(
    checkpoint: CheckpointLike,
    folder: Path,
    config: dict[str, Any],
    device: torch.device,
    dtype: torch.dtype,
) -> Model:
    """The model in a folder that was checked: what of the loading determines a number."""
    files = weight_files(folder, checkpoint.prefer)
    tokenizer = read_tokenizer(find_tokenizer(folder))
    hf_model: Any = _read_weights(folder, files, dtype, config)
    hf_model = hf_model.to(device).eval()
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


def _count(config: dict[str, Any], folder: Path) -> int:
    """`count_parameters`; ValueError where transformers builds no model of this configuration."""
    try:
        return count_parameters(config)
    except Exception as error:  # whatever comes of a value
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ValueError(f"{folder / CONFIG} describes no model ({reason})") from error


def _read_weights(
    folder: Path, files: tuple[Path, ...], dtype: torch.dtype, config: dict[str, Any]
) -> PreTrainedModel:
    """The transformers model from exactly these weight files, each tensor accounted for."""
    model_class: Any = transformers_class(config["model_type"])
    with readable(folder, files), no_progress_bars(), quiet():
        hf_model, report = model_class.from_pretrained(
            folder,
            config=AutoConfig.for_model(**config),
            generation_config=GenerationConfig(),  # not the folder's: nothing is generated
            dtype=dtype,
            attn_implementation=attention_of(config["model_type"]),
            use_safetensors=files[0].suffix == ".safetensors",
            weights_only=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are refused below, in one line
            output_loading_info=True,
        )
    account_for(report, folder, hf_model.config.num_hidden_layers)
    return hf_model
