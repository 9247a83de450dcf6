"""Subject-Verb Agreement (Tigges et al. 2024), in the fifteen constructions of Marvin & Linzen
(2018).

"The pictures near the boy" -> any plural verb, not a singular one.

The stimuli are ours: each is a sentence up to the verb that must agree with its subject. Corrupting
flips the number of the subject (and of a verb before END that agrees with it too); all else stays,
the attractor's number too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import cycle, product

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.lexicon import Lexicon, held_out, lexicon_for
from circuitbook.tasks.texts import Prompt, build, fill, is_single_token, same_length, single_token

Forms = tuple[str, str]  # singular and plural


@dataclass(frozen=True, kw_only=True)
class Construction:
    """A construction: a frame, and the lists of the lexicon that its words are from."""

    frame: str
    subject: str = "humans"
    """The noun that the verb after END agrees with."""
    attractor: str | None = None
    """The other noun."""
    word: str | None = None
    """Of {word}, if the frame has one,"""
    agrees: str | None = None
    """and what that agrees with: "subject", "attractor", or nothing."""


def _prepositional(subject: str, preposition: str) -> Construction:
    frame = "The {subject} {word} the {attractor}"
    return Construction(frame=frame, subject=subject, attractor="humans", word=preposition)


def _across(subject: str, that: str = " that") -> Construction:
    """The verb after END is the outer one: "The boy that the girls like" ..."""
    return Construction(
        frame="The {subject}" + that + " the {attractor} {word}",
        subject=subject,
        attractor="humans",
        word="transitive",
        agrees="attractor",
    )


def _within(attractor: str, that: str = " that") -> Construction:
    """The verb after END is the inner one: "The boy that the girls" ..."""
    frame = "The {attractor}" + that + " the {subject}"
    return Construction(frame=frame, attractor=attractor)


# animate or inanimate: the head noun of the whole phrase
CONSTRUCTIONS = {
    "simple": Construction(frame="The {subject}"),
    "sentential_complement": Construction(
        frame="The {attractor} {word} the {subject}", attractor="humans", word="speech"
    ),
    "vp_coordination": Construction(
        frame="The {subject} {word} and", word="intransitive", agrees="subject"
    ),
    "long_vp_coordination": Construction(
        frame="The {subject} {word} and", word="long_phrases", agrees="subject"
    ),
    "prepositional_animate": _prepositional("humans", "prepositions"),
    "prepositional_inanimate": _prepositional("things", "thing_prepositions"),
    "subject_relative": Construction(
        frame="The {subject} that {word} the {attractor}",
        attractor="humans",
        word="transitive",
        agrees="subject",
    ),
    "object_relative_across_animate": _across("humans"),
    "object_relative_across_inanimate": _across("things"),
    "object_relative_across_animate_no_that": _across("humans", that=""),
    "object_relative_across_inanimate_no_that": _across("things", that=""),
    "object_relative_within_animate": _within("humans"),
    "object_relative_within_inanimate": _within("things"),
    "object_relative_within_animate_no_that": _within("humans", that=""),
    "object_relative_within_inanimate_no_that": _within("things", that=""),
}


_NUMBERS = ("singular", "plural")


# Lists of the lexicon whose words may change their number
_FLIPPED = ("humans", "things", "transitive", "intransitive", "long_phrases")


def make(
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    rng: np.random.Generator,
    *,
    kinds: str | Iterable[str] | None = None,
    mismatched_only: bool = False,
    strict: bool = True,
) -> PromptPairs:
    """`n` prompts, going round the kinds, singular and plural subjects in turn.

    Within a kind and number, prompts are drawn without replacement as long as there are new ones;
    then they come again.
    kinds: names from `CONSTRUCTIONS` (default all; with mismatched_only, all that have an
    attractor).
    mismatched_only: the attractor's number differs from the subject's (otherwise it is drawn
    independently). strict: only verbs both of whose forms are one token; False, as in the authors'
    code, keeps a form whose other form is not. Nouns and verbs whose two forms differ in tokens are
    not used where the number flips. In the mini suite's language only (subject, attractor) pairs
    that are in no training document.

    Positions: subject, attractor (their last token; -1 where there is none), END. Metric:
    probability of all verb forms of the lexicon in the subject's number minus that of all forms in
    the other.
    """
    chosen = _choose(kinds, mismatched_only)
    lexicon = lexicon_for(tokenizer)
    even = {
        field: [pair for pair in getattr(lexicon, field) if same_length(tokenizer, pair)]
        for field in _FLIPPED
    }
    draws = {
        (kind, number): _stimuli(kind, number, lexicon, even, mismatched_only, rng)
        for kind in chosen
        for number in (0, 1)
    }
    prompts = []
    for i in range(n):
        turn, place = divmod(i, len(chosen))  # kinds in turn
        number = (turn + place) % 2  # alternating within a turn and from turn to turn
        prompts.append(next(draws[chosen[place], number]))

    forms = _verb_forms(tokenizer, lexicon, strict)
    answers = torch.tensor([single_token(tokenizer, " " + form) for form, _ in forms])
    agrees = torch.tensor([[number == p.words["number"] for _, number in forms] for p in prompts])
    pairs = build(TASK, tokenizer, prompts, answers, torch.where(agrees, 1, -1))
    mismatch = pairs.table["attractor_mismatch"].astype("boolean")  # NA: no attractor
    pairs.table["attractor_mismatch"] = mismatch
    return pairs


def _choose(kinds: str | Iterable[str] | None, mismatched_only: bool) -> list[str]:
    with_attractor = [name for name, kind in CONSTRUCTIONS.items() if kind.attractor]
    if kinds is None:
        return with_attractor if mismatched_only else list(CONSTRUCTIONS)
    chosen = [kinds] if isinstance(kinds, str) else list(dict.fromkeys(kinds))
    if not chosen:
        raise ValueError("sva: kinds is empty; leave it out for all of " + ", ".join(CONSTRUCTIONS))
    for name in chosen:
        if name not in CONSTRUCTIONS:
            close = get_close_matches(name, CONSTRUCTIONS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(
                f"sva has no kind {name!r}; {hint}The kinds are {', '.join(CONSTRUCTIONS)}"
            )
        if mismatched_only and name not in with_attractor:
            raise ValueError(
                f"sva: mismatched_only needs kinds with an attractor, and {name!r} has none; "
                f"there are {', '.join(with_attractor)}"
            )
    return chosen


def _stimuli(
    name: str,
    number: int,
    lexicon: Lexicon,
    even: Mapping[str, list[Forms]],
    mismatched_only: bool,
    rng: np.random.Generator,
) -> Iterator[Prompt]:
    """All prompts of a kind with a subject of a number (0 singular, 1 plural), shuffled, over and
    over."""
    kind = CONSTRUCTIONS[name]
    items = list(
        product(
            _nouns(kind, lexicon, even),
            _attractor_numbers(kind, number, mismatched_only),
            _words(kind, lexicon, even),
        )
    )
    if not items:
        raise ValueError(
            f"sva: the {lexicon.name} lexicon has no words left for the kind {name!r}: the "
            "tokenizer gives its singulars and plurals different lengths; leave the kind out with "
            "kinds=..."
        )
    return cycle(_prompt(name, number, *items[i]) for i in rng.permutation(len(items)))


def _nouns(
    kind: Construction, lexicon: Lexicon, even: Mapping[str, list[Forms]]
) -> list[tuple[Forms, Forms | None]]:
    """(subject, attractor), less what training documents hold; no attractor: None."""
    subjects = even[kind.subject]
    if not kind.attractor:
        return [(subject, None) for subject in subjects]
    return [
        (subject, attractor)
        for subject in subjects
        for attractor in getattr(lexicon, kind.attractor)
        if subject != attractor
        and (not lexicon.holds_out or held_out("attractor", subject[0], attractor[0]))
    ]


def _attractor_numbers(kind: Construction, number: int, mismatched_only: bool) -> tuple[int, ...]:
    if not kind.attractor:
        return (number,)
    return (1 - number,) if mismatched_only else (0, 1)


def _words(
    kind: Construction, lexicon: Lexicon, even: Mapping[str, list[Forms]]
) -> Sequence[Forms | str | None]:
    if kind.word is None:
        return [None]
    return even[kind.word] if kind.agrees == "subject" else getattr(lexicon, kind.word)


def _prompt(
    name: str,
    number: int,
    nouns: tuple[Forms, Forms | None],
    attractor_number: int,
    word: Forms | str | None,
) -> Prompt:
    kind, (subject, attractor) = CONSTRUCTIONS[name], nouns

    def text(subject_number: int) -> tuple[str, dict[str, int]]:
        inflected = word
        if isinstance(inflected, tuple):
            number_of_word = subject_number if kind.agrees == "subject" else attractor_number
            inflected = inflected[number_of_word]
        return fill(
            kind.frame,
            subject=subject[subject_number],
            word=inflected,
            attractor=attractor[attractor_number] if attractor else None,
        )

    clean, marks = text(number)
    return Prompt(
        clean=clean,
        corrupted=text(1 - number)[0],
        marks={"subject": marks["subject"], "attractor": marks.get("attractor")},
        words={
            "kind": name,
            "number": _NUMBERS[number],
            "subject": subject[0],
            "attractor": attractor and attractor[0],
            "attractor_mismatch": attractor_number != number if attractor else None,
            "correct": f"{_NUMBERS[number]} verbs",
            "wrong": f"{_NUMBERS[1 - number]} verbs",
        },
    )


def _verb_forms(
    tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon, strict: bool
) -> list[tuple[str, str]]:
    """(form, number) of the verbs that answer: those with one token, and with `strict` their other
    form too."""
    forms = []
    for pair in lexicon.verbs:
        single = [is_single_token(tokenizer, " " + form) for form in pair]
        forms += [
            (form, number)
            for form, number, is_single in zip(pair, _NUMBERS, single, strict=True)
            if is_single and (all(single) or not strict)
        ]
    return forms


TASK = Task(
    name="sva",
    title="Subject-Verb Agreement",
    metric_name="probability_difference",
    make=make,
    min_metric=0.1,
)
