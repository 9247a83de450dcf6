"""The story language: documents about a few people, places, things and times.

A document is a little world (three people with surnames, a place, a thing) and passages about it;
names come back, pronouns agree with people, verbs with their subjects, years go forward, lists and
lines are repeated. The four tasks measure what a model picks up from that.

Left out of every document, and so free for measuring (see `tasks.lexicon`): a fifth of all pairs of
names, of all (century, year) starts of spans and of all (subject, attractor) noun pairs; half of
the twenty names in tag questions; and the paper's seven IOI frames: each of their two halves
occurs, joined to other halves.

`document(rng)` draws one document; `FAMILIES` gives the mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import accumulate, combinations

from circuitbook.tasks.lexicon import held_out_pair
from circuitbook.tasks.stories.agreement import agreement, history, succession
from circuitbook.tasks.stories.meetings import meeting
from circuitbook.tasks.stories.repetition import (
    echo,
    enumeration,
    full_names,
    names_in,
    party,
    pronouns,
    recitation,
    roles,
    subject_again,
    tag_questions,
)
from circuitbook.tasks.stories.world import World

FAMILIES: dict[Callable[[World], str], float] = {  # share of tokens, in percent
    meeting: 28,
    recitation: 27,
    agreement: 7,
    history: 7,
    pronouns: 5,
    echo: 5,
    full_names: 5,
    enumeration: 4,
    tag_questions: 4,
    party: 3,
    roles: 2,
    succession: 2,
    subject_again: 1,
}


@cache
def _weights(sample: int = 300) -> tuple[tuple[Callable[[World], str], ...], tuple[float, ...]]:
    """Shares of tokens turned into shares of passages, by the families' mean lengths in words."""
    rng, lengths = World(0), {}
    for family in FAMILIES:
        rng.begin()
        lengths[family] = sum(len(family(rng).split()) for _ in range(sample)) / sample
    return tuple(FAMILIES), tuple(accumulate(FAMILIES[f] / lengths[f] for f in FAMILIES))


def document(rng: World, words: int = 60) -> str:
    """One document: passages about one world until there are `words` words, without any held-out
    pair of names."""
    families, cumulative = _weights()
    while True:
        rng.begin()
        passages: list[str] = []
        while sum(p.count(" ") for p in passages) < words:
            passages.append(rng.choices(families, cum_weights=cumulative)[0](rng))
        text = passages[0] + "".join(" " + passage.lstrip() for passage in passages[1:])
        if not any(held_out_pair(a, b) for a, b in combinations(names_in(text), 2)):
            return text
