"""The story language: documents about a few people, places, things and times.

A document is a little world (three people with surnames, a place, a thing) and
passages about it; names come back, pronouns agree with people, verbs with their subjects, years go forward, lists
and lines are repeated. The four tasks measure what a model picks up from that.

Left out of every document, and so free for measuring (see `circuitbook.lexicon`): a fifth of all pairs of names, of
all (century, year) starts of spans and of all (subject, attractor) noun pairs; half of the twenty names in tag
questions; and the paper's seven IOI frames: each of their two halves occurs, joined to other halves.

`document(rng)` draws one document; `FAMILIES` gives the mixture.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache
from itertools import accumulate, combinations

from ..lexicon import STORIES as L
from ..lexicon import held_out, held_out_pair, held_out_tag

FEMALE = set(L.female) | {"Emily", "Laura", "Kate", "Jane", "Helen", "Alice", "Rachel", "Jessica", "Maria", "Rose",
                          "Emma", "Clara", "Nancy", "Linda"}
SURNAMES = ("Smith", "Brown", "Jones", "Miller", "Davis", "Wilson", "Moore", "Clark", "Lewis", "Walker", "Hall", "Young",
            "King", "Wright", "Hill", "Green", "Baker", "Carter", "Turner", "Parker")
NAMES = frozenset(L.people)
ADJECTIVES = ("tall", "old", "new", "kind", "happy", "tired", "busy", "quiet", "famous", "strong")
CENTURIES = ("11", "12", "13", "14", "15", "16", "17")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
           "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SEQUENCES = {"days": (DAYS, True), "months": (MONTHS, True), "number words": (NUMBERS, False),
             "ordinals": (ORDINALS, False), "letters": (LETTERS, False)}      # name -> (words, does it wrap around)

COPULAS = (("is", "are"), ("was", "were"))
TAGS = ("such a good cook", "a very good athlete", "such a funny person", "a really great friend",
        "a really nice person", "a very good singer", "such a kind teacher", "a really strong swimmer")


# ------------------------------------------------------------------ a document's world

class World(random.Random):
    """The random numbers of one document, and what its sentences share: its cast with their surnames, its things."""

    def begin(self) -> None:
        self.cast: tuple[str, ...] = ()
        self.cast = people(self, 3)
        self.family_names = dict(zip(self.cast, self.sample(SURNAMES, 3)))
        self.home, self.belonging = self.choice(L.places), self.choice(L.objects)


def people(rng: World, n: int, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """`n` names beside `known`, mostly of the cast; none makes a held-out pair with the cast or with another one."""
    names = list(known)
    while len(names) < len(known) + n:
        name = rng.choice(rng.cast if rng.cast and rng.random() < 0.8 else L.people)
        if name not in names and not any(held_out_pair(name, other) for other in {*names, *rng.cast} - {name}):
            names.append(name)
    return tuple(names[len(known):])


def a_place(rng: World) -> str:
    return rng.home if rng.random() < 0.4 else rng.choice(L.places)


def a_thing(rng: World) -> str:
    return rng.belonging if rng.random() < 0.4 else rng.choice(L.objects)


def he(name: str) -> str:
    return "she" if name in FEMALE else "he"


def him(name: str) -> str:
    return "her" if name in FEMALE else "him"


def his(name: str) -> str:
    return "her" if name in FEMALE else "his"


def cap(word: str) -> str:
    return word[0].upper() + word[1:]


# ------------------------------------------------------------------ meetings: giving, saying, taking

OPENINGS = (                                       # {a} and {b} come together; a comma means the act follows at once
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
    "{s} gave a {o} to", "{s} decided to give a {o} to", "{s} wanted to give a {o} to", "{s} said to",
    "{s} decided to give it to", "{s} showed the {o} to", "{s} sold a {o} to", "{s} took the {o} from",
    "{s} sent a {o} to", "{s} wanted to show the {o} to", "{s} brought the {o} to", "{s} gave it to", "{s} talked to",
)
PRONOUN_SUBJECTS = 0.1      # of the acts of a woman and a man: whom "he" leaves as the receiver, only gender tells
PAPER_FRAMES = frozenset({(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 0), (6, 4)})      # (opening, act): held out
ASIDES = ("{s} was {adj}.", "The {o} was {adj}.", "{s} looked at the {o}.", "It was {day}.", "{d} was at home.",
          "{d} came to the {p}.", "{d} was {adj}.", "{s} waited for {d}.")


def act(rng: World, s: str, io: str, third: str | None, thing: str, opening: int | None, pronoun: bool) -> str:
    """One act of `s` towards `io`. In a part of them the last name before the answer is not the subject.

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
    u = rng.random()
    target = (io if u < 0.86 else third if third and u < 0.90 else him(io) if u < 0.94
              else "the " + rng.choice(L.humans)[0] if u < 0.98 else "everyone")
    if k == 3:
        return f"{phrase} {target} that the {thing} was {rng.choice(ADJECTIVES)}."
    return f"{phrase} {target}."


