"""A document's little world: its people, places and things, and the words for them."""

from __future__ import annotations

import random

from circuitbook.tasks.lexicon import STORIES as L
from circuitbook.tasks.lexicon import held_out_pair

FEMALE = set(L.female) | {
    "Emily",
    "Laura",
    "Kate",
    "Jane",
    "Helen",
    "Alice",
    "Rachel",
    "Jessica",
    "Maria",
    "Rose",
    "Emma",
    "Clara",
    "Nancy",
    "Linda",
}


SURNAMES = (
    "Smith",
    "Brown",
    "Jones",
    "Miller",
    "Davis",
    "Wilson",
    "Moore",
    "Clark",
    "Lewis",
    "Walker",
    "Hall",
    "Young",
    "King",
    "Wright",
    "Hill",
    "Green",
    "Baker",
    "Carter",
    "Turner",
    "Parker",
)


NAMES = frozenset(L.people)


ADJECTIVES = ("tall", "old", "new", "kind", "happy", "tired", "busy", "quiet", "famous", "strong")


CENTURIES = ("11", "12", "13", "14", "15", "16", "17")


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


NUMBERS = (
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
)


ORDINALS = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
)


LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


SEQUENCES = {
    "days": (DAYS, True),
    "months": (MONTHS, True),
    "number words": (NUMBERS, False),
    "ordinals": (ORDINALS, False),
    "letters": (LETTERS, False),
}  # name -> (words, does it wrap around)


COPULAS = (("is", "are"), ("was", "were"))


TAGS = (
    "such a good cook",
    "a very good athlete",
    "such a funny person",
    "a really great friend",
    "a really nice person",
    "a very good singer",
    "such a kind teacher",
    "a really strong swimmer",
)


# ------------------------------------------------------------------ a document's world


class World(random.Random):
    """The random numbers of one document, and what its sentences share: its cast with their
    surnames, its things."""

    def begin(self) -> None:
        """Draws another cast and its things."""
        self.cast: tuple[str, ...] = ()
        self.cast = people(self, 3)
        self.family_names = dict(zip(self.cast, self.sample(SURNAMES, 3), strict=True))
        self.home, self.belonging = self.choice(L.places), self.choice(L.objects)


def people(rng: World, n: int, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """`n` names beside `known`, mostly of the cast; none makes a held-out pair with the cast or
    with another one."""
    names = list(known)
    while len(names) < len(known) + n:
        name = rng.choice(rng.cast if rng.cast and rng.random() < 0.8 else L.people)
        if name not in names and not any(
            held_out_pair(name, other) for other in {*names, *rng.cast} - {name}
        ):
            names.append(name)
    return tuple(names[len(known) :])


def a_place(rng: World) -> str:
    """Mostly any place, often the document's own."""
    return rng.home if rng.random() < 0.4 else rng.choice(L.places)


def a_thing(rng: World) -> str:
    """Mostly any object, often the document's own."""
    return rng.belonging if rng.random() < 0.4 else rng.choice(L.objects)


def he(name: str) -> str:
    """He or she."""
    return "she" if name in FEMALE else "he"


def him(name: str) -> str:
    """Him or her."""
    return "her" if name in FEMALE else "him"


def his(name: str) -> str:
    """His or her."""
    return "her" if name in FEMALE else "his"


def cap(word: str) -> str:
    """With a capital letter."""
    return word[0].upper() + word[1:]
