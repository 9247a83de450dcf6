"""Gendered Pronoun (Tigges et al. 2024; prompts of their code).

"So Mary is such a good cook, isn't" -> " she", not " he".
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.tasks.balance import Evenly
from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.lexicon import held_out_tag
from circuitbook.tasks.texts import Prompt, build, fill
from circuitbook.tasks.words import Vocabulary, single_token, tokens_after

FRAME = "So {name} {ending}, isn't"


ENDINGS = (  # the authors'
    "is such a good cook",
    "is a very good athlete",
    "is such a funny person",
    "is a really great friend",
    "is a really nice person",
)
MORE_ENDINGS = (
    "is a very good singer",
    "is such a kind teacher",
    "is a really strong swimmer",
    "is such a good friend",
    "is a very nice teacher",
    "is a really funny person",
    "is such a great athlete",
)


def make(tokenizer: PreTrainedTokenizerBase, n: int, rng: np.random.Generator) -> PromptPairs:
    """`n` items, women and men in turn, each name and each ending about as often as any other.

    The authors' 100 come first, 20 names x 5 endings, in random order: all of them are the paper's
    prompts. Then follow ours, with more names and endings, so that what was found on the authors'
    can be measured on others; all items if `n` is larger.
    In the mini suite's language the names are ten that are in no tag question of the training
    documents: 50 of the authors' items, and 70 of ours. The corrupted prompt has a random name of
    the other gender, of as many tokens, before the same ending; a name for which there is none is
    left out.

    Positions: name (its last token), END. Metric: logit difference, the right pronoun minus the
    other.
    """
    vocabulary = Vocabulary(TASK.name, tokenizer)
    lexicon = vocabulary.lexicon
    gender = dict.fromkeys(lexicon.female + lexicon.more_female, "female")
    gender |= dict.fromkeys(lexicon.male + lexicon.more_male, "male")
    names = [name for name in gender if not lexicon.holds_out or held_out_tag(name)]
    length = dict(zip(names, map(len, tokens_after(tokenizer, "So", names)), strict=True))
    partners = {
        a: [b for b in names if gender[a] != gender[b] and length[a] == length[b] > 0]
        for a in names
    }
    paired = [name for name in names if partners[name]]
    must = "have a name of the other gender of as many tokens"
    names = vocabulary.keep("names", names, paired, must)
    token = {
        word: single_token(tokenizer, word, after="isn't", task=TASK.name)
        for word in (" she", " he")
    }

    authors = [name for name in names if name in lexicon.female + lexicon.male]
    theirs = dict.fromkeys(product(authors, ENDINGS))
    ours = [item for item in product(names, ENDINGS + MORE_ENDINGS) if item not in theirs]
    items = _in_turn(list(theirs), gender, rng) + _in_turn(ours, gender, rng)
    prompts = []
    for name, ending in items[:n]:
        among = [b for b in partners[name] if b in authors] or partners[name]
        other = among[rng.integers(len(among))]
        clean, marks = fill(FRAME, name=name, ending=ending)
        right, wrong = (" she", " he") if gender[name] == "female" else (" he", " she")
        prompts.append(
            Prompt(
                clean=clean,
                corrupted=fill(FRAME, name=other, ending=ending)[0],
                marks={"name": marks["name"]},
                words={
                    "kind": gender[name],
                    "name": name,
                    "other_name": other,
                    "ending": ending,
                    "correct": right,
                    "wrong": wrong,
                },
            )
        )
    words = [[p.words[which].strip() for which in ("correct", "wrong")] for p in prompts]
    answers = torch.tensor([[token[" " + word] for word in pair] for pair in words])
    signs = torch.tensor([1, -1])
    left_out = vocabulary.left_out
    return build(TASK, tokenizer, prompts, answers, signs, words=words, left_out=left_out)


def _in_turn(
    items: list[tuple[str, str]], gender: dict[str, str], rng: np.random.Generator
) -> list[tuple[str, str]]:
    """All (name, ending), women and men in turn while there are both, names and endings evenly."""
    left: dict[str, list[str]] = {}
    for name, ending in items:
        left.setdefault(name, []).append(ending)
    sex, person, phrase = Evenly(rng), Evenly(rng), Evenly(rng)
    out = []
    while left:
        turn = sex.pick(sorted({gender[name] for name in left}))
        name = person.pick([name for name in left if gender[name] == turn])
        ending = phrase.pick(left[name])
        left[name].remove(ending)
        if not left[name]:
            del left[name]
        out.append((name, ending))
    return out


TASK = Task(
    name="gendered_pronoun",
    title="Gendered Pronoun",
    metric_name="logit_difference",
    make=make,
    min_metric=1.0,
)
