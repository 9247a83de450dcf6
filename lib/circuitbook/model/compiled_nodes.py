"""The nodes of the compiled model (`model.compiled`), each as the maps that its weights are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
class Head:
    """Rows of its four maps: [d_head, d_model] each, and the query's bias."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    bias: Tensor


def _empty_head() -> Head:
    q, k, v, out = torch.zeros(4, D_HEAD, D_MODEL, dtype=torch.float64)
    return Head(q, k, v, out, bias=torch.zeros(D_HEAD, dtype=torch.float64))


def _looks_back(by: int) -> Head:
    """Looks at the token `by` positions before; the first tokens at position 0."""
    head = _empty_head()
    for i in range(PROMPT):
        head.k[i] = read("position", i)
        head.q[max(i - by, 0)] += CERTAIN * read("position", i)
    return head


def _looks_at_start() -> Head:
    head = _empty_head()
    head.k[0], head.bias[0] = read("position", 0), CERTAIN
    return head


def _looks_at_marker() -> Head:
    """The same, but by what the token is."""
    head = _empty_head()
    head.bias[0] = CERTAIN
    head.k[0] = read("token", NONE) + read("token", NONE + 1)
    return head


def _looks_for(query: str, keys: tuple[str, ...], sharpness: float) -> Head:
    """Looks where a letter of the blocks `keys` is that of `query`; at the marker if nowhere.

    Each block of `keys` with the letter adds `sharpness`; the marker has half of it.
    """
    head = _empty_head()
    for c in range(NONE):
        head.q[c] = sharpness * read(query, c)
        head.k[c] = sum((read(block, c) for block in keys), torch.zeros(D_MODEL).double())
    head.bias[NONE], head.k[NONE] = sharpness / 2, read("position", 0)
    return head


def _never_last(head: Head) -> Head:
    """The same, but blind to the last position: its letter stands there for a second time."""
    head.bias[NONE + 1], head.k[NONE + 1] = -2 * CERTAIN, read("position", PROMPT - 1)
    return head


def _writes(head: Head, into: str, classes: list[tuple[Tensor, int]]) -> Head:
    """The head with a value: for each (what reads it, class) that class of a block."""
    for i, (reader, c) in enumerate(classes):
        head.v[i], head.out[i] = reader, write(into, c)
    return head


def _classes(block: str) -> list[tuple[Tensor, int]]:
    return [(read(block, c), c) for c in range(BLOCKS[block])]


def heads_of(sharpness: float) -> list[list[Head]]:
    """Of each layer; `sharpness` as in `compiled.Design`."""
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
                _looks_for("token", ("before", "before again"), sharpness),
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
class MLP:
    """`into` [d_mlp, d_model] and `bias` before the ReLU, `out` [d_mlp, d_model] behind it, and
    what is written in any case."""

    into: Tensor
    bias: Tensor
    out: Tensor
    always: Tensor


def _mlp(units: list[tuple[Tensor, float, Tensor]], always: Tensor | None = None) -> MLP:
    """units: (what it reads, its bias, what it writes) of each."""
    zeros = torch.zeros(D_MLP, D_MODEL, dtype=torch.float64)
    mlp = MLP(zeros, torch.zeros(D_MLP).double(), zeros.clone(), zeros[0].clone())
    for i, (reader, bias, written) in enumerate(units):
        mlp.into[i], mlp.bias[i], mlp.out[i] = reader, bias, written
    if always is not None:
        mlp.always = always
    return mlp


def mlps_of_layers() -> list[MLP]:
    """Of each layer."""
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
