"""Patching of heads: path patching, ablation, and swaps between checkpoints.

Path patching asks what a sender does *through* chosen receivers (Wang et al. 2023, section 3.1; as in the code of Tigges
et al. 2024, section 4.2). Three passes over the clean prompts:

    1  clean, and the corrupted prompts for what the sender writes there
    2  the sender writes what it wrote on the corrupted prompts, all other heads what they wrote on the clean ones; MLPs are
       recomputed, since they belong to direct paths. What the receivers read now is kept
    3  clean again, but the receivers read what was kept; everything after them is recomputed

In pass 2 no attention is computed, since heads are held. Senders are rows of a batch, and nothing is computed before the
first token that differs, or before the first position at which a receiver may change. Heads are pairs (layer, head), or
names as in the graph: a3.h1, receivers a3.h1<q>, m3, logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .attribution import at_end, check_pairs, chunks_of, default_memory, pairs_metric, window
from .graph import KINDS, Graph, graph_of
from .model import Model
from .network import Edit, Network, attention_pattern, keys_and_values, network_of, run, sums_dtype
from .tasks.base import PromptPairs

Head = tuple[int, int]                                 # (layer, head)


@dataclass(frozen=True, eq=False)
class PathPatched:
    """What a sweep over senders gave."""

    senders: tuple[str, ...]
    metric: Tensor                                     # float32 [sender, n]: the task's metric of each prompt, patched
    attention: Tensor | None                           # float32 [sender, watched, place, n]: attention from END, patched


@torch.no_grad()
def path_patch(model: Model, pairs: PromptPairs, senders: Sequence[str | Head], receivers: Sequence[str], *,
               sender_at: str | None = None, receiver_at: str | None = None, watch: Sequence[Head] = (),
               places: Sequence[str] = (), memory: int | None = None) -> PathPatched:
    """The metric when each sender (a head or an MLP), alone, reaches the receivers with its corrupted output.

    senders: heads or MLPs, each patched by itself: "a1.h2", (1, 2), "m0".
    receivers: what reads it: inputs of heads "a3.h1<q>" (or <k>, <v>), of MLPs "m3"; or "logits" alone, which is the
    direct effect.
    sender_at, receiver_at: a position of the task, such as "END" or "S2"; None: all positions.
    watch, places: also return how much these heads attend from END to these positions in pass 3.

    Harm is positive in ``clean - patched``; the authors' number is ``(patched - clean) / (clean - corrupted)`` of the means.
    A sender behind its receivers changes nothing. `memory` as in `attribute`. Errors: ValueError for unknown names.
    """
    check_pairs(model, pairs)
    network, graph = network_of(model), graph_of(model)
    sources = [_source(graph, sender) for sender in senders]
    targets = [_receiver(graph, name) for name in receivers]
    if not sources or not targets:
        raise ValueError(f"path patching needs a sender and a receiver, and there are {len(sources)} and {len(targets)}")
    final = ("final", graph.n_layers, 0) in targets
    if final and (len(targets) > 1 or watch):
        raise ValueError("'logits' must be the only receiver, and no head can be watched behind it: nothing comes after it")
    for name in (sender_at, receiver_at, *places):
        if name is not None and name not in pairs.positions:
            raise ValueError(f"{pairs.task} has no position {name!r}; there are {', '.join(pairs.positions)}")

    dtype = sums_dtype(model.dtype)
    metric = torch.zeros(len(sources), len(pairs), dtype=dtype)
    attention = torch.zeros(len(sources), len(watch), len(places), len(pairs), dtype=dtype) if watch else None
    s, size = model.shape, torch.finfo(model.dtype).bits // 8
    row = lambda positions, length: size * (positions * (14 * s.d_model + s.d_mlp + 3 * s.n_heads * length) + 3 * s.d_vocab)
    prompt = lambda positions: size * positions * s.d_model * 16 * s.n_layers
    begin = "END" if final else receiver_at or sender_at
    for rows, some, position in _groups(pairs, begin, len(sources), row, prompt, memory or default_memory(model.device)):
        part = pairs.subset(rows)
        chunk = _Chunk.of(network, part, model.device, position)
        last, read = _second_pass(network, chunk, sources[some], targets, chunk.where(sender_at))
        where = torch.arange(len(sources))[some]
        if final:
            metric[where[:, None], rows] = pairs_metric(part, network.logits(at_end(last, chunk.end))).t().cpu().to(dtype)
            continue
        edit = _replace(read, chunk.where(receiver_at))
        first = min([layer for _, layer, _ in targets] + [layer for layer, _ in watch])
        x = chunk.x[first][:, None].expand(-1, len(where), -1, -1)
        for layer, one in enumerate(run(network, x, chunk.start, chunk.prefix, edit, first), first):
            watched = [i for i, (at, _) in enumerate(watch) if at == layer]
            if watched:
                pattern = attention_pattern(one.q, one.k, network.scale, chunk.prefix[layer] if chunk.start else None)
                for i in watched:
                    for j, place in enumerate(places):
                        found = _looked_at(pattern[:, :, watch[i][1]], chunk, part.positions[place])
                        attention[where[:, None], i, j, rows] = found.t().cpu().to(dtype)
        metric[where[:, None], rows] = pairs_metric(part, network.logits(at_end(one.out, chunk.end))).t().cpu().to(dtype)
    if not bool(metric.isfinite().all()):
        raise FloatingPointError(f"{model.checkpoint.model} at step {model.checkpoint.step} gives NaN or infinity on "
                                 f"{pairs.task} when it is patched, in {model.dtype}; use float32")
    return PathPatched(tuple(graph.source_names[i] for i in sources), metric, attention)


def baselines(model: Model, pairs: PromptPairs) -> tuple[Tensor, Tensor]:
    """The full model's metric on the clean and on the corrupted prompts, each [n]."""
    return tuple(pairs.metric(model.logits(tokens, pairs.end)).cpu() for tokens in (pairs.clean, pairs.corrupted))


