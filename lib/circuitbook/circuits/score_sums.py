"""What the scores of chunks of prompts are added up in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.spans import Spans
from circuitbook.model.network import Prefix
from circuitbook.tasks.base import PromptPairs


@dataclass(frozen=True, eq=False, kw_only=True)
class Chunk:
    """Prompts and interpolation points that are done together."""

    pairs: PromptPairs
    rows: Int[Tensor, " prompt"]
    """Which prompts of all these are."""
    prefix: Prefix
    """Keys and values of the positions before `start`."""
    start: int
    """The first position that is computed,"""
    stop: int
    """and the one behind the last."""
    versions: slice
    """Which of the points of a prompt these are."""
    points: Float[Tensor, "prompt version"]
    """From 0, clean, to 1, corrupted."""
    weights: Float[Tensor, "prompt version"]
    """What each point counts."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreSums:
    """What the chunks add to: sums over the prompts seen so far, and what was asked for besides."""

    values: Float[Tensor, "src dst"]
    ends: Float[Tensor, "n 2"]
    """Of each prompt, the loss on the clean and on the corrupted one."""
    losses: Float[Tensor, "n m"]
    """Of each prompt, the loss at each point."""
    from_input: Float[Tensor, " n"]
    """Of each prompt, the sum of its edges out of `input`."""
    per_prompt: Float[Tensor, "n src dst"] | None = None
    per_position: Float[Tensor, "span src dst"] | None = None
    between: Float[Tensor, "to at dst"] | None = None
    spans: Spans | None = None
    """Of the last two."""

    @property
    def change(self) -> Float[Tensor, " n"]:
        """Of each prompt, loss(corrupted) - loss(clean)."""
        return self.ends[:, 1] - self.ends[:, 0]

    def add(
        self,
        chunk: Chunk,
        difference: Float[Tensor, "src prompt pos d_model"],
        gradient: Float[Tensor, "dst prompt pos d_model"],
        columns: slice,
    ) -> None:
        """Adds the edges from the first sources to the destinations `columns`."""
        n_src, _, n_pos, _ = difference.shape
        if self.per_prompt is None and self.per_position is None:
            products = difference.flatten(1) @ gradient.flatten(1).t()
            self.values[:n_src, columns] += products
            return
        kept = "prompt" if self.per_position is None else "prompt pos"
        products = einsum(
            difference,
            gradient,
            f"src prompt pos d_model, dst prompt pos d_model -> {kept} src dst",
        )
        if self.per_position is not None:
            of_spans = einsum(
                products,
                self._counts(chunk, n_pos).to(products),
                "prompt pos src dst, prompt pos span -> span src dst",
            )
            self.per_position[:, :n_src, columns] += of_spans.cpu()
            products = products.sum(1)
        self.add_of_prompts(chunk, products, columns)

    def add_between(
        self, chunk: Chunk, products: Float[Tensor, "prompt dst to at"], columns: slice
    ) -> None:
        """Adds the edges between positions at the keys or values `columns`."""
        assert self.between is not None
        counts = self._counts(chunk, products.shape[-1]).to(products)
        of_spans = einsum(
            products,
            counts,
            counts,
            "prompt dst to at, prompt to span, prompt at span_at -> span span_at dst",
        )
        self.between[:, :, columns] += of_spans.cpu()

    def _counts(self, chunk: Chunk, n_pos: int) -> Float[Tensor, "prompt pos span"]:
        assert self.spans is not None
        return self.spans.counts(chunk.rows, chunk.start, n_pos)

    def add_of_prompts(
        self, chunk: Chunk, products: Float[Tensor, "prompt src dst"], columns: slice
    ) -> None:
        """Adds what each prompt's edges from the first sources to the destinations are worth."""
        n_src = products.shape[1]
        self.values[:n_src, columns] += products.sum(0)
        if self.per_prompt is not None:
            self.per_prompt[chunk.rows, :n_src, columns] += products.to(self.per_prompt)

    def of_chunk(
        self, chunk: Chunk, per_prompt: Float[Tensor, "prompt src dst"]
    ) -> tuple[ScoreSums, Chunk]:
        """Sums for a chunk's own prompts, added to `per_prompt`; and the chunk as all there is."""
        own = replace(
            self,
            values=torch.zeros_like(self.values),
            per_prompt=per_prompt,
            per_position=None,
            between=None,
        )
        return own, replace(chunk, rows=torch.arange(len(chunk.rows)))
