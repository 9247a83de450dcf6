"""The fifteen constructions of Marvin & Linzen (2018) for subject-verb agreement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


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


def choose(kinds: str | Iterable[str] | None, mismatched_only: bool) -> list[str]:
    """The names of the constructions asked for, all if `kinds` is None. ValueError for others, and
    with mismatched_only for those without an attractor."""
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
