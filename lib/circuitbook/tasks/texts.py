"""From frames and words to prompt pairs: tokens, padding, positions, and words that must be one
token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from circuitbook.tasks.base import PromptPairs, Task


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Texts of a pair before they are tokens."""

    clean: str
    corrupted: str
    marks: Mapping[str, int | None]
    """By position name: a character of that token in the clean text; None where there is none."""
    words: Mapping[str, Any]
    """Columns of the table."""


def fill(frame: str, **words: str | None) -> tuple[str, dict[str, int]]:
    """The text of a frame, and the last character of each of its slots: positions are found by it.

    Words of slots that the frame does not have are left out, and may be None.

    >>> fill("So {name} is", name="Mary")
    ('So Mary is', {'name': 6})
    """
    text = ""
    marks: dict[str, int] = {}
    for literal, slot, _, _ in Formatter().parse(frame):
        text += literal
        if slot is not None:
            word = words[slot]
            assert word is not None, f"{frame!r} needs a word for {slot!r}"
            text += word
            marks[slot] = len(text) - 1
    return text, marks


def build(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Prompt],
    answers: Tensor,
    signs: Tensor,
) -> PromptPairs:
    """Pairs from texts: tokens, padding, positions and table. `answers` and `signs` int64, [n, k]
    or, for all, [k]."""
    n = len(prompts)
    clean = tokenizer([p.clean for p in prompts], add_special_tokens=False)
    corrupted = tokenizer([p.corrupted for p in prompts], add_special_tokens=False)
    for prompt, ids, other in zip(prompts, clean["input_ids"], corrupted["input_ids"], strict=True):
        if len(ids) != len(other):
            raise ValueError(
                f"{task.name}: {prompt.clean!r} has {len(ids)} tokens and {prompt.corrupted!r} has "
                f"{len(other)} for tokenizer {_name(tokenizer)}; a pair needs equal lengths"
            )
    _refuse_unknown(task, tokenizer, [p.clean for p in prompts], clean)
    _refuse_unknown(task, tokenizer, [p.corrupted for p in prompts], corrupted)

    end = torch.tensor([len(ids) - 1 for ids in clean["input_ids"]])
    positions = {
        name: torch.tensor(
            [
                -1 if p.marks[name] is None else clean.char_to_token(i, p.marks[name])
                for i, p in enumerate(prompts)
            ]
        )
        for name in prompts[0].marks
    }
    table = pd.DataFrame([{"clean": p.clean, "corrupted": p.corrupted, **p.words} for p in prompts])
    return PromptPairs(
        task=task.name,
        metric_name=task.metric_name,
        clean=_pad(clean["input_ids"], tokenizer),
        corrupted=_pad(corrupted["input_ids"], tokenizer),
        end=end,
        answers=answers.expand(n, -1).contiguous(),
        signs=signs.expand(n, -1).contiguous(),
        positions={**positions, "END": end},
        table=table,
    )


def _pad(rows: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> Int[Tensor, "n pos"]:
    special = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    # Any token will do: nothing reads it
    pad = next((token for token in special if token is not None), 0)
    width = max(map(len, rows))
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


def _refuse_unknown(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    encoding: BatchEncoding,
) -> None:
    for i, ids in enumerate(encoding["input_ids"]):
        if tokenizer.unk_token_id in ids:
            span = encoding.token_to_chars(i, ids.index(tokenizer.unk_token_id))
            word = texts[i] if span is None else texts[i][span.start : span.end]
            raise ValueError(
                f"{task.name}: tokenizer {_name(tokenizer)} does not know {word!r} in "
                f"{texts[i]!r}; its vocabulary must hold the words of the task's frames and lexicon"
            )


# ------------------------------------------------------------------ words that must be one token


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return repr(tokenizer.name_or_path or type(tokenizer).__name__)


def is_single_token(tokenizer: PreTrainedTokenizerBase, word: str) -> bool:
    """Whether a word, written with its leading space if it has one, is exactly one known token."""
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    return len(ids) == 1 and ids[0] != tokenizer.unk_token_id


def single_token(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    """The id of a word that must be one token: of " she" 703, for Pythia's tokenizer."""
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        what = f"{len(ids)} tokens, where one is needed,"
        if tokenizer.unk_token_id in ids:
            what = "not known"
        raise ValueError(
            f"{word!r} is {what} for tokenizer {_name(tokenizer)}; "
            "the lexicon (circuitbook.tasks.lexicon) needs another word for it"
        )
    return ids[0]


def same_length(tokenizer: PreTrainedTokenizerBase, pair: tuple[str, str]) -> bool:
    """Whether both words of a pair have as many tokens, with a leading space each: they can stand
    for each other."""
    first, second = tokenizer([" " + word for word in pair], add_special_tokens=False)["input_ids"]
    return len(first) == len(second)
