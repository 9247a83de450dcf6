"""The word-level tokenizer of the story language.

A token is a word with its leading space (" Mary" and "Mary" are two tokens, as for Pythia), a mark,
a clitic (" isn't" -> " isn" "'t") or two digits (" 1732" -> " 17" "32"); decoding is joining. No
begin-of-sequence token is put in front, in training or anywhere else; documents are parted by
<|endoftext|>.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from circuitbook.tasks.stories.documents import document
from circuitbook.tasks.stories.repetition import RECITABLE
from circuitbook.tasks.stories.world import SURNAMES, World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EOS, UNK = "<|endoftext|>", "<unk>"


PATTERN = r"'t| ?[A-Za-z]+| ?\d\d| ?[^\sA-Za-z\d]|\s"


_TOKEN = re.compile(PATTERN)


FRAMES = (  # what the tasks need and the documents, with their held-out frames, might not contain
    "Then, After When So The The",
    " The",
    " the that said to and to it, isn't wasn't he she her him",
)


def split(text: str) -> list[str]:
    """Words of a text.  split("So Mary isn't") -> ["So", " Mary", " isn", "'t"]"""
    return _TOKEN.findall(text)


@cache
def vocabulary() -> tuple[str, ...]:
    """All tokens, in the order of their ids: <|endoftext|>, <unk>, then alphabetically. The same on
    every machine."""
    rng = World(20241)
    words = {f"{n:02d}" for n in range(100)} | {f" {c}" for c in range(11, 19)}
    words |= {" " + w for w in RECITABLE} | {" " + w for w in SURNAMES}
    words.update(token for text in FRAMES for token in split(text))
    for _ in range(15_000):
        words.update(split(document(rng)))
    words.discard(" ")
    return (EOS, UNK, *sorted(words))


def build_tokenizer(words: tuple[str, ...] | None = None) -> PreTrainedTokenizerBase:
    """A `PreTrainedTokenizerFast` over `words` (default: `vocabulary()`), which AutoTokenizer loads
    once it is saved."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(words or vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNK,
        eos_token=EOS,
        bos_token=EOS,
        pad_token=EOS,
        lexicon="stories",
        clean_up_tokenization_spaces=False,
    )
