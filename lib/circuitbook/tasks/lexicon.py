"""Word lists: the people, places and things that prompts are made of.

A lexicon belongs to a language that a tokenizer speaks. ``ENGLISH`` is for Pythia and any other
English model; ``STORIES`` is the small story language of the mini suite, whose training data is
generated from the same lists (`circuitbook.tasks.stories`). A tokenizer that speaks the story
language says so: it was saved with ``lexicon="stories"``.

What the mini suite must never see in training is decided here too, by `held_out`, so that the
grammar (which leaves it out) and the tasks (which measure on it) cannot disagree.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Pair = tuple[str, str]  # singular and plural


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """Words of one language, without leading spaces."""

    name: str
    people: tuple[str, ...]
    """First names for IOI."""
    female: tuple[str, ...]
    """First names for Gendered Pronoun."""
    male: tuple[str, ...]
    places: tuple[str, ...]
    objects: tuple[str, ...]
    events: tuple[str, ...]
    """What lasts from a year to a year."""
    humans: tuple[Pair, ...]
    """Nouns, animate."""
    things: tuple[Pair, ...]
    """Nouns, inanimate."""
    verbs: tuple[Pair, ...]
    """Third person present: with a singular subject, with a plural one."""
    speech: tuple[str, ...]
    """As in "the author SAID the boys" ..."""
    transitive: tuple[Pair, ...]
    """Verbs of relative clauses: "the boy that LIKES the girls"."""
    intransitive: tuple[Pair, ...]
    """First verbs of a coordination: "the boy SMILES and ..."."""
    long_phrases: tuple[Pair, ...]
    """The same with an object or more: "the boy KNOWS MANY PEOPLE and ..."."""
    prepositions: tuple[str, ...]
    """A person NEAR another one."""
    thing_prepositions: tuple[str, ...]
    """A thing BY a person."""
    more_female: tuple[str, ...] = ()
    """First names for Gendered Pronoun that are not the authors'."""
    more_male: tuple[str, ...] = ()
    holds_out: bool = False
    """Whether tasks measure on held-out items only."""


def held_out(kind: str, *words: str) -> bool:
    """True for the fifth of all items that the mini suite never meets in training.

    `kind` separates the draws ("pair", "span", "attractor", ...); `words` in an order that matters,
    so sort them where it should not. The same answer on every machine and in every run.

    >>> held_out("pair", "Anna", "John"), held_out("pair", "Anna", "Mary")
    (False, False)
    """
    return zlib.crc32(" ".join((kind, *words)).encode()) % 5 == 0


def held_out_pair(a: str, b: str) -> bool:
    """Whether the two names never appear in one training document (in either order)."""
    return held_out("pair", *sorted((a, b)))


def held_out_tag(name: str) -> bool:
    """Whether a name never appears in a tag question ("..., isn't she?") of the training
    documents."""
    return name in STORIES.female[::2] or name in STORIES.male[::2]


# --- the 20 names of the Gendered Pronoun task (the authors' data: 10 women, 10 men)
_WOMEN = ("Judy", "Julie", "Mary", "Amy", "Lisa", "Sarah", "Anna", "Susan", "Karen", "Carol")


_MEN = ("Jack", "Mark", "John", "Joe", "Sean", "Paul", "Ryan", "David", "Gary", "Carl")


# --- IOI places and objects of Wang et al. (2023)
_PLACES = ("store", "garden", "restaurant", "school", "hospital", "office", "house", "station")


_OBJECTS = ("ring", "kiss", "bone", "basketball", "computer", "necklace", "drink", "snack")


_VERBS = (
    ("is", "are"),
    ("was", "were"),
    ("has", "have"),
    ("likes", "like"),
    ("knows", "know"),
    ("sees", "see"),
    ("helps", "help"),
    ("loves", "love"),
    ("smiles", "smile"),
    ("laughs", "laugh"),
    ("swims", "swim"),
    ("walks", "walk"),
    ("sings", "sing"),
    ("waits", "wait"),
    ("sleeps", "sleep"),
    ("runs", "run"),
    ("works", "work"),
    ("writes", "write"),
    ("admires", "admire"),
    ("follows", "follow"),
)


def _pick(verbs: tuple[tuple[str, str], ...], singulars: str) -> tuple[tuple[str, str], ...]:
    return tuple(verb for verb in verbs if verb[0] in singulars.split())


_STORY_TRANSITIVE = _pick(_VERBS, "likes knows sees helps loves admires follows")


