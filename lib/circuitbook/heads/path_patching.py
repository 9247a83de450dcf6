"""Path patching of heads.

Path patching asks what a sender does *through* chosen receivers (Wang et al. 2023, section 3.1; as
in the code of Tigges et al. 2024, section 4.2). Three passes over the clean prompts:

    1  clean, and the corrupted prompts for what the sender writes there
    2  the sender writes what it wrote on the corrupted prompts, all other heads what they wrote on
       the clean ones (behind a norm that they share: the shares that they had there, see
       `Layer.scaled`); MLPs are recomputed, since they belong to direct paths. What the receivers
       read now is kept
    3  clean again, but the receivers read what was kept; everything after them is recomputed

In pass 2 no attention is computed, since heads are held, so every position stands for itself: only
those at which a sender acts and a receiver reads are run, END alone if that is the logits. Senders
are rows of a batch, which a sender joins in its own layer. Pass 3 runs from the first layer with a
receiver, and from the first position that may change. The clean and the corrupted run are made once
for all senders. Heads are pairs (layer, head), or names as in the graph: a3.h1, receivers a3.h1<q>,
m3, logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.batches import (
    PADDING,
    check_pairs,
    chunks_of,
    default_memory,
    metric_of_stream,
    window,
)
from circuitbook.circuits.not_finite import refuse_not_finite
from circuitbook.circuits.prefixes import Prefixes
from circuitbook.heads.names import Head, head_name
from circuitbook.heads.passes import (
    FirstPass,
    Places,
    Receiver,
    Sender,
    first_pass,
    patched_places,
    reaching,
    second_pass,
)
from circuitbook.heads.third_pass import group_of, third_pass
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
    dtype, n_layers = sums_dtype(model.dtype), graph.n_layers
    order = reaching(network, sources, targets)  # the others change nothing
    in_order = [sources[i] for i in order]
    watched_at = tuple(places) if watch else ()
    metric = torch.zeros(len(sources), len(pairs), dtype=dtype)
    attention = torch.zeros(len(sources), len(watch), len(watched_at), len(pairs), dtype=dtype)
    memory = memory or default_memory(model.device)
    to_logits = targets[0].kind == "final"
    at = patched_places(pairs, "END" if to_logits else receiver_at, sender_at)
    first_read = min(target.layer for target in targets)
    prefixes = Prefixes(network, pairs, memory // 8)
    for rows in _prompts_at_once(model, pairs, at, n_layers - first_read, memory):
        part = pairs.subset(rows)
        # Clean, until a sender reaches something
        before = prefixes.before(rows, window(part)[0])
        spots = _places(part, at, rows)
        clean = first_pass(network, part, before, spots, first_read, watch, watched_at)
        metric[:, rows] = clean.metric.to("cpu", dtype)
        attention[..., rows] = clean.from_end.to("cpu", dtype)
        for group in _groups(clean, len(order), to_logits):
            of_group = clean.places.of_prompts(group.start, group.stop)
            for some in _senders_at_once(model, clean, group, len(order), to_logits, memory):
                cells = torch.tensor(order[some])[:, None], rows[group]  # [sender, 1], [prompt]
                last, read = second_pass(network, clean, in_order[some], targets, of_group)
                if to_logits:
                    streams = last.transpose(0, 1)
                elif not read:
                    continue
                else:
                    streams, from_end = third_pass(
                        network, clean, group_of(clean, group), read, len(last), watch, watched_at
                    )
                    attention[cells[0], :, :, cells[1]] = rearrange(
                        from_end, "watched place prompt sender -> sender prompt watched place"
                    ).to("cpu", dtype)
                patched = metric_of_stream(network, part.subset(group), streams)
                metric[cells] = patched.t().to("cpu", dtype)
    refuse_not_finite(model, pairs, metric, "when it is patched")
    return PathPatched(
        senders=tuple(graph.source_names[_row(graph, sender)] for sender in sources),
        metric=metric,
        attention=attention if watch else None,
    )


def baselines(model: Model, pairs: PromptPairs) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The full model's metric on the clean and on the corrupted prompts."""
    clean, corrupted = (
        pairs.metric(model.logits(tokens, pairs.end)).cpu()
        for tokens in (pairs.clean, pairs.corrupted)
    )
    return clean, corrupted


# ------------------------------------------------------------------ what goes together