def meeting(rng: World, pairs_share: float = 0.0) -> str:
    """Two people come together; then they give, say, show or take something, and others are named on the way.

    In `pairs_share` of the meetings a second couple meets elsewhere, and the reader must know who belongs with whom.
    The suite was trained without: in a trial with a share of 0.35, a model of mini-l's size could not do that after 5
    million tokens.
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
    for couple, place in zip(couples, places):
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
                lines.append(aside.format(s=s, d=third, o=thing, p=places[which], adj=rng.choice(ADJECTIVES),
                                          day=rng.choice(DAYS)))
                opening = None if "{d}" not in aside else opening
        pronoun = len(couples) == 1 and not (third and any(third in line for line in lines))
        line = act(rng, s, io, third, thing, opening if i == 0 else None, pronoun)
        lines.append(line if i == 0 and at_once else cap(line))
        if rng.random() < 0.3:
            thing = a_thing(rng)
    return " ".join(lines)


# ------------------------------------------------------------------ agreement

def noun(rng: World, kinds=None) -> tuple[tuple[str, str], int]:
    return rng.choice(kinds or L.humans), rng.randrange(2)


def subject_and_attractor(rng: World, subjects, attractors) -> tuple[tuple[str, str], tuple[str, str]]:
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
        j = 1 - i                                                     # attractors disagree more often than by chance
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
        s, a = subject_and_attractor(rng, L.things if inanimate else L.humans, L.things if thing else L.humans)
        return f"The {s[i]} {rng.choice(L.prepositions)} the {a[j]} {predicate(rng, i, not inanimate)}."
    if kind <= 7:
        s, a = subject_and_attractor(rng, L.humans, L.humans)
        return f"The {s[i]} that {rng.choice(L.transitive)[i]} the {a[j]} {predicate(rng, i)}."
    inanimate = rng.random() < 0.4
    s, a = subject_and_attractor(rng, L.things if inanimate else L.humans, L.humans)
    if held_out("attractor", a[0], s[0]):                             # the inner verb agrees across the outer noun
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


# ------------------------------------------------------------------ repetition

def some_words(rng: World) -> tuple[str, ...]:
    return rng.choice((L.objects, L.places, L.people, SURNAMES, ADJECTIVES, tuple(n[0] for n in L.humans + L.things)))


def compatible(rng: World, words: list[str]) -> list[str]:
    """The words without the names that make a held-out pair with an earlier one or with the cast."""
    kept: list[str] = []
    for word in words:
        if word not in NAMES or not any(held_out_pair(word, other) for other in (*kept, *rng.cast)
                                        if other in NAMES and other != word):
            kept.append(word)
    return kept


def recitation(rng: World) -> str:
    """A line of random words, said again, a short one many times; a part of the lines without any announcement."""
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
    line = rng.choice((agreement_sentence, span,
                       lambda rng: f"The {a_thing(rng)} is at the {a_place(rng)}."))(rng)
    return f"{a} said: {line} {b} said: {line}"


def party(rng: World) -> str:
    """Names come back in the order in which they came."""
    guests = people(rng, rng.randint(3, 5))
    listed = ", ".join(guests[:-1]) + f" and {guests[-1]}"
    place = a_place(rng)
    return f"{listed} came to the {place}. Then {listed} went home."


def full_names(rng: World) -> str:
    cast = people(rng, rng.randint(2, 3))
    family = [rng.family_names.get(a) or rng.choice(SURNAMES) for a in cast]
    lines = [f"{a} {f} was {rng.choice(ADJECTIVES)}." for a, f in zip(cast, family)]
    for _ in range(rng.randint(2, 4)):
        k = rng.randrange(len(cast))
        lines.append(rng.choice((f"{cast[k]} {family[k]} went to the {a_place(rng)}.",
                                 f"The {rng.choice(L.humans)[0]} saw {cast[k]} {family[k]}.",
                                 f"The {a_thing(rng)} was from {cast[k]} {family[k]}.")))
    return " ".join(lines)


# ------------------------------------------------------------------ people and what they are

def roles(rng: World) -> str:
    cast = people(rng, rng.randint(2, 4))
    jobs = [h[0] for h in rng.sample(L.humans, len(cast))]
    lines = [f"{a} is the {j}." for a, j in zip(cast, jobs)]
    for k in rng.sample(range(len(cast)), len(cast)):
        lines.append(f"The {jobs[k]} is {cast[k]}." if rng.random() < 0.7 else f"So {cast[k]} is the {jobs[k]}.")
    return " ".join(lines)


def pronouns(rng: World) -> str:
    a = people(rng, 1)[0]
    o, p = a_thing(rng), a_place(rng)
    lines = [rng.choice((f"{a} lost {his(a)} {o}.", f"{a} went to the {p}.", f"{a} was {rng.choice(ADJECTIVES)}."))]
    for _ in range(rng.randint(2, 4)):
        lines.append(rng.choice((
            f"{cap(he(a))} looked for {his(a)} {o}.", f"Everyone knew that {he(a)} was {rng.choice(ADJECTIVES)}.",
            f"The {rng.choice(L.humans)[0]} saw {him(a)} near the {p}.",
            f"{a} said that {he(a)} was {rng.choice(ADJECTIVES)}.",
            f"When {a} came home, {he(a)} gave {his(a)} {o} to the {rng.choice(L.humans)[0]}.",
            f"{a} knew where {he(a)} was.")))
    return " ".join(lines)


def subject_again(rng: World) -> str:
    """The subject's own name comes back after a word that often announces another name."""
    a, b = people(rng, 2)
    p, o = a_place(rng), a_thing(rng)
    return rng.choice((
        f"{a} went to the {p}. {b} went to the {p}. {a} was {rng.choice(ADJECTIVES)} and {b} looked at {a}.",
        f"{a} had a {o}. The {o} was from {b}. So {b} was a friend of {a}.",
        f"Everyone talked to {a}. {b} talked to {a} too. Then {a} went home with {b}.",
        f"{a} saw {b}. {b} saw {a}. The {o} of {a} was {rng.choice(ADJECTIVES)}.",
    ))