def all_heads(model: Model) -> list[Head]:
    """Every (layer, head), in the order of the score tables."""
    return [(layer, head) for layer in range(model.shape.n_layers) for head in range(model.shape.n_heads)]


def head_name(head: Head) -> str:
    """head_name((3, 1)) -> "a3.h1" """
    return f"a{head[0]}.h{head[1]}"


def _groups(pairs: PromptPairs, begin: str | None, *budget) -> Iterator[tuple[Tensor, slice, int]]:
    """(prompts, senders, the first position that may change): prompts that share this position go together."""
    at = torch.zeros(len(pairs), dtype=torch.long) if begin is None else pairs.positions[begin]
    for position in at.unique().tolist():
        group = (at == position).nonzero()[:, 0]
        for rows, some in chunks_of(pairs.subset(group), *budget):
            yield group[rows], some, position


def _source(graph: Graph, sender: str | Head) -> int:
    name = sender if isinstance(sender, str) else head_name(sender)
    if name not in graph.source_names[1:]:
        raise ValueError(f"sender {name!r} is no head or MLP of a model with {graph.n_layers} layers of {graph.n_heads} "
                         "heads; they are written like 'a1.h2' and 'm1'")
    return graph.source_names.index(name)


def _receiver(graph: Graph, name: str) -> tuple[str, int, int]:
    """(kind, layer, head)."""
    if name not in graph.destination_names:
        raise ValueError(f"receiver {name!r} reads nothing in a model with {graph.n_layers} layers of {graph.n_heads} heads; "
                         "they are written like 'a3.h1<q>', 'm3' and 'logits'")
    if name == "logits":
        return "final", graph.n_layers, 0
    layer, slot = divmod(graph.destination_names.index(name), 3 * graph.n_heads + 1)
    kind, head = divmod(slot, graph.n_heads)
    return (KINDS[kind], layer, head) if kind < 3 else ("mlp", layer, 0)


# ------------------------------------------------------------------ the passes

