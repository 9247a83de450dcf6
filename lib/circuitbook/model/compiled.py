"""A GPT-2 whose weights are written by hand, so that its circuit is known edge by edge.

It reads a marker and five letters and says what follows the last letter where it stood before:

    . B D A F D  ->  A            ! B D A F D  ->  B, the letter after A in the alphabet

Behind "." it says the letter that it finds; behind "!" the next one. What each node does:

    a0.h0, a0.h1   write the token before, both the same: one is the other's backup
    a0.h2, a0.h3   write whether the marker is "!", found by its place and as a token: backups, too
    a1.h0          looks where the token before is the last letter, and writes what stands there
    a1.h1, a1.h2   write the last letter for and against itself: together they do nothing
    m1             "!", if either of its two readers says so
    m2             what was found, or the next letter if it is "!": an AND of two nodes
    the others     read what the circuit reads and writes, and write what nobody reads; a2.h3 writes
                   what the logits read, the same on every prompt

Every node writes one-hot into a block of the stream of its own, each class as +1 and -1 on two
coordinates. So the mean of a stream is 0 and, as long as attention picks one position, its length
depends on no prompt and on no patch: a LayerNorm multiplies by a constant, and the weights undo it.
Its gradient is that of a norm all the same. Without norms (`Design.norms`) their epsilon is so
large that they only take the mean away.

InterpBench (Gupta et al. 2024, arXiv:2407.14494) trains models to have a known circuit; this one
is smaller, and exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from circuitbook.model.progress import no_progress_bars

LETTERS = "ABCDEF"
ON, OFF = "!", "."
WORDS = (*(f" {letter}" for letter in LETTERS), f" {ON}", f" {OFF}", "<|endoftext|>")
PROMPT = 6  # tokens: a marker, five letters
LAYERS, HEADS, D_HEAD, D_MLP = 3, 4, 52, 16
D_MODEL = HEADS * D_HEAD
NONE = len(LETTERS)  # the class of what is no letter
CERTAIN = 200.0  # by how much a head that looks by position prefers it, in attention scores
COPIED = 0.5  # of a logit: what each of the two cancelling heads adds or takes

# The blocks of the stream, each with its number of classes
BLOCKS = {
    "token": len(LETTERS) + 2,
    "position": PROMPT,
    **dict.fromkeys(("before", "before again", "found", "said", "for", "against"), NONE + 1),
    **dict.fromkeys(("marker", "marker again", "either"), 2),  # on, off
    **{f"unread {i}": NONE + 1 for i in range(5)},
    "constant": PROMPT,
}

KINDS = {
    "needed": (
        "input->a1.h0<q>",
        "input->a1.h0<v>",
        "a1.h0->m2",
        "m1->m2",
        "m2->logits",
    ),
    "backup in attention": (
        "input->a0.h0<v>",
        "input->a0.h1<v>",
        "a0.h0->a1.h0<k>",
        "a0.h1->a1.h0<k>",
    ),
    "backup in an MLP": (
        "input->a0.h2<v>",
        "input->a0.h3<v>",
        "a0.h2->m1",
        "a0.h3->m1",
    ),
    "cancelling": (
        "input->a1.h1<v>",
        "input->a1.h2<v>",
        "a1.h1->logits",
        "a1.h2->logits",
    ),
}
"""The edges of the circuit, by what they are to it. All other edges change nothing, whatever else
is patched: they carry the same on clean and corrupted prompts, or what they carry is not read."""


@dataclass(frozen=True)
class Design:
    """How the same algorithm is built."""

    sharpness: float = 64.0
    """What a token before that is the last letter adds to a1.h0's attention score; half of it is
    what the marker has, to which a1.h0 turns if it finds nothing."""
    norms: bool = True
    """Whether LayerNorms divide. Only where attention is sharp do they divide by a constant."""


def save_compiled(folder: Path, design: Design) -> Path:
    """Writes the model as a checkpoint folder, in float64, with its tokenizer: see `load_suite`.

    ValueError for a sharpness that is not above 0, and for norms with a sharpness below 32, where
    they would no longer divide by a constant and no edge would be free of effects.
    """
    if design.sharpness <= 0:
        raise ValueError(f"sharpness {design.sharpness} is not above 0: nothing would be found")
    if design.norms and design.sharpness < 32:
        raise ValueError(
            f"with norms the sharpness must be 32 or more, not {design.sharpness}: a head that "
            "looks at several positions writes a shorter vector; or take norms=False"
        )
    folder.mkdir(parents=True)
    with no_progress_bars():
        _compile(design).save_pretrained(folder)
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[-1])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=WORDS[-1]).save_pretrained(folder)
    return folder


# ------------------------------------------------------------------ the stream


def _first(block: str) -> int:
    """The first class of a block, among those of all blocks."""
    sizes = list(BLOCKS.values())
    return sum(sizes[: list(BLOCKS).index(block)])


def write(block: str, c: int) -> Tensor:
    """What stands in the stream for a class of a block: float64 [d_model]."""
    vector = torch.zeros(D_MODEL, dtype=torch.float64)
    at = 2 * (_first(block) + c)
    vector[at], vector[at + 1] = 1.0, -1.0
    return vector


def read(block: str, c: int) -> Tensor:
    """Its dual: read(b, c) @ write(b, c) is 1, and 0 with any other class."""
    return write(block, c) / 2


def _token_classes() -> list[tuple[Tensor, int]]:
    """(what reads a token, its class: letters, or NONE for a marker)."""
    return [(read("token", t), min(t, NONE)) for t in range(len(LETTERS) + 2)]


# ------------------------------------------------------------------ heads


@dataclass(eq=False)
class _Head:
    """Rows of its four maps: [d_head, d_model] each, and the query's bias."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    bias: Tensor


