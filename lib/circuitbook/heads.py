"""What attention heads do: scores of every head at every checkpoint (Tigges et al. 2024, sections 3.2 and 4.1).

    previous, duplicate, induction    attention on random sequences that are said twice, to the token before, to the same
                                      token, and to the one that followed it the first time (Olsson et al. 2022)
    successor                         does it turn Monday into Tuesday (Gould et al. 2023)
    copy, negative_copy               does it raise, or lower, the name that it looks at (Wang et al. 2023)
    copy_suppression                  how much of its effect on text is: lower what is predicted already and stood before
                                      (CSPA, McDougall et al. 2023)
    to_IO, to_S1, to_S2               attention from END, on IOI
    direct                            direct effect on IOI, by path patching; negative helps
    s_inhibition ...                  what it does to where the name movers look, by path patching

Scores come per item (sequence, pair of words, prompt, document), so that intervals can be had later without the model.
Heads are rows: row = layer * n_heads + head. All of one checkpoint are measured with one loading of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from . import abilities, attribution, lexicon, model as model_module, network, patching
from .abilities import ordinary_tokens
from .attribution import check_pairs
from .lexicon import STORIES, lexicon_for
from .mini import grammar
from .model import Model
from .network import Layer, Network, attention_pattern, network_of, run, sums_dtype
from .patching import all_heads, baselines, folded_unembedding, head_name, path_patch
from .recipes import HeadSettings, Recipe, get_recipe
from .store import Store, measurement_key
from .suites import Checkpoint, Suite
from .tasks import base, get_task, ioi
from .tasks.base import PromptPairs, is_single_token, single_token

TOP = 5                                                # a name counts as copied if it is among these many best tokens
CANDIDATES = 0.05                                      # of the tokens before: how many predicted ones CSPA keeps
DOCUMENT_BYTES = 1 << 28                               # of activations of the documents that copy suppression runs at a time
REPEATED = ("previous", "duplicate", "induction")
KINDS = (*REPEATED, "successor", "copy", "negative_copy", "copy_suppression", "to_IO", "to_S1", "to_S2")
TITLES = {"previous": "Previous token", "duplicate": "Duplicate token", "induction": "Induction", "successor": "Successor",
          "copy": "Name mover (copy score)", "negative_copy": "Negative copy score", "copy_suppression": "Copy suppression",
          "to_IO": "Attention to IO", "to_S1": "Attention to S1", "to_S2": "Attention to S2", "direct": "Direct effect on IOI"}
S_INHIBITION = ("through_q", "logit_difference", "IO", "S1", "S2")
_CODE = (attribution, network, patching, abilities.ordinary_tokens, grammar, lexicon, model_module, base, ioi)


# ------------------------------------------------------------------ repeated random sequences

def repeated_sequences(model: Model, n: int, length: int, seed: int = 42) -> Tensor:
    """`n` random sequences of `length` ordinary tokens, each said twice: int64 [n, 2 * length]."""
    pool = ordinary_tokens(model)
    once = pool[torch.randint(len(pool), (n, length), generator=torch.Generator().manual_seed(seed))]
    return torch.cat([once, once], 1)


@torch.no_grad()
def repeat_scores(network: Network, tokens: Tensor, length: int, whole_diagonal: bool = False) -> dict[str, Tensor]:
    """Mean attention of each head along a diagonal, {kind: [head, n]}, for sequences [n, 2 * length] said twice.

    previous: from each token to the one before. duplicate: from each token of the second half to the same one in the first.
    induction: to the one after that. With `whole_diagonal`, as the authors' code, induction also counts the last token of
    the first half, from which the diagonal begins at the very first token.
    """
    offsets = {"previous": (1, 0), "duplicate": (length, 0), "induction": (length - 1, 0 if whole_diagonal else 1)}
    found = {kind: [] for kind in offsets}
    for one in run(network, network.embed(tokens)[:, None]):
        pattern = attention_pattern(one.q, one.k, network.scale)[:, 0]                               # [n, h, t, s]
        for kind, (offset, first) in offsets.items():
            along = pattern.diagonal(-offset, 2, 3)[..., first:]
            found[kind].append(along.to(sums_dtype(along.dtype)).mean(2))
    return {kind: torch.cat(layers, 1).t() for kind, layers in found.items()}


# ------------------------------------------------------------------ successors

_ROMAN = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX".split()


def word_lists(tokenizer) -> dict[str, tuple[list[str], bool]]:
    """Ordinal lists {name: (words with a leading space, does it wrap around)} of the tokenizer's language."""
    lists = {name: (list(words), wraps) for name, (words, wraps) in grammar.SEQUENCES.items()}
    if lexicon_for(tokenizer) is not STORIES:
        lists |= {"numbers": ([str(i) for i in range(1, 201)], False), "Roman numerals": (_ROMAN, False),
                  "short days": ([day[:3] for day in grammar.DAYS], True),
                  "short months": ([month[:3] for month in grammar.MONTHS], True)}
    return {name: ([" " + word for word in words], wraps) for name, (words, wraps) in lists.items()}


