"""Path patching of heads.

Path patching asks what a sender does *through* chosen receivers (Wang et al. 2023, section 3.1; as
in the code of Tigges et al. 2024, section 4.2). Three passes over the clean prompts:

    1  clean, and the corrupted prompts for what the sender writes there
    2  the sender writes what it wrote on the corrupted prompts, all other heads what they wrote on
       the clean ones; MLPs are recomputed, since they belong to direct paths. What the receivers
       read now is kept
    3  clean again, but the receivers read what was kept; everything after them is recomputed

In pass 2 no attention is computed, since heads are held. Senders are rows of a batch, and nothing
is computed before the first token that differs, or before the first position at which a receiver
may change. Heads are pairs (layer, head), or
names as in the graph: a3.h1, receivers a3.h1<q>, m3, logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.batches import (
    at_end,
    check_pairs,
    chunks_of,
    default_memory,
    pairs_metric,
)
from circuitbook.heads.names import Head, head_name
from circuitbook.heads.passes import Receiver, first_pass, second_pass, third_pass
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import HEAD_INPUTS, Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.tasks.base import PromptPairs


@dataclass(frozen=True, eq=False, kw_only=True)
class PathPatched:
    """What a sweep over senders gave; float32, or float64 of a float64 model."""

    senders: tuple[str, ...]
    metric: Float[Tensor, "sender n"]
    """The task's metric of each prompt, patched."""
    attention: Float[Tensor, "sender watched place n"] | None
    """Attention from END, patched, if heads were watched."""


@torch.no_grad()
def path_patch(
    model: Model,
    pairs: PromptPairs,
    senders: Sequence[str | Head],
    receivers: Sequence[str],
    *,
    sender_at: str | None = None,
    receiver_at: str | None = None,
    watch: Sequence[Head] = (),
    places: Sequence[str] = (),
    memory: int | None = None,
) -> PathPatched:
    """The metric when each sender (a head or an MLP), alone, reaches the receivers corrupted.

    senders: heads or MLPs, each patched by itself: "a1.h2", (1, 2), "m0".
    receivers: what reads it: inputs of heads "a3.h1<q>" (or <k>, <v>), of MLPs "m3"; or "logits"
    alone, which is the direct effect.
    sender_at, receiver_at: a position of the task, such as "END" or "S2"; None: all positions.
    watch, places: also return how much these heads attend from END to these positions in pass 3.

    Harm is positive in ``clean - patched``; the authors' number is ``(patched - clean) / (clean -
    corrupted)`` of the means. A sender behind its receivers changes nothing. `memory` as in
    `attribute`. Errors: ValueError for unknown names; FloatingPointError where the metric is not
    finite.
    """
    check_pairs(model, pairs)
    network, graph = network_of(model), graph_of(model)
    sources = [source_of(graph, sender) for sender in senders]
    targets = [_receiver(graph, name) for name in receivers]
    _check_ends(sources, targets, watch)
    _check_positions(pairs, (sender_at, receiver_at, *places))
    to_logits = targets[0].kind == "final"

    dtype, n = sums_dtype(model.dtype), len(pairs)
    metric = torch.zeros(len(sources), n, dtype=dtype)
    attention = None
    if watch:
        attention = torch.zeros(len(sources), len(watch), len(places), n, dtype=dtype)
    row_bytes, prompt_bytes = _bytes(model)
    memory = memory or default_memory(model.device)
    begin = "END" if to_logits else receiver_at or sender_at
    groups = _groups(pairs, begin, len(sources), row_bytes, prompt_bytes, memory)
    for rows, of_senders, position in groups:
        part, some_sources = pairs.subset(rows), sources[of_senders]
        clean = first_pass(network, part, model.device, position)
        last, read = second_pass(network, clean, some_sources, targets, clean.at(sender_at))
        cells = torch.arange(len(sources))[of_senders][:, None], rows  # [sender, 1], [prompt]
        if not to_logits:
            at = clean.at(receiver_at)
            last, from_end = third_pass(
                network, clean, read, targets, at, len(some_sources), watch, places
            )
            if attention is not None and from_end is not None:
                attention[cells[0], :, :, rows] = rearrange(
                    from_end, "watched place prompt sender -> sender prompt watched place"
                ).to("cpu", dtype)
        patched = pairs_metric(part, network.logits(at_end(last, clean.end)))
        metric[cells] = patched.t().to("cpu", dtype)
    if not bool(metric.isfinite().all()):
        raise FloatingPointError(
            f"{model.checkpoint.model} at step {model.checkpoint.step} gives NaN or infinity on "
            f"{pairs.task} when it is patched, in {model.dtype}; use float32"
        )
    names = tuple(graph.source_names[source] for source in sources)
    return PathPatched(senders=names, metric=metric, attention=attention)


