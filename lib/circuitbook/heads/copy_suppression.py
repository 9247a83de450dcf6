"""Copy suppression: how much of a head's effect on text is to lower what is predicted already
(CSPA, McDougall et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from circuitbook.heads.unembedding import folded_unembedding
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.network import Network, attention_pattern, run

CANDIDATES = 0.05  # of the tokens before: how many predicted ones CSPA keeps


DOCUMENT_BYTES = 1 << 28  # of activations of the documents that copy suppression runs at a time


# ------------------------------------------------------------------ copy suppression

# Words whose repetition means nothing: never a suppressed token.
FUNCTION_WORDS = frozenset(
    """a an the to of in on at by for from with as and or but if when while that this these those it
    its he she they them their his her him you your i my we is are was were be been have has had
    will would not so such very most much more some all about like what which who how only than then
    there here now after before over""".split()
)


def function_tokens(tokenizer) -> Tensor:
    """bool [vocab]: function words, punctuation and special tokens."""
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    plain = [tokenizer.convert_tokens_to_string([word]).strip().lower() for word in words]
    special = set(tokenizer.all_special_ids)
    return torch.tensor(
        [
            i in special or word in FUNCTION_WORDS or not any(c.isalnum() for c in word)
            for i, word in enumerate(plain)
        ]
    )


@torch.no_grad()
def copy_suppression(
    network: Network,
    tokens: Tensor,
    function: Tensor,
    evaluate: int | None = None,
    candidates: float = CANDIDATES,
    as_published: bool = False,
) -> tuple[Tensor, Tensor]:
    """What CSPA is made of: mean KL divergence from the model's own predictions, [head, document]
    each,

        kept      with of the head only its suppression of what is predicted already
        ablated   with the head's mean output at that position in place of its output

    The score of a head is 1 - mean(kept) / mean(ablated): 1 if suppressing copies is all it does, 0
    or less if none of it.

    tokens [documents, pos]; the mean is taken over all of them, the divergence over the first
    `evaluate`. At position d the source tokens are ranked by how much the stream that the head
    reads predicts them already (their unembedding), each token at its first place, `function` words
    [vocab] excluded; the best ceil(candidates * (d + 1)) are kept, with their repetitions. Of P(d,
    s) (v_s W_O - mean) only the negative component along the unembedding of s is kept. The head's
    new output changes the last stream alone, with the last norm's deviation held. (McDougall et al.
    2023, and the authors' code.)
    as_published: where fewer candidates are left than there is room for, everything is kept, as in
    the authors' code.
    """
    dtype = sums_dtype(network.w_embed.dtype)
    n = len(tokens) if evaluate is None else min(evaluate, len(tokens))
    rows = max(1, DOCUMENT_BYTES // (8 * tokens.shape[1] * network.w_embed.shape[1] * 12))
    means = None  # per layer [t, h, e]: the heads' mean output over all documents
    for part in tokens.split(rows):
        sums = [
            one.z[:, 0].to(dtype).sum(0) / len(tokens)
            for one in run(network, network.embed(part)[:, None])
        ]
        means = sums if means is None else [a + b for a, b in zip(means, sums)]
    parts = [
        _suppression(network, part, means, function, candidates, as_published)
        for part in tokens[:n].split(rows)
    ]
    return tuple(torch.cat(each, 1) for each in zip(*parts))


def _suppression(
    network: Network,
    some: Tensor,
    means: Sequence[Tensor],
    function: Tensor,
    candidates: float,
    as_published: bool,
) -> tuple[Tensor, Tensor]:
    """`copy_suppression` of these documents [n, length], the heads' mean outputs being known."""
    dtype, length = sums_dtype(network.w_embed.dtype), some.shape[1]
    unembed = folded_unembedding(network, dtype)
    of_source = unembed[some]  # [n, s, d]
    unit = F.normalize(of_source, dim=-1)
    for one in run(network, network.embed(some)[:, None]):
        pass
    last = one.out[:, 0]
    scale = network.norm_final.standardise(last, dtype)[1]  # [n, t, 1]
    logits = network.logits(last).to(dtype)
    own = logits.log_softmax(-1)

    def divergence(change: Tensor) -> Tensor:
        other = (logits + (scale * change) @ unembed.t()).log_softmax(-1)
        return (own.exp() * (own - other)).sum(-1).mean(1)

    room = torch.tensor(
        [math.ceil(candidates * (d + 1)) for d in range(length)], device=some.device
    )
    allowed = (
        ~function.to(some.device)[some][:, None]
        & torch.ones(length, length, dtype=torch.bool, device=some.device).tril()
    )
    same = some[:, :, None] == some[:, None]
    repetition = (same & torch.ones_like(same[0]).tril(-1)).any(2)  # [n, s] stood before
    kept, ablated = [], []
    for one, layer, z in zip(run(network, network.embed(some)[:, None]), network.layers, means):
        stream = one.x[:, 0].to(dtype)
        predicted = (stream @ of_source.transpose(1, 2)).masked_fill(~allowed, -1e9)  # [n, d, s]
        ranked = predicted.masked_fill(repetition[:, None], -1e9).sort(-1, descending=True).values
        chosen = predicted + 1e-6 >= ranked.gather(
            2, (room - 1)[None, :, None].expand(len(some), -1, 1)
        )
        if not as_published:
            chosen &= allowed
        pattern = attention_pattern(one.q, one.k, network.scale)[:, 0].to(dtype)  # [n, h, d, s]
        for h in range(layer.w_out.shape[0]):
            w_out = layer.w_out[h].to(dtype)
            mean = z[:, h] @ w_out  # [t, d]
            written = one.z[:, 0, :, h].to(dtype) @ w_out
            along = ((one.inputs["v"][:, 0, :, h].to(dtype) @ w_out) * unit).sum(-1)[
                :, None
            ]  # [n, 1, s]
            part = (pattern[:, h] * (along - torch.einsum("td,nsd->nts", mean, unit))).clamp(
                max=0
            ) * chosen
            kept.append(divergence(mean + part @ unit - written))
            ablated.append(divergence(mean - written))
    return torch.stack(kept), torch.stack(ablated)