def successor_pairs(tokenizer) -> list[tuple[str, Tensor, Tensor]]:
    """Of each list: its name, pairs int64 [m, 2] of a word and its successor, and all successors, sorted [t].

    Pairs with a word that is not a single token are left out, and so are lists with fewer than two pairs left.
    """
    out = []
    for name, (words, wraps) in word_lists(tokenizer).items():
        both = [(a, b) for a, b in zip(words, words[1:] + words[:1] if wraps else words[1:])
                if is_single_token(tokenizer, a) and is_single_token(tokenizer, b)]
        if len(both) > 1:
            pairs = torch.tensor([[single_token(tokenizer, word) for word in pair] for pair in both])
            out.append((name, pairs, pairs[:, 1].unique()))
    return out


@torch.no_grad()
def successor_hits(network: Network, lists: Sequence[tuple[str, Tensor, Tensor]], norms: bool = True,
                   ties: bool = False) -> Tensor:
    """Does a head that looks at a word write its successor? bool [head, pair], the pairs of all lists in a row.

    The word as a head finds it, e(w), goes through the head's values and output to the unembeddings of the list's
    successors; a hit is the right one on top. norms=True: e(w) = embedding plus what the first MLP makes of it (the
    embedding alone for layer 0), with all LayerNorms and biases, as the model has them. norms=False is the authors':
    e(w) = MLP_0(embedding), without any LayerNorm. ties: an equal one beside it is a hit too.
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
            e = word + first.mlp(first.norm_mlp(word)) if norms and i else word if norms else first.mlp(word)
            value = layer.project("v", layer.norm_attention(e)) if norms else torch.einsum("md,hed->mhe", e, layer.w_in["v"])
            logits = torch.einsum("mhe,hed,td->hmt", value.to(dtype), layer.w_out.to(dtype), unembed[targets])
            right = targets == pairs[:, 1:]                                                          # [m, t]
            own = logits.masked_fill(~right, -torch.inf).amax(2)
            best_other = logits.masked_fill(right, -torch.inf).amax(2)
            row.append(own >= best_other if ties else own > best_other)
        hits.append(torch.cat(row, 1))
    return torch.cat(hits)


# ------------------------------------------------------------------ name movers

@torch.no_grad()
def copy_hits(network: Network, tokens: Tensor, places: Tensor, norms: bool = True) -> tuple[Tensor, Tensor]:
    """Does a head that looks at a name raise that name? Share of the places with a hit, [head, n], and the same for lowering.

    tokens [n, pos]; places int64 [n, 3] positions of names. What the head reads there is taken after the first layer, goes
    through its values and output, and is unembedded; a hit: the name is among the five highest (lowest) tokens. norms=True:
    with the head's own LayerNorm. norms=False, as the authors' processed weights: the norm's weight and centring, but no
    division and no bias, and the unembedding's bias is added.
    """
    dtype = sums_dtype(network.w_embed.dtype)
    b = torch.arange(len(tokens), device=tokens.device)[:, None]
    first = next(iter(run(network, network.embed(tokens)[:, None])))
    stream, names = first.out[:, 0][b, places], tokens[b, places]                                    # [n, 3, d], [n, 3]
    unembed = folded_unembedding(network, dtype)
    bias = 0 if norms else network.w_unembed.to(dtype) @ network.norm_final.bias.to(dtype)
    raised, lowered = [], []
    for layer in network.layers:
        written = _written_without_attention(layer, stream, norms, dtype)                            # [n, 3, h, d]
        for sign, hits in ((1, raised), (-1, lowered)):
            top = (sign * written @ unembed.t() + bias).topk(TOP, -1).indices
            hits.append((top == names[..., None, None]).any(-1).to(dtype).mean(1).t())
    return torch.cat(raised), torch.cat(lowered)


def _written_without_attention(layer: Layer, stream: Tensor, norms: bool, dtype: torch.dtype) -> Tensor:
    """What each head of a layer would write if it looked here alone: [..., d] -> [..., h, d]."""
    if norms:
        value = layer.project("v", layer.norm_attention(stream))
    else:
        centred = layer.norm_attention.centre(stream) * layer.norm_attention.weight
        value = torch.einsum("...d,hed->...he", centred, layer.w_in["v"])
    return torch.einsum("...he,hed->...hd", value.to(dtype), layer.w_out.to(dtype))


# ------------------------------------------------------------------ copy suppression

# Words whose repetition means nothing: never a suppressed token.
FUNCTION_WORDS = frozenset("""a an the to of in on at by for from with as and or but if when while that this these those it its
    he she they them their his her him you your i my we is are was were be been have has had will would not so such very
    most much more some all about like what which who how only than then there here now after before over""".split())


def function_tokens(tokenizer) -> Tensor:
    """bool [vocab]: function words, punctuation and special tokens."""
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    plain = [tokenizer.convert_tokens_to_string([word]).strip().lower() for word in words]
    special = set(tokenizer.all_special_ids)
    return torch.tensor([i in special or word in FUNCTION_WORDS or not any(c.isalnum() for c in word)
                         for i, word in enumerate(plain)])


@torch.no_grad()
def copy_suppression(network: Network, tokens: Tensor, function: Tensor, evaluate: int | None = None,
                     candidates: float = CANDIDATES, as_published: bool = False) -> tuple[Tensor, Tensor]:
    """What CSPA is made of: mean KL divergence from the model's own predictions, [head, document] each,

        kept      with of the head only its suppression of what is predicted already
        ablated   with the head's mean output at that position in place of its output

    The score of a head is 1 - mean(kept) / mean(ablated): 1 if suppressing copies is all it does, 0 or less if none of it.

    tokens [documents, pos]; the mean is taken over all of them, the divergence over the first `evaluate`. At position d the
    source tokens are ranked by how much the stream that the head reads predicts them already (their unembedding), each token
    at its first place, `function` words [vocab] excluded; the best ceil(candidates * (d + 1)) are kept, with their
    repetitions. Of P(d, s) (v_s W_O - mean) only the negative component along the unembedding of s is kept. The head's new
    output changes the last stream alone, with the last norm's deviation held. (McDougall et al. 2023, and the authors' code.)
    as_published: where fewer candidates are left than there is room for, everything is kept, as in the authors' code.
    """
    dtype = sums_dtype(network.w_embed.dtype)
    n = len(tokens) if evaluate is None else min(evaluate, len(tokens))
    rows = max(1, DOCUMENT_BYTES // (8 * tokens.shape[1] * network.w_embed.shape[1] * 12))
    means = None                                       # per layer [t, h, e]: the heads' mean output over all documents
    for part in tokens.split(rows):
        sums = [one.z[:, 0].to(dtype).sum(0) / len(tokens) for one in run(network, network.embed(part)[:, None])]
        means = sums if means is None else [a + b for a, b in zip(means, sums)]
    parts = [_suppression(network, part, means, function, candidates, as_published) for part in tokens[:n].split(rows)]
    return tuple(torch.cat(each, 1) for each in zip(*parts))


def _suppression(network: Network, some: Tensor, means: Sequence[Tensor], function: Tensor, candidates: float,
                 as_published: bool) -> tuple[Tensor, Tensor]:
    """`copy_suppression` of these documents [n, length], the heads' mean outputs being known."""
    dtype, length = sums_dtype(network.w_embed.dtype), some.shape[1]
    unembed = folded_unembedding(network, dtype)
    of_source = unembed[some]                                                                        # [n, s, d]
    unit = F.normalize(of_source, dim=-1)
    for one in run(network, network.embed(some)[:, None]):
        pass
    last = one.out[:, 0]
    scale = network.norm_final.standardise(last, dtype)[1]                                           # [n, t, 1]
    logits = network.logits(last).to(dtype)
    own = logits.log_softmax(-1)

    def divergence(change: Tensor) -> Tensor:
        other = (logits + (scale * change) @ unembed.t()).log_softmax(-1)
        return (own.exp() * (own - other)).sum(-1).mean(1)

    room = torch.tensor([math.ceil(candidates * (d + 1)) for d in range(length)], device=some.device)
    allowed = ~function.to(some.device)[some][:, None] & torch.ones(length, length, dtype=torch.bool, device=some.device).tril()
    same = some[:, :, None] == some[:, None]
    repetition = (same & torch.ones_like(same[0]).tril(-1)).any(2)                                   # [n, s] stood before
    kept, ablated = [], []
    for one, layer, z in zip(run(network, network.embed(some)[:, None]), network.layers, means):
        stream = one.x[:, 0].to(dtype)
        predicted = (stream @ of_source.transpose(1, 2)).masked_fill(~allowed, -1e9)                 # [n, d, s]
        ranked = predicted.masked_fill(repetition[:, None], -1e9).sort(-1, descending=True).values
        chosen = predicted + 1e-6 >= ranked.gather(2, (room - 1)[None, :, None].expand(len(some), -1, 1))
        if not as_published:
            chosen &= allowed
        pattern = attention_pattern(one.q, one.k, network.scale)[:, 0].to(dtype)                     # [n, h, d, s]
        for h in range(layer.w_out.shape[0]):
            w_out = layer.w_out[h].to(dtype)
            mean = z[:, h] @ w_out                                                                   # [t, d]
            written = one.z[:, 0, :, h].to(dtype) @ w_out
            along = ((one.inputs["v"][:, 0, :, h].to(dtype) @ w_out) * unit).sum(-1)[:, None]        # [n, 1, s]
            part = (pattern[:, h] * (along - torch.einsum("td,nsd->nts", mean, unit))).clamp(max=0) * chosen
            kept.append(divergence(mean + part @ unit - written))
            ablated.append(divergence(mean - written))
    return torch.stack(kept), torch.stack(ablated)


