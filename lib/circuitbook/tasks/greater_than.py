"""Greater-Than (Hanna et al. 2023; as in the code of Tigges et al. 2024).

"The war lasted from the year 1732 to the year 17" -> "33" ... "99", not "00" ... "32".

For a tokenizer that writes years digit by digit, start years end in 9: "The war lasted from the
year 1739 to the year 17" -> "4" ... "9", not "0" ... "3". The next digit alone decides then, so
that this is the same metric, exactly. Other start years need a second pass: see `two_digits`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.tasks.balance import Evenly, spread
from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.lexicon import held_out
from circuitbook.tasks.texts import Prompt, build, fill
from circuitbook.tasks.words import Vocabulary, encode, offsets, tokenizer_name, tokens_after

FRAME = "The {noun} lasted from the year {XX1}{YY} to the year {XX2}"


YEARS = range(1100, 1800)


# Start years YY. The authors' code goes round them in order, which covers them all with 200 prompts
# and half of them with 48; here each round takes them from all over (`balance.spread`).
BALANCED = range(2, 99)


# Of tokenizers that write digit by digit. Not 09: its tens digit, which decides, is that of the
# corrupted year 01.
NINES = range(19, 99, 10)


def make(tokenizer: PreTrainedTokenizerBase, n: int, rng: np.random.Generator) -> PromptPairs:
    """`n` prompts whose two digits YY go round 02 ... 98, in an order in which any number of them
    covers the range evenly; so do nouns, and a YY's centuries.

    The corrupted prompt starts in the year 01. In the mini suite's language only starts (century,
    YY) that are in no training document; a YY all of whose centuries were trained on is left out of
    the round (76 of 97 remain).

    Positions: noun (its last token), XX1, YY, XX2 (= END). Metric: probability of all years > YY
    minus that of all years <= YY, among "00" ... "99".

    A tokenizer that writes years digit by digit: YY goes round 19, 29, ..., 89, the answers are the
    digits "0" ... "9", and those above YY's tens digit are right. XX1, YY and XX2 are then the last
    token of each, and the position `tens` is YY's first. ValueError for a tokenizer that splits
    years in another way ("173" + "2").
    """
    vocabulary = Vocabulary(TASK.name, tokenizer)
    spelling = spelling_of(tokenizer)
    prompts = draw(vocabulary, spelling, BALANCED if spelling.tokens == 100 else NINES, n, rng)
    starts = torch.tensor([prompt.words["yy"] for prompt in prompts])
    if spelling.tokens == 10:
        starts = starts // 10
    signs = torch.where(torch.arange(spelling.tokens) > starts[:, None], 1, -1)
    answers = torch.tensor(spelling.answers)
    return build(TASK, tokenizer, prompts, answers, signs, left_out=vocabulary.left_out)


def draw(
    vocabulary: Vocabulary,
    spelling: Spelling,
    round_of: Sequence[int],
    n: int,
    rng: np.random.Generator,
) -> list[Prompt]:
    """`n` prompts whose YY go round `round_of`, evenly at every time."""
    lexicon, centuries = vocabulary.lexicon, spelling.centuries
    nouns = vocabulary.keep_known("events", lexicon.events, after="The")
    if lexicon.holds_out:
        centuries = {
            yy: [century for century in possible if held_out("span", century, f"{yy:02d}")]
            for yy, possible in centuries.items()
        }
    around = [yy for yy in round_of if centuries[yy]]
    if not around:
        raise ValueError(
            f"greater_than: every year that {tokenizer_name(vocabulary.tokenizer)} writes as the "
            "task needs is in training documents; the task cannot be put to its models"
        )
    prompts = []
    century, event = Evenly(rng), Evenly(rng)
    for yy in islice(spread(around, start=int(rng.integers(len(around)))), n):
        xx, noun = century.pick(centuries[yy]), event.pick(nouns)
        clean, marks = fill(FRAME, noun=noun, XX1=xx, YY=f"{yy:02d}", XX2=xx)
        corrupted, _ = fill(FRAME, noun=noun, XX1=xx, YY="01", XX2=xx)
        right, wrong = f"{yy + 1:02d}-99", f"00-{yy:02d}"
        if spelling.tokens == 10:
            right, wrong = f"{yy // 10 + 1}-9", f"0-{yy // 10}"
            marks = {**marks, "tens": marks["YY"] - 1}
        prompts.append(
            Prompt(
                clean=clean,
                corrupted=corrupted,
                marks=marks,
                words={
                    "kind": xx,
                    "noun": noun,
                    "year": 100 * int(xx) + yy,
                    "yy": yy,
                    "correct": right,
                    "wrong": wrong,
                },
            )
        )
    return prompts


# ------------------------------------------------------------------ how a tokenizer writes years


@dataclass(frozen=True)
class Spelling:
    """How a tokenizer writes what follows the century: as one token of two digits, or as two."""

    answers: tuple[int, ...]
    """Tokens of "00" ... "99", or of "0" ... "9"."""
    centuries: Mapping[int, list[str]]
    """Centuries in which each YY can be asked."""

    @property
    def tokens(self) -> int:
        """100 or 10."""
        return len(self.answers)


def spelling_of(tokenizer: PreTrainedTokenizerBase) -> Spelling:
    """How a tokenizer writes years. ValueError if in neither way, with an example."""
    years = _years(tokenizer, YEARS)
    centuries = _centuries(years, 1)
    if any(centuries[yy] for yy in BALANCED):
        return Spelling(_two_digit_tokens(tokenizer, years), centuries)
    centuries = _centuries(years, 2)
    digits: dict[str, set[int]] = {str(digit): set() for digit in range(10)}
    for year, tokens in years.items():
        if len(tokens) == 2:
            for digit, token in zip(str(year)[2:], tokens, strict=True):
                digits[digit].add(token)
    if any(centuries[yy] for yy in NINES) and all(len(found) == 1 for found in digits.values()):
        return Spelling(tuple(next(iter(found)) for found in digits.values()), centuries)
    encoding = encode(tokenizer, ["the year 1739"])
    pieces = [
        token
        for token, (_, end) in zip(encoding.tokens(0), offsets(encoding, 0), strict=True)
        if end > len("the year")
    ]
    raise ValueError(
        f"greater_than: tokenizer {tokenizer_name(tokenizer)} writes ' 1739' as "
        + " + ".join(map(repr, pieces))
        + f": no year from {YEARS[0]} to {YEARS[-1]} is two tokens (century and two digits), nor "
        "the century and two single digits, and the answer needs one of these; the task cannot be "
        "put to its models"
    )


def _centuries(years: Mapping[int, tuple[int, ...]], tokens: int) -> dict[int, list[str]]:
    """Centuries in which each YY is so many tokens, as 01 is.

    One: neither the first nor the last such year of its century (the authors' code). Two: all years
    of the century must be, else a digit alone would not be all that its years begin with.
    """
    centuries: dict[int, list[str]] = {yy: [] for yy in range(100)}
    for start in range(YEARS.start, YEARS.stop, 100):
        found = [year for year in range(start, start + 100) if len(years[year]) == tokens]
        if start + 1 in found and (tokens == 1 or len(found) == 100):
            for year in found[1:-1] if tokens == 1 else found:
                centuries[year % 100].append(str(start // 100))
    return centuries


def _years(tokenizer: PreTrainedTokenizerBase, years: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """What tokens each year adds to those of its century alone, in text: (token of "32",) for 1732.

    No tokens where the century alone is written in other ones.
    """
    centuries = sorted({year // 100 for year in years})
    alone = tokens_after(tokenizer, "the year", [str(century) for century in centuries])
    century_tokens = dict(zip(centuries, alone, strict=True))
    added = {}
    for year, tokens in zip(
        years, tokens_after(tokenizer, "the year", [str(year) for year in years]), strict=True
    ):
        of_century = century_tokens[year // 100]
        follows = of_century and tokens[: len(of_century)] == of_century
        added[year] = tokens[len(of_century) :] if follows else ()
    return added


def _two_digit_tokens(
    tokenizer: PreTrainedTokenizerBase, years: Mapping[int, tuple[int, ...]]
) -> tuple[int, ...]:
    """The tokens of "00" ... "99" behind a century. What no century asked about has ("1700" may be
    one token), another century has."""
    found = {year % 100: tokens[0] for year, tokens in years.items() if len(tokens) == 1}
    missing = [yy for yy in range(100) if yy not in found]
    others = [
        100 * century + yy
        for century in range(10, 100)
        if 100 * century not in YEARS
        for yy in missing
    ]
    elsewhere = _years(tokenizer, others) if others else {}
    found |= {year % 100: tokens[0] for year, tokens in elsewhere.items() if len(tokens) == 1}
    missing = [yy for yy in missing if yy not in found]
    if missing:
        raise ValueError(
            f"greater_than: '{missing[0]:02d}' behind a century is not one token for tokenizer "
            f"{tokenizer_name(tokenizer)}, which other years' two digits are; the answers need "
            "all of 00 to 99, so the task cannot be put to its models"
        )
    return tuple(found[yy] for yy in range(100))


TASK = Task(
    name="greater_than",
    title="Greater-Than",
    metric_name="probability_difference",
    make=make,
    min_metric=0.1,
)