def _prompts_at_once(
    model: Model,
    pairs: PromptPairs,
    at: tuple[Tensor, Tensor],
    layers_read: int,
    memory: int,
) -> Iterator[Int[Tensor, " prompt"]]:
    """Prompts whose first pass takes half of the memory; those with the same places stand together.

    at: first and last place of each; layers_read: how many the third pass runs.
    """
    shape, size = model.shape, model.dtype.itemsize
    n_places = int((at[1] - at[0]).max().clamp(min=0)) + 1

    def row_bytes(positions: int, length: int) -> int:
        kept = 5 * shape.n_layers * n_places + 2 * layers_read * length
        hidden = (3 if shape.gated else 2) * shape.d_mlp
        running = 2 * positions * (14 * shape.d_model + hidden + 3 * shape.n_heads * length)
        return size * (kept * shape.d_model + running)

    for rows, _ in chunks_of(pairs, 1, row_bytes, lambda positions: 0, memory // 2):
        keys = torch.stack([at[0][rows], pairs.end[rows]], 1).tolist()
        yield rows[sorted(range(len(rows)), key=keys.__getitem__)]


def _places(part: PromptPairs, at: tuple[Tensor, Tensor], rows: Int[Tensor, " prompt"]) -> Places:
    """From the first to the last place of each of these prompts."""
    first, n_places = at[0][rows], (at[1] - at[0])[rows].clamp(min=-1) + 1
    prompt = torch.arange(len(rows)).repeat_interleave(n_places)
    nth = torch.arange(len(prompt)) - (n_places.cumsum(0) - n_places)[prompt]
    return Places(prompt, first[prompt] + nth - window(part)[0])


def _groups(clean: FirstPass, n_senders: int, to_logits: bool) -> Iterator[slice]:
    """Prompts that go together, all of which have places.

    To the logits no attention is computed, and lengths do not matter. Otherwise the positions up to
    the last END are padding in a shorter prompt: see `PADDING`.
    """
    places = clean.places
    firsts = [(int(i), int(p)) for i, p in zip(*places, strict=True)]
    begins: dict[int, int] = {}
    for prompt, position in firsts:
        begins.setdefault(prompt, position)
    group: list[int] = []

    def padding(prompts: Sequence[int]) -> int:
        begin, stop = min(begins[i] for i in prompts), max(int(clean.end[i]) for i in prompts) + 1
        return sum(stop - begin - (int(clean.end[i]) + 1 - begins[i]) for i in prompts)

    for prompt in begins:
        more = [*group, prompt]
        apart = group and prompt != group[-1] + 1
        if apart or (not to_logits and group and n_senders * padding(more) > PADDING):
            yield slice(group[0], group[-1] + 1)
            more = [prompt]
        group = more
    if group:
        yield slice(group[0], group[-1] + 1)


def _senders_at_once(
    model: Model, clean: FirstPass, group: slice, n_senders: int, to_logits: bool, memory: int
) -> Iterator[slice]:
    """As many senders of a group as fit into half of the memory."""
    shape, size = model.shape, model.dtype.itemsize
    at = clean.places.of_prompts(group.start, group.stop)
    each = 2 * (at.stop - at.start) * shape.d_model
    if not to_logits:
        some = group_of(clean, group)
        hidden = (3 if shape.gated else 2) * shape.d_mlp
        streams = 12 * shape.d_model + hidden + 3 * shape.n_heads * some.stop
        each += len(some.pairs) * (some.stop - some.start) * streams
    at_once = max(1, memory // 2 // (size * each))
    for begin in range(0, n_senders, at_once):
        yield slice(begin, begin + at_once)


# ------------------------------------------------------------------ names


def source_of(graph: Graph, sender: str | Head) -> Sender:
    """A head or MLP, by name or place; ValueError if the graph has no such."""
    name = sender if isinstance(sender, str) else head_name(sender)
    if name not in graph.source_names[1:]:
        raise ValueError(
            f"sender {name!r} is no head or MLP of a model with {graph.n_layers} layers of "
            f"{graph.n_heads} heads; they are written like 'a1.h2' and 'm1'"
        )
    return Sender(*divmod(graph.source_names.index(name) - 1, graph.n_heads + 1))


def _row(graph: Graph, sender: Sender) -> int:
    return 1 + sender.layer * (graph.n_heads + 1) + sender.head


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


def _check_ends(
    sources: Sequence[Sender], targets: Sequence[Receiver], watch: Sequence[Head]
) -> None:
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
