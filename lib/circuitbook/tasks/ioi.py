"""Indirect Object Identification (Wang et al. 2023; as in the code of Tigges et al. 2024).

"Then, Mary and John went to the store. John gave a ring to" -> " Mary", not " John".

The authors' prompts hold the last name too and read the token before it; ours end there: END is the
last token, which is the same for a causal model.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.tasks.balance import Evenly
from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.texts import Prompt, build, fill
from circuitbook.tasks.words import Vocabulary, single_tokens

# Wang et al.'s first seven frames. The first clause names both people, the second one the giver,
# S2.
FRAMES = (
    "Then, {first} and {second} went to the {place}. {S2} gave a {object} to",
    "Then, {first} and {second} had a lot of fun at the {place}. {S2} gave a {object} to",
    "Then, {first} and {second} were working at the {place}. {S2} decided to give a {object} to",
    "Then, {first} and {second} were thinking about going to the {place}. "
    "{S2} wanted to give a {object} to",
    "Then, {first} and {second} had a long argument, and afterwards {S2} said to",
    "After {first} and {second} went to the {place}, {S2} gave a {object} to",
    "When {first} and {second} got a {object} at the {place}, {S2} decided to give it to",
)
ORDERS = ("BABA", "ABBA")  # A is the indirect object (IO), B the subject (S)


CORRUPTIONS = ("swap", "abc", "order", "token")


# What stands before a name in the frames; behind each a name must be one token
BEFORE_NAMES = ("to", "Then,", "After", "and", "store.", "store,")


def make(
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    rng: np.random.Generator,
    *,
    corruption: str = "swap",
) -> PromptPairs:
    """`n` prompts of drawn frames, orders, names, places and objects.

    Balanced, however many they are: each frame comes in each order before one comes twice so, and
    likewise every indirect object, subject, place and object.

    corruption "swap" (the paper's): S2 becomes the IO name, so that the right answer flips and
    exactly one token differs. "abc" (Wang et al.): all three mentions become other names, all
    different, so that neither name is right.
    "order": the first two names change places; the answer stays, and only where the repeated name
    stood is another.
    "token": the two names change roles throughout; another name is repeated, in the same places.
    The clean prompts are the same for all. In the mini suite's language only name pairs that never
    met in training. People whose name is not one token are left out.

    Positions: IO, S1, S1+1, S2, END. Metric: logit difference, IO minus S.
    """
    if corruption not in CORRUPTIONS:
        raise ValueError(
            f"ioi has no corruption {corruption!r}; there are {', '.join(CORRUPTIONS)}"
        )
    vocabulary = Vocabulary(TASK.name, tokenizer)
    lexicon = vocabulary.lexicon
    token = single_tokens(tokenizer, lexicon.people, after=BEFORE_NAMES)
    people = vocabulary.keep("people", lexicon.people, token, "are one token")
    slots = {
        "place": vocabulary.keep_known("places", lexicon.places, after="the"),
        "object": vocabulary.keep_known("objects", lexicon.objects, after="a"),
    }
    partners = vocabulary.partners(people)
    forms = list(product(range(len(FRAMES)), ORDERS))

    prompts = []
    form, receiver, giver = Evenly(rng), Evenly(rng), Evenly(rng)
    thing = {slot: Evenly(rng) for slot in slots}
    for _ in range(n):
        template, order = form.pick(forms)
        io = receiver.pick(list(partners))
        s = giver.pick(partners[io])
        things = {
            slot: thing[slot].pick(words)
            for slot, words in slots.items()
            if f"{{{slot}}}" in FRAMES[template]
        }
        strangers = [name for name in people if name not in (io, s)]
        chosen = rng.choice(len(strangers), size=3, replace=False)
        names = _names(corruption, order, io, s, [strangers[i] for i in chosen])
        clean, marks = fill(FRAMES[template], **_names(None, order, io, s), **things)
        corrupted, _ = fill(FRAMES[template], **names, **things)
        at_io, at_s1 = marks["first"], marks["second"]
        if order == "BABA":
            at_io, at_s1 = at_s1, at_io
        prompts.append(
            Prompt(
                clean=clean,
                corrupted=corrupted,
                # S1+1: past the space after S1
                marks={"IO": at_io, "S1": at_s1, "S1+1": at_s1 + 2, "S2": marks["S2"]},
                words={
                    "kind": order,
                    "template": template + 1,
                    "io": io,
                    "s": s,
                    **{slot: things.get(slot) for slot in slots},
                    "correct": " " + io,
                    "wrong": " " + s,
                },
            )
        )
    words = [(p.words["io"], p.words["s"]) for p in prompts]
    answers = torch.tensor([[token[word] for word in pair] for pair in words])
    signs = torch.tensor([1, -1])
    left_out = vocabulary.left_out
    return build(TASK, tokenizer, prompts, answers, signs, words=words, left_out=left_out)


def _names(
    corruption: str | None, order: str, io: str, s: str, strangers: Sequence[str] = ()
) -> dict[str, str]:
    """Whom the slots of a frame name; corruption None: in the clean prompt."""
    first, second = (s, io) if order == "BABA" else (io, s)
    if corruption == "abc":
        return dict(zip(("first", "second", "S2"), strangers, strict=True))
    if corruption in ("order", "token"):
        first, second = second, first
    return {"first": first, "second": second, "S2": io if corruption in ("swap", "token") else s}


TASK = Task(
    name="ioi",
    title="IOI",
    metric_name="logit_difference",
    make=make,
    min_metric=1.0,
)
