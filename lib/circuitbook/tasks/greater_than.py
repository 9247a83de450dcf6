"""Greater-Than (Hanna et al. 2023; as in the code of Tigges et al. 2024).

"The war lasted from the year 1732 to the year 17" -> "33" ... "99", not "00" ... "32".
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.tasks.base import PromptPairs, Task
from circuitbook.tasks.lexicon import held_out, lexicon_for
from circuitbook.tasks.texts import Prompt, build, fill, single_token

FRAME = "The {noun} lasted from the year {XX1}{YY} to the year {XX2}"


YEARS = range(1100, 1800)


BALANCED = range(2, 99)  # YY of prompt i is 2 + (i mod 97): the authors' code


def make(tokenizer: PreTrainedTokenizerBase, n: int, rng: np.random.Generator) -> PromptPairs:
    """`n` prompts whose two digits YY go round 02 ... 98, so that the years are balanced; noun and
    century are drawn.

    The corrupted prompt starts in the year 01. In the mini suite's language only starts (century,
    YY) that are in no training document; a YY all of whose centuries were trained on is left out of
    the round (76 of 97 remain).

    Positions: noun (its last token), XX1, YY, XX2 (= END). Metric: probability of all years > YY
    minus that of all years <= YY, among "00" ... "99".
    """
    lexicon = lexicon_for(tokenizer)
    centuries = _centuries(tokenizer)
    if lexicon.holds_out:
        centuries = {
            yy: [century for century in possible if held_out("span", century, f"{yy:02d}")]
            for yy, possible in centuries.items()
        }
    around = [yy for yy in BALANCED if centuries[yy]]
    if not around:
        raise ValueError(
            f"greater_than: no year from {YEARS[0]} to {YEARS[-1]} is two tokens (century and two "
            f"digits) for tokenizer {tokenizer.name_or_path!r}; the task cannot be put to its "
            "models"
        )

    prompts = []
    for i in range(n):
        yy = around[i % len(around)]
        xx = centuries[yy][rng.integers(len(centuries[yy]))]
        noun = lexicon.events[rng.integers(len(lexicon.events))]
        clean, marks = fill(FRAME, noun=noun, XX1=xx, YY=f"{yy:02d}", XX2=xx)
        corrupted, _ = fill(FRAME, noun=noun, XX1=xx, YY="01", XX2=xx)
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
                    "correct": f"{yy + 1:02d}-99",
                    "wrong": f"00-{yy:02d}",
                },
            )
        )
    answers = torch.tensor([single_token(tokenizer, f"{year:02d}") for year in range(100)])
    starts = torch.tensor([prompt.words["yy"] for prompt in prompts])
    signs = torch.where(torch.arange(100) > starts[:, None], 1, -1)
    return build(TASK, tokenizer, prompts, answers, signs)


def _centuries(tokenizer: PreTrainedTokenizerBase) -> dict[int, list[str]]:
    """Centuries in which each YY can be asked: " XXYY" is two known tokens, the second of them of
    two characters, and neither the first nor the last such year of its century."""
    ids = tokenizer([f" {year}" for year in YEARS], add_special_tokens=False)["input_ids"]
    split = {
        year: row
        for year, row in zip(YEARS, ids, strict=True)
        if len(row) == 2 and tokenizer.unk_token_id not in row
    }
    digits = tokenizer.batch_decode([[row[1]] for row in split.values()])
    second = dict(zip(split, digits, strict=False))  # no rows are decoded to one empty text
    centuries: dict[int, list[str]] = {yy: [] for yy in range(100)}
    for start in range(YEARS.start, YEARS.stop, 100):
        years = [year for year in range(start, start + 100) if len(second.get(year, "")) == 2]
        for year in years[1:-1]:
            centuries[year % 100].append(str(start // 100))
    return centuries


TASK = Task(
    name="greater_than",
    title="Greater-Than",
    metric_name="probability_difference",
    make=make,
    min_metric=0.1,
)
