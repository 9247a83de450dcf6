"""The corrupted runs that circuits are evaluated against: computed once, kept while they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.batches import (
    at_end,
    check_pairs,
    chunks_of,
    default_memory,
    metric_of_stream,
    window,
)
from circuitbook.circuits.prefixes import Prefixes
from circuitbook.circuits.spans import SpanCircuit
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.model.network import Prefix, run
from circuitbook.tasks.base import PromptPairs

TOGETHER = 16  # circuits evaluated in one batch, where memory allows


@dataclass(frozen=True, eq=False, kw_only=True)
class CorruptedLayer:
    """What one layer did on the corrupted prompts, from the first position that differs."""

    x: Float[Tensor, "prompt pos d_model"]
    """The stream that its heads read."""
    x_mlp: Float[Tensor, "prompt pos d_model"]
    """The stream that its MLP reads."""
    inputs: dict[str, Float[Tensor, "prompt pos head d_head"]]
    """Queries and keys after rotary; values."""
    z: Float[Tensor, "prompt pos head d_head"]
    """As attention gives it."""
    instead: Float[Tensor, "prompt pos head d_head"] | None = None
    """What absent edges carry of heads that share a norm behind them, as `Run.written`, if that is
    not what they give (`circuits.ablations`)."""
    mlp: Float[Tensor, "prompt pos d_model"]
    """What the MLP writes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CorruptedRun:
    """All that evaluation needs of some prompts' corrupted run."""

    rows: Int[Tensor, " prompt"]
    """Which prompts of all these are."""
    pairs: PromptPairs
    start: int
    """The first position that differs."""
    end: Int[Tensor, " prompt"]
    """END, counted from `start`."""
    change: Float[Tensor, "prompt pos d_model"]
    """Clean minus corrupted embeddings."""
    layers: list[CorruptedLayer]
    last: Float[Tensor, "prompt d_model"]
    """The last stream, at END."""
    prefix: Prefix
    """Keys and values of the positions before `start`, by layer."""
    metric: Float[Tensor, "two prompt"]
    """Of the clean run, and of the corrupted one."""


def at_any_position(mask: np.ndarray | SpanCircuit) -> np.ndarray:
    """The edges of a circuit, bool [src, dst], whatever their positions."""
    return np.logical_or.reduce(mask.edges) if isinstance(mask, SpanCircuit) else mask


class CorruptedRuns:
    """The corrupted runs of all prompts, in chunks.

    They are kept for the next use if together they fit into `memory`.
    """

    def __init__(self, model: Model, pairs: PromptPairs, memory: int | None = None) -> None:
        check_pairs(model, pairs)
        self.network, self.graph, self.device = network_of(model), graph_of(model), model.device
        self.pairs, self.memory = pairs, memory or default_memory(model.device)
        self._sum_size = torch.finfo(sums_dtype(model.dtype)).bits // 8
        shape, size = model.shape, torch.finfo(model.dtype).bits // 8

        def bytes_kept(positions: int, length: int) -> int:
            """Of one prompt, for as long as these runs are kept."""
            streams = (8 if shape.parallel else 9) * positions + 2 * (length - positions)
            return size * shape.n_layers * shape.d_model * streams

        def bytes_of_sums(positions: int) -> int:
            """Of one prompt, while it is evaluated."""
            return 2 * self._sum_size * positions * shape.d_model * self.graph.n_src

        chunks = chunks_of(pairs, 1, bytes_kept, bytes_of_sums, self.memory)
        self._chunks = [rows for rows, _ in chunks]
        start, stop = window(pairs)
        fits = len(pairs) * bytes_kept(stop - start, stop) <= self.memory
        self._kept: list[CorruptedRun] | None = [] if fits or len(self._chunks) == 1 else None

    def __iter__(self) -> Iterator[CorruptedRun]:
        prefixes = None
        for i, rows in enumerate(self._chunks):
            if self._kept is not None and i < len(self._kept):
                yield self._kept[i]
                continue
            prefixes = prefixes or Prefixes(self.network, self.pairs, self.memory // 8)
            corrupted = self.run_of(rows, prefixes)
            if self._kept is not None:
                self._kept.append(corrupted)
            yield corrupted

    def run_of(self, rows: Int[Tensor, " prompt"], prefixes: Prefixes) -> CorruptedRun:
        """Of some of the prompts."""
        return _corrupted_run(prefixes, self.pairs.subset(rows), rows, self.device)

    def together(self, corrupted: CorruptedRun, masks: Sequence[np.ndarray | SpanCircuit]) -> int:
        """How many of these circuits, bool [src, dst] or with spans, fit into memory."""
        per_source = 2 * self._sum_size * corrupted.change.numel()
        largest = per_source * max(int(at_any_position(m).any(1).sum()) + 2 for m in masks)
        return int(np.clip(self.memory // max(1, largest), 1, TOGETHER))

    def baselines(self) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The full model's metric on the clean and on the corrupted prompts."""
        both = None
        for corrupted in self:
            if both is None:
                both = corrupted.metric.new_zeros(2, len(self.pairs), device="cpu")
            both[:, corrupted.rows] = corrupted.metric.cpu()
        assert both is not None  # there is a prompt: `check_pairs`
        return both[0], both[1]


@torch.no_grad()
def _corrupted_run(
    prefixes: Prefixes, pairs: PromptPairs, rows: Int[Tensor, " prompt"], device: torch.device
) -> CorruptedRun:
    """Runs the clean and the corrupted prompts, and keeps what the corrupted ones gave."""
    network, (start, stop) = prefixes.network, window(pairs)
    dtype = sums_dtype(network.w_embed.dtype)
    end = (pairs.end - start).to(device)
    prefix = prefixes.before(rows, start)
    clean = network.embed(pairs.clean[:, start:stop].to(device), start)
    corrupted = network.embed(pairs.corrupted[:, start:stop].to(device), start)
    layers, stream = [], torch.stack([clean, corrupted], 1)
    for done in run(network, stream, start, prefix):
        stream = done.out
        x = _second(done.x)
        layers.append(
            CorruptedLayer(
                x=x,
                x_mlp=x if network.parallel else _second(done.x_mlp),
                inputs={"q": _second(done.q), "k": _second(done.k), "v": _second(done.v)},
                z=_second(done.z),
                mlp=_second(done.mlp_out),
            )
        )
    last = at_end(stream, end)
    return CorruptedRun(
        rows=rows,
        pairs=pairs,
        start=start,
        end=end,
        change=clean.to(dtype) - corrupted.to(dtype),
        layers=layers,
        last=_second(last),
        prefix=prefix,
        metric=metric_of_stream(network, pairs, last).t(),
    )


def _second(versions: Float[Tensor, "prompt two ..."]) -> Float[Tensor, "prompt ..."]:
    return versions[:, 1].contiguous()
