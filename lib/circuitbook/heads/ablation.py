"""Heads taken out, and who makes up for them: self-repair on IOI and over texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from circuitbook.circuits.batches import at_end, check_pairs
from circuitbook.heads.names import Head
from circuitbook.heads.path_patching import source_of
from circuitbook.heads.unembedding import answer_directions, folded_unembedding
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.model.network import run
from circuitbook.tasks.base import PromptPairs

# ------------------------------------------------------------------ ablation


@dataclass(frozen=True, eq=False)
class Ablated:
    """A model before and after some heads are taken out."""

    heads: tuple[Head, ...]
    before: Tensor  # [n] logit difference
    after: Tensor  # [n]
    direct_before: Tensor  # [L, H, n] each head's direct effect on the logit difference
    direct_after: Tensor  # [L, H, n] the same in the ablated run; of the taken heads: what is left

    @property
    def expected(self) -> Tensor:
        """[n] what would be left if nobody compensated: before, less what the taken heads wrote
        straight to the logits."""
        taken = sum(
            (self.direct_before[head] - self.direct_after[head] for head in self.heads),
            torch.zeros(len(self.before)),
        )
        return self.before - taken

    @property
    def compensation(self) -> Tensor:
        """[n] after - expected: how much of the loss the rest of the model makes up for; negative
        where it loses more."""
        return self.after - self.expected


HOW = ("zero", "resample")


@torch.no_grad()
def ablate(
    model: Model, pairs: PromptPairs, heads: Sequence[Head], how: str = "resample"
) -> Ablated:
    """Takes heads out, at all positions, and looks at who makes up for them (Tigges et al. 2024,
    appendix on self-repair).

    how: "zero" (the authors'), or "resample": the head writes what it wrote on the corrupted
    prompt. The direct effect of a head is what it writes at END, through the final LayerNorm of the
    clean run, on the logit difference of the answers.
    """
    if how not in HOW:
        raise ValueError(f"cannot ablate by {how!r}; there are: {', '.join(HOW)}")
    check_pairs(model, pairs)
    network, length = network_of(model), int(pairs.end.max()) + 1
    end = pairs.end.to(model.device)
    for layer, head in heads:
        source_of(graph_of(model), (layer, head))
    tokens = torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, :length].to(model.device)
    runs = list(run(network, network.embed(tokens)))
    normed_by = network.norm_final.standardise(
        at_end(runs[-1].out, end)[:, 0], sums_dtype(model.dtype)
    )[1]  # [n, 1]
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
        written = torch.stack(
            [
                torch.einsum("bhe,hed->hbd", at_end(one.z, end)[:, 0], weights.w_out)
                for one, weights in zip(done, network.layers)
            ]
        )
        direct.append((written.to(direction) * normed_by * direction).sum(-1).cpu())
    return Ablated(tuple(heads), out[0].cpu(), out[1].cpu(), *direct)


def _logit_difference(pairs: PromptPairs, logits: Tensor) -> Tensor:
    return pairs.measures(logits)["logit_difference"]


@torch.no_grad()
def repair_over_text(model: Model, tokens: Tensor, share: float = 0.1) -> dict[str, Tensor]:
    """Self-repair over a text sample: each head in turn writes what it wrote in another document,
    at all positions.

    tokens [documents, pos], as `heads.documents` gives them. A token's logit is taken less the mean
    over the vocabulary. Of each head, over the `share` of tokens that its direct effect raises
    most: {"direct"}: what they lose straight, with the last norm's deviation held; {"total"}: what
    they lose in all; [L * H] each. total < direct: later parts make up for it. (McGrath et al.
    2023; the appendix of Tigges et al. 2024.)
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
    right = unembed[target]  # [n, t, d]

    def logit(x: Tensor) -> Tensor:
        standard = network.norm_final.standardise(x[:, 0, :-1], dtype)[0]
        return (standard * right).sum(-1)

    clean, out = logit(one.out), {"direct": [], "total": []}
    for layer, weights in enumerate(network.layers):
        for head in range(weights.w_out.shape[0]):
            other = outputs[layer][:, :, :, head].roll(1, 0)
            written = (outputs[layer][:, 0, :-1, head] @ weights.w_out[head]).to(dtype)
            lost = (
                (written - (other[:, 0, :-1] @ weights.w_out[head]).to(dtype)) * scale * right
            ).sum(-1)

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