def baselines(model: Model, pairs: PromptPairs) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The full model's metric on the clean and on the corrupted prompts."""
    clean, corrupted = (
        pairs.metric(model.logits(tokens, pairs.end)).cpu()
        for tokens in (pairs.clean, pairs.corrupted)
    )
    return clean, corrupted


# ------------------------------------------------------------------ what goes together


def _bytes(model: Model) -> tuple[Callable[[int, int], int], Callable[[int], int]]:
    """Of one sender of one prompt, and of one prompt besides: see `batches.chunks_of`."""
    shape, size = model.shape, torch.finfo(model.dtype).bits // 8

    def row_bytes(positions: int, length: int) -> int:
        each = 14 * shape.d_model + shape.d_mlp + 3 * shape.n_heads * length
        return size * (positions * each + 3 * shape.d_vocab)

    def prompt_bytes(positions: int) -> int:
        return size * positions * shape.d_model * 16 * shape.n_layers

    return row_bytes, prompt_bytes


def _groups(
    pairs: PromptPairs,
    begin: str | None,
    n_senders: int,
    row_bytes: Callable[[int, int], int],
    prompt_bytes: Callable[[int], int],
    memory: int,
) -> Iterator[tuple[Tensor, slice, int]]:
    """(prompts, senders, the first position that may change); prompts that share it go together.

    begin: the name of that position; None: the first of all.
    """
    at = torch.zeros(len(pairs), dtype=torch.long) if begin is None else pairs.positions[begin]
    for position in at.unique().tolist():
        group = (at == position).nonzero()[:, 0]
        chunks = chunks_of(pairs.subset(group), n_senders, row_bytes, prompt_bytes, memory)
        for rows, of_senders in chunks:
            yield group[rows], of_senders, position


# ------------------------------------------------------------------ names


def source_of(graph: Graph, sender: str | Head) -> int:
    """The row of a head or MLP, by name or place; ValueError if the graph has no such."""
    name = sender if isinstance(sender, str) else head_name(sender)
    if name not in graph.source_names[1:]:
        raise ValueError(
            f"sender {name!r} is no head or MLP of a model with {graph.n_layers} layers of "
            f"{graph.n_heads} heads; they are written like 'a1.h2' and 'm1'"
        )
    return graph.source_names.index(name)


def _receiver(graph: Graph, name: str) -> Receiver:
    if name not in graph.destination_names:
        raise ValueError(
            f"receiver {name!r} reads nothing in a model with {graph.n_layers} layers of "
            f"{graph.n_heads} heads; they are written like 'a3.h1<q>', 'm3' and 'logits'"
        )
    if name == "logits":
        return Receiver("final", graph.n_layers, 0)
    layer, slot = divmod(graph.destination_names.index(name), 3 * graph.n_heads + 1)
    kind, head = divmod(slot, graph.n_heads)
    return Receiver(HEAD_INPUTS[kind], layer, head) if kind < 3 else Receiver("mlp", layer, 0)


def _check_ends(sources: Sequence[int], targets: Sequence[Receiver], watch: Sequence[Head]) -> None:
    if not sources or not targets:
        raise ValueError(
            f"path patching needs a sender and a receiver, and there are {len(sources)} and "
            f"{len(targets)}"
        )
    to_logits = any(target.kind == "final" for target in targets)
    if to_logits and (len(targets) > 1 or watch):
        raise ValueError(
            "'logits' must be the only receiver, and no head can be watched behind it: nothing "
            "comes after it"
        )


def _check_positions(pairs: PromptPairs, names: Sequence[str | None]) -> None:
    for name in names:
        if name is not None and name not in pairs.positions:
            known = ", ".join(pairs.positions)
            raise ValueError(f"{pairs.task} has no position {name!r}; there are {known}")
