"""Heads taken out, and who makes up for them: self-repair on IOI and over texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.batches import at_end, check_pairs, metric_of_stream
from circuitbook.circuits.not_finite import refuse_not_finite
from circuitbook.heads.names import Head
from circuitbook.heads.path_patching import source_of
from circuitbook.heads.unembedding import answer_directions, folded_unembedding
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.model.network import Edit, Network, Run, run
from circuitbook.tasks.base import PromptPairs

HOW = ("zero", "resample")
OVER_TEXT = ("direct", "total", "by_heads", "by_mlps", "by_norm")


# ------------------------------------------------------------------ on IOI


@dataclass(frozen=True, eq=False, kw_only=True)
class Ablated:
    """A model before and after some heads are taken out."""

    heads: tuple[Head, ...]
    before: Float[Tensor, " n"]
    """Logit difference of each prompt,"""
    after: Float[Tensor, " n"]
    """and without the heads."""
    direct_before: Float[Tensor, "layer head n"]
    """Each head's direct effect on the logit difference,"""
    direct_after: Float[Tensor, "layer head n"]
    """and the same in the ablated run; of the taken heads: what is left."""
    by_mlps: Float[Tensor, "layer n"]
    """How much more each MLP writes straight to the logit difference than before,"""
    by_norm: Float[Tensor, " n"]
    """and what the last norm adds: the ablated stream over its own deviation, less the same over
    the deviation that it had before."""

    @property
    def expected(self) -> Float[Tensor, " n"]:
        """What would be left if nobody compensated.

        That is `before`, less what the taken heads wrote straight to the logits.
        """
        taken = torch.zeros(len(self.before))
        for head in self.heads:
            taken = taken + (self.direct_before[head] - self.direct_after[head])
        return self.before - taken

    @property
    def compensation(self) -> Float[Tensor, " n"]:
        """after - expected: what the rest makes up for; negative where it loses more.

        It is the sum of `by_heads`, `by_mlps` over layers, and `by_norm`.
        """
        return self.after - self.expected

    @property
    def by_heads(self) -> Float[Tensor, " n"]:
        """How much more the heads that were left write straight to the logit difference."""
        more = self.direct_after - self.direct_before
        left = torch.ones(more.shape[:2])
        for head in self.heads:
            left[head] = 0
        return (more * left[..., None]).sum((0, 1))


@torch.no_grad()
def ablate(
    model: Model, pairs: PromptPairs, heads: Sequence[Head], how: str = "resample"
) -> Ablated:
    """Takes heads out, at all positions, and looks at who makes up for them.

    how: "zero" (the authors'), or "resample": the head writes what it wrote on the corrupted
    prompt. The direct effect of a head is what it writes at END, through the final LayerNorm of the
    clean run, on the logit difference of the answers. Behind a norm that the heads of a layer
    share, a head writes its share of the normed sum (`Layer.scaled`): that is what is taken out,
    and the others of its layer go on writing theirs. ValueError for another `how` or an unknown
    head. (Tigges et al. 2024, appendix on self-repair.)
    """
    if how not in HOW:
        raise ValueError(f"cannot ablate by {how!r}; there are: {', '.join(HOW)}")
    check_pairs(model, pairs)
    graph, network = graph_of(model), network_of(model)
    network.refuse_capped_logits("the ablation of heads")
    for layer, head in heads:
        source_of(graph, (layer, head))
    length = int(pairs.end.max()) + 1
    both = torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, :length].to(model.device)
    runs = list(run(network, network.embed(both)))
    end = pairs.end.to(model.device)
    last = at_end(runs[-1].out, end)[:, 0]
    scale = network.norm_final.standardise(last, sums_dtype(model.dtype))[1]
    direction = answer_directions(network, pairs)

    def take_out(what: str, layer: int, written: Tensor) -> Tensor:
        taken = [head for at, head in heads if at == layer]
        if what != "written" or not taken:
            return written
        written = written.clone()
        corrupted = runs[layer].written[:, 1:]
        for head in taken:
            written[..., head, :] = 0 if how == "zero" else corrupted[..., head, :]
        return written

    ablated = list(run(network, network.embed(both[:, :1]), edit=take_out))
    before, after = (_logit_difference(network, pairs, done, end) for done in (runs, ablated))
    left = at_end(ablated[-1].out, end)[:, 0]
    rescaled = network.norm_final.standardise(left, sums_dtype(model.dtype))[1] - scale
    mlps = [
        at_end(done.mlp_out - clean.mlp_out[:, :1], end)[:, 0]
        for done, clean in zip(ablated, runs, strict=True)
    ]
    refuse_not_finite(model, pairs, torch.stack([before, after]), "when heads are taken out")
    return Ablated(
        heads=tuple(heads),
        before=before,
        after=after,
        direct_before=_direct_effects(runs, end, scale, direction),
        direct_after=_direct_effects(ablated, end, scale, direction),
        by_mlps=(torch.stack(mlps).to(direction) * scale * direction).sum(-1).cpu(),
        by_norm=(left.to(direction) * rescaled * direction).sum(-1).cpu(),
    )


