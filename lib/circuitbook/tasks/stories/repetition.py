"""Passages that say things again: recitations, lists, echoes, full names, roles, pronouns, tag
questions."""

from __future__ import annotations

import re

from circuitbook.tasks.lexicon import STORIES as L
from circuitbook.tasks.lexicon import held_out_pair, held_out_tag
from circuitbook.tasks.stories.agreement import agreement_sentence, span
from circuitbook.tasks.stories.world import (
    ADJECTIVES,
    DAYS,
    LETTERS,
    MONTHS,
    NAMES,
    NUMBERS,
    ORDINALS,
    SURNAMES,
    TAGS,
    World,
    a_place,
    a_thing,
    cap,
    he,
    him,
    his,
    people,
)

# ------------------------------------------------------------------ repetition


def some_words(rng: World) -> tuple[str, ...]:
    """One kind of words that can be listed."""
    return rng.choice(
        (
            L.objects,
            L.places,
            L.people,
            SURNAMES,
            ADJECTIVES,
            tuple(n[0] for n in L.humans + L.things),
        )
    )


def compatible(rng: World, words: list[str]) -> list[str]:
    """The words without the names that make a held-out pair with an earlier one or with the
    cast."""
    kept: list[str] = []
    for word in words:
        if word not in NAMES or not any(
            held_out_pair(word, other)
            for other in (*kept, *rng.cast)
            if other in NAMES and other != word
        ):
            kept.append(word)
    return kept


