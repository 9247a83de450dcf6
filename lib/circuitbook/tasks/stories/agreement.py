"""Subjects with their verbs, years with later years, and what comes next in an order."""

from __future__ import annotations

from circuitbook.tasks.lexicon import STORIES as L
from circuitbook.tasks.lexicon import held_out
from circuitbook.tasks.stories.world import ADJECTIVES, CENTURIES, COPULAS, SEQUENCES, World, people

# ------------------------------------------------------------------ agreement


def noun(rng: World, kinds=None) -> tuple[tuple[str, str], int]:
    return rng.choice(kinds or L.humans), rng.randrange(2)


def subject_and_attractor(
    rng: World, subjects, attractors
) -> tuple[tuple[str, str], tuple[str, str]]:
    while True:
        a, b = rng.choice(subjects), rng.choice(attractors)
        if a != b and not held_out("attractor", a[0], b[0]):
            return a, b


def predicate(rng: World, number: int, person: bool = True) -> str:
    if person and rng.random() < 0.55:
        return rng.choice(L.intransitive)[number]
    return f"{rng.choice(COPULAS)[number]} {rng.choice(ADJECTIVES)}"


def agreement_sentence(rng: World) -> str:
    kind = rng.randrange(10)
    i, j = rng.randrange(2), rng.randrange(2)
    if rng.random() < 0.5:
        j = 1 - i  # attractors disagree more often than by chance
    if kind == 0:
        (s, i) = noun(rng)
        return f"The {s[i]} {predicate(rng, i)}."
    if kind == 1:
        s, a = subject_and_attractor(rng, L.humans, L.humans)
        speech = rng.choice(L.speech)
        return f"The {a[j]} {speech} the {s[i]} {predicate(rng, i)}."
    if kind == 2:
        (s, i) = noun(rng)
        first = rng.choice(L.intransitive if rng.random() < 0.5 else L.long_phrases)[i]
        return f"The {s[i]} {first} and {predicate(rng, i)}."
    if kind <= 5:
        inanimate = rng.random() < 0.4
        thing = not inanimate and rng.random() < 0.3
        s, a = subject_and_attractor(
            rng, L.things if inanimate else L.humans, L.things if thing else L.humans
        )
        return f"The {s[i]} {rng.choice(L.prepositions)} the {a[j]} {predicate(rng, i, not inanimate)}."
    if kind <= 7:
        s, a = subject_and_attractor(rng, L.humans, L.humans)
        return f"The {s[i]} that {rng.choice(L.transitive)[i]} the {a[j]} {predicate(rng, i)}."
    inanimate = rng.random() < 0.4
    s, a = subject_and_attractor(rng, L.things if inanimate else L.humans, L.humans)
    if held_out("attractor", a[0], s[0]):  # the inner verb agrees across the outer noun
        return agreement_sentence(rng)
    that = "that " if rng.random() < 0.6 else ""
    return f"The {s[i]} {that}the {a[j]} {rng.choice(L.transitive)[j]} {predicate(rng, i, not inanimate)}."


def agreement(rng: World) -> str:
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
    return " ".join(span(rng) for _ in range(rng.randint(3, 6)))


def run(rng: World, words: tuple[str, ...], wraps: bool, n: int) -> list[str]:
    n = n if wraps else min(n, len(words))
    start = rng.randrange(len(words) if wraps else len(words) - n + 1)
    return [words[(start + k) % len(words)] for k in range(n)]


def succession(rng: World) -> str:
    lines = []
    for _ in range(rng.randint(2, 4)):
        words, wraps = rng.choice(tuple(SEQUENCES.values()))
        u = rng.random()
        if u < 0.6:
            items = run(rng, words, wraps, rng.randint(3, 9))
            lines.append("In order: " + (", ".join(items) if u < 0.3 else " ".join(items)) + ".")
        elif u < 0.85:
            a, b = run(rng, words, wraps, 2)
            lines.append(f"After {a} comes {b}.")
        else:
            a, b = run(rng, words, wraps, 2)
            lines.append(f"Before {b} comes {a}.")
    return " ".join(lines)
