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
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from circuitbook.model.compiled_nodes import (
    COPIED,
    D_HEAD,
    D_MLP,
    D_MODEL,
    HEADS,
    LAYERS,
    LETTERS,
    NONE,
    PROMPT,
    WORDS,
    Head,
    heads_of,
    mlps_of_layers,
    read,
    write,
)
from circuitbook.model.progress import no_progress_bars

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
        for block, heads, mlp in zip(
            body.h, heads_of(design.sharpness), mlps_of_layers(), strict=True
        ):
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


def _fill_attention(attention: Any, heads: list[Head]) -> None:
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
