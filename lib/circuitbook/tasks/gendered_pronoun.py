"""Gendered Pronoun (Tigges et al. 2024; prompts of their code).

"So Mary is such a good cook, isn't" -> " she", not " he".
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.lexicon import held_out_tag
from circuitbook.tasks.texts import Prompt, build, fill
from circuitbook.tasks.words import Vocabulary, single_token, tokens_after

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
    tokens, before the same ending; a name for which there is none is left out.

    Positions: name (its last token), END. Metric: logit difference, the right pronoun minus the
    other.
    """
    vocabulary = Vocabulary(TASK.name, tokenizer)
    lexicon = vocabulary.lexicon
    gender = {
        **{name: "female" for name in lexicon.female},
        **{name: "male" for name in lexicon.male},
    }
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

    prompts = []
    items = [(name, ending) for name in names for ending in ENDINGS]
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
    words = [[p.words[which].strip() for which in ("correct", "wrong")] for p in prompts]
    answers = torch.tensor([[token[" " + word] for word in pair] for pair in words])
    signs = torch.tensor([1, -1])
    left_out = vocabulary.left_out
    return build(TASK, tokenizer, prompts, answers, signs, words=words, left_out=left_out)


TASK = Task(
    name="gendered_pronoun",
    title="Gendered Pronoun",
    metric_name="logit_difference",
    make=make,
    min_metric=1.0,
)
