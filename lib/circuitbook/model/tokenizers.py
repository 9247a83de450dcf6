"""The tokenizer of a checkpoint, as its files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerBase
from transformers import PreTrainedTokenizerFast as AsSaved

from circuitbook.model.progress import quiet
from circuitbook.weights.files import TOKENIZER_FILES, tokenizer_folder
from circuitbook.weights.json_files import read_object


def find_tokenizer(folder: Path) -> Path:
    """Where a checkpoint's tokenizer is. ValueError without one, or for damaged settings of it."""
    place = tokenizer_folder(folder)
    if place is None:
        alone = ""
        if any((where / "tokenizer.model").exists() for where in (folder, folder.parent)):
            alone = (
                "; tokenizer.model is not read: let transformers convert it, with "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
        raise ValueError(
            f"{folder} holds no tokenizer: tokenizer.json (or vocab.json and merges.txt) is "
            "expected beside the weights, in the folder above, or in the revision main of a hub's "
            f"repository{alone}"
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
    that is named there, or as GPT-2's, whose files they are. ValueError for damaged files.
    """
    whole = place / TOKENIZER_FILES[0]
    settings = place / TOKENIZER_FILES[1]
    reader: Any = AsSaved
    if not whole.is_file():
        named = settings.is_file() and read_object(settings).get("tokenizer_class")
        reader = AutoTokenizer if named else GPT2Tokenizer
    try:
        with quiet():
            tokenizer = reader.from_pretrained(
                place, trust_remote_code=False, local_files_only=True
            )
            tokenizer("a", add_special_tokens=False)  # some settings are looked at only here
    except Exception as error:  # the Rust library's have no class of their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        file = whole if whole.is_file() else place
        raise ValueError(
            f"the tokenizer {file} cannot be read ({reason}): restore it, or download it again"
        ) from error
    if len(tokenizer) == 0:
        raise ValueError(f"the tokenizer in {place} has no tokens: restore it")
    return tokenizer