STORIES = Lexicon(
    name="stories",
    people=_WOMEN
    + _MEN
    + (
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
        "Tom",
        "James",
        "Peter",
        "Robert",
        "Michael",
        "Daniel",
        "Adam",
        "Henry",
        "Simon",
        "Kevin",
        "Brian",
        "Frank",
        "Luke",
        "Victor",
    ),
    female=_WOMEN,
    male=_MEN,
    places=_PLACES + ("park", "market", "library", "beach", "museum", "church"),
    objects=_OBJECTS + ("book", "letter", "ball", "flower", "coin", "map", "lamp", "hat"),
    events=(
        "war",
        "journey",
        "festival",
        "trial",
        "project",
        "strike",
        "mission",
        "drought",
        "voyage",
        "dispute",
        "program",
        "reign",
    ),
    humans=(
        ("boy", "boys"),
        ("girl", "girls"),
        ("teacher", "teachers"),
        ("doctor", "doctors"),
        ("farmer", "farmers"),
        ("driver", "drivers"),
        ("singer", "singers"),
        ("student", "students"),
        ("lawyer", "lawyers"),
        ("guard", "guards"),
        ("author", "authors"),
        ("pilot", "pilots"),
        ("dancer", "dancers"),
        ("officer", "officers"),
    ),
    things=(
        ("car", "cars"),
        ("picture", "pictures"),
        ("table", "tables"),
        ("window", "windows"),
        ("clock", "clocks"),
        ("tree", "trees"),
        ("bridge", "bridges"),
        ("movie", "movies"),
        ("boat", "boats"),
        ("chair", "chairs"),
        ("door", "doors"),
        ("painting", "paintings"),
    ),
    verbs=_VERBS,
    speech=("said", "thought", "knew"),
    transitive=_STORY_TRANSITIVE,
    intransitive=_pick(_VERBS, "smiles laughs swims walks sings waits sleeps runs works writes"),
    long_phrases=tuple(
        (f"{singular} {matter}", f"{plural} {matter}")
        for singular, plural in _STORY_TRANSITIVE
        for matter in ("many people", "the way home", "a long story", "the old songs")
    ),
    prepositions=("near", "behind", "beside"),
    thing_prepositions=("near", "behind", "beside"),
    holds_out=True,
)


# --- English


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Words of which each has two forms.

    >>> _pairs("is are, walks walk")
    (('is', 'are'), ('walks', 'walk'))
    """
    pairs = []
    for pair in text.split(","):
        singular, plural = pair.split()
        pairs.append((singular, plural))
    return tuple(pairs)


def _nouns(text: str) -> tuple[tuple[str, str], ...]:
    """Nouns with a regular plural.

    >>> _nouns("pilot, taxi driver")
    (('pilot', 'pilots'), ('taxi driver', 'taxi drivers'))
    """
    return tuple((noun.strip(), noun.strip() + "s") for noun in text.split(","))


# The 109 first names in the code of Wang et al. (2023); each is one GPT-NeoX token with a leading
# space.
_WANG_NAMES = tuple(
    """
    Aaron Adam Alan Alex Alice Amy Anderson Andre Andrew Andy Anna Anthony Arthur Austin Blake
    Brandon Brian Carter Charles Charlie Christian Christopher Clark Cole Collins Connor Crew
    Crystal Daniel David Dean Edward Elizabeth Emily Eric Eva Ford Frank George Georgia Graham Grant
    Henry Ian Jack Jacob Jake James Jamie Jane Jason Jay Jennifer Jeremy Jessica John Jonathan
    Jordan Joseph Joshua Justin Kate Kelly Kevin Kyle Laura Leon Lewis Lisa Louis Luke Madison Marco
    Marcus Maria Mark Martin Mary Matthew Max Michael Michelle Morgan Patrick Paul Peter Prince
    Rachel Richard River Robert Roman Rose Ruby Russell Ryan Sarah Scott Sean Simon Stephen Steven
    Sullivan Taylor Thomas Tyler Victoria Warren William""".split()
)


_ENGLISH_VERBS = _pairs("""
    is are, was were, has have, does do, says say, goes go, gets get, makes make, knows know,
    thinks think, takes take, sees see, comes come, wants want, uses use, finds find, gives give,
    tells tell, works work, calls call, tries try, asks ask, needs need, feels feel, becomes become,
    leaves leave, puts put, means mean, keeps keep, lets let, begins begin, seems seem, helps help,
    shows show, hears hear, plays play, runs run, moves move, lives live, believes believe,
    brings bring, happens happen, writes write, provides provide, sits sit, stands stand,
    loses lose, pays pay, meets meet, includes include, continues continue, sets set, learns learn,
    changes change, leads lead, understands understand, watches watch, follows follow, stops stop,
    creates create, speaks speak, reads read, allows allow, adds add, spends spend, grows grow,
    opens open, walks walk, wins win, offers offer, remembers remember, loves love,
    considers consider, appears appear, buys buy, waits wait, serves serve, dies die, sends send,
    expects expect, builds build, stays stay, falls fall, cuts cut, reaches reach, kills kill,
    remains remain, suggests suggest, raises raise, passes pass, sells sell, requires require,
    reports report, decides decide, pulls pull, likes like, hates hate, enjoys enjoy,
    admires admire, laughs laugh, smiles smile, swims swim, sings sing, sleeps sleep, dances dance,
    returns return, explains explain, hopes hope, develops develop, carries carry, breaks break,
    receives receive, agrees agree, supports support, holds hold, turns turn, starts start,
    looks look, talks talk, eats eat, drinks drink, lies lie, rises rise, draws draw,
    produces produce, contains contain, describes describe, represents represent, wears wear,
    tends tend, fails fail, acts act, deals deal, argues argue, claims claim, refers refer,
    visits visit, joins join, saves save, drives drive, teaches teach, travels travel