def documents(model: Model, n: int, length: int, text: str | None = None, seed: int = 42) -> Tensor | None:
    """Text to measure on, int64 [n, length], each row an end-of-text token and the beginning of a document.

    The mini suite's language: stories that no model was trained on. Any other: the file `text`, whose documents are separated
    by empty lines; None where there is no such file, ValueError where it holds too little.
    """
    tokenizer, rows = model.tokenizer, []
    if text is not None:
        source = iter(Path(text).read_text(encoding="utf8").split("\n\n"))
    elif lexicon_for(tokenizer) is STORIES:
        rng = grammar.World(f"held-out stories {seed}")
        source = iter(lambda: grammar.document(rng, length), "")
    else:
        return None
    for document in source:
        ids = tokenizer(document, add_special_tokens=False)["input_ids"]
        if len(ids) >= length - 1:
            rows.append([tokenizer.eos_token_id, *ids[:length - 1]])
        if len(rows) == n:
            return torch.tensor(rows)
    raise ValueError(f"{text} holds {len(rows)} documents of at least {length - 1} tokens, and {n} are needed")


# ------------------------------------------------------------------ on IOI

@torch.no_grad()
def attention_from_end(network: Network, pairs: PromptPairs, places: Sequence[str]) -> dict[str, Tensor]:
    """How much each head attends from END to these positions of the clean prompts, {place: [head, n]}."""
    device = network.w_embed.device
    tokens, b = pairs.clean[:, :int(pairs.end.max()) + 1].to(device), torch.arange(len(pairs), device=device)
    patterns = torch.cat([attention_pattern(one.q, one.k, network.scale)[:, 0]
                          for one in run(network, network.embed(tokens)[:, None])], 1)               # [n, head, t, s]
    return {place: patterns[b, :, pairs.end.to(device), pairs.positions[place].to(device)].t() for place in places}


