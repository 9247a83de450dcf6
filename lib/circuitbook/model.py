"""One loaded checkpoint: the transformers model, a TransformerBridge around it, its tokenizer and its shape.

    model = checkpoint.load(device="cuda", dtype=torch.bfloat16)
    model.logits(tokens, positions)         # [n, d_vocab] at the END positions
    model.bridge.run_with_cache(tokens)     # everything that TransformerLens offers

The weights are the checkpoint's own: no LayerNorm folding, no centring (as the paper's EAP-IG). `ARCHITECTURES` are
supported; to add one, teach `network` to read it.
"""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from transformers import (AutoConfig, AutoTokenizer, GPT2LMHeadModel, GPTNeoXForCausalLM, LlamaForCausalLM, OlmoForCausalLM,
                          PreTrainedModel, PreTrainedTokenizerBase)
from transformers.utils import logging as transformers_logging

from .suites import Checkpoint
from .weight_files import weight_files

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# model_type of config.json -> the class of transformers, and who is built so
ARCHITECTURES = {"gpt_neox": (GPTNeoXForCausalLM, "Pythia, mini"), "gpt2": (GPT2LMHeadModel, "GPT-2"),
                 "llama": (LlamaForCausalLM, "Llama, SmolLM"), "olmo": (OlmoForCausalLM, "OLMo 1B")}
