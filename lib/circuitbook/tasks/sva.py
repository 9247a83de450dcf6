"""Subject-Verb Agreement (Tigges et al. 2024), in the fifteen constructions of Marvin & Linzen
(2018).

"The pictures near the boy" -> any plural verb, not a singular one.

The stimuli are ours: each is a sentence up to the verb that must agree with its subject. Corrupting
flips the number of the subject (and of a verb before END that agrees with it too); all else stays,
the attractor's number too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, product

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.constructions import CONSTRUCTIONS, Construction, choose
from circuitbook.tasks.lexicon import Lexicon, held_out
from circuitbook.tasks.texts import Prompt, build, fill
from circuitbook.tasks.words import Forms, Vocabulary, same_length, single_tokens

_NUMBERS = ("singular", "plural")


@dataclass(frozen=True)
class _Words:
    """Words of the lexicon by its lists."""

    even: dict[str, list[Forms]]
    """Those that may change their number: both forms have as many tokens."""
    fixed: dict[str, list]
    """Those that stay as they are."""


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
    not used where the number flips. All of these are named in the pairs' `left_out`. In the mini
    suite's language only (subject, attractor) pairs that are in no training document.

    Positions: subject, attractor (their last token; -1 where there is none), END. Metric:
    probability of all verb forms of the lexicon in the subject's number minus that of all forms in
    the other.

    Behind a short prompt ("The neighbor") little of the probability is on verbs at all, and the
    metric is small however well the model agrees. How much there is, is the measure `answer_mass`;
    by construction, of a model's `answers_to` it: answers.groupby("kind")["answer_mass"].mean().
    """
    chosen = choose(kinds, mismatched_only)
    vocabulary = Vocabulary(TASK.name, tokenizer)
    lexicon = vocabulary.lexicon
    words = _words_of(chosen, vocabulary)
    forms = _verb_forms(vocabulary, strict)
    draws = {
        (kind, number): _stimuli(kind, number, lexicon, words, mismatched_only, rng)
        for kind in chosen
        for number in (0, 1)
    }
    prompts = []
    for i in range(n):
        turn, place = divmod(i, len(chosen))  # kinds in turn
        number = (turn + place) % 2  # alternating within a turn and from turn to turn
        prompts.append(next(draws[chosen[place], number]))

    answers = torch.tensor([token for _, _, token in forms])
    agrees = torch.tensor([[of == p.words["number"] for _, of, _ in forms] for p in prompts])
    pairs = build(
        TASK,
        tokenizer,
        prompts,
        answers,
        torch.where(agrees, 1, -1),
        words=[[form for form, _, _ in forms]] * n,
        left_out=vocabulary.left_out,
    )
    mismatch = pairs.table["attractor_mismatch"].astype("boolean")  # NA: no attractor
    pairs.table["attractor_mismatch"] = mismatch
    return pairs


def _words_of(chosen: Sequence[str], vocabulary: Vocabulary) -> _Words:
    """The words that the chosen constructions can use."""
    lexicon, tokenizer = vocabulary.lexicon, vocabulary.tokenizer
    even: dict[str, list[Forms]] = {}
    fixed: dict[str, list] = {}
    for name in chosen:
        kind, way_out = CONSTRUCTIONS[name], f"leave the kind {name!r} out with kinds=..."
        nouns = {kind.subject, kind.attractor}
        for field in filter(None, (kind.subject, kind.attractor, kind.word)):
            of_field, before = getattr(lexicon, field), "The" if field in nouns else "and"
            flips = field == kind.subject or (field == kind.word and kind.agrees == "subject")
            if flips and field not in even:
                must = "have as many tokens in the singular as in the plural"
                fitting = same_length(tokenizer, of_field, before)
                even[field] = vocabulary.keep(field, of_field, fitting, must, way_out)
            if field not in fixed:
                fixed[field] = vocabulary.keep_known(field, of_field, before, way_out)
    return _Words(even, fixed)


def _stimuli(
    name: str,
    number: int,
    lexicon: Lexicon,
    words: _Words,
    mismatched_only: bool,
    rng: np.random.Generator,
) -> Iterator[Prompt]:
    """All prompts of a kind with a subject of a number (0 singular, 1 plural), shuffled, over and
    over; the attractor's numbers in turn."""
    kind = CONSTRUCTIONS[name]
    nouns, inner = _nouns(kind, lexicon, words), _inner_words(kind, words)
    items = [
        [(some, of_attractor, word) for some, word in product(nouns, inner)]
        for of_attractor in _attractor_numbers(kind, number, mismatched_only)
    ]
    if not items[0]:
        raise ValueError(
            f"sva: the {lexicon.name} lexicon has no words left for the kind {name!r}: the "
            "tokenizer gives its singulars and plurals different lengths; leave the kind out with "
            "kinds=..."
        )
    orders = [[some[i] for i in rng.permutation(len(some))] for some in items]
    rng.shuffle(orders)  # which of the attractor's numbers begins
    return cycle(_prompt(name, number, *item) for row in zip(*orders, strict=True) for item in row)


def _nouns(kind: Construction, lexicon: Lexicon, words: _Words) -> list[tuple[Forms, Forms | None]]:
    """(subject, attractor), less what training documents hold; no attractor: None."""
    subjects = words.even[kind.subject]
    if not kind.attractor:
        return [(subject, None) for subject in subjects]
    return [
        (subject, attractor)
        for subject in subjects
        for attractor in words.fixed[kind.attractor]
        if subject != attractor
        and (not lexicon.holds_out or held_out("attractor", subject[0], attractor[0]))
    ]


def _attractor_numbers(kind: Construction, number: int, mismatched_only: bool) -> tuple[int, ...]:
    if not kind.attractor:
        return (number,)
    return (1 - number,) if mismatched_only else (0, 1)


def _inner_words(kind: Construction, words: _Words) -> Sequence[Forms | str | None]:
    if kind.word is None:
        return [None]
    return words.even[kind.word] if kind.agrees == "subject" else words.fixed[kind.word]


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


def _verb_forms(vocabulary: Vocabulary, strict: bool) -> list[tuple[str, str, int]]:
    """(form, number, token) of the verbs that answer: those with one token, and with `strict` their
    other form too."""
    verbs = vocabulary.lexicon.verbs
    token = single_tokens(vocabulary.tokenizer, [form for pair in verbs for form in pair])
    enough = all if strict else any
    fitting = [pair for pair in verbs if enough(form in token for form in pair)]
    must = "are one token" + (" in both forms" if strict else "")
    kept = vocabulary.keep("verbs", verbs, fitting, must)
    return [
        (form, number, token[form])
        for pair in kept
        for form, number in zip(pair, _NUMBERS, strict=True)
        if form in token
    ]


TASK = Task(
    name="sva",
    title="Subject-Verb Agreement",
    metric_name="probability_difference",
    make=make,
    min_metric=0.1,
)
