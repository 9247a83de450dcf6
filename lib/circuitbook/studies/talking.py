"""What a model says while it is trained: how it goes on, and which names it expects."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from circuitbook.model.loaded import Model
from circuitbook.studies.lab import FIRST
from circuitbook.tasks.lexicon import lexicon_for

BEGINNING = "Mary and John went to the store."
WORDS = 10
NAMES = 5


@dataclass(frozen=True)
class Said:
    """What one checkpoint says."""

    step: int
    continuation: str
    """Of the beginning, always with the most probable token."""
    names: tuple[tuple[str, float], ...]
    """The most probable of all people's names after the sentence, each with its probability."""


@torch.no_grad()
def what_it_says(model: Model, beginning: str = BEGINNING, sentence: str = FIRST.text) -> Said:
    """`WORDS` tokens after the beginning, greedily; the `NAMES` best names after the sentence."""
    tokenizer = model.tokenizer
    tokens = tokenizer(beginning)["input_ids"]
    begun = len(tokens)
    for _ in range(WORDS):
        tokens = [*tokens, int(model.logits(torch.tensor([tokens]))[0, -1].argmax())]
    people = sorted(set(lexicon_for(tokenizer).people))
    ids = torch.tensor(tokenizer.convert_tokens_to_ids([f" {name}" for name in people]))
    shares = model.logits(torch.tensor([tokenizer(sentence)["input_ids"]]))[0, -1].softmax(-1)[ids]
    best = shares.topk(NAMES)
    names = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return Said(
        model.checkpoint.step,
        str(tokenizer.decode(tokens[begun:])).strip(),
        tuple((people[i], share) for i, share in names),
    )
