"""The next in an ordered list: IOI with two to four people, of whom the receiver comes after the
giver.

"Yesterday Mary, John and Kate went to the store. John gave a ring to" -> " Kate". The rule holds in
the passages of `stories.ordered_lists` alone, so only models that read those know it; English does
not have it. With two people it is IOI. With roles the giver has to be looked up: "Yesterday the
doctor Mary and the teacher John went to the store. The teacher gave a ring to" -> " Mary".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.tasks.balance import Evenly
from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.stories.ordered_lists import (
    GIFTS,
    GIVERS,
    OPENINGS,
    SIZES,
    next_of,
)
from circuitbook.tasks.texts import Prompt, build, fill
from circuitbook.tasks.words import Vocabulary, single_tokens
from circuitbook.wording import listed

CORRUPTIONS = ("swap", "order", "token", "across")
EXCHANGE = "exchange"  # another corruption, of lists with roles alone
ACROSS = 4  # people, of whom two can stand across
BEFORE_NAMES = ("Yesterday", "While", "Mary,", "and", "knew", "to", "store.", "store,")


def make(
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    rng: np.random.Generator,
    *,
    corruption: str = "swap",
    sizes: Sequence[int] = SIZES,
    roles: bool = False,
) -> PromptPairs:
    """`n` prompts: a list of people, and one act of a giver S towards the next in it, IO.

    Balanced, however many they are: every size of list, place of the giver in it, and presence of
    a bystander (a name between S2 and END) comes once before one comes twice with the same, and
    likewise every opening, act, receiver, giver, place and object. Receiver and giver never met in
    training, in the mini suite's language, so no list here was read there.

    In the corrupted prompts the right answer is S, or else the same IO:
    corruption "swap": the giver becomes whoever stands before S in the list, so that S is the next;
    exactly one token differs.
    "order": everyone stands one place earlier, the first one last; the same relations, and the
    answer stays, but IO stands where S1 stood.
    "token": everyone stands one place later, and the giver is whoever now stands where S1 stood, so
    that S, where IO stood, is the next: other people in the same places.
    With two people these are the corruptions of `ioi`, by the same names.
    "across", of lists of four alone: the giver becomes whoever stands across, two places from S,
    and the wrong answer is the next of that one, not S. So neither giver is an answer: what only
    writes against the giver cannot tell the answers apart.

    roles: everyone has one, which the list gives before the name and which stays with the person
    when lists are corrupted; the giver is called by it alone. So S2 is a role: neither an answer
    nor a name. Then there is also
    "exchange": S and whoever stands before S exchange their roles, so that S2, the same token,
    calls the other one, and S is the next. No token outside of the list differs.

    Positions: IO, S1, S2, other (the bystander; -1 without), END; with roles R1, the giver's in the
    list. Metric: logit difference, IO
    minus S (or, "across", minus the other one's next). `rank` of `PromptPairs.measures` tells
    whether IO is chosen among all.
    ValueError for another corruption, and for sizes that lists do not have.
    """
    corruptions = (*CORRUPTIONS, EXCHANGE) if roles else CORRUPTIONS
    if corruption not in corruptions:
        there = ", ".join(corruptions)
        raise ValueError(f"next_in_list has no corruption {corruption!r}; there are {there}")
    if not sizes or set(sizes) - set(SIZES):
        raise ValueError(f"next_in_list has lists of {SIZES} people, so none of {tuple(sizes)}")
    if corruption == "across" and set(sizes) != {ACROSS}:
        raise ValueError(f"corruption 'across' is of lists of four alone: give sizes=({ACROSS},)")
    vocabulary = Vocabulary(TASK.name, tokenizer)
    lexicon = vocabulary.lexicon
    token = single_tokens(tokenizer, lexicon.people, after=BEFORE_NAMES)
    people = vocabulary.keep("people", lexicon.people, token, "are one token")
    slots = {
        "place": vocabulary.keep_known("places", lexicon.places, after="the"),
        "object": vocabulary.keep_known("objects", lexicon.objects, after="a"),
    }
    professions: list[str] = []
    if roles:
        known = [singular for singular, _ in lexicon.humans]
        fitting = single_tokens(tokenizer, known, after=("the", "The"))
        professions = vocabulary.keep("humans", known, fitting, "are one token")
    partners = vocabulary.partners(people)
    forms = [
        (size, at, bystander)
        for size in sizes
        for at, bystander in product(range(size), (False, True))
    ]

    prompts = []
    form, receiver, giver = Evenly(rng), Evenly(rng), Evenly(rng)
    part = {name: Evenly(rng) for name in ("size", "opening", "gift", "subject", *slots)}
    for _ in range(n):
        size = part["size"].pick(sizes)
        _, at, bystander = form.pick([one for one in forms if one[0] == size])
        opening, gift = part["opening"].pick(OPENINGS), part["gift"].pick(GIFTS)
        subject = part["subject"].pick(GIVERS) if bystander else "{S2}"
        things = {name: part[name].pick(words) for name, words in slots.items()}
        io = receiver.pick(list(partners))
        s = giver.pick(partners[io])
        strangers = [name for name in people if name not in (io, s)]
        chosen = [strangers[i] for i in rng.choice(len(strangers), size=size - 1, replace=False)]
        names = _in_list(chosen[1:], io, s, at)
        called = dict(zip(names, names, strict=True))
        if roles:
            of_list = rng.choice(len(professions), size=size, replace=False)
            called = dict(zip(names, (professions[i] for i in of_list), strict=True))
            subject = ("The " if opening.endswith(".") else "the ") + subject
        frame = f"{opening} {subject} {gift}".replace("{people}", _slots(size, roles))
        words = things | {"other": chosen[0]}
        clean, marks = fill(frame, S2=called[s], **_seats(names, called), **words)
        seated, acts = _corrupted(corruption, names, s)
        wrong = next_of(names, acts) if corruption == "across" else s
        if corruption == EXCHANGE:  # who acts has the role by which S was called
            called[s], called[acts] = called[acts], called[s]
        corrupted, _ = fill(frame, S2=called[acts], **_seats(seated, called), **words)
        prompts.append(
            Prompt(
                clean=clean,
                corrupted=corrupted,
                marks={
                    "IO": marks[f"seat{names.index(io)}"],
                    "S1": marks[f"seat{at}"],
                    "S2": marks["S2"],
                    "other": marks.get("other"),
                }
                | ({"R1": marks[f"role{at}"]} if roles else {}),
                words={
                    "kind": f"{size} people",
                    "size": size,
                    "at": at,
                    "io": io,
                    "s": s,
                    "other": chosen[0] if bystander else None,
                    "place": things["place"],
                    "object": things["object"] if "{object}" in gift else None,
                    "correct": " " + io,
                    "wrong": " " + wrong,
                },
            )
        )
    pairs = [(p.words["correct"].strip(), p.words["wrong"].strip()) for p in prompts]
    answers = torch.tensor([[token[word] for word in pair] for pair in pairs])
    signs = torch.tensor([1, -1])
    left_out = vocabulary.left_out
    return build(TASK, tokenizer, prompts, answers, signs, words=pairs, left_out=left_out)


def _in_list(others: Sequence[str], io: str, s: str, at: int) -> list[str]:
    """The list in which S stands at a place and IO comes next.

    >>> _in_list(["Mary"], "Kate", "John", 1), _in_list(["Mary"], "Kate", "John", 2)
    (['Mary', 'John', 'Kate'], ['Kate', 'Mary', 'John'])
    """
    return _turned([s, io, *others], -at)


def _turned(names: Sequence[str], by: int) -> list[str]:
    """Everyone so many places earlier, the first ones last.  _turned("abc", 1) -> [*"bca"]"""
    by %= len(names)
    return [*names[by:], *names[:by]]


def _corrupted(corruption: str, names: Sequence[str], s: str) -> tuple[list[str], str]:
    """The list, and who gives."""
    at = names.index(s)
    before = names[at - 1]
    if corruption == "across":
        return list(names), names[at - 2]
    if corruption in ("swap", EXCHANGE):
        return list(names), before
    if corruption == "order":
        return _turned(names, 1), s
    return _turned(names, -1), before


def _slots(size: int, roles: bool) -> str:
    """The list in a frame.

    >>> _slots(2, roles=False), _slots(2, roles=True)
    ('{seat0} and {seat1}', 'the {role0} {seat0} and the {role1} {seat1}')
    """
    seat = "the {{role{0}}} {{seat{0}}}" if roles else "{{seat{0}}}"
    return listed([seat.format(i) for i in range(size)])


def _seats(names: Sequence[str], called: Mapping[str, str]) -> dict[str, str]:
    """What stands in the slots of the list."""
    return {
        slot: word
        for i, name in enumerate(names)
        for slot, word in ((f"seat{i}", name), (f"role{i}", called[name]))
    }


TASK = Task(
    name="next_in_list",
    title="Next in a list",
    metric_name="logit_difference",
    make=make,
    min_metric=1.0,
)
