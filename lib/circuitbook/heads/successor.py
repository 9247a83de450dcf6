"""Successor heads: does a head turn Monday into Tuesday (Gould et al. 2023)?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from circuitbook.heads.unembedding import folded_unembedding
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.network import Network
from circuitbook.tasks.lexicon import STORIES, lexicon_for
from circuitbook.tasks.stories.world import DAYS, MONTHS, SEQUENCES
from circuitbook.tasks.texts import is_single_token, single_token

# ------------------------------------------------------------------ successors

_ROMAN = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX".split()


def word_lists(tokenizer) -> dict[str, tuple[list[str], bool]]:
    """Ordinal lists {name: (words with a leading space, does it wrap around)} of the tokenizer's
    language."""
    lists = {name: (list(words), wraps) for name, (words, wraps) in SEQUENCES.items()}
    if lexicon_for(tokenizer) is not STORIES:
        lists |= {
            "numbers": ([str(i) for i in range(1, 201)], False),
            "Roman numerals": (_ROMAN, False),
            "short days": ([day[:3] for day in DAYS], True),
            "short months": ([month[:3] for month in MONTHS], True),
        }
    return {name: ([" " + word for word in words], wraps) for name, (words, wraps) in lists.items()}


def successor_pairs(tokenizer) -> list[tuple[str, Tensor, Tensor]]:
    """Of each list: its name, pairs int64 [m, 2] of a word and its successor, and all successors,
    sorted [t].

    Pairs with a word that is not a single token are left out, and so are lists with fewer than two
    pairs left.
    """
    out = []
    for name, (words, wraps) in word_lists(tokenizer).items():
        both = [
            (a, b)
            for a, b in zip(words, words[1:] + words[:1] if wraps else words[1:])
            if is_single_token(tokenizer, a) and is_single_token(tokenizer, b)
        ]
        if len(both) > 1:
            pairs = torch.tensor(
                [[single_token(tokenizer, word) for word in pair] for pair in both]
            )
            out.append((name, pairs, pairs[:, 1].unique()))
    return out


@torch.no_grad()
def successor_hits(
    network: Network,
    lists: Sequence[tuple[str, Tensor, Tensor]],
    norms: bool = True,
    ties: bool = False,
) -> Tensor:
    """Does a head that looks at a word write its successor? bool [head, pair], the pairs of all
    lists in a row.

    The word as a head finds it, e(w), goes through the head's values and output to the unembeddings
    of the list's successors; a hit is the right one on top. norms=True: e(w) = embedding plus what
    the first MLP makes of it (the embedding alone for layer 0), with all LayerNorms and biases, as
    the model has them. norms=False is the authors': e(w) = MLP_0(embedding), without any LayerNorm.
    ties: an equal one beside it is a hit too.
    """
    dtype = sums_dtype(network.w_embed.dtype)
    unembed = folded_unembedding(network, dtype) if norms else network.w_unembed.to(dtype)
    first = network.layers[0]
    hits = []
    for i, layer in enumerate(network.layers):
        row = []
        for _, pairs, targets in lists:
            pairs, targets = pairs.to(unembed.device), targets.to(unembed.device)
            word = F.embedding(pairs[:, 0], network.w_embed)
            e = (
                word + first.mlp(first.norm_mlp(word))
                if norms and i
                else word
                if norms
                else first.mlp(word)
            )
            value = (
                layer.project("v", layer.norm_attention(e))
                if norms
                else torch.einsum("md,hed->mhe", e, layer.w_in["v"])
            )
            logits = torch.einsum(
                "mhe,hed,td->hmt", value.to(dtype), layer.w_out.to(dtype), unembed[targets]
            )
            right = targets == pairs[:, 1:]  # [m, t]
            own = logits.masked_fill(~right, -torch.inf).amax(2)
            best_other = logits.masked_fill(right, -torch.inf).amax(2)
            row.append(own >= best_other if ties else own > best_other)
        hits.append(torch.cat(row, 1))
    return torch.cat(hits)
