"""Prompts for the compiled model (`model.compiled`), and what is right behind them.

A marker, four different letters, and one of the first three of them again. Four corruptions take
turns, each of which changes one token and so what the circuit's nodes pass on:

    "query"   the last letter: another of the first three
    "value"   the letter that follows it where it stood before: one that is nowhere in the prompt
    "key"     the last letter where it stood before: then nothing is found
    "flag"    "!" becomes "."
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from circuitbook.model.compiled_nodes import LETTERS, OFF, ON, WORDS
from circuitbook.tasks.base import PromptPairs

CORRUPTIONS = ("query", "value", "key", "flag")


def right_answer(prompt: str) -> str | None:
    """What follows a prompt; None if its last letter did not stand before.

    >>> right_answer(". B D A F D"), right_answer("! B D A F D")
    ('A', 'B')
    """
    marker, *letters = prompt.split()
    if letters[-1] not in letters[:-1]:
        return None
    found = letters[letters.index(letters[-1]) + 1]
    return LETTERS[(LETTERS.index(found) + (marker == ON)) % len(LETTERS)]


def marked_letters(n: int, seed: int = 0) -> PromptPairs:
    """n pairs, the corruptions in turn. The wrong answer is the corrupted prompt's; of one that has
    none, any other letter. ValueError for n below 1."""
    if n < 1:
        raise ValueError(f"{n} prompts were asked for; ask for at least one")
    rng = np.random.default_rng(seed)
    rows = [_pair(rng, CORRUPTIONS[i % len(CORRUPTIONS)]) for i in range(n)]
    table = pd.DataFrame(rows)
    tokens = {word.strip(): i for i, word in enumerate(WORDS)}
    ids = {
        name: torch.tensor([[tokens[word] for word in text.split()] for text in table[name]])
        for name in ("clean", "corrupted", "correct", "wrong")
    }
    end = torch.full((n,), ids["clean"].shape[1] - 1)
    return PromptPairs(
        task="marked_letters",
        metric_name="logit_difference",
        clean=ids["clean"],
        corrupted=ids["corrupted"],
        end=end,
        answers=torch.cat([ids["correct"], ids["wrong"]], 1),
        signs=torch.tensor([1, -1]).expand(n, -1).contiguous(),
        positions={"END": end},
        table=table,
    )


def _pair(rng: np.random.Generator, kind: str) -> dict[str, str]:
    """A row of the table: clean, corrupted, kind, correct, wrong."""
    letters = [LETTERS[i] for i in rng.permutation(len(LETTERS))]
    shown, spare = letters[:4], letters[4]
    at, other = rng.permutation(3)[:2]
    marker = ON if kind == "flag" else (ON, OFF)[rng.integers(2)]
    clean = [marker, *shown, shown[at]]
    corrupted = clean.copy()
    if kind == "query":
        corrupted[-1] = shown[other]
    elif kind == "value":
        corrupted[1 + at + 1] = spare
    elif kind == "key":
        corrupted[1 + at] = spare
    else:
        corrupted[0] = OFF
    texts = " ".join(clean), " ".join(corrupted)
    right, wrong = (right_answer(text) for text in texts)
    assert right is not None  # the last letter is one of the first three
    if wrong is None:
        others = [letter for letter in LETTERS if letter != right]
        wrong = others[rng.integers(len(others))]
    return {
        "clean": texts[0],
        "corrupted": texts[1],
        "kind": kind,
        "correct": right,
        "wrong": wrong,
    }
