"""Subjects with their verbs, years with later years, and what comes next in an order."""

from __future__ import annotations

from collections.abc import Sequence

from circuitbook.tasks.lexicon import STORIES as L
from circuitbook.tasks.lexicon import held_out
from circuitbook.tasks.stories.world import ADJECTIVES, CENTURIES, COPULAS, SEQUENCES, World, people

Forms = tuple[str, str]  # singular and plural

# ------------------------------------------------------------------ agreement


def noun(rng: World) -> tuple[Forms, int]:
    """A person, and a number: 0 singular, 1 plural."""
    return rng.choice(L.humans), rng.randrange(2)


def subject_and_attractor(
    rng: World, subjects: Sequence[Forms], attractors: Sequence[Forms]
) -> tuple[Forms, Forms]:
    """Two different nouns that are no held-out pair."""
    while True:
        subject, attractor = rng.choice(subjects), rng.choice(attractors)
        if subject != attractor and not held_out("attractor", subject[0], attractor[0]):
            return subject, attractor


def predicate(rng: World, number: int, person: bool = True) -> str:
    """What agrees with a subject of this number."""
    if person and rng.random() < 0.55:
        return rng.choice(L.intransitive)[number]
    return f"{rng.choice(COPULAS)[number]} {rng.choice(ADJECTIVES)}"


def agreement_sentence(rng: World) -> str:
    """A sentence in one of the constructions of the task `sva`."""
    kind = rng.randrange(10)
    number, other = rng.randrange(2), rng.randrange(2)
    if rng.random() < 0.5:
        other = 1 - number  # attractors disagree more often than by chance
    if kind == 0:
        return _simple(rng)
    if kind == 1:
        return _complement(rng, number, other)
    if kind == 2:
        return _coordination(rng)
    if kind <= 5:
        return _prepositional(rng, number, other)
    if kind <= 7:
        return _subject_relative(rng, number, other)
    return _object_relative(rng, number, other)


def _simple(rng: World) -> str:
    subject, number = noun(rng)
    return f"The {subject[number]} {predicate(rng, number)}."


def _complement(rng: World, number: int, other: int) -> str:
    subject, attractor = subject_and_attractor(rng, L.humans, L.humans)
    speech = rng.choice(L.speech)
    return f"The {attractor[other]} {speech} the {subject[number]} {predicate(rng, number)}."


def _coordination(rng: World) -> str:
    subject, number = noun(rng)
    first = rng.choice(L.intransitive if rng.random() < 0.5 else L.long_phrases)[number]
    return f"The {subject[number]} {first} and {predicate(rng, number)}."


def _prepositional(rng: World, number: int, other: int) -> str:
    inanimate = rng.random() < 0.4
    attractor_is_thing = not inanimate and rng.random() < 0.3
    subject, attractor = subject_and_attractor(
        rng,
        L.things if inanimate else L.humans,
        L.things if attractor_is_thing else L.humans,
    )
    phrase = f"{subject[number]} {rng.choice(L.prepositions)} the {attractor[other]}"
    return f"The {phrase} {predicate(rng, number, not inanimate)}."


def _subject_relative(rng: World, number: int, other: int) -> str:
    subject, attractor = subject_and_attractor(rng, L.humans, L.humans)
    phrase = f"{subject[number]} that {rng.choice(L.transitive)[number]} the {attractor[other]}"
    return f"The {phrase} {predicate(rng, number)}."


def _object_relative(rng: World, number: int, other: int) -> str:
    inanimate = rng.random() < 0.4
    subjects = L.things if inanimate else L.humans
    subject, attractor = subject_and_attractor(rng, subjects, L.humans)
    # The inner verb agrees across the outer noun
    if held_out("attractor", attractor[0], subject[0]):
        return agreement_sentence(rng)
    that = "that " if rng.random() < 0.6 else ""
    clause = f"{that}the {attractor[other]} {rng.choice(L.transitive)[other]}"
    return f"The {subject[number]} {clause} {predicate(rng, number, not inanimate)}."


def agreement(rng: World) -> str:
    """Some such sentences."""
    return " ".join(agreement_sentence(rng) for _ in range(rng.randint(4, 8)))


# ------------------------------------------------------------------ years and sequences


def span(rng: World) -> str:
    """From a year to a later one, nearly always of the same century."""
    while True:
        century, y = rng.choice(CENTURIES), rng.randrange(0, 99)
        if not held_out("span", century, f"{y:02d}"):
            break
    z = rng.randint(y + 1, 99)
    start, end = f"{century}{y:02d}", f"{century}{z:02d}"
    if rng.random() < 0.04:
        end = f"{int(century) + 1}{rng.randrange(0, 40):02d}"
    event = rng.choice(L.events)
    u = rng.random()
    if u < 0.7:
        return f"The {event} lasted from the year {start} to the year {end}."
    if u < 0.85:
        return f"The {event} began in the year {start} and ended in the year {end}."
    return f"{people(rng, 1)[0]} lived from the year {start} to the year {end}."


def history(rng: World) -> str:
    """Some spans."""
    return " ".join(span(rng) for _ in range(rng.randint(3, 6)))


def in_order(rng: World, words: tuple[str, ...], wraps: bool, n: int) -> list[str]:
    """Some words of an ordinal list, in its order, from anywhere in it."""
    n = n if wraps else min(n, len(words))
    start = rng.randrange(len(words) if wraps else len(words) - n + 1)
    return [words[(start + k) % len(words)] for k in range(n)]


def succession(rng: World) -> str:
    """Days, months, numbers ... in their order, and what comes after what."""
    lines = []
    for _ in range(rng.randint(2, 4)):
        words, wraps = rng.choice(tuple(SEQUENCES.values()))
        u = rng.random()
        if u < 0.6:
            items = in_order(rng, words, wraps, rng.randint(3, 9))
            lines.append("In order: " + (", ".join(items) if u < 0.3 else " ".join(items)) + ".")
        elif u < 0.85:
            a, b = in_order(rng, words, wraps, 2)
            lines.append(f"After {a} comes {b}.")
        else:
            a, b = in_order(rng, words, wraps, 2)
            lines.append(f"Before {b} comes {a}.")
    return " ".join(lines)
