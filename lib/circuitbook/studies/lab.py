"""The sentences that the lab offers, and what a model makes of one over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.model.architectures import network_of
from circuitbook.model.loaded import Model
from circuitbook.model.network import attention_pattern, run
from circuitbook.store import Store
from circuitbook.studies.measurement import at_checkpoints
from circuitbook.suites import Suite
from circuitbook.tasks.base import PromptPairs
from circuitbook.tasks.registry import TASKS, get_task
from circuitbook.wording import TASK_TITLES


@dataclass(frozen=True)
class Example:
    """Two sentences, clean and corrupted, and the answers that are asked about."""

    title: str
    """Of the task."""
    text: str
    other: str
    right: str
    """Answers as the lab's fields take them: words, or a range of two digits, "33-99"."""
    wrong: str


FIRST = Example(
    TASK_TITLES["ioi"],
    "Then, Mary and John went to the store. John gave a ring to",
    "Then, Mary and John went to the store. Mary gave a ring to",
    "Mary",
    "John",
)


def examples(tokenizer: PreTrainedTokenizerBase, each: int = 4) -> list[Example]:
    """`FIRST`, and the first prompts of every task."""
    found = [FIRST]
    for name in TASKS:
        pairs = get_task(name).prompts(tokenizer, each)
        found += [example_of(tokenizer, pairs, i) for i in range(len(pairs))]
    return found


def reference(tokenizer: PreTrainedTokenizerBase, each: int = 3) -> list[list[int]]:
    """Token ids of prompts of every task: a head's mean is taken over all their positions."""
    rows = []
    for name in TASKS:
        pairs = get_task(name).prompts(tokenizer, each, seed=7)
        rows += [_row(pairs.clean, pairs, i) for i in range(len(pairs))]
    return rows


def _row(tokens: torch.Tensor, pairs: PromptPairs, i: int) -> list[int]:
    row: list[int] = tokens[i, : int(pairs.end[i]) + 1].tolist()
    return row


def example_of(tokenizer: PreTrainedTokenizerBase, pairs: PromptPairs, i: int) -> Example:
    """A prompt pair, without padding."""
    text, other = (
        str(tokenizer.decode(_row(tokens, pairs, i))) for tokens in (pairs.clean, pairs.corrupted)
    )
    right, wrong = (
        _written([str(tokenizer.decode([token])) for token in pairs.answers[i][chosen].tolist()])
        for chosen in (pairs.signs[i] > 0, pairs.signs[i] < 0)
    )
    return Example(TASK_TITLES[pairs.task], text, other, right, wrong)


def _written(words: Sequence[str]) -> str:
    """_written(["07", "08", "09"]) -> "07-09"; _written([" is", " was"]) -> "is was" """
    numbers = [int(word) for word in words if word.isdigit()]
    if len(words) > 2 and numbers and numbers == list(range(numbers[0], numbers[0] + len(words))):
        return f"{words[0]}-{words[-1]}"
    return " ".join(word.strip() for word in words)


def pair_of(about: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> PromptPairs:
    """The pair of sentences that a circuit of the lab was tried on, from its file.

    about: of a `Circuit` that the lab's file was loaded into, with the keys text, other, right and
    wrong (tokens). ValueError if the sentences are not of as many tokens.

        circuit = Circuit.load("circuit-mini-s-3906.json")
        evaluate_circuit(model, pair_of(circuit.about, model.tokenizer), circuit)
    """
    clean, corrupted = (
        torch.tensor([tokenizer(str(about[name]))["input_ids"]]) for name in ("text", "other")
    )
    if clean.shape != corrupted.shape:
        raise ValueError(
            f"the sentences must have as many tokens, but {about['text']!r} has {clean.shape[1]} "
            f"and {about['other']!r} has {corrupted.shape[1]}"
        )
    right, wrong = list(about["right"]), list(about["wrong"])
    single = len(right) == len(wrong) == 1
    return PromptPairs(
        task=about.get("task") or "own",
        metric_name="logit_difference" if single else "probability_difference",
        clean=clean,
        corrupted=corrupted,
        end=torch.tensor([clean.shape[1] - 1]),
        answers=torch.tensor([tokenizer.convert_tokens_to_ids(right + wrong)]),
        signs=torch.tensor([[1] * len(right) + [-1] * len(wrong)]),
        positions={},
        table=pd.DataFrame({"clean": [about["text"]], "corrupted": [about["other"]]}),
    )


# ------------------------------------------------------------------ one sentence over training


@torch.no_grad()
def pair_seen(model: Model, *, text: str, other: str) -> dict[str, np.ndarray]:
    """{"probabilities": [2, vocab] of the next word, of the sentence and of the other one;
    "logits", the same; "patterns": [layer, head, query, key] of the sentence}"""
    texts = [torch.tensor([model.tokenizer(one)["input_ids"]]) for one in (text, other)]
    logits = torch.stack([model.logits(one)[0, -1].float() for one in texts]).cpu()
    network = network_of(model)
    runs = run(network, network.embed(texts[0].to(model.device))[:, None])
    patterns = [attention_pattern(done.q, done.k, network.scale)[0, 0] for done in runs]
    return {
        "logits": logits.numpy(),
        "probabilities": logits.softmax(-1).numpy(),
        "patterns": torch.stack(patterns).float().cpu().numpy(),
    }


@dataclass(frozen=True, eq=False)
class Seen:
    """An example with one right and one wrong answer, at every checkpoint of a model."""

    model: str
    example: Example
    curve: pd.DataFrame
    """Columns tokens_seen, own, other: the logit difference of the answers."""
    next_words: pd.Series
    """Probability of the next word at the last checkpoint, {word: probability}, falling."""
    patterns: np.ndarray
    """[layer, head, query, key], at the last checkpoint."""


def measure_example(suite: Suite, model: str, store: Store, example: Example = FIRST) -> Seen:
    """What the lab shows at its start, by the library itself."""
    rows = []
    for here in at_checkpoints(suite, [model], store, what="a sentence"):
        seen = here.arrays("lab", pair_seen, text=example.text, other=example.other)
        rows.append((here.checkpoint.tokens_seen, seen))
    tokenizer = here.models[0].tokenizer
    right, wrong = (
        tokenizer.convert_tokens_to_ids(f" {word}") for word in (example.right, example.wrong)
    )
    differences = [
        (tokens, *(seen["logits"][:, right] - seen["logits"][:, wrong])) for tokens, seen in rows
    ]
    last = rows[-1][1]
    words = [str(tokenizer.decode([i])).strip() for i in range(last["probabilities"].shape[1])]
    return Seen(
        model,
        example,
        pd.DataFrame(differences, columns=["tokens_seen", "own", "other"]),
        pd.Series(last["probabilities"][0], index=words).sort_values(ascending=False),
        last["patterns"],
    )