# settings that change what a layer computes in a way that is not supported: {model_type: {setting: what it may be}}
_ONLY = {"gpt2": {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
         "olmo": {"clip_qkv": None}}
BATCH_BYTES = 1 << 30  # what the activations of one batch may take in Model.logits


@dataclass(frozen=True)
class Shape:
    """The sizes that the graph and the figures need. parallel: attention and MLP of a layer read the same stream. gated: the
    MLP has a third matrix, as in Llama. Heads that share keys and values count as heads of their own."""

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    parallel: bool
    gated: bool = False


@dataclass(frozen=True, eq=False)
class Model:
    """A checkpoint in memory. `network` is the transformers model."""

    checkpoint: Checkpoint
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    shape: Shape
    device: torch.device
    dtype: torch.dtype
    folder: Path

    @cached_property
    def bridge(self) -> TransformerBridge:
        """TransformerLens' view of `network`, made when it is first asked for (which takes longer than loading a small
        model). It wraps the network in place, and that goes on giving the same outputs."""
        from transformer_lens.model_bridge import TransformerBridge       # seconds to import, and most chapters do without

        self.network.set_attn_implementation("eager")              # so that patterns can be hooked
        # The bridge gives its tokenizer a padding token and the like; ours stays as it was saved.
        return TransformerBridge.boot_transformers(str(self.folder), hf_model=self.network, device=self.device,
                                                   tokenizer=copy.deepcopy(self.tokenizer), dtype=self.dtype)

    @torch.no_grad()
    def logits(
        self, tokens: torch.Tensor, positions: torch.Tensor | None = None, batch_bytes: int = BATCH_BYTES
    ) -> torch.Tensor:
        """Logits of `tokens` (int64 [n, pos]): [n, pos, d_vocab], or [n, d_vocab] at `positions` (int64 [n]) alone.

        Right-padding is harmless when `positions` point at the last real tokens. Batches are made so small that their
        activations take about `batch_bytes`. Without gradients; device and dtype of the model.
        """
        tokens = torch.as_tensor(tokens)
        if tokens.ndim != 2 or tokens.dtype != torch.int64:
            raise ValueError(f"tokens must be int64 [n, pos], not {tokens.dtype} {list(tokens.shape)}")
        n, length = tokens.shape
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.shape.d_vocab:
            raise ValueError(f"tokens must lie in 0..{self.shape.d_vocab - 1}; is this another model's tokenizer?")
        if positions is not None:
            positions = torch.as_tensor(positions, device=self.device)
            if positions.shape != (n,) or (n and not 0 <= int(positions.min()) <= int(positions.max()) < length):
                raise ValueError(f"positions must be {n} numbers in 0..{length - 1}, one for each row of tokens")
        rows = max(1, batch_bytes // self._row_bytes(length, all_logits=positions is None))
        parts = []
        for start in range(0, n, rows):
            batch = tokens[start : start + rows].to(self.device)
            hidden = self.network.base_model(input_ids=batch, use_cache=False).last_hidden_state
            if positions is not None:  # unembedding costs d_model x d_vocab per position, and only these are asked for
                hidden = hidden[torch.arange(len(batch), device=self.device), positions[start : start + rows]]
            parts.append(self.network.lm_head(hidden))
        shape = (0, length, self.shape.d_vocab) if positions is None else (0, self.shape.d_vocab)
        return torch.cat(parts) if parts else torch.empty(shape, device=self.device, dtype=self.dtype)

    def _row_bytes(self, length: int, all_logits: bool) -> int:
        """About what one row's activations take: streams, MLP, attention patterns, logits; float32 at worst."""
        s = self.shape
        per_position = 8 * s.d_model + 4 * s.d_mlp + 3 * s.n_heads * length + (s.d_vocab if all_logits else 0)
        return 4 * (length * per_position + s.d_vocab)


def load_model(checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Model:
    """The checkpoint as a Model on `device`, its weights in `dtype` (float32 unless told otherwise).

    ValueError for a device that is not there or has too little memory, an architecture that is not supported, or weights that
    cannot be read.
    Pickled weights are read as weights only: a pickle that holds code is refused and nothing in it runs.
    """
    device = check_device(device)
    dtype = dtype or torch.float32
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype {dtype!r} is not one for weights; give torch.float32 or torch.bfloat16")
    if dtype == torch.float16 and checkpoint.model.startswith("pythia"):
        warnings.warn("float16 is too narrow for Pythia (70m gives NaN); use torch.bfloat16 or float32", stacklevel=3)
    folder = checkpoint.fetch()
    check_architecture(folder, f"{checkpoint.model} at step {checkpoint.step}")
    tokenizer_folder = next((place for place in (folder, folder.parent) if (place / "tokenizer.json").exists()), None)
    if tokenizer_folder is None:
        raise ValueError(f"{folder} holds no tokenizer: tokenizer.json is expected beside the weights, or in the folder above")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = shape_of(config)
    from .planning import refuse_what_cannot_fit                   # here, since it knows what comes after this module

    refuse_what_cannot_fit(f"{checkpoint.model} at step {checkpoint.step}", shape, dtype, device,
                           count_parameters(config))
    network = _read_weights(folder, weight_files(folder, checkpoint.source.prefer), dtype, config["model_type"]).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, trust_remote_code=False, local_files_only=True)
    return Model(checkpoint, network, tokenizer, shape, device, dtype, folder)


def shape_of(config: dict) -> Shape:
    """The shape of a supported model from its config.json."""
    kind = config["model_type"]
    c = AutoConfig.for_model(**config)                 # knows the names and the defaults of each architecture
    d_mlp = c.n_inner or 4 * c.n_embd if kind == "gpt2" else c.intermediate_size
    return Shape(c.num_hidden_layers, c.num_attention_heads, c.hidden_size,
                 getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads, d_mlp, c.vocab_size,
                 parallel=kind == "gpt_neox" and c.use_parallel_residual, gated=kind in ("llama", "olmo"))


def count_parameters(config: dict) -> int:
    """How many weights a model with this config.json has; none of them is made."""
    with torch.device("meta"):
        network = ARCHITECTURES[config["model_type"]][0](AutoConfig.for_model(**config))
    return sum(weight.numel() for weight in network.parameters())          # a tied embedding is one


def check_device(device: str | torch.device) -> torch.device:
    """The device, if this machine has it; ValueError otherwise."""
    here = ["cpu"]
    here += [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    here += ["mps"] if torch.backends.mps.is_available() else []
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    if found is None or (str(found) not in here and str(found) not in {name.split(":")[0] for name in here}):
        raise ValueError(f"device {str(device)!r} is not available here; use one of: {', '.join(here)}")
    return found


def check_architecture(folder: Path, what: str) -> None:
    """ValueError, naming the architecture, unless the folder's config.json describes a model that is supported."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        known = ", ".join(f"{name!r} ({who})" for name, (_, who) in ARCHITECTURES.items())
        raise ValueError(f"{what} is of architecture {kind!r}; these are supported: {known}")
    for setting, needed in _ONLY.get(kind, {}).items():
        if (found := config.get(setting, needed)) != needed:
            raise ValueError(f"{what} is of architecture {kind!r} with {setting} = {found!r}; only {needed!r} is supported")


def _read_weights(folder: Path, files: tuple[Path, ...], dtype: torch.dtype, kind: str) -> PreTrainedModel:
    """The transformers model from exactly these weight files, each tensor accounted for."""
    try:
        with _no_progress_bars():
            network, report = ARCHITECTURES[kind][0].from_pretrained(
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
        raise ValueError(f"the weights in {folder} cannot be read ({reason}): restore or download them") from error
    if report["missing_keys"]:  # transformers would leave these at random values
        raise ValueError(f"the weights in {folder} lack {', '.join(sorted(report['missing_keys']))}")
    return network


@contextmanager
def _no_progress_bars():
    """Hides the bars that transformers draws while it fills in weights; those of downloads stay."""
    before = transformers_logging.set_tqdm_hook(lambda factory, args, kwargs: transformers_logging.EmptyTqdm(*args))
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(before)
