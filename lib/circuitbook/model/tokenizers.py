"""The tokenizer of a checkpoint, as its files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import normalizers
from transformers import (
    AutoTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
)
from transformers import PreTrainedTokenizerFast as AsSaved

from circuitbook.model.progress import quiet
from circuitbook.weights.files import (
    SENTENCE_PIECES,
    TOKENIZER_FILES,
    tokenizer_folder,
    tokenizer_names,
)
from circuitbook.weights.json_files import read_object


def find_tokenizer(folder: Path) -> Path:
    """Where a checkpoint's tokenizer is. ValueError without one, or for damaged settings of it."""
    place = tokenizer_folder(folder)
    if place is None:
        raise ValueError(
            f"{folder} holds no tokenizer: tokenizer.json (or vocab.json and merges.txt, or "
            "tokenizer.model) is expected beside the weights, in the folder above, or in the "
            "revision main of a hub's repository"
        )
    for name in TOKENIZER_FILES[1:]:
        if (place / name).exists():
            read_object(place / name)
    return place


def read_tokenizer(place: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, exactly as tokenizer.json has it.

    transformers builds some classes (GPT2Tokenizer) anew from the vocabulary alone, and so drops
    how text is split before merging; what such a class is called in tokenizer_config.json therefore
    does not count here. vocab.json and merges.txt without a tokenizer.json are read as by the class
    that is named there, or as GPT-2's, whose files they are; tokenizer.model alone so, or as
    Llama's, if the tokens are those of sentencepiece itself. ValueError for damaged files.
    """
    whole = place / TOKENIZER_FILES[0]
    settings = place / TOKENIZER_FILES[1]
    read = tokenizer_names({path.name for path in place.iterdir()})
    pieces = place / SENTENCE_PIECES if SENTENCE_PIECES in read else None
    reader: Any = AsSaved
    if not whole.is_file():
        named = settings.is_file() and read_object(settings).get("tokenizer_class")
        reader = AutoTokenizer if named else LlamaTokenizer if pieces else GPT2Tokenizer
    try:
        with quiet():
            tokenizer = reader.from_pretrained(
                place, trust_remote_code=False, local_files_only=True
            )
            tokenizer("a", add_special_tokens=False)  # some settings are looked at only here
    except Exception as error:  # the Rust library's have no class of their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        file = whole if whole.is_file() else pieces or place
        raise ValueError(
            f"the tokenizer {file} cannot be read ({reason}): restore it, or download it again"
        ) from error
    if len(tokenizer) == 0:
        raise ValueError(f"the tokenizer in {place} has no tokens: restore it")
    if pieces:
        _split_as_sentencepiece(tokenizer)
        _compare_with_sentencepiece(tokenizer, pieces)
    return tokenizer


def _split_as_sentencepiece(tokenizer: Any) -> None:
    """A space in front of every text, even of one that begins with a space, as the tokenizer.json
    of a Llama has it; transformers' own conversion leaves it out there."""
    inner = tokenizer.backend_tokenizer
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.pre_tokenizer = None


# What the conversion of a SentencePiece model may get wrong: spaces, digits, lines, other scripts
_TEXTS = (
    "When Mary and John went to the store, John gave a drink to",
    "  The war  lasted from the year 1732 to the year 17",
    "She isn't\nhere: 3.14, 50%, naïve — 東京",
)


def _compare_with_sentencepiece(tokenizer: Any, file: Path) -> None:
    """ValueError unless transformers makes of texts what sentencepiece makes of them."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ValueError(
            f"{file} is read with the package sentencepiece, which is not installed: "
            "pip install sentencepiece"
        ) from error
    own = SentencePieceProcessor(model_file=str(file))
    for text in _TEXTS:
        ours, theirs = tokenizer(text, add_special_tokens=False).input_ids, own.encode(text)
        if ours != theirs:
            raise ValueError(
                f"transformers makes of {file} a tokenizer that splits text otherwise than "
                f"sentencepiece does ({text!r} into {len(ours)} and {len(theirs)} tokens): put "
                "the tokenizer.json there that the model was trained with"
            )
