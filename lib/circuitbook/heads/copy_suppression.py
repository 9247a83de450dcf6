"""Copy suppression: how much of what a head does to text is to lower what is predicted already.

CSPA, copy suppression-preserving ablation, of McDougall et al. 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from circuitbook.heads.unembedding import folded_unembedding
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.network import Network, Run, attention_pattern, last_stream, run
from circuitbook.tasks.words import token_texts

CANDIDATES = 0.05  # of the tokens before: how many predicted ones CSPA keeps
DOCUMENT_BYTES = 1 << 29  # of activations of the documents that copy suppression runs at a time
ARRAYS = 4  # [document, pos, vocab] that are there at the same time
PART_BYTES = 4 << 20  # of [document, pos, tokens], where the vocabulary is cut

# Words whose repetition means nothing: never a suppressed token.
FUNCTION_WORDS = frozenset(
    """
    a an the to of in on at by for from with as and or but if when while that this these those it
    its he she they them their his her him you your i my we is are was were be been have has had
    will would not so such very most much more some all about like what which who how only than then
    there here now after before over
    """.split()
)


def function_tokens(tokenizer: PreTrainedTokenizerBase) -> Bool[Tensor, " vocab"]:
    """Which tokens are function words, punctuation or special tokens."""
    plain = [text.lower() for text in token_texts(tokenizer)]
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
    tokens: Int[Tensor, "document pos"],
    function: Bool[Tensor, " vocab"],
    evaluate: int | None = None,
    candidates: float = CANDIDATES,
    as_published: bool = False,
) -> tuple[Float[Tensor, "head document"], Float[Tensor, "head document"]]:
    """What CSPA is made of: mean KL divergence from the model's own predictions,

        kept      with of the head only its suppression of what is predicted already
        ablated   with the head's mean output at that position in place of its output

    The score of a head is 1 - mean(kept) / mean(ablated): 1 if suppressing copies is all it does, 0
    or less if none of it.

    The mean output is taken over all documents, the divergence over the first `evaluate`. At
    position d the source tokens are ranked by how much the stream that the head reads predicts them
    already (their unembedding), each token at its first place, `function` words excluded; the best
    ceil(candidates * (d + 1)) are kept, with their repetitions. Of P(d, s) (v_s W_O - mean) only
    the negative component along the unembedding of s is kept. The head's new output changes the
    last stream alone, with the last norm's deviation held. (McDougall et al. 2023, and the authors'
    code.)
    as_published: where fewer candidates are left than there is room for, everything is kept, as in
    the authors' code. Behind a norm that the heads of a layer share, a head writes its share of the
    normed sum, and v_s W_O is the part of that which comes from s (`Layer.scaled`).
    """
    network.refuse_capped_logits("copy suppression")
    n = len(tokens) if evaluate is None else min(evaluate, len(tokens))
    length, (d_vocab, d_model) = tokens.shape[1], network.w_embed.shape
    rows = max(1, DOCUMENT_BYTES // (8 * length * d_model * 12))
    means = _mean_outputs(network, tokens, rows)
    rows = max(1, min(rows, DOCUMENT_BYTES // (4 * length * d_vocab * ARRAYS)))
    kept, ablated = [], []
    for part in tokens[:n].split(rows):
        chosen = _Suppressible(network, part, function, candidates, as_published)
        of_kept, of_ablated = _divergences(network, part, means, chosen)
        kept.append(of_kept)
        ablated.append(of_ablated)
    return torch.cat(kept, 1), torch.cat(ablated, 1)


def _mean_outputs(
    network: Network, tokens: Int[Tensor, "document pos"], rows: int
) -> list[Float[Tensor, "pos head d_head"]]:
    """Of each layer, the mean `Run.written` over all documents, `rows` of them at a time."""
    dtype = sums_dtype(network.w_embed.dtype)
    means: list[Tensor] = []
    for part in tokens.split(rows):
        layers = run(network, network.embed(part)[:, None])
        shares = [done.written[:, 0].to(dtype).sum(0) / len(tokens) for done in layers]
        means = [a + b for a, b in zip(means, shares, strict=True)] if means else shares
    return means


class _Suppressible:
    """Which source tokens of some documents a head may suppress, and along which direction."""

    def __init__(
        self,
        network: Network,
        tokens: Int[Tensor, "document pos"],
        function: Bool[Tensor, " vocab"],
        candidates: float,
        as_published: bool,
    ) -> None:
        device, length = tokens.device, tokens.shape[1]
        self.as_published = as_published
        self.unembed = folded_unembedding(network, sums_dtype(network.w_embed.dtype))
        self.of_source = self.unembed[tokens]  # [document, source, d_model]
        self.unit = F.normalize(self.of_source, dim=-1)
        room = [math.ceil(candidates * (d + 1)) for d in range(length)]
        self.room = torch.tensor(room, device=device)  # [query]: how many are kept
        before = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        is_function = function.to(device)[tokens]
        self.allowed = ~is_function[:, None] & before  # [document, query, source]
        same = tokens[:, :, None] == tokens[:, None]
        earlier = torch.ones_like(same[0]).tril(-1)
        self.repetition = (same & earlier).any(2)  # [document, source]: it stood before

    def chosen(
        self, stream: Float[Tensor, "document query d_model"]
    ) -> Bool[Tensor, "document query source"]:
        """What the stream predicts most of what came before, as many as there is room for."""
        predicted = stream @ self.of_source.transpose(1, 2)
        predicted = predicted.masked_fill(~self.allowed, -1e9)
        first_places = predicted.masked_fill(self.repetition[:, None], -1e9)
        ranked = first_places.sort(-1, descending=True).values
        last_with_room = (self.room - 1)[None, :, None].expand(len(stream), -1, 1)
        chosen = predicted + 1e-6 >= ranked.gather(2, last_with_room)
        return chosen if self.as_published else chosen & self.allowed


def _divergences(
    network: Network,
    tokens: Int[Tensor, "document pos"],
    means: list[Float[Tensor, "pos head d_head"]],
    suppressible: _Suppressible,
) -> tuple[Float[Tensor, "head document"], Float[Tensor, "head document"]]:
    """`copy_suppression` of these documents, the heads' mean outputs being known.

    What a head changes in the logits has few dimensions: those of its own output, and those of the
    source tokens. Only these are unembedded, a part of the vocabulary at a time.
    """
    dtype = sums_dtype(network.w_embed.dtype)
    last = last_stream(network, network.embed(tokens)[:, None])[:, 0]
    scale = network.norm_final.standardise(last, dtype)[1]  # [document, pos, 1]
    predicted = _Predictions(network.logits(last).to(dtype).log_softmax(-1))
    unembed = predicted.parts_of(suppressible.unembed.t())
    of_sources = predicted.parts_of(suppressible.unit @ suppressible.unembed.t())
    mean_unembedding = predicted.expectation(unembed)  # [document, pos, d_model]

    kept, ablated = [], []
    runs = run(network, network.embed(tokens)[:, None])
    for done, mean in zip(runs, means, strict=True):
        w_out = done.layer.w_written.to(dtype)
        pattern = attention_pattern(done.q, done.k, network.scale)[:, 0].to(dtype)
        along = _along_unembedding(done, w_out, mean, suppressible.unit)
        chosen = suppressible.chosen(done.x[:, 0].to(dtype))[:, None]
        scaled = scale[:, None]  # [document, 1, pos, 1]
        suppression = (scaled * (pattern * along).clamp(max=0) * chosen).transpose(0, 1)
        less = (scaled * (mean - done.written[:, 0].to(dtype)).transpose(1, 2)).transpose(0, 1)
        without = torch.stack([one @ w for one, w in zip(less, w_out, strict=True)])
        written = torch.stack([without, without + suppression @ suppressible.unit], 1)

        def changes(
            part: int, w_out: Tensor = w_out, less: Tensor = less, kept: Tensor = suppression
        ) -> Iterator[Tensor]:
            unembedded = (w_out.flatten(0, 1) @ unembed[part]).unflatten(0, w_out.shape[:2])
            change, with_suppression = predicted.room(part)
            for head, of_head in enumerate(unembedded):
                torch.mm(less[head].flatten(0, 1), of_head, out=change.flatten(0, 1))
                torch.baddbmm(change, kept[head], of_sources[part], out=with_suppression)
                yield change
                yield with_suppression

        means_of_changes = (written * mean_unembedding).sum(-1).flatten(0, 1)
        divergences = predicted.divergence(changes, means_of_changes).mean(-1).unflatten(0, (-1, 2))
        ablated.append(divergences[:, 0])
        kept.append(divergences[:, 1])
    return torch.cat(kept), torch.cat(ablated)


class _Predictions:
    """The probabilities of the next token, and how far they move when logits change."""

    def __init__(self, log_p: Float[Tensor, "document pos vocab"]) -> None:
        n_positions = log_p.shape[0] * log_p.shape[1]
        self.tokens = max(1, PART_BYTES // (log_p.itemsize * n_positions))
        self.log_p = self.parts_of(log_p)
        self.p = [part.exp() for part in self.log_p]
        self.memory = log_p.new_empty(2, n_positions * self.tokens)

    def parts_of(self, x: Float[Tensor, "*axes vocab"]) -> list[Float[Tensor, "*axes tokens"]]:
        """Cut so small that what is done to a part stays in the processor's cache."""
        return [part.contiguous() for part in x.split(self.tokens, -1)]

    def expectation(
        self, of_tokens: Sequence[Float[Tensor, "width tokens"]]
    ) -> Float[Tensor, "document pos width"]:
        parts = zip(self.p, of_tokens, strict=True)
        return torch.stack([p @ part.t() for p, part in parts]).sum(0)

    def room(self, part: int) -> tuple[Tensor, Tensor]:
        """Two arrays [document, pos, tokens] of a part, whose memory all parts share."""
        shape = self.p[part].shape
        first, second = self.memory[:, : self.p[part].numel()]
        return first.view(shape), second.view(shape)

    def divergence(
        self,
        changes: Callable[[int], Iterator[Float[Tensor, "document pos tokens"]]],
        means: Float[Tensor, "change document pos"],
    ) -> Float[Tensor, "change document pos"]:
        """KL divergence from these probabilities to what they become when the logits change.

        With x for the change it is log E[exp(x)] - E[x], both under p. changes: one x of each part
        of the vocabulary after the other, to be used up; made anew by each call. means: E[x].
        """
        grown = torch.zeros_like(means)
        for part, p in enumerate(self.p):
            for of_change, x in zip(grown, changes(part), strict=True):
                of_change += (p[..., None, :] @ x.expm1_()[..., None])[..., 0, 0]
        if bool(grown.isfinite().all()):
            return grown.log1p() - means
        totals = [
            torch.stack([(log_p + x).logsumexp(-1) for x in changes(part)])
            for part, log_p in enumerate(self.log_p)
        ]
        return torch.stack(totals).logsumexp(0) - means


def _along_unembedding(
    done: Run,
    w_out: Float[Tensor, "head d_head d_model"],
    mean: Float[Tensor, "query head d_head"],
    unit: Float[Tensor, "document source d_model"],
) -> Float[Tensor, "document head query source"]:
    """v_s W_O less the head's mean output, along the unembedding of each source token s."""
    values = done.v[:, 0].to(unit.dtype)  # [document, source, head, d_head]
    readers = einsum(
        unit,
        w_out,
        "document source d_model, head d_head d_model -> document source head d_head",
    )
    through = rearrange(
        (values * readers).sum(-1), "document source head -> document head 1 source"
    )
    if done.layer.norm_out is not None:
        through = through * done.layer.share(done.z)[:, 0].transpose(1, 2).to(unit.dtype)
    of_mean = einsum(
        mean,
        readers,
        "query head d_head, document source head d_head -> document head query source",
    )
    return through - of_mean
