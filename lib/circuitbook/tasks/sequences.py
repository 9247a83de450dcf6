"""Texts that are no task: repeated random sequences, and documents to measure heads on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from circuitbook.model.loaded import Model
from circuitbook.tasks.lexicon import STORIES, lexicon_for
from circuitbook.tasks.stories.documents import document
from circuitbook.tasks.stories.world import World

ORDINARY = (100, 20_000)  # the paper's: the first tokens are bytes and the like, the last are rare


def ordinary_tokens(model: Model) -> Int[Tensor, " k"]:
    """Ids to draw random sequences from, int64 [k]: the paper's 100 to 19,999, as far as they are
    tokens (an embedding may have more rows), or the story language's spaced words. ValueError for a
    vocabulary that has none of these.
    """
    if lexicon_for(model.tokenizer) is STORIES:
        words = model.tokenizer.convert_ids_to_tokens(list(range(len(model.tokenizer))))
        return torch.tensor([i for i, word in enumerate(words) if word.startswith(" ")])
    known = set(model.tokenizer.get_vocab().values())
    ids = [i for i in range(*ORDINARY) if i in known and i < model.shape.d_vocab]
    if not ids:
        raise ValueError(
            f"{model.checkpoint.model}: random sequences are drawn from the tokens "
            f"{ORDINARY[0]:,} to {ORDINARY[1] - 1:,}, and its tokenizer has {len(known):,} tokens"
        )
    return torch.tensor(ids)


# ------------------------------------------------------------------ repeated random sequences


def repeated_sequences(
    model: Model, n: int, length: int, seed: int = 42
) -> Int[Tensor, "n two_lengths"]:
    """`n` random sequences of `length` ordinary tokens, each repeated once.

    ValueError where the model's context is too short for that.
    """
    model.check_length(2 * length, "a random sequence that is said twice,")
    pool = ordinary_tokens(model)
    once = pool[
        torch.randint(len(pool), (n, length), generator=torch.Generator().manual_seed(seed))
    ]
    return torch.cat([once, once], 1)


class TextFile(str):
    """The path of a text file, which a measurement's key holds by its content. ValueError where
    there is no such file."""

    def __new__(cls, path: str) -> TextFile:
        if not Path(path).is_file():
            raise ValueError(
                f"there is no text file {str(path)!r}: give one with documents separated by empty "
                "lines, or None"
            )
        return super().__new__(cls, path)

    def __measurement_key__(self) -> dict[str, str]:
        return {"text": hashlib.sha256(Path(self).read_bytes()).hexdigest()}


def text_file(path: str | None) -> TextFile | None:
    """The file as measurements take it; None for none."""
    return TextFile(path) if path else None


def documents(
    model: Model, n: int, length: int, text: str | None = None, seed: int = 42
) -> Int[Tensor, "n length"] | None:
    """Text to measure on, int64 [n, length], each row an end-of-text token (where the tokenizer has
    none, a begin-of-sequence token, if it has that) and the beginning of a document.

    The mini suite's language: stories that no model was trained on. Any other: the file `text`,
    whose documents are separated by empty lines; None where none is named. FileNotFoundError where
    it is not there, ValueError where it holds too little, or the model takes less.
    """
    model.check_length(length, "a document")
    tokenizer = model.tokenizer
    special = (tokenizer.eos_token_id, tokenizer.bos_token_id)
    start = [token for token in special if token is not None][:1]
    rows: list[list[int]] = []
    if text is not None:
        texts = iter(Path(text).read_text(encoding="utf8").split("\n\n"))
    elif lexicon_for(tokenizer) is STORIES:
        rng = World(f"held-out stories {seed}")
        texts = iter(lambda: document(rng, length), "")  # without end
    else:
        return None
    for passage in texts:
        ids = tokenizer(passage, add_special_tokens=False)["input_ids"]
        if len(ids) >= length - len(start):
            rows.append([*start, *ids[: length - len(start)]])
        if len(rows) == n:
            return torch.tensor(rows)
    raise ValueError(
        f"{text} holds {len(rows)} documents of at least {length - len(start)} tokens, and {n} are "
        "needed"
    )