def s_inhibition(model: Model, pairs: PromptPairs, movers: Sequence[tuple[int, int]], seed: int = 42) -> np.ndarray:
    """What each head does to the name movers, float64 [head, 5], relative to the clean run; see `S_INHIBITION`.

    through_q: change of the metric when the head, corrupted as in the task, is path-patched into the movers' queries.
    The others: the head's output at END comes from the prompt whose first two names have changed places (the repeated name
    is the same, its place is not), into the movers' queries at END: change of the logit difference, and of the movers'
    attention from END to IO, S1 and S2. (Tigges et al. 2024: an S-inhibition head lowers the first two and raises the third.)
    """
    senders, receivers = all_heads(model), [f"{head_name(head)}<q>" for head in movers]
    clean = baselines(model, pairs)[0].double().mean()
    places = ("IO", "S1", "S2")
    through = path_patch(model, pairs, senders, receivers).metric.double().mean(1)
    moved = get_task("ioi").prompts(model.tokenizer, n=len(pairs), seed=seed, corruption="order")
    patched = path_patch(model, moved, senders, receivers, sender_at="END", receiver_at="END", watch=movers, places=places)
    looked = attention_from_end(network_of(model), moved, places)
    rows = [layer * model.shape.n_heads + head for layer, head in movers]
    before = torch.stack([looked[place][rows].double().mean() for place in places])
    after = patched.attention.double().mean((1, 3))                                                  # [head, place]
    columns = [through / clean - 1, patched.metric.double().mean(1) / clean - 1, *(after / before - 1).t()]
    return torch.stack(columns, 1).numpy()