def recitation(rng: World) -> str:
    """A line of random words, said again, a short one many times; a part of the lines without any
    announcement."""
    n = rng.choice((rng.randint(3, 9), rng.randint(10, 26)))
    pool = RECITABLE if rng.random() < 0.6 else some_words(rng)
    words = ""
    while words.count(" ") < 2:
        words = " ".join(compatible(rng, [rng.choice(pool) for _ in range(n)]))
    if rng.random() < 0.6:
        return "".join([" " + words] * max(2, 44 // n))
    speaker = rng.choice(L.humans)[0]
    return f"The {speaker} said: {words}. Everyone said: {words}."


def enumeration(rng: World) -> str:
    """Somebody makes a list, and it is said again."""
    words = some_words(rng)
    owner = people(rng, 1)[0]
    items: list[str] = []
    while len(items) < 3:
        items = compatible(rng, [owner, *rng.sample(words, rng.randint(3, 7))])[1:]
    first = f"{owner} made a list: {', '.join(items)}."
    if rng.random() < 0.5:
        return f"{first} {cap(he(owner))} said it again: {', '.join(items)}."
    return f"{first} The list was: {', '.join(items)}."


def echo(rng: World) -> str:
    """Somebody repeats what somebody said."""
    a, b = people(rng, 2)
    line = rng.choice(
        (agreement_sentence, span, lambda rng: f"The {a_thing(rng)} is at the {a_place(rng)}.")
    )(rng)
    return f"{a} said: {line} {b} said: {line}"


def party(rng: World) -> str:
    """Names come back in the order in which they came."""
    guests = people(rng, rng.randint(3, 5))
    listed = ", ".join(guests[:-1]) + f" and {guests[-1]}"
    place = a_place(rng)
    return f"{listed} came to the {place}. Then {listed} went home."


def full_names(rng: World) -> str:
    """People with their surnames, which come back together."""
    cast = people(rng, rng.randint(2, 3))
    family = [rng.family_names.get(a) or rng.choice(SURNAMES) for a in cast]
    lines = [
        f"{name} {surname} was {rng.choice(ADJECTIVES)}."
        for name, surname in zip(cast, family, strict=True)
    ]
    for _ in range(rng.randint(2, 4)):
        k = rng.randrange(len(cast))
        lines.append(
            rng.choice(
                (
                    f"{cast[k]} {family[k]} went to the {a_place(rng)}.",
                    f"The {rng.choice(L.humans)[0]} saw {cast[k]} {family[k]}.",
                    f"The {a_thing(rng)} was from {cast[k]} {family[k]}.",
                )
            )
        )
    return " ".join(lines)


# ------------------------------------------------------------------ people and what they are


def roles(rng: World) -> str:
    """Who is the teacher, and who the teacher is."""
    cast = people(rng, rng.randint(2, 4))
    jobs = [h[0] for h in rng.sample(L.humans, len(cast))]
    lines = [f"{a} is the {j}." for a, j in zip(cast, jobs, strict=True)]
    for k in rng.sample(range(len(cast)), len(cast)):
        lines.append(
            f"The {jobs[k]} is {cast[k]}."
            if rng.random() < 0.7
            else f"So {cast[k]} is the {jobs[k]}."
        )
    return " ".join(lines)


def pronouns(rng: World) -> str:
    """A person, named once, then he or she."""
    a = people(rng, 1)[0]
    o, p = a_thing(rng), a_place(rng)
    lines = [
        rng.choice(
            (
                f"{a} lost {his(a)} {o}.",
                f"{a} went to the {p}.",
                f"{a} was {rng.choice(ADJECTIVES)}.",
            )
        )
    ]
    for _ in range(rng.randint(2, 4)):
        lines.append(
            rng.choice(
                (
                    f"{cap(he(a))} looked for {his(a)} {o}.",
                    f"Everyone knew that {he(a)} was {rng.choice(ADJECTIVES)}.",
                    f"The {rng.choice(L.humans)[0]} saw {him(a)} near the {p}.",
                    f"{a} said that {he(a)} was {rng.choice(ADJECTIVES)}.",
                    f"When {a} came home, {he(a)} gave {his(a)} {o} "
                    f"to the {rng.choice(L.humans)[0]}.",
                    f"{a} knew where {he(a)} was.",
                )
            )
        )
    return " ".join(lines)


def subject_again(rng: World) -> str:
    """The subject's own name comes back after a word that often announces another name."""
    a, b = people(rng, 2)
    p, o = a_place(rng), a_thing(rng)
    return rng.choice(
        (
            f"{a} went to the {p}. {b} went to the {p}. "
            f"{a} was {rng.choice(ADJECTIVES)} and {b} looked at {a}.",
            f"{a} had a {o}. The {o} was from {b}. So {b} was a friend of {a}.",
            f"Everyone talked to {a}. {b} talked to {a} too. Then {a} went home with {b}.",
            f"{a} saw {b}. {b} saw {a}. The {o} of {a} was {rng.choice(ADJECTIVES)}.",
        )
    )


def tag_questions(rng: World) -> str:
    """As in the task `gendered_pronoun`, of the names that are not held out."""
    lines = []
    for _ in range(rng.randint(2, 4)):
        while True:
            a = people(rng, 1)[0]
            if not held_out_tag(a):
                break
        verb, tag = rng.choice((("is", "isn't"), ("is", "isn't"), ("was", "wasn't")))
        lines.append(f"So {a} {verb} {rng.choice(TAGS)}, {tag} {he(a)}?")
    return " ".join(lines)


# ------------------------------------------------------------------ the mixture

FUNCTION_WORDS = tuple(
    """
    a about afterwards again and at began came comes decided ended everyone for friend from fun gave
    give going got had he her him his home in it lasted list lived long looked lost lot made many
    met of order really sent she showed sold such talked that the thinking to too took very wanted
    way went where who with year
    """.split()
)


RECITABLE = tuple(
    dict.fromkeys(
        FUNCTION_WORDS
        + L.people
        + SURNAMES
        + L.places
        + L.objects
        + L.events
        + ADJECTIVES
        + DAYS
        + MONTHS
        + NUMBERS
        + ORDINALS
        + LETTERS
        + tuple(w for pair in L.humans + L.things + L.verbs for w in pair)
        + L.speech
        + L.prepositions
    )
)


def names_in(text: str) -> frozenset[str]:
    """The people that a text names."""
    return NAMES.intersection(re.findall(r"[A-Za-z]+", text))
