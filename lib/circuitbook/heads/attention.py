"""Where heads attend to: along diagonals of repeated sequences, from END, and whole patterns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.heads.names import Head
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.loaded import Model
from circuitbook.model.network import Network, attention_pattern, run
from circuitbook.tasks.base import PromptPairs

REPEATED = ("previous", "duplicate", "induction")
TOKENS = 1024  # that are run at a time: more are not faster


@torch.no_grad()
def repeat_scores(
    network: Network,
    tokens: Int[Tensor, "n two_lengths"],
    length: int,
    whole_diagonal: bool = False,
) -> dict[str, Float[Tensor, "head n"]]:
    """Mean attention of each head along a diagonal, by kind, for sequences that are repeated once.

    previous: from each token to the one before. duplicate: from each token of the second half to
    the same one in the first. induction: to the one after that. With `whole_diagonal`, as the
    authors' code, induction also counts the last token of the first half, from which the diagonal
    begins at the very first token.
    """
    diagonals = {  # (how far back, entries left out at its beginning)
        "previous": (1, 0),
        "duplicate": (length, 0),
        "induction": (length - 1, 0 if whole_diagonal else 1),
    }
    scores: dict[str, list[Tensor]] = {kind: [] for kind in diagonals}
    for part in tokens.split(max(1, TOKENS // tokens.shape[1])):
        layers: dict[str, list[Tensor]] = {kind: [] for kind in diagonals}
        for done in run(network, network.embed(part)[:, None]):
            pattern = attention_pattern(done.q, done.k, network.scale)[:, 0]
            for kind, (back, left_out) in diagonals.items():
                along = pattern.diagonal(-back, 2, 3)[..., left_out:]  # [n, head, query]
                layers[kind].append(along.to(sums_dtype(along.dtype)).mean(2))
        for kind, of_layers in layers.items():
            scores[kind].append(torch.cat(of_layers, 1))
    return {kind: torch.cat(parts).t() for kind, parts in scores.items()}


@torch.no_grad()
def attention_from_end(
    network: Network, pairs: PromptPairs, places: Sequence[str]
) -> dict[str, Float[Tensor, "head n"]]:
    """How much each head attends from END to these positions of the clean prompts, by place."""
    device = network.w_embed.device
    tokens = pairs.clean[:, : int(pairs.end.max()) + 1].to(device)
    patterns = torch.cat(_patterns(network, tokens), 1)  # [n, head, query, key]
    prompts, end = torch.arange(len(pairs), device=device), pairs.end.to(device)
    return {
        place: patterns[prompts, :, end, pairs.positions[place].to(device)].t() for place in places
    }


@torch.no_grad()
def patterns_on(
    model: Model, tokens: Int[Tensor, " pos"], heads: Sequence[Head]
) -> Float[Tensor, "head query key"]:
    """Attention patterns of these heads on one prompt; float32, on the CPU."""
    patterns = _patterns(network_of(model), tokens[None].to(model.device))
    layers = [pattern[0].float().cpu() for pattern in patterns]
    return torch.stack([layers[layer][head] for layer, head in heads])


def _patterns(
    network: Network, tokens: Int[Tensor, "n pos"]
) -> list[Float[Tensor, "n head query key"]]:
    """Of each layer."""
    runs = run(network, network.embed(tokens)[:, None])
    return [attention_pattern(done.q, done.k, network.scale)[:, 0] for done in runs]