def _empty_head() -> _Head:
    q, k, v, out = torch.zeros(4, D_HEAD, D_MODEL, dtype=torch.float64)
    return _Head(q, k, v, out, bias=torch.zeros(D_HEAD, dtype=torch.float64))


def _looks_back(by: int) -> _Head:
    """Looks at the token `by` positions before; the first tokens at position 0."""
    head = _empty_head()
    for i in range(PROMPT):
        head.k[i] = read("position", i)
        head.q[max(i - by, 0)] += CERTAIN * read("position", i)
    return head


def _looks_at_start() -> _Head:
    head = _empty_head()
    head.k[0], head.bias[0] = read("position", 0), CERTAIN
    return head


def _looks_at_marker() -> _Head:
    """The same, but by what the token is."""
    head = _empty_head()
    head.bias[0] = CERTAIN
    head.k[0] = read("token", NONE) + read("token", NONE + 1)
    return head


def _looks_for(query: str, keys: tuple[str, ...], sharpness: float) -> _Head:
    """Looks where a letter of the blocks `keys` is that of `query`; at the marker if nowhere.

    Each block of `keys` with the letter adds `sharpness`; the marker has half of it.
    """
    head = _empty_head()
    for c in range(NONE):
        head.q[c] = sharpness * read(query, c)
        head.k[c] = sum((read(block, c) for block in keys), torch.zeros(D_MODEL).double())
    head.bias[NONE], head.k[NONE] = sharpness / 2, read("position", 0)
    return head


def _never_last(head: _Head) -> _Head:
    """The same, but blind to the last position: its letter stands there for a second time."""
    head.bias[NONE + 1], head.k[NONE + 1] = -2 * CERTAIN, read("position", PROMPT - 1)
    return head


def _writes(head: _Head, into: str, classes: list[tuple[Tensor, int]]) -> _Head:
    """The head with a value: for each (what reads it, class) that class of a block."""
    for i, (reader, c) in enumerate(classes):
        head.v[i], head.out[i] = reader, write(into, c)
    return head


def _classes(block: str) -> list[tuple[Tensor, int]]:
    return [(read(block, c), c) for c in range(BLOCKS[block])]


def _heads(design: Design) -> list[list[_Head]]:
    on, off = NONE, NONE + 1  # of the tokens
    marker = [(read("token", on), 0), (read("token", off), 1)]
    return [
        [
            _writes(_looks_back(1), "before", _token_classes()),
            _writes(_looks_back(1), "before again", _token_classes()),
            _writes(_looks_at_start(), "marker", marker),
            _writes(_looks_at_marker(), "marker again", marker),
        ],
        [
            _writes(
                _looks_for("token", ("before", "before again"), design.sharpness),
                "found",
                _token_classes(),
            ),
            _writes(_looks_back(0), "for", _token_classes()),
            _writes(_looks_back(0), "against", _token_classes()),
            _writes(_looks_back(1), "unread 1", _classes("before")),
        ],
        [
            _writes(
                _never_last(_looks_for("before", ("token",), CERTAIN)),
                "unread 2",
                _classes("unread 0"),
            ),
            _writes(_looks_back(0), "unread 3", _classes("found")),
            _writes(
                _never_last(_looks_for("found", ("token",), CERTAIN)), "unread 4", _token_classes()
            ),
            _writes(_looks_at_start(), "constant", _classes("position")),
        ],
    ]


