"""Where heads look: along diagonals of repeated sequences, from END, and whole patterns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.network import Network, attention_pattern, run
from circuitbook.tasks.base import PromptPairs

if TYPE_CHECKING:
    from circuitbook.model.loaded import Model


REPEATED = ("previous", "duplicate", "induction")


@torch.no_grad()
def repeat_scores(
    network: Network, tokens: Tensor, length: int, whole_diagonal: bool = False
) -> dict[str, Tensor]:
    """Mean attention of each head along a diagonal, {kind: [head, n]}, for sequences [n, 2 *
    length] said twice.

    previous: from each token to the one before. duplicate: from each token of the second half to
    the same one in the first.
    induction: to the one after that. With `whole_diagonal`, as the authors' code, induction also
    counts the last token of the first half, from which the diagonal begins at the very first token.
    """
    offsets = {
        "previous": (1, 0),
        "duplicate": (length, 0),
        "induction": (length - 1, 0 if whole_diagonal else 1),
    }
    found = {kind: [] for kind in offsets}
    for one in run(network, network.embed(tokens)[:, None]):
        pattern = attention_pattern(one.q, one.k, network.scale)[:, 0]  # [n, h, t, s]
        for kind, (offset, first) in offsets.items():
            along = pattern.diagonal(-offset, 2, 3)[..., first:]
            found[kind].append(along.to(sums_dtype(along.dtype)).mean(2))
    return {kind: torch.cat(layers, 1).t() for kind, layers in found.items()}


# ------------------------------------------------------------------ on IOI


@torch.no_grad()
def attention_from_end(
    network: Network, pairs: PromptPairs, places: Sequence[str]
) -> dict[str, Tensor]:
    """How much each head attends from END to these positions of the clean prompts, {place: [head,
    n]}."""
    device = network.w_embed.device
    tokens, b = (
        pairs.clean[:, : int(pairs.end.max()) + 1].to(device),
        torch.arange(len(pairs), device=device),
    )
    patterns = torch.cat(
        [
            attention_pattern(one.q, one.k, network.scale)[:, 0]
            for one in run(network, network.embed(tokens)[:, None])
        ],
        1,
    )  # [n, head, t, s]
    return {
        place: patterns[b, :, pairs.end.to(device), pairs.positions[place].to(device)].t()
        for place in places
    }


def patterns_on(
    model: Model, tokens: torch.Tensor, heads: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """Attention patterns [head, query, key] of these heads (layer, head) on one prompt, int64
    [pos]."""
    import torch

    from circuitbook.model.architectures import network_of
    from circuitbook.model.network import attention_pattern, run

    net = network_of(model)
    with torch.no_grad():
        layers = [
            attention_pattern(one.q, one.k, net.scale)[0, 0].float().cpu()
            for one in run(net, net.embed(tokens[None, None].to(model.device)))
        ]
    return torch.stack([layers[layer][head] for layer, head in heads])