# ------------------------------------------------------------------ all of one checkpoint

@dataclass(frozen=True, eq=False)
class HeadScores:
    """Everything measured of the heads of one checkpoint; arrays [head, items], see `KINDS`."""

    model: str
    step: int
    tokens_seen: int
    n_heads: int                                       # per layer
    arrays: dict[str, np.ndarray]

    @property
    def heads(self) -> list[tuple[int, int]]:
        return [divmod(row, self.n_heads) for row in range(len(self.arrays["previous"]))]

    @property
    def does_ioi(self) -> bool:
        """Whether the model does IOI here at all; before that, shares of its logit difference mean nothing."""
        return float(self.arrays["clean"].mean()) > ioi.TASK.least

    @property
    def movers(self) -> list[tuple[int, int]]:
        """The name movers of this checkpoint, by the recipe's rule."""
        return [self.heads[row] for row in self.arrays["movers"].nonzero()[0]]

    def score(self, kind: str, weights: np.ndarray | None = None) -> np.ndarray:
        """[head]; with `weights` [draws, items] (see `stats.bootstrap_draws`) [draws, head].

        For "direct": the change of the mean logit difference, over the clean one less the corrupted one (the authors' e(h)).
        """
        mean = (lambda a: a.mean(-1)) if weights is None else (lambda a: weights @ a.T)
        if kind == "copy_suppression":
            if "cspa_kept" not in self.arrays:
                return np.full(len(self.heads), np.nan)
            kept, ablated = mean(self.arrays["cspa_kept"]), mean(self.arrays["cspa_ablated"])
            return np.where(ablated > 1e-9, 1 - kept / np.maximum(ablated, 1e-9), 0.0)
        if kind == "direct":
            clean, corrupted = (mean(self.arrays[name][None]) for name in ("clean", "corrupted"))
            return (mean(self.arrays["direct"]) - clean) / (clean - corrupted)
        return mean(self.arrays[kind].astype(float))

    def items(self, kind: str) -> int:
        return self.arrays["cspa_kept" if kind == "copy_suppression" else kind].shape[-1]

    def table(self) -> pd.DataFrame:
        """One row per head: model, step, tokens_seen, layer, head, every score, s_inhibition's columns (nan without movers)."""
        frame = pd.DataFrame({"model": self.model, "step": self.step, "tokens_seen": self.tokens_seen,
                              "layer": [layer for layer, _ in self.heads], "head": [head for _, head in self.heads]})
        for kind in (*KINDS, "direct"):
            frame[kind] = self.score(kind)
        for i, name in enumerate(S_INHIBITION):
            frame[f"s_inhibition_{name}"] = self.arrays["s_inhibition"][:, i]
        return frame.assign(mover=self.arrays["movers"].astype(bool))


