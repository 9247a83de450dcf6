"""Subject-Verb Agreement (Tigges et al. 2024), in the fifteen constructions of Marvin & Linzen
(2018).

"The pictures near the boy" -> any plural verb, not a singular one.

The stimuli are ours: each is a sentence up to the verb that must agree with its subject. Corrupting
flips the number of the subject (and of a verb before END that agrees with it too); all else stays,
the attractor's number too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import cycle, product

import numpy as np
import torch

from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.lexicon import Lexicon, held_out, lexicon_for
from circuitbook.tasks.texts import Prompt, build, fill, is_single_token, same_length, single_token


@dataclass(frozen=True)
class Construction:
    """A construction. `subject`, `attractor` and `word` name lists of the lexicon; the subject is
    the noun that the verb after END agrees with, the attractor the other noun, and {word} agrees
    with one of them or is fixed."""

    frame: str
    subject: str = "humans"
    attractor: str | None = None
    word: str | None = None
    agrees: str | None = None  # "subject" or "attractor": the noun that {word} agrees with


_ACROSS, _WITHIN = "The {subject} that the {attractor} {word}", "The {attractor} that the {subject}"


_ACROSS_BARE, _WITHIN_BARE = _ACROSS.replace(" that", ""), _WITHIN.replace(" that", "")


CONSTRUCTIONS = {
    "simple": Construction("The {subject}"),
    "sentential_complement": Construction(
        "The {attractor} {word} the {subject}", attractor="humans", word="speech"
    ),
    "vp_coordination": Construction(
        "The {subject} {word} and", word="intransitive", agrees="subject"
    ),
    "long_vp_coordination": Construction(
        "The {subject} {word} and", word="long_phrases", agrees="subject"
    ),
    "prepositional_animate": Construction(
        "The {subject} {word} the {attractor}", "humans", "humans", "prepositions"
    ),
    "prepositional_inanimate": Construction(
        "The {subject} {word} the {attractor}", "things", "humans", "thing_prepositions"
    ),
    "subject_relative": Construction(
        "The {subject} that {word} the {attractor}", "humans", "humans", "transitive", "subject"
    ),
    "object_relative_across_animate": Construction(
        _ACROSS, "humans", "humans", "transitive", "attractor"
    ),
    "object_relative_across_inanimate": Construction(
        _ACROSS, "things", "humans", "transitive", "attractor"
    ),
    "object_relative_across_animate_no_that": Construction(
        _ACROSS_BARE, "humans", "humans", "transitive", "attractor"
    ),
    "object_relative_across_inanimate_no_that": Construction(
        _ACROSS_BARE, "things", "humans", "transitive", "attractor"
    ),
    "object_relative_within_animate": Construction(_WITHIN, "humans", "humans"),
    "object_relative_within_inanimate": Construction(_WITHIN, "humans", "things"),
    "object_relative_within_animate_no_that": Construction(_WITHIN_BARE, "humans", "humans"),
    "object_relative_within_inanimate_no_that": Construction(_WITHIN_BARE, "humans", "things"),
}  # animate or inanimate: the head noun of the whole phrase


_NUMBERS = ("singular", "plural")


_FLIPPED = (
    "humans",
    "things",
    "transitive",
    "intransitive",
    "long_phrases",
)  # what may change its number


def make(
    tokenizer,
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
    kinds: names from KINDS (default all; with mismatched_only, all that have an attractor).
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
    # kinds in turn; the sum makes numbers alternate within a round and from round to round
    prompts = [
        next(draws[chosen[i % len(chosen)], sum(divmod(i, len(chosen))) % 2]) for i in range(n)
    ]

    forms = _verb_forms(tokenizer, lexicon, strict)
    answers = torch.tensor([single_token(tokenizer, " " + form) for form, _ in forms])
    agrees = torch.tensor([[number == p.words["number"] for _, number in forms] for p in prompts])
    pairs = build(TASK, tokenizer, prompts, answers, torch.where(agrees, 1, -1))
    pairs.table["attractor_mismatch"] = pairs.table["attractor_mismatch"].astype(
        "boolean"
    )  # NA: no attractor
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
            raise ValueError(
                f"sva has no kind {name!r}; {f'did you mean {close[0]}? ' if close else ''}"
                f"The kinds are {', '.join(CONSTRUCTIONS)}"
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
    even: dict[str, list],
    mismatched_only: bool,
    rng: np.random.Generator,
) -> Iterator[Prompt]:
    """All prompts of a kind with a subject of a number (0 singular, 1 plural), shuffled, over and
    over."""
    kind = CONSTRUCTIONS[name]
    words = (
        even[kind.word]
        if kind.agrees == "subject"
        else getattr(lexicon, kind.word)
        if kind.word
        else [None]
    )
    if kind.attractor:
        nouns = [
            (s, a)
            for s in even[kind.subject]
            for a in getattr(lexicon, kind.attractor)
            if s != a and (not lexicon.holds_out or held_out("attractor", s[0], a[0]))
        ]
        numbers = (1 - number,) if mismatched_only else (0, 1)
    else:
        nouns, numbers = [(s, None) for s in even[kind.subject]], (number,)
    items = list(product(nouns, numbers, words))
    if not items:
        raise ValueError(
            f"sva: the {lexicon.name} lexicon has no words left for the kind {name!r}: the tokenizer "
            "gives its singulars and plurals different lengths; leave the kind out with kinds=..."
        )
    return cycle(_prompt(name, number, *items[i]) for i in rng.permutation(len(items)))


def _prompt(
    name: str, number: int, nouns: tuple, attractor_number: int, word: str | tuple[str, str] | None
) -> Prompt:
    kind, (subject, attractor) = CONSTRUCTIONS[name], nouns

    def text(subject_number: int) -> tuple[str, dict[str, int]]:
        inflected = (
            word[subject_number if kind.agrees == "subject" else attractor_number]
            if kind.agrees
            else word
        )
        return fill(
            kind.frame,
            subject=subject[subject_number],
            word=inflected,
            attractor=attractor[attractor_number] if attractor else None,
        )

    clean, marks = text(number)
    positions = {"subject": marks["subject"], "attractor": marks.get("attractor")}
    return Prompt(
        clean,
        text(1 - number)[0],
        positions,
        {
            "kind": name,
            "number": _NUMBERS[number],
            "subject": subject[0],
            "attractor": attractor and attractor[0],
            "attractor_mismatch": attractor_number != number if attractor else None,
            "correct": f"{_NUMBERS[number]} verbs",
            "wrong": f"{_NUMBERS[1 - number]} verbs",
        },
    )


def _verb_forms(tokenizer, lexicon: Lexicon, strict: bool) -> list[tuple[str, str]]:
    """(form, number) of the verbs that answer: those with one token, and with `strict` their other
    form too."""
    forms = []
    for pair in lexicon.verbs:
        single = [is_single_token(tokenizer, " " + form) for form in pair]
        forms += [
            (form, number)
            for form, number, one in zip(pair, _NUMBERS, single)
            if one and (all(single) or not strict)
        ]
    return forms


TASK = Task("sva", "Subject-Verb Agreement", "probability_difference", make, min_metric=0.1)