@dataclass(frozen=True, eq=False)
class _Chunk:
    """Pass 1 of some prompts, from the first position that differs or may change; lists are per layer."""

    pairs: PromptPairs
    start: int
    end: Tensor                                        # END, counted from start
    prefix: list[tuple[Tensor, Tensor]]
    x: list[Tensor]                                    # [b, s, d] clean streams
    attention: list[Tensor]                            # [b, s, d] what the clean heads and their bias write
    z: list[Tensor]                                    # [b, s, h, e] corrupted minus clean
    mlp: list[Tensor]                                  # [b, s, d] corrupted

    @classmethod
    def of(cls, network: Network, pairs: PromptPairs, device: torch.device, position: int) -> _Chunk:
        first, stop = window(pairs)
        before = keys_and_values(network, pairs.clean[:, :first].to(device))
        cut = max(0, position - first)
        x = network.embed(torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, first:stop].to(device), first)
        clean, attention, z, mlp, prefix = [], [], [], [], []
        for layer, one in enumerate(run(network, x, first, before)):
            clean.append(one.x[:, 0, cut:].contiguous())
            attention.append((one.out - one.x - one.mlp_out)[:, 0, cut:].contiguous())
            z.append((one.z[:, 1] - one.z[:, 0])[:, cut:])
            mlp.append(one.mlp_out[:, 1, cut:].contiguous())
            here = (one.k[:, 0, :cut], one.inputs["v"][:, 0, :cut])
            prefix.append(here if not before else tuple(torch.cat(both, 1) for both in zip(before[layer], here)))
        start = first + cut
        return cls(pairs, start, (pairs.end - start).to(device), prefix, clean, attention, z, mlp)

    def where(self, name: str | None) -> Tensor | None:
        """bool [b, s]: that position of each prompt; None: all."""
        if name is None:
            return None
        at = (self.pairs.positions[name] - self.start).to(self.end.device)
        return torch.arange(self.x[0].shape[1], device=self.end.device) == at[:, None]


def _second_pass(network: Network, chunk: _Chunk, sources: Sequence[int], targets: Sequence[tuple[str, int, int]],
                 where: Tensor | None) -> tuple[Tensor, dict[tuple[str, int], dict[int, Tensor]]]:
    """The last stream computed, [b, sender, s, d], and what the receivers read: {(kind, layer): {head: [b, sender, s, ...]}}."""
    n_heads = network.layers[0].w_out.shape[0]
    senders = [divmod(source - 1, n_heads + 1) for source in sources]
    first = min(layer for layer, _ in senders)
    stop = max(layer for _, layer, _ in targets)
    mask = 1.0 if where is None else where[..., None].to(chunk.x[0].dtype)
    x = chunk.x[min(first, stop, len(chunk.x) - 1)][:, None].expand(-1, len(senders), -1, -1)
    read: dict[tuple[str, int], dict[int, Tensor]] = {}

    def keep(kind: str, layer: int, stream: Tensor) -> None:
        """What the receivers of this kind read from the stream."""
        weights = network.layers[layer]
        for head in [head for of, at, head in targets if (of, at) == (kind, layer)]:
            read.setdefault((kind, layer), {})[head] = weights.norm_mlp(stream) if kind == "mlp" else F.linear(
                weights.norm_attention(stream), weights.w_in[kind][head], weights.b_in[kind][head])

    for layer, weights in enumerate(network.layers[first:], first):
        for kind in KINDS:
            keep(kind, layer, x)
        between = x + chunk.attention[layer][:, None]
        for k, (at, head) in enumerate(senders):
            if at == layer and head < n_heads:
                between[:, k] += mask * (chunk.z[layer][:, :, head] @ weights.w_out[head])
        x_mlp = x if network.parallel else between
        keep("mlp", layer, x_mlp)
        if layer == stop:
            break
        mlp = weights.mlp(weights.norm_mlp(x_mlp))
        for k, (at, head) in enumerate(senders):
            if at == layer and head == n_heads:
                mlp[:, k] = torch.where(torch.as_tensor(mask, device=mlp.device).bool(), chunk.mlp[layer], mlp[:, k])
        x = between + mlp
    if not read:                                       # every receiver lies before the senders: nothing changes
        for kind, at, _ in targets:
            if kind != "final":
                clean = chunk.x[at] if kind != "mlp" or network.parallel else chunk.x[at] + chunk.attention[at]
                keep(kind, at, clean[:, None].expand(-1, len(senders), -1, -1))
    return x, read


def _replace(read: Mapping[tuple[str, int], Mapping[int, Tensor]], where: Tensor | None) -> Edit:
    def edit(kind: str, layer: int, now: Tensor) -> Tensor:
        if (kind, layer) not in read:
            return now
        now = now.clone()
        for head, value in read[kind, layer].items():
            place = now if kind == "mlp" else now[..., head, :]
            place.copy_(value if where is None else torch.where(where[:, None, :, None], value, place))
        return now
    return edit


