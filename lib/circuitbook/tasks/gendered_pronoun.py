"""Gendered Pronoun (Tigges et al. 2024; prompts of their code).

"So Mary is such a good cook, isn't" -> " she", not " he".
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.lexicon import held_out_tag, lexicon_for
from circuitbook.tasks.texts import Prompt, build, fill, single_token

FRAME = "So {name} {ending}, isn't"


ENDINGS = (
    "is such a good cook",
    "is a very good athlete",
    "is such a funny person",
    "is a really great friend",
    "is a really nice person",
)


def make(tokenizer: PreTrainedTokenizerBase, n: int, rng: np.random.Generator) -> PromptPairs:
    """`n` of the 100 items, 20 names x 5 endings, in random order; all of them if `n` is larger, as
    in the paper.

    In the mini suite's language 50 items, of the ten names that are in no tag question of the
    training documents. The corrupted prompt has a random name of the other gender, of as many
    tokens, before the same ending.

    Positions: name (its last token), END. Metric: logit difference, the right pronoun minus the
    other.
    """
    lexicon = lexicon_for(tokenizer)
    gender = {
        **{name: "female" for name in lexicon.female},
        **{name: "male" for name in lexicon.male},
    }
    names = [name for name in gender if not lexicon.holds_out or held_out_tag(name)]
    words = tokenizer([" " + name for name in names], add_special_tokens=False)["input_ids"]
    length = dict(zip(names, map(len, words), strict=True))
    partners = {
        a: [b for b in names if gender[a] != gender[b] and length[a] == length[b]] for a in names
    }

    prompts = []
    items = [(name, ending) for name in names if partners[name] for ending in ENDINGS]
    for i in rng.permutation(len(items))[:n]:
        name, ending = items[i]
        other = partners[name][rng.integers(len(partners[name]))]
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
    token = {word: single_token(tokenizer, word) for word in (" she", " he")}
    answers = torch.tensor(
        [[token[prompt.words[kind]] for kind in ("correct", "wrong")] for prompt in prompts]
    )
    return build(TASK, tokenizer, prompts, answers, torch.tensor([1, -1]))


TASK = Task(
    name="gendered_pronoun",
    title="Gendered Pronoun",
    metric_name="logit_difference",
    make=make,
    min_metric=1.0,
)
