"""Successor heads: does a head turn Monday into Tuesday (Gould et al. 2023)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from circuitbook.heads.unembedding import folded_unembedding
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.layers import Layer
from circuitbook.model.network import Network
from circuitbook.tasks.lexicon import STORIES, lexicon_for
from circuitbook.tasks.stories.world import DAYS, MONTHS, SEQUENCES
from circuitbook.tasks.words import single_tokens

_ROMAN = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX".split()


class SuccessorPairs(NamedTuple):
    """What one ordinal list asks."""

    name: str
    pairs: Int[Tensor, "pair 2"]
    """Tokens of a word and of its successor."""
    targets: Int[Tensor, " target"]
    """All successors of the list, ascending."""


def word_lists(tokenizer: PreTrainedTokenizerBase) -> dict[str, tuple[list[str], bool]]:
    """Ordinal lists of the tokenizer's language by name.

    Each is its words and whether it wraps around.
    """
    lists = {name: (list(words), wraps) for name, (words, wraps) in SEQUENCES.items()}
    if lexicon_for(tokenizer) is not STORIES:
        lists |= {
            "numbers": ([str(i) for i in range(1, 201)], False),
            "Roman numerals": (_ROMAN, False),
            "short days": ([day[:3] for day in DAYS], True),
            "short months": ([month[:3] for month in MONTHS], True),
        }
    return lists


def successor_pairs(tokenizer: PreTrainedTokenizerBase) -> list[SuccessorPairs]:
    """The pairs of every list.

    Pairs with a word that is not a single token in running text are left out, and so are lists with
    fewer than two pairs left.
    """
    lists = []
    for name, (words, wraps) in word_lists(tokenizer).items():
        token = single_tokens(tokenizer, words)
        after = words[1:] + words[:1] if wraps else words[1:]
        asked = [
            [token[word], token[successor]]
            for word, successor in zip(words, after, strict=False)  # the last may have none
            if word in token and successor in token
        ]
        if len(asked) > 1:
            pairs = torch.tensor(asked)
            lists.append(SuccessorPairs(name, pairs, pairs[:, 1].unique()))
    return lists


@torch.no_grad()
def successor_hits(
    network: Network,
    lists: Sequence[SuccessorPairs],
    norms: bool = True,
    ties: bool = False,
) -> Bool[Tensor, "head pair"]:
    """Does a head that looks at a word write its successor? The pairs of all lists in a row.

    The word as a head finds it, e(w), goes through the head's values and output to the unembeddings
    of the list's successors; a hit is the right one on top. norms=True: e(w) = embedding plus what
    the first MLP makes of it (the embedding alone for layer 0), with all LayerNorms and biases, as
    the model has them. norms=False is the authors': e(w) = MLP_0(embedding), without any LayerNorm.
    ties: an equal one beside it is a hit too. What a norm behind the heads divides by is the same
    for all targets, so that its weight alone counts.
    """
    dtype = sums_dtype(network.w_embed.dtype)
    unembed = folded_unembedding(network, dtype) if norms else network.w_unembed.to(dtype)
    hits = []
    for i, layer in enumerate(network.layers):
        of_layer = []
        for _, pairs, targets in lists:
            pairs, targets = pairs.to(unembed.device), targets.to(unembed.device)
            word = _as_a_head_finds_it(network, pairs[:, 0], i, norms)
            logits = einsum(
                _values(layer, word, norms).to(dtype),
                (layer.w_written if norms else layer.w_out).to(dtype),
                unembed[targets],
                "pair head d_head, head d_head d_model, target d_model -> head pair target",
            )
            right = targets == pairs[:, 1:]  # [pair, target]
            own = logits.masked_fill(~right, -torch.inf).amax(2)
            best_other = logits.masked_fill(right, -torch.inf).amax(2)
            of_layer.append(own >= best_other if ties else own > best_other)
        hits.append(torch.cat(of_layer, 1))
    return torch.cat(hits)


def _as_a_head_finds_it(
    network: Network, tokens: Int[Tensor, " pair"], layer: int, norms: bool
) -> Float[Tensor, "pair d_model"]:
    """e(w) of `successor_hits`."""
    word, first = network.words(tokens), network.layers[0]
    if not norms:
        return first.mlp.without_norm()(word)
    return word + first.mlp(first.norm_mlp(word)) if layer else word


def _values(
    layer: Layer, word: Float[Tensor, "pair d_model"], norms: bool
) -> Float[Tensor, "pair head d_head"]:
    if norms:
        return layer.attended("v", layer.project("v", layer.norm_attention(word)), None)
    return einsum(word, layer.w_in["v"], "pair d_model, head d_head d_model -> pair head d_head")