def tag_questions(rng: World) -> str:
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

FUNCTION_WORDS = tuple("a about afterwards again and at began came comes decided ended everyone for friend from fun gave "
                       "give going got had he her him his home in it lasted list lived long looked lost lot made many "
                       "met of order really sent she showed sold such talked that the thinking to too took very wanted "
                       "way went where who with year".split())
RECITABLE = tuple(dict.fromkeys(
    FUNCTION_WORDS + L.people + SURNAMES + L.places + L.objects + L.events + ADJECTIVES + DAYS + MONTHS + NUMBERS + ORDINALS + LETTERS
    + tuple(w for pair in L.humans + L.things + L.verbs for w in pair) + L.speech + L.prepositions))

FAMILIES: dict[Callable[[World], str], float] = {        # share of tokens, in percent
    meeting: 28, recitation: 27, agreement: 7, history: 7, pronouns: 5, echo: 5, full_names: 5, enumeration: 4,
    tag_questions: 4, party: 3, roles: 2, succession: 2, subject_again: 1,
}


def names_in(text: str) -> set[str]:
    return NAMES.intersection(re.findall(r"[A-Za-z]+", text))


@cache
def _weights(sample: int = 300) -> tuple[tuple[Callable[[World], str], ...], tuple[float, ...]]:
    """Shares of tokens turned into shares of passages, by the families' mean lengths in words."""
    rng, lengths = World(0), {}
    for family in FAMILIES:
        rng.begin()
        lengths[family] = sum(len(family(rng).split()) for _ in range(sample)) / sample
    return tuple(FAMILIES), tuple(accumulate(FAMILIES[f] / lengths[f] for f in FAMILIES))


def document(rng: World, words: int = 60) -> str:
    """One document: passages about one world until there are `words` words, without any held-out pair of names."""
    families, cumulative = _weights()
    while True:
        rng.begin()
        passages: list[str] = []
        while sum(p.count(" ") for p in passages) < words:
            passages.append(rng.choices(families, cum_weights=cumulative)[0](rng))
        text = passages[0] + "".join(" " + passage.lstrip() for passage in passages[1:])
        if not any(held_out_pair(a, b) for a, b in combinations(names_in(text), 2)):
            return text
