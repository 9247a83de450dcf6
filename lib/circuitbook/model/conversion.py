"""From a .gguf file to a folder as transformers saves it: once, into the cache.

transformers reads the file; what it would leave out or take for something else without a word is
refused here. The folder holds config.json, the weights in float32 (rounded weights times their
scales, so the numbers are exactly those of transformers' reading) and the tokenizer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging as transformers_logging

from circuitbook.model.progress import no_progress_bars
from circuitbook.model.shape import transformers_class
from circuitbook.model.weight_io import save_weights
from circuitbook.store.cache import folder_once
from circuitbook.weights.gguf import GGUFHeader, conversion_folder, read_header
from circuitbook.weights.hash_memory import HASHES

# general.architecture of the files that both transformers and this library read
GGUF_ARCHITECTURES = ("llama", "gpt2")

# tokenizer.ggml.pre of byte-level vocabularies whose text is split as GPT-2's is, and of those that
# split off every digit first, as llama.cpp has them; transformers splits both as GPT-2's.
_AS_GPT2 = ("gpt-2", "gpt2", "default", "phi-2", "mpt", "olmo", "jais")
_DIGIT_BY_DIGIT = (
    "smollm",
    "starcoder",
    "refact",
    "command-r",
    "codeshell",
    "exaone",
    "minerva-7b",
)


def convert_gguf(path: Path, name: str = "") -> Path:
    """The folder in the cache that holds what is in a .gguf, converted now if it is not there yet.

    It goes by the file's sha256 and the version of this conversion. `name` is for the progress bar.
    ValueError for what cannot be read: a damaged file, an architecture that is not supported,
    tensors that nothing would read, a file without a tokenizer or with one that is not known.
    CacheError where the cache cannot be written.
    """
    folder = conversion_folder(HASHES.sha256(path))
    return folder_once(folder, lambda partial: _convert(path, partial, name or path.stem))


def _convert(path: Path, folder: Path, name: str) -> None:
    header = read_header(path)
    _check_header(path, header)
    with _transformers_reads(path):
        config: Any = AutoConfig.from_pretrained(path.parent, **_only(path))
    if (kind := config.model_type) not in GGUF_ARCHITECTURES:  # Mistral is "llama" in a GGUF file
        raise ValueError(f"{path} is of architecture {kind!r}; {_SUPPORTED}")
    if kind == "gpt2":  # transformers reads it into n_ctx, which nothing looks at
        config.n_positions = header.fields["gpt2.context_length"]
    _save_tokenizer(path, header, folder)
    hf_model = _read_weights(path, header, config, name)
    config = hf_model.config
    if hasattr(config, "quantization_config"):  # the weights are numbers again
        del config.quantization_config
    config.architectures = [type(hf_model).__name__]
    config.save_pretrained(folder)
    tensors = {name: w.detach().contiguous() for name, w in hf_model.named_parameters()}
    save_weights(tensors, folder)


def _only(path: Path) -> dict[str, Any]:
    """For from_pretrained: this file, and nothing from a hub."""
    return {"gguf_file": path.name, "local_files_only": True}


_SUPPORTED = "of .gguf files these are supported: " + ", ".join(map(repr, GGUF_ARCHITECTURES))


def _check_header(path: Path, header: GGUFHeader) -> None:
    """ValueError for what transformers does not read, or reads as if it were something else."""
    fields = header.fields
    kind = fields.get("general.architecture")
    if kind not in GGUF_ARCHITECTURES:
        raise ValueError(f"{path} is of architecture {kind!r}; {_SUPPORTED}")
    if not fields.get("tokenizer.ggml.model") or not fields.get("tokenizer.ggml.tokens"):
        raise ValueError(
            f"{path} holds no tokenizer: take a .gguf with its vocabulary, as llama.cpp's "
            "convert_hf_to_gguf.py writes it"
        )
    if kind == "llama" and "llama.attention.head_count_kv" not in fields:
        # transformers would leave the rows of queries and keys in llama.cpp's order
        raise ValueError(f"{path} does not say how many key and value heads it has: convert anew")
    scaling = fields.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none":
        raise ValueError(f"{path} scales its rotary positions ({scaling}), which is not supported")


def _read_weights(path: Path, header: GGUFHeader, config: Any, name: str) -> Any:
    """transformers' model in float32, with every number of the file in it and no other."""
    model_class: Any = transformers_class(config.model_type)
    with _our_bar_alone(name), _transformers_reads(path):
        hf_model, report = model_class.from_pretrained(
            path.parent,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are refused below, in one line
            output_loading_info=True,
            **_only(path),
        )
    if mismatched := sorted(key for key, *_ in report["mismatched_keys"]):
        raise ValueError(f"{path} holds another shape of {mismatched[0]} than its header tells")
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    read = sum(weight.numel() for weight in hf_model.parameters())
    if read != header.parameters:
        raise ValueError(
            f"{path} holds {header.parameters:,} numbers and the model {read:,}: some of its "
            f"tensors belong to a kind of {config.model_type!r} that is not supported"
        )
    return hf_model


def _save_tokenizer(path: Path, header: GGUFHeader, folder: Path) -> None:
    with _transformers_reads(path):
        tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, **_only(path))
    if header.fields["tokenizer.ggml.model"] == "gpt2":
        _split_text(path, tokenizer, header.fields.get("tokenizer.ggml.pre", "default"))
    tokenizer.save_pretrained(folder)


def _split_text(path: Path, tokenizer: Any, how: object) -> None:
    """Lets text be split, before merging, as it was when the vocabulary's merges were learned."""
    try:
        from transformers.integrations.gguf import gguf_tokenizer_mapping

        read_by_transformers = gguf_tokenizer_mapping.GGUF_PRE_TOKENIZER_SPLITS
    except (ImportError, AttributeError):  # another version of transformers
        read_by_transformers = {}
    if how in _DIGIT_BY_DIGIT:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    elif how not in _AS_GPT2 and how not in read_by_transformers:
        raise ValueError(
            f"{path} holds a tokenizer that is not supported ({how}): how it splits text is unknown"
        )


@contextlib.contextmanager
def _our_bar_alone(name: str) -> Iterator[None]:
    """Hides transformers' bars and reports; the bar over the tensors of the file becomes ours."""
    import transformers.modeling_gguf_pytorch_utils as reading

    def ours(tensors: Iterable[Any], **_: object) -> Iterable[Any]:
        return tqdm(tensors, desc=f"converting {name}, once", unit="tensor", leave=False)

    before: Any = reading.tqdm
    said = transformers_logging.get_verbosity()
    vars(reading)["tqdm"] = ours
    transformers_logging.set_verbosity_error()
    try:
        with no_progress_bars():
            yield
    finally:
        vars(reading)["tqdm"] = before
        transformers_logging.set_verbosity(said)


@contextlib.contextmanager
def _transformers_reads(path: Path) -> Iterator[None]:
    """What transformers raises within, about a file whose header is sound, becomes one line."""
    try:
        yield
    except (ValueError, RuntimeError, TypeError, KeyError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} cannot be read: {reason}") from error