def score_heads(model: Model, settings: HeadSettings, seed: int = 42, text: str | None = None) -> dict[str, np.ndarray]:
    """All scores of one model's heads: see `HeadScores.arrays`."""
    net, out = network_of(model), {}
    device, tokenizer = model.device, model.tokenizer
    length = settings.story_length if lexicon_for(tokenizer) is STORIES else settings.length
    sequences = repeated_sequences(model, settings.sequences, length, seed).to(device)
    out |= repeat_scores(net, sequences, length, settings.as_published)
    out["successor"] = successor_hits(net, successor_pairs(tokenizer), settings.norms, settings.as_published)
    pairs = get_task("ioi").prompts(tokenizer, n=settings.prompts, seed=seed)
    check_pairs(model, pairs)
    names = torch.stack([pairs.positions[place] for place in ("IO", "S1", "S2")], 1).to(device)
    out["copy"], out["negative_copy"] = copy_hits(net, pairs.clean.to(device), names, settings.norms)
    for place, looked in attention_from_end(net, pairs, ("IO", "S1", "S2")).items():
        if settings.as_published:                      # their index takes a prompt for a head: every head gets a mean of heads
            rows = torch.arange(len(looked)) % looked.shape[1]
            looked = looked.mean(0)[rows][:, None].expand(-1, looked.shape[1])
        out[f"to_{place}"] = looked
    clean, corrupted = baselines(model, pairs)
    out["clean"], out["corrupted"] = clean, corrupted
    out["direct"] = path_patch(model, pairs, all_heads(model), ["logits"]).metric
    if (docs := documents(model, settings.documents, settings.positions, text, seed)) is not None:
        out["cspa_kept"], out["cspa_ablated"] = copy_suppression(
            net, docs.to(device), function_tokens(tokenizer), settings.evaluated, as_published=settings.as_published)
    arrays = {name: tensor.float().cpu().numpy() for name, tensor in out.items()}
    whole = HeadScores("", 0, 0, model.shape.n_heads, arrays)
    with np.errstate(all="ignore"):
        direct = whole.score("direct")
    arrays["movers"] = (whole.score("copy") > settings.copy_bar) & (direct < -settings.direct_bar)
    if not (whole.does_ioi or settings.as_published):
        arrays["movers"][:] = False
    movers = whole.movers
    arrays["s_inhibition"] = s_inhibition(model, pairs, movers, seed) if movers else np.full((len(whole.heads), 5), np.nan)
    for name in ("previous", "copy", "direct"):
        if not np.isfinite(arrays[name]).all():
            row = int(np.argwhere(~np.isfinite(arrays[name]))[0][0])
            raise FloatingPointError(f"{model.checkpoint.model} at step {model.checkpoint.step}: the {name} score of head "
                                     f"{'.'.join(map(str, whole.heads[row]))} is not finite in {model.dtype}; use float32")
    return arrays


def heads_key(checkpoint: Checkpoint, recipe: Recipe, dtype: torch.dtype, text: str | None = None) -> str:
    """Name in the store of one checkpoint's head scores."""
    return measurement_key("heads", code=(*_CODE, *_OWN), model=checkpoint.model, step=checkpoint.step,
                           weights=checkpoint.weights_hash, settings=dataclasses.asdict(recipe.heads), seed=recipe.seed,
                           dtype=dtype, text=text_hash(text))


def text_hash(text: str | None) -> str | None:
    """sha256 of the file's content, for keys; ValueError where there is no such file."""
    if text and not Path(text).is_file():
        raise ValueError(f"there is no text file {text!r}: give one with documents separated by empty lines, or None")
    return hashlib.sha256(Path(text).read_bytes()).hexdigest() if text else None


_OWN = (repeated_sequences, repeat_scores, word_lists, successor_pairs, successor_hits, copy_hits, function_tokens,
        copy_suppression, _suppression, documents, attention_from_end, s_inhibition, score_heads)


def measure_heads(suite: Suite, models: Sequence[str], store: Store, recipe: Recipe | str = "robust",
                  steps: dict | None = None, device: str = "cpu", dtype: torch.dtype = torch.float32,
                  text: str | None = None, progress: bool = True) -> list[HeadScores]:
    """The scores of all heads of every model and checkpoint, in that order.

    `steps`: {model: steps}, default all of the suite. `text`: see `documents`. Ctrl-C loses at most the checkpoint in hand.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    plan = [(m, s) for m in models for s in (steps or {}).get(m, suite.steps(m))]
    out = []
    for name, step in tqdm(plan, desc="heads", unit="checkpoint", disable=not progress):
        checkpoint = suite.checkpoint(name, step)
        load = cache(partial(checkpoint.load, device=device, dtype=dtype))        # only if it is needed
        def measured() -> dict[str, np.ndarray]:
            model = load()
            return score_heads(model, recipe.heads, recipe.seed, text) | {"n_heads": np.array(model.shape.n_heads)}
        arrays = store.arrays(heads_key(checkpoint, recipe, dtype, text), measured)
        out.append(HeadScores(name, step, checkpoint.tokens_seen, int(arrays.pop("n_heads")), arrays))
    return out