def _logit_difference(
    network: Network, pairs: PromptPairs, runs: Sequence[Run], end: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Of the first version of each prompt."""
    measured = replace(pairs, metric_name="logit_difference")
    return metric_of_stream(network, measured, at_end(runs[-1].out, end)[:, :1])[:, 0].cpu()


def _direct_effects(
    runs: Sequence[Run],
    end: Int[Tensor, " n"],
    scale: Float[Tensor, "n 1"],
    direction: Float[Tensor, "n d_model"],
) -> Float[Tensor, "layer head n"]:
    """What each head writes at END, scaled as the last norm scales, along the direction."""
    written = torch.stack(
        [
            einsum(
                at_end(done.written, end)[:, 0],
                done.layer.w_written.to(done.z.dtype),
                "prompt head d_head, head d_head d_model -> head prompt d_model",
            )
            for done in runs
        ]
    )
    return (written.to(direction) * scale * direction).sum(-1).cpu()


# ------------------------------------------------------------------ over texts


@torch.no_grad()
def repair_over_text(
    model: Model, tokens: Int[Tensor, "document pos"], share: float = 0.1
) -> dict[str, Float[Tensor, " head"]]:
    """Self-repair over text: each head in turn writes what it wrote in another document.

    tokens: as `tasks.sequences.documents` gives them. A token's logit is taken less the mean over
    the vocabulary. Of each head, over the `share` of tokens that its direct effect raises most:
    {"direct"}: what they lose straight, with the last norm's deviation held; {"total"}: what they
    lose in all. total < direct: later parts make up for it. direct - total is the sum of "by_heads"
    and "by_mlps", how much more later heads and MLPs write with that deviation held, and "by_norm",
    what the deviation's own change adds. (McGrath et al. 2023; the appendix of Tigges et al. 2024.)
    """
    network, dtype = network_of(model), sums_dtype(model.dtype)
    network.refuse_capped_logits("self-repair")
    tokens = tokens.to(model.device)
    streams, of_heads, written = [], [], []
    for done in run(network, network.embed(tokens)[:, None]):
        streams.append(done.x)
        of_heads.append(done.written)
        written.append((done.out - done.x - done.mlp_out, done.mlp_out))
    unembed = folded_unembedding(network, dtype)
    right = (unembed - unembed.mean(0))[tokens[:, 1:]]  # [document, pos, d_model]
    scale = network.norm_final.standardise(done.out[:, 0, :-1], dtype)[1]

    def along(stream: Float[Tensor, "document 1 pos d_model"]) -> Float[Tensor, "document pos"]:
        """What it adds to the logit of the token that follows, with the clean deviation."""
        return (stream[:, 0, :-1].to(dtype) * scale * right).sum(-1)

    def logit(stream: Float[Tensor, "document 1 pos d_model"]) -> Float[Tensor, "document pos"]:
        """Of the token that follows."""
        standard = network.norm_final.standardise(stream[:, 0, :-1], dtype)[0]
        return (standard * right).sum(-1)

    clean = logit(done.out)
    before = [(along(heads), along(mlp)) for heads, mlp in written]
    means: dict[str, list[Tensor]] = {name: [] for name in OVER_TEXT}
    for i, layer in enumerate(network.layers):
        for head, weight in enumerate(layer.w_written.to(of_heads[i].dtype)):
            of_head = of_heads[i][:, :, :, head]
            other = of_head.roll(1, 0)
            of_own = (of_head[:, 0, :-1] @ weight).to(dtype)
            of_other = (other[:, 0, :-1] @ weight).to(dtype)
            own = (of_own * scale * right).sum(-1).flatten()
            most = own.topk(max(1, int(share * own.numel()))).indices
            lost = ((of_own - of_other) * scale * right).sum(-1)
            by_heads, by_mlps = torch.zeros_like(clean), torch.zeros_like(clean)
            edit = _write_instead(i, head, other)
            for at, now in enumerate(run(network, streams[i], edit=edit, first=i), i):
                by_mlps += along(now.mlp_out) - before[at][1]
                if at > i:  # in the head's own layer no other head reads it
                    by_heads += along(now.out - now.x - now.mlp_out) - before[at][0]
            after = logit(now.out)
            parts = (lost, clean - after, by_heads, by_mlps, after - along(now.out))
            for name, part in zip(OVER_TEXT, parts, strict=True):
                means[name].append(part.flatten()[most].mean())
    return {name: torch.stack(values).cpu() for name, values in means.items()}


def _write_instead(layer: int, head: int, value: Float[Tensor, "document 1 pos d_head"]) -> Edit:
    """The edit that has one head write this."""

    def edit(what: str, at: int, written: Tensor) -> Tensor:
        if (what, at) != ("written", layer):
            return written
        written = written.clone()
        written[..., head, :] = value
        return written

    return edit