def _looked_at(pattern: Tensor, chunk: _Chunk, position: Tensor) -> Tensor:
    """Attention of one head, pattern [b, k, s, t], from END to a position (counted from the prompt's start): [b, k]."""
    b = torch.arange(len(pattern), device=pattern.device)
    return pattern[b, :, chunk.end, position.to(pattern.device)]


# ------------------------------------------------------------------ ablation

@dataclass(frozen=True, eq=False)
class Ablated:
    """A model before and after some heads are taken out."""

    heads: tuple[Head, ...]
    before: Tensor                                     # [n] logit difference
    after: Tensor                                      # [n]
    direct_before: Tensor                              # [L, H, n] each head's direct effect on the logit difference
    direct_after: Tensor                               # [L, H, n] the same in the ablated run; of the taken heads: what is left

    @property
    def expected(self) -> Tensor:
        """[n] what would be left if nobody compensated: before, less what the taken heads wrote straight to the logits."""
        taken = sum((self.direct_before[head] - self.direct_after[head] for head in self.heads), torch.zeros(len(self.before)))
        return self.before - taken

    @property
    def compensation(self) -> Tensor:
        """[n] after - expected: how much of the loss the rest of the model makes up for; negative where it loses more."""
        return self.after - self.expected


HOW = ("zero", "resample")


@torch.no_grad()
def ablate(model: Model, pairs: PromptPairs, heads: Sequence[Head], how: str = "resample") -> Ablated:
    """Takes heads out, at all positions, and looks at who makes up for them (Tigges et al. 2024, appendix on self-repair).

    how: "zero" (the authors'), or "resample": the head writes what it wrote on the corrupted prompt. The direct effect of a
    head is what it writes at END, through the final LayerNorm of the clean run, on the logit difference of the answers.
    """
    if how not in HOW:
        raise ValueError(f"cannot ablate by {how!r}; there are: {', '.join(HOW)}")
    check_pairs(model, pairs)
    network, length = network_of(model), int(pairs.end.max()) + 1
    end = pairs.end.to(model.device)
    for layer, head in heads:
        _source(graph_of(model), (layer, head))
    tokens = torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, :length].to(model.device)
    runs = list(run(network, network.embed(tokens)))
    normed_by = network.norm_final.standardise(at_end(runs[-1].out, end)[:, 0], sums_dtype(model.dtype))[1]     # [n, 1]
    direction = answer_directions(network, pairs)

    def edit(kind: str, layer: int, z: Tensor) -> Tensor:
        if kind != "z" or all(at != layer for at, _ in heads):
            return z
        z = z.clone()
        for head in (head for at, head in heads if at == layer):
            z[..., head, :] = 0 if how == "zero" else runs[layer].z[:, 1:, :, head]
        return z

    ablated = list(run(network, network.embed(tokens[:, :1]), edit=edit))
    out, direct = [], []
    for done in (runs, ablated):
        last = network.norm_final(at_end(done[-1].out, end)[:, 0])
        out.append(_logit_difference(pairs, F.linear(last, network.w_unembed)))
        written = torch.stack([torch.einsum("bhe,hed->hbd", at_end(one.z, end)[:, 0], weights.w_out)
                               for one, weights in zip(done, network.layers)])
        direct.append((written.to(direction) * normed_by * direction).sum(-1).cpu())
    return Ablated(tuple(heads), out[0].cpu(), out[1].cpu(), *direct)


def answer_directions(network: Network, pairs: PromptPairs) -> Tensor:
    """[n, d]: what a vector in the last stream, divided by the stream's deviation, adds to the logit difference."""
    dtype = sums_dtype(network.w_unembed.dtype)
    signs = pairs.signs.to(network.w_unembed.device, dtype)
    weight = signs.clamp(min=0) / (signs > 0).sum(1, keepdim=True) - (-signs).clamp(min=0) / (signs < 0).sum(1, keepdim=True)
    folded = folded_unembedding(network, dtype)
    return torch.einsum("nk,nkd->nd", weight, folded[pairs.answers.to(folded.device)])


def folded_unembedding(network: Network, dtype: torch.dtype) -> Tensor:
    """[vocab, d]: the unembedding with the final norm's weight in it, and its centring if it centres."""
    return network.norm_final.centre(network.w_unembed.to(dtype) * network.norm_final.weight.to(dtype))


