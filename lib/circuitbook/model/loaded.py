"""One loaded checkpoint: the transformers model, a TransformerBridge around it, its tokenizer and
its shape.

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
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from circuitbook.model.shape import Shape

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


BATCH_BYTES = 1 << 30  # what the activations of one batch may take in Model.logits


class CheckpointLike(Protocol):
    """What a model needs to know of the checkpoint that it came from; a `suites.Checkpoint` is
    one."""

    @property
    def model(self) -> str: ...

    @property
    def step(self) -> int: ...

    @property
    def prefer(self) -> str: ...

    def fetch(self) -> Path: ...


@dataclass(frozen=True, eq=False)
class Model:
    """A checkpoint in memory. `hf_model` is the transformers model."""

    checkpoint: CheckpointLike
    hf_model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    shape: Shape
    device: torch.device
    dtype: torch.dtype
    folder: Path

    @cached_property
    def bridge(self) -> TransformerBridge:
        """TransformerLens' view of `hf_model`, made when it is first asked for (which takes longer
        than loading a small model). It wraps that model in place, and that goes on giving the same
        outputs."""
        from transformer_lens.model_bridge import (
            TransformerBridge,  # seconds to import, and most chapters do without
        )

        self.hf_model.set_attn_implementation("eager")  # so that patterns can be hooked
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
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        batch_bytes: int = BATCH_BYTES,
    ) -> torch.Tensor:
        """Logits of `tokens` (int64 [n, pos]): [n, pos, d_vocab], or [n, d_vocab] at `positions`
        (int64 [n]) alone.

        Right-padding is harmless when `positions` point at the last real tokens. Batches are made
        so small that their activations take about `batch_bytes`. Without gradients; device and
        dtype of the model.
        """
        tokens = torch.as_tensor(tokens)
        if tokens.ndim != 2 or tokens.dtype != torch.int64:
            raise ValueError(
                f"tokens must be int64 [n, pos], not {tokens.dtype} {list(tokens.shape)}"
            )
        n, length = tokens.shape
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.shape.d_vocab:
            raise ValueError(
                f"tokens must lie in 0..{self.shape.d_vocab - 1}; is this another model's tokenizer?"
            )
        if positions is not None:
            positions = torch.as_tensor(positions, device=self.device)
            if positions.shape != (n,) or (
                n and not 0 <= int(positions.min()) <= int(positions.max()) < length
            ):
                raise ValueError(
                    f"positions must be {n} numbers in 0..{length - 1}, one for each row of tokens"
                )
        rows = max(1, batch_bytes // self._row_bytes(length, all_logits=positions is None))
        parts = []
        for start in range(0, n, rows):
            batch = tokens[start : start + rows].to(self.device)
            hidden = self.hf_model.base_model(input_ids=batch, use_cache=False).last_hidden_state
            if (
                positions is not None
            ):  # unembedding costs d_model x d_vocab per position, and only these are asked for
                hidden = hidden[
                    torch.arange(len(batch), device=self.device), positions[start : start + rows]
                ]
            parts.append(self.hf_model.lm_head(hidden))
        shape = (0, length, self.shape.d_vocab) if positions is None else (0, self.shape.d_vocab)
        return (
            torch.cat(parts) if parts else torch.empty(shape, device=self.device, dtype=self.dtype)
        )

    def _row_bytes(self, length: int, all_logits: bool) -> int:
        """About what one row's activations take: streams, MLP, attention patterns, logits; float32
        at worst."""
        s = self.shape
        per_position = (
            8 * s.d_model + 4 * s.d_mlp + 3 * s.n_heads * length + (s.d_vocab if all_logits else 0)
        )
        return 4 * (length * per_position + s.d_vocab)
