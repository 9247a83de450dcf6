"""From frames and words to prompt pairs: tokens, padding, positions and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.words import encode, tokenizer_name, tokens_after, unread


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
    *,
    words: Sequence[Sequence[str]] | None = None,
    left_out: Mapping[str, tuple[str, ...]] | None = None,
) -> PromptPairs:
    """Pairs from texts: tokens, padding, positions and table. `answers` and `signs` int64, [n, k]
    or, for all, [k].

    words: of each prompt, the word of each answer; it is checked that the answers are what follows
    in text. left_out: as in `PromptPairs`.
    """
    n = len(prompts)
    clean = encode(tokenizer, [p.clean for p in prompts])
    corrupted = encode(tokenizer, [p.corrupted for p in prompts])
    for prompt, ids, other in zip(prompts, clean["input_ids"], corrupted["input_ids"], strict=True):
        if len(ids) != len(other):
            raise ValueError(
                f"{task.name}: {prompt.clean!r} has {len(ids)} tokens and {prompt.corrupted!r} has "
                f"{len(other)} for tokenizer {tokenizer_name(tokenizer)}; a pair needs equal "
                "lengths"
            )
    _refuse_unknown(task, tokenizer, [p.clean for p in prompts], clean)
    _refuse_unknown(task, tokenizer, [p.corrupted for p in prompts], corrupted)
    answers = answers.expand(n, -1).contiguous()
    if words is not None:
        _check_answers(task, tokenizer, prompts, answers, words)

    end = torch.tensor([len(ids) - 1 for ids in clean["input_ids"]])
    positions = {
        name: torch.tensor(
            [_position(clean, i, prompt.marks[name]) for i, prompt in enumerate(prompts)]
        )
        for name in prompts[0].marks
    }
    table = pd.DataFrame([{"clean": p.clean, "corrupted": p.corrupted, **p.words} for p in prompts])
    # Nothing reads padding. A tokenizer's own may lie beyond the model's embedding; a token of the
    # prompts does not
    padding = clean["input_ids"][0][0]
    return PromptPairs(
        task=task.name,
        metric_name=task.metric_name,
        clean=_pad(clean["input_ids"], padding),
        corrupted=_pad(corrupted["input_ids"], padding),
        end=end,
        answers=answers,
        signs=signs.expand(n, -1).contiguous(),
        positions={**positions, "END": end},
        table=table,
        left_out=dict(left_out or {}),
    )


def _position(encoding: BatchEncoding, i: int, mark: int | None) -> int:
    if mark is None:
        return -1
    token = encoding.char_to_token(i, mark)
    assert token is not None  # every character but spaces is in a token: see `_refuse_unknown`
    return token


def _pad(rows: list[list[int]], padding: int) -> Int[Tensor, "n pos"]:
    width = max(map(len, rows))
    return torch.tensor([row + [padding] * (width - len(row)) for row in rows])


def _refuse_unknown(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    encoding: BatchEncoding,
) -> None:
    for i, text in enumerate(texts):
        if word := unread(tokenizer, encoding, i, text):
            raise ValueError(
                f"{task.name}: tokenizer {tokenizer_name(tokenizer)} does not know {word!r} in "
                f"{text!r}; its vocabulary must hold the words of the task's frames and lexicon"
            )


def _check_answers(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Prompt],
    answers: Int[Tensor, "n answer"],
    words: Sequence[Sequence[str]],
) -> None:
    """Are the answers what a prompt goes on with in text? Of many answers, all are tried behind the
    first prompt of each kind, and one behind each other prompt."""
    kinds: set[str] = set()
    for i, (prompt, row, of_row) in enumerate(zip(prompts, answers.tolist(), words, strict=True)):
        asked = list(zip(row, of_row, strict=True))
        if len(asked) > 2 and prompt.words["kind"] in kinds:
            asked = [asked[i % len(asked)]]
        kinds.add(prompt.words["kind"])
        found = tokens_after(tokenizer, prompt.clean, [word for _, word in asked])
        for (token, word), tokens in zip(asked, found, strict=True):
            if tokens != (token,):
                raise ValueError(
                    f"{task.name}: {word!r} is one token for tokenizer "
                    f"{tokenizer_name(tokenizer)} elsewhere, but not behind {prompt.clean!r}; the "
                    "task cannot be put to its models"
                )