""")


ENGLISH = Lexicon(
    name="english",
    people=_WANG_NAMES,
    female=_WOMEN,
    male=_MEN,
    places=_PLACES,
    objects=_OBJECTS,
    events=tuple(
        """
        war battle siege truce ceasefire armistice blockade occupation invasion rebellion revolt
        uprising mutiny campaign crusade conquest retreat raid feud dispute quarrel conflict crisis
        famine drought plague epidemic quarantine flood blizzard strike boycott protest riot trial
        inquiry hearing investigation debate negotiation conference summit treaty alliance
        partnership reign monarchy dynasty empire republic regime presidency expedition voyage
        journey pilgrimage tour mission migration exile marriage engagement courtship friendship
        apprenticeship project construction renovation excavation experiment study survey exhibition
        festival tournament season recession boom shortage program service""".split()
    ),
    humans=_nouns("""
        author, pilot, surgeon, farmer, manager, customer, officer, teacher, senator, consultant,
        security guard, chef, architect, skater, dancer, minister, taxi driver, assistant,
        executive, parent, doctor, lawyer, student, singer, painter, soldier, neighbor, tourist,
        banker, engineer, judge, sailor
    """),
    things=_nouns(
        "movie, book, game, song, picture, painting, novel, poem, show, article, letter, film, "
        "poster"
    ),
    verbs=_ENGLISH_VERBS,
    speech=("said", "thought", "knew", "claimed"),
    transitive=_pick(
        _ENGLISH_VERBS, "likes loves hates admires knows sees helps remembers needs visits"
    ),
    intransitive=_pick(
        _ENGLISH_VERBS,
        "laughs smiles swims sings walks waits sleeps dances works reads travels talks",
    ),
    long_phrases=tuple(
        (f"{singular} {rest}", f"{plural} {rest}")
        for singular, plural, rest in (
            ("reads", "read", "three newspapers every morning"),
            ("speaks", "speak", "four languages at home"),
            ("works", "work", "at the same hospital"),
            ("plays", "play", "chess with old friends"),
            ("knows", "know", "a lot of old stories"),
            ("likes", "like", "to travel in the summer"),
            ("writes", "write", "long letters to the family"),
            ("walks", "walk", "to the station every morning"),
            ("wants", "want", "to live in another city"),
            ("watches", "watch", "the same show every evening"),
        )
    ),
    prepositions=("near", "behind", "beside", "next to", "in front of", "across from"),
    thing_prepositions=("by", "from", "about", "near"),
    more_female=tuple(
        """
        Alice Crystal Elizabeth Emily Emma Eva Helen Jane Jennifer Jessica Kate Laura Linda Maria
        Michelle Nancy Rachel Rose Ruby Victoria""".split()
    ),
    more_male=tuple(
        """
        Adam Andrew Brian Charles Daniel Edward Eric Frank George Henry James Kevin Matthew Michael
        Patrick Peter Richard Robert Simon Thomas""".split()
    ),
)


_LEXICONS = {lexicon.name: lexicon for lexicon in (ENGLISH, STORIES)}


def lexicon_for(tokenizer: PreTrainedTokenizerBase) -> Lexicon:
    """The words of the language that a tokenizer speaks: STORIES for the mini suite's, ENGLISH for
    every other.

    A tokenizer names its language with ``lexicon="stories"`` among the arguments it was saved with.
    """
    name = tokenizer.init_kwargs.get("lexicon", "english")
    if name not in _LEXICONS:
        raise ValueError(
            f'tokenizer {tokenizer.name_or_path!r} was saved with lexicon="{name}", which does not '
            f"exist; there are {', '.join(_LEXICONS)} (see circuitbook.tasks.lexicon)"
        )
    return _LEXICONS[name]