def _logit_difference(pairs: PromptPairs, logits: Tensor) -> Tensor:
    return pairs.measures(logits)["logit_difference"]


@torch.no_grad()
def repair_over_text(model: Model, tokens: Tensor, share: float = 0.1) -> dict[str, Tensor]:
    """Self-repair over a text sample: each head in turn writes what it wrote in another document, at all positions.

    tokens [documents, pos], as `heads.documents` gives them. A token's logit is taken less the mean over the vocabulary. Of
    each head, over the `share` of tokens that its direct effect raises most: {"direct"}: what they lose straight, with the
    last norm's deviation held; {"total"}: what they lose in all; [L * H] each. total < direct: later parts make up for it.
    (McGrath et al. 2023; the appendix of Tigges et al. 2024.)
    """
    network, dtype = network_of(model), sums_dtype(model.dtype)
    tokens, streams, outputs = tokens.to(model.device), [], []
    for one in run(network, network.embed(tokens)[:, None]):
        streams.append(one.x)
        outputs.append(one.z)
    unembed = folded_unembedding(network, dtype)
    unembed = unembed - unembed.mean(0)
    target = tokens[:, 1:]
    scale = network.norm_final.standardise(one.out[:, 0, :-1], dtype)[1]
    right = unembed[target]                                                              # [n, t, d]

    def logit(x: Tensor) -> Tensor:
        standard = network.norm_final.standardise(x[:, 0, :-1], dtype)[0]
        return (standard * right).sum(-1)

    clean, out = logit(one.out), {"direct": [], "total": []}
    for layer, weights in enumerate(network.layers):
        for head in range(weights.w_out.shape[0]):
            other = outputs[layer][:, :, :, head].roll(1, 0)
            written = (outputs[layer][:, 0, :-1, head] @ weights.w_out[head]).to(dtype)
            lost = ((written - (other[:, 0, :-1] @ weights.w_out[head]).to(dtype)) * scale * right).sum(-1)

            def edit(kind: str, at: int, z: Tensor) -> Tensor:
                if (kind, at) != ("z", layer):
                    return z
                z = z.clone()
                z[..., head, :] = other
                return z

            for one in run(network, streams[layer], edit=edit, first=layer):
                pass
            own = (written * scale * right).sum(-1).flatten()
            most = own.topk(max(1, int(share * own.numel()))).indices
            out["direct"].append(lost.flatten()[most].mean())
            out["total"].append((clean - logit(one.out)).flatten()[most].mean())
    return {name: torch.stack(values).cpu() for name, values in out.items()}


# ------------------------------------------------------------------ swaps

def swap_heads(target: Network, source: Network, heads: Sequence[Head]) -> Network:
    """`target` with the q, k and v rows (with their biases) and the output columns of these heads from `source`.

    Norms and the output bias, which heads share, stay the target's. (The stored code of Tigges et al. slices the fused
    matrix by input columns instead, and leaves the output: it does not swap the heads it names.) ValueError if the two
    networks differ in shape.
    """
    layers = list(target.layers)
    for layer, head in heads:
        if not (layer < len(layers) == len(source.layers) and layers[layer].w_out.shape == source.layers[layer].w_out.shape
                and head < layers[layer].w_out.shape[0]):
            raise ValueError(f"head {layer}.{head} cannot be swapped: the two networks differ in shape, or have no such head")
        into, of = layers[layer], source.layers[layer]
        put = lambda ours, theirs: ours.index_copy(0, torch.tensor([head], device=ours.device), theirs[head:head + 1].to(ours))
        layers[layer] = replace(into, w_in={kind: put(into.w_in[kind], of.w_in[kind]) for kind in KINDS},
                                b_in={kind: put(into.b_in[kind], of.b_in[kind]) for kind in KINDS},
                                w_out=put(into.w_out, of.w_out))
    return replace(target, layers=tuple(layers))


@torch.no_grad()
def metric_of(network: Network, pairs: PromptPairs, edit: Edit | None = None) -> Tensor:
    """The task's metric of each clean prompt, [n], of a network that may be a patchwork."""
    device = network.w_embed.device
    for one in run(network, network.embed(pairs.clean[:, None, :int(pairs.end.max()) + 1].to(device)), edit=edit):
        pass
    return pairs_metric(pairs, network.logits(at_end(one.out, pairs.end.to(device))))[:, 0].cpu()
