"""One loaded checkpoint: transformers' model, a TransformerBridge around it, tokenizer and shape.

    model = checkpoint.load(device="cuda", dtype=torch.bfloat16)
    model.logits(tokens, positions)         # [n, d_vocab] at the END positions
    model.bridge.run_with_cache(tokens)     # everything that TransformerLens offers

The weights are the checkpoint's own: no LayerNorm folding, no centring (as the paper's EAP-IG).
`ARCHITECTURES` are supported; to add one, teach `architectures` to read it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from circuitbook.model.parts import SoftCap
from circuitbook.model.shape import Shape

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


PREPEND_BOS = "prepend_bos"  # among a tokenizer's settings: see `Suite.prepend_bos`
BATCH_BYTES = 1 << 30  # what the activations of one batch may take in Model.logits


class CheckpointLike(Protocol):
    """What a model needs to know of the checkpoint that it came from: a `suites.Checkpoint`."""

    @property
    def model(self) -> str: ...

    @property
    def step(self) -> int: ...

    @property
    def prefer(self) -> str: ...

    @property
    def prepend_bos(self) -> bool: ...

    def fetch(self) -> Path: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """A checkpoint in memory."""

    checkpoint: CheckpointLike
    hf_model: PreTrainedModel
    """The transformers model."""
    tokenizer: PreTrainedTokenizerBase
    shape: Shape
    device: torch.device
    dtype: torch.dtype
    folder: Path
    """Where its files are."""

    @cached_property
    def bridge(self) -> TransformerBridge:
        """TransformerLens' view of `hf_model`, made when it is first asked for.

        That takes longer than loading a small model. It wraps that model in place, and that goes on
        giving the same outputs.
        """
        # Here, since it takes seconds to import, and most chapters do without.
        from transformer_lens.model_bridge import TransformerBridge

        self.hf_model.set_attn_implementation("eager")  # so that patterns can be hooked
        _add_missing_biases(self.hf_model)
        # The bridge gives its tokenizer a padding token and the like; ours stays as it was saved.
        return TransformerBridge.boot_transformers(
            str(self.folder),
            hf_model=self.hf_model,
            device=self.device,
            tokenizer=copy.deepcopy(self.tokenizer),
            dtype=self.dtype,
        )

    @torch.no_grad()
    def logits(
        self,
        tokens: Int[Tensor, "n pos"],
        positions: Int[Tensor, " n"] | None = None,
        batch_bytes: int = BATCH_BYTES,
    ) -> Float[Tensor, "n pos vocab"] | Float[Tensor, "n vocab"]:
        """Logits at all positions, or of each row at one of `positions` alone.

        Right-padding is harmless when `positions` point at the last real tokens. Batches are made
        so small that their activations take about `batch_bytes`. Without gradients; device and
        dtype of the model. ValueError for tokens or positions that cannot be.
        """
        tokens = self._checked_tokens(tokens)
        n, length = tokens.shape
        self.check_length(length)
        if positions is not None:
            positions = self._checked_positions(positions, n, length)
        rows = max(1, batch_bytes // self._row_bytes(length, all_logits=positions is None))
        cap, parts = logit_cap(self.hf_model.config), []
        for start in range(0, n, rows):
            batch = tokens[start : start + rows].to(self.device)
            hidden = self.hf_model.base_model(input_ids=batch, use_cache=False).last_hidden_state
            if positions is not None:  # unembedding is dear, and only these are asked for
                row = torch.arange(len(batch), device=self.device)
                hidden = hidden[row, positions[start : start + rows]]
            logits = self.hf_model.lm_head(hidden)
            parts.append(logits if cap is None else cap(logits))
        if parts:
            return torch.cat(parts)
        shape = (0, length, self.shape.d_vocab) if positions is None else (0, self.shape.d_vocab)
        return torch.empty(shape, device=self.device, dtype=self.dtype)

    def check_length(self, length: int, what: str = "a text") -> None:
        """ValueError if the model does not take so many tokens at a time."""
        if self.shape.context is not None and length > self.shape.context:
            raise ValueError(
                f"{what} of {length} tokens is longer than {self.checkpoint.model} takes: "
                f"{self.shape.context} (max_position_embeddings, or the window over which some "
                "layers attend, sliding_window, in its config.json)"
            )

    def _checked_tokens(self, tokens: Tensor) -> Int[Tensor, "n pos"]:
        tokens = torch.as_tensor(tokens)
        if tokens.ndim != 2 or tokens.dtype != torch.int64:
            raise ValueError(
                f"tokens must be int64 [n, pos], not {tokens.dtype} {list(tokens.shape)}"
            )
        top = self.shape.d_vocab - 1
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) <= top:
            raise ValueError(f"tokens must lie in 0..{top}; is this another model's tokenizer?")
        return tokens

    def _checked_positions(self, positions: Tensor, n: int, length: int) -> Int[Tensor, " n"]:
        positions = torch.as_tensor(positions, device=self.device)
        one_each = positions.shape == (n,)
        if not one_each or (n and not 0 <= int(positions.min()) <= int(positions.max()) < length):
            raise ValueError(
                f"positions must be {n} numbers in 0..{length - 1}, one for each row of tokens"
            )
        return positions

    def _row_bytes(self, length: int, all_logits: bool) -> int:
        """About what one row's activations take, in float32 at worst.

        Streams, MLP, attention patterns, logits.
        """
        s = self.shape
        per_position = 8 * s.d_model + 4 * s.d_mlp + 3 * s.n_heads * length
        if all_logits:
            per_position += s.d_vocab
        return 4 * (length * per_position + s.d_vocab)


def logit_cap(config: PretrainedConfig) -> SoftCap | None:
    """What a model with this configuration does to its logits behind `lm_head`."""
    most = getattr(config, "final_logit_softcapping", None)
    return None if most is None else SoftCap(most)


def _add_missing_biases(hf_model: PreTrainedModel) -> None:
    """Zeros for the biases that a GPT-NeoX' attention does without: the bridge needs some."""
    for name, module in hf_model.named_modules():
        if name.endswith("attention.query_key_value") and module.bias is None:
            module.bias = torch.nn.Parameter(module.weight.new_zeros(len(module.weight)))
