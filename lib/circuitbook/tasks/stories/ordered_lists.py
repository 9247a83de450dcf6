"""Ordered lists: who gives, says or sends something does so to the next in the list, and the last
to the first.

"Yesterday Mary, John and Kate went to the store." What John gives goes to Kate, and what Kate gives
to Mary.
With three or four people it is not enough to know that the giver is not the receiver. In
`role_list` the giver is called by a role that the list gives together with the name, and has to be
looked up. These passages are no part of the mixture that the mini suite read (`documents`);
`mini.list_text` reads both.
"""

from __future__ import annotations

from collections.abc import Sequence

from circuitbook.tasks.lexicon import STORIES as L
from circuitbook.tasks.stories.world import ADJECTIVES, DAYS, World, cap, people
from circuitbook.wording import listed

SIZES = (2, 3, 4)  # people in a list
SHARES = {2: 1, 3: 2, 4: 2}  # of the lists, by size, where all sizes are read
ACTS = (4, 6)  # fewest and most in a passage

OPENINGS = (  # a comma at the end: an act follows at once
    "Yesterday {people} went to the {place}.",
    "Yesterday {people} were working at the {place}.",
    "While {people} were waiting at the {place},",
    "When {people} came to the {place},",
)

GIFTS = (  # the receiver follows
    "gave a {object} to",
    "sent a {object} to",
    "brought the {object} to",
    "showed the {object} to",
    "sold a {object} to",
    "wanted to give a {object} to",
    "said to",
    "talked to",
)

GIVERS = (  # with another name behind the giver's, which is then the latest
    "{S2}, who knew {other},",
    "{S2}, a friend of {other},",
    "{S2} thanked {other} and",
)

BETWEEN = (  # sentences between two acts
    "It was {day}.",
    "The {object} was {adjective}.",
    "{other} was at home.",
    "{other} came to the {place}.",
)

OTHER = 0.25  # of the acts have another name between giver and receiver;
OF_LIST = 0.25  # of those names, so many are of the list themselves
BREAK = 0.1  # of the acts have another sentence before them
NEW_OBJECT = 0.3  # of the acts are followed by those with another thing

INTRODUCED = 0.4  # of the passages with roles say a role and its name again, instead of an act


def next_of(names: Sequence[str], giver: str) -> str:
    """Who comes after the giver; after the last, the first.

    >>> next_of(["Mary", "John", "Kate"], "John"), next_of(["Mary", "John", "Kate"], "Kate")
    ('Kate', 'Mary')
    """
    return names[(names.index(giver) + 1) % len(names)]


def ordered_list(rng: World, sizes: Sequence[int] = SIZES) -> str:
    """A document: a list of so many people, drawn by `SHARES` from `sizes`, and acts among them.

    No two names in it are a held-out pair. ValueError for sizes that lists do not have.
    """
    names, stranger = _people_of_list(rng, sizes)
    place, thing = rng.choice(L.places), rng.choice(L.objects)
    lines = [rng.choice(OPENINGS).format(people=listed(names), place=place)]
    for _ in range(rng.randint(*ACTS)):
        inside = lines[-1].endswith(",")
        if not inside and rng.random() < BREAK:
            lines.append(_between(rng, stranger, place, thing))
        giver = rng.choice(names)
        line = _act(rng, names, giver, giver, stranger, thing)
        lines.append(line if inside else cap(line))
        if rng.random() < NEW_OBJECT:
            thing = rng.choice(L.objects)
    return " ".join(lines)


def role_list(rng: World, sizes: Sequence[int] = SIZES) -> str:
    """A document: a list of people with their roles, "the doctor Mary and the teacher John", and
    one sentence about one of them.

    Mostly it is an act whose giver is called by the role alone: "The teacher gave a ring to Mary."
    `INTRODUCED` say role and name again, "The teacher John was tall.", so that it pays to look up
    who has a role as soon as the role is read. Names, sizes and ValueError: as of `ordered_list`.
    """
    names, stranger = _people_of_list(rng, sizes)
    called = [f"the {role}" for role, _ in rng.sample(L.humans, len(names))]
    place, thing = rng.choice(L.places), rng.choice(L.objects)
    listing = [f"{role} {name}" for role, name in zip(called, names, strict=True)]
    lines = [rng.choice(OPENINGS).format(people=listed(listing), place=place)]
    inside = lines[0].endswith(",")
    if not inside and rng.random() < BREAK:
        lines.append(_between(rng, stranger, place, thing))
    at = rng.randrange(len(names))
    if rng.random() < INTRODUCED:
        line = f"{listing[at]} was {rng.choice(ADJECTIVES)}."
    else:
        line = _act(rng, names, names[at], called[at], stranger, thing)
    return " ".join([*lines, line if inside else cap(line)])


def _people_of_list(rng: World, sizes: Sequence[int]) -> tuple[list[str], str]:
    """A list, and somebody who is not on it."""
    if not sizes or set(sizes) - set(SIZES):
        raise ValueError(
            f"lists have {SIZES[0]} to {SIZES[-1]} people; no list can have {sizes} of them"
        )
    rng.cast = ()  # everybody is as likely
    size = rng.choices(sizes, [SHARES[size] for size in sizes])[0]
    everyone = people(rng, size + 1)
    *names, stranger = rng.sample(everyone, len(everyone))  # in any order
    return names, stranger


def _between(rng: World, stranger: str, place: str, thing: str) -> str:
    """A sentence between two acts."""
    return rng.choice(BETWEEN).format(
        day=rng.choice(DAYS),
        object=thing,
        adjective=rng.choice(ADJECTIVES),
        other=stranger,
        place=place,
    )


def _act(
    rng: World, names: Sequence[str], giver: str, called: str, stranger: str, thing: str
) -> str:
    """What somebody of the list, who is called so, does for the next."""
    subject = "{S2}"
    if rng.random() < OTHER:
        subject = rng.choice(GIVERS)
    of_list = [name for name in names if name != giver]
    other = rng.choice(of_list) if rng.random() < OF_LIST else stranger
    act = f"{subject} {rng.choice(GIFTS)} {next_of(names, giver)}."
    return act.format(S2=called, other=other, object=thing)
