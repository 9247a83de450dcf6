"""People meet, and one gives, says or takes something: IOI in the wild."""

from __future__ import annotations

from circuitbook.tasks.lexicon import STORIES as L
from circuitbook.tasks.stories.world import ADJECTIVES, DAYS, World, a_thing, cap, he, him, people

# ------------------------------------------------------------------ giving, saying, taking

OPENINGS = (  # {a} and {b} come together; a comma means the act follows at once
    "Then, {a} and {b} went to the {p}.",
    "Then, {a} and {b} had a lot of fun at the {p}.",
    "Then, {a} and {b} were working at the {p}.",
    "Then, {a} and {b} were thinking about going to the {p}.",
    "Then, {a} and {b} had a long argument, and afterwards",
    "After {a} and {b} went to the {p},",
    "When {a} and {b} got a {o} at the {p},",
    "{a} and {b} went to the {p}.",
    "{a} and {b} were working at the {p}.",
    "{a} met {b} at the {p}.",
    "Yesterday {a} saw {b} near the {p}.",
    "While {a} and {b} were waiting at the {p},",
    "{a} walked to the {p} with {b}.",
    "When {a} and {b} had a lot of fun at the {p},",
)


ACTS = (
    "{s} gave a {o} to",
    "{s} decided to give a {o} to",
    "{s} wanted to give a {o} to",
    "{s} said to",
    "{s} decided to give it to",
    "{s} showed the {o} to",
    "{s} sold a {o} to",
    "{s} took the {o} from",
    "{s} sent a {o} to",
    "{s} wanted to show the {o} to",
    "{s} brought the {o} to",
    "{s} gave it to",
    "{s} talked to",
)


# Of the acts of a woman and a man: whom "he" leaves as the receiver, only gender tells
PRONOUN_SUBJECTS = 0.1


# (opening, act) of the paper's frames: held out
PAPER_FRAMES = frozenset({(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 0), (6, 4)})


ASIDES = (
    "{s} was {adj}.",
    "The {o} was {adj}.",
    "{s} looked at the {o}.",
    "It was {day}.",
    "{d} was at home.",
    "{d} came to the {p}.",
    "{d} was {adj}.",
    "{s} waited for {d}.",
)


def act(
    rng: World, s: str, io: str, third: str | None, thing: str, opening: int | None, pronoun: bool
) -> str:
    """One act of `s` towards `io`. In a part of them the last name before the answer is not the
    subject.

    With `pronoun`, the subject may be a "he" or "she" that only one of the two can be.
    """
    while True:
        k = rng.randrange(len(ACTS))
        if (opening, k) not in PAPER_FRAMES:
            break
    phrase = ACTS[k].format(s="{s}", o=thing)
    subject, u = s, rng.random()
    if pronoun and rng.random() < PRONOUN_SUBJECTS and he(s) != he(io):
        subject = he(s)
    elif u < 0.12:
        subject = f"{s}, who knew {third or io},"
    elif u < 0.24:
        subject = f"{s}, a friend of {third or io},"
    elif u < 0.30 and third:
        subject = f"{s} thanked {third} and"
    phrase = phrase.format(s=subject)
    target = _receiver(rng, io, third)
    if k == 3:
        return f"{phrase} {target} that the {thing} was {rng.choice(ADJECTIVES)}."
    return f"{phrase} {target}."


def _receiver(rng: World, io: str, third: str | None) -> str:
    """Mostly `io`; else a third person, a pronoun, or somebody without a name."""
    u = rng.random()
    if u < 0.86:
        return io
    if third and u < 0.90:
        return third
    if u < 0.94:
        return him(io)
    return "the " + rng.choice(L.humans)[0] if u < 0.98 else "everyone"


def meeting(rng: World, pairs_share: float = 0.0) -> str:
    """Two people come together; then they give, say, show or take something, and others are named
    on the way.

    In `pairs_share` of the meetings a second couple meets elsewhere, and the reader must know who
    belongs with whom.
    The suite was trained without: in a trial with a share of 0.35, a model of mini-l's size could
    not do that after 5 million tokens.
    """
    couples = [people(rng, 2)]
    if rng.random() < pairs_share:
        couples.append(people(rng, 2, couples[0]))
    everyone = tuple(name for couple in couples for name in couple)
    third = people(rng, 1, everyone)[0] if rng.random() < 0.4 else None
    places = rng.sample(L.places, len(couples))
    thing = a_thing(rng)
    lines: list[str] = []
    opening = None
    for couple, place in zip(couples, places, strict=True):
        last = couple is couples[-1]
        while True:
            opening = rng.randrange(len(OPENINGS))
            if last or OPENINGS[opening].endswith("."):
                break
        a, b = couple if rng.random() < 0.5 else couple[::-1]
        lines.append(OPENINGS[opening].format(a=a, b=b, p=place, o=thing))
    at_once = not lines[-1].endswith(".")
    acts = rng.randint(2, 5)
    for i in range(acts):
        # an opening that ends in a comma is about the last couple, which acts at once
        which = len(couples) - 1 if i == 0 and at_once else rng.randrange(len(couples))
        s, io = couples[which] if rng.random() < 0.5 else couples[which][::-1]
        if not (i == 0 and at_once) and rng.random() < 0.35:
            aside = rng.choice(ASIDES)
            if third or "{d}" not in aside:
                lines.append(
                    aside.format(
                        s=s,
                        d=third,
                        o=thing,
                        p=places[which],
                        adj=rng.choice(ADJECTIVES),
                        day=rng.choice(DAYS),
                    )
                )
                opening = None if "{d}" not in aside else opening
        pronoun = len(couples) == 1 and not (third and any(third in line for line in lines))
        line = act(rng, s, io, third, thing, opening if i == 0 else None, pronoun)
        lines.append(line if i == 0 and at_once else cap(line))
        if rng.random() < 0.3:
            thing = a_thing(rng)
    return " ".join(lines)