# ------------------------------------------------------------------ MLPs


@dataclass(eq=False)
class _MLP:
    """`into` [d_mlp, d_model] and `bias` before the ReLU, `out` [d_mlp, d_model] behind it, and
    what is written in any case."""

    into: Tensor
    bias: Tensor
    out: Tensor
    always: Tensor


def _mlp(units: list[tuple[Tensor, float, Tensor]], always: Tensor | None = None) -> _MLP:
    """units: (what it reads, its bias, what it writes) of each."""
    zeros = torch.zeros(D_MLP, D_MODEL, dtype=torch.float64)
    mlp = _MLP(zeros, torch.zeros(D_MLP).double(), zeros.clone(), zeros[0].clone())
    for i, (reader, bias, written) in enumerate(units):
        mlp.into[i], mlp.bias[i], mlp.out[i] = reader, bias, written
    if always is not None:
        mlp.always = always
    return mlp


def _mlps() -> list[_MLP]:
    copies = [(reader, 0.0, write("unread 0", c)) for reader, c in _token_classes()]
    says_on = read("marker", 0) + read("marker again", 0)  # 0, 1 or 2
    turns_on = write("either", 0) - write("either", 1)
    clipped = [(says_on, 0.0, turns_on), (says_on, -1.0, -turns_on)]  # min(1, says_on)
    gate = [(read("found", NONE), -0.5, 2 * write("said", NONE))]
    for c in range(NONE):
        for marker, said in ((0, (c + 1) % NONE), (1, c)):
            both = read("found", c) + read("either", marker)
            gate.append((both, -1.5, 2 * write("said", said)))
    return [_mlp(copies), _mlp(clipped, write("either", 1)), _mlp(gate)]


# ------------------------------------------------------------------ the model


def _compile(design: Design) -> GPT2LMHeadModel:
    epsilon = 1e-5 if design.norms else 1e18
    network: Any = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(WORDS),
            n_layer=LAYERS,
            n_embd=D_MODEL,
            n_head=HEADS,
            n_inner=D_MLP,
            n_positions=PROMPT,
            activation_function="relu",
            layer_norm_epsilon=epsilon,
            tie_word_embeddings=False,
            bos_token_id=len(WORDS) - 1,
            eos_token_id=len(WORDS) - 1,
        )
    ).double()
    body = network.transformer
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        for t in range(len(LETTERS) + 2):
            body.wte.weight[t] = write("token", t)
        for i in range(PROMPT):
            body.wpe.weight[i] = write("position", i)
        ones = 2  # one-hot blocks that are written: token and position
        for block, heads, mlp in zip(body.h, _heads(design), _mlps(), strict=True):
            _undo(block.ln_1, ones, epsilon)
            _fill_attention(block.attn, heads)
            ones += HEADS
            _undo(block.ln_2, ones, epsilon)
            block.mlp.c_fc.weight.copy_(mlp.into.T)
            block.mlp.c_fc.bias.copy_(mlp.bias)
            block.mlp.c_proj.weight.copy_(mlp.out)
            block.mlp.c_proj.bias.copy_(mlp.always)
            ones += 1
        _undo(body.ln_f, ones, epsilon)
        for c in range(NONE):
            logit = read("said", c) + COPIED * (read("for", c) - read("against", c))
            network.lm_head.weight[c] = logit + read("constant", c) / 10
    return network.eval()


def _undo(norm: Any, ones: int, epsilon: float) -> None:
    """A scale by which the norm of a stream with so many one-hot blocks is the stream itself."""
    variance = 2 * ones / D_MODEL
    norm.weight.fill_((variance + epsilon) ** 0.5)


def _fill_attention(attention: Any, heads: list[_Head]) -> None:
    """GPT-2's matrices are [in, out]: all queries, all keys, all values."""
    for h, head in enumerate(heads):
        rows = slice(h * D_HEAD, (h + 1) * D_HEAD)
        queries, keys, values = (
            slice(i * D_MODEL + rows.start, i * D_MODEL + rows.stop) for i in range(3)
        )
        attention.c_attn.weight[:, queries] = D_HEAD**0.5 * head.q.T
        attention.c_attn.bias[queries] = D_HEAD**0.5 * head.bias
        attention.c_attn.weight[:, keys] = head.k.T
        attention.c_attn.weight[:, values] = head.v.T
        attention.c_proj.weight[rows] = head.out
