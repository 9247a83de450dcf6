"""Greater-Than for all start years, of models whose tokenizer writes years digit by digit.

The next token is the tens digit d alone. From 1732 on, "4" ... "9" are right and "0" ... "2" wrong,
whatever follows. Behind "3" the second digit e decides, and what is not a greater digit is wrong:

    right = p(d > 3) + p(d = 3) p(e > 2 | 3)        wrong = p(d <= 3) - p(d = 3) p(e > 2 | 3)

The second factor takes a second pass, with the start year's own tens digit behind the prompt. The
task itself (`greater_than`) keeps to start years that end in 9, for which nothing is added to
the first: so it needs one pass, as attribution and the search for circuits do.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from circuitbook.tasks.base import PromptPairs, wants_bos
from circuitbook.tasks.greater_than import BALANCED, TASK, draw, spelling_of
from circuitbook.tasks.metrics import probabilities
from circuitbook.tasks.texts import build
from circuitbook.tasks.words import Vocabulary, tokenizer_name


class GivesLogits(Protocol):
    """What is asked of a model: `model.loaded.Model`, for one."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    def logits(
        self, tokens: Int[Tensor, "n pos"], positions: Int[Tensor, " n"]
    ) -> Float[Tensor, "n vocab"]: ...


@torch.no_grad()
def two_digit_answers(
    model: GivesLogits, *, n: int, seed: int = 42, prepend_bos: bool | None = None
) -> pd.DataFrame:
    """The model's answers to `n` prompts whose start years YY go round 02 ... 98, one row each.

    Columns: prompt (0..n-1), clean, corrupted, kind, noun, year, yy, `right` and `wrong` (their
    probabilities, see above; with other first tokens than digits they sum to less than 1), `metric`
    = right - wrong, and `corrupted_metric`: that of the corrupted prompt, by the clean year.
    ValueError for a tokenizer that does not write single digits: where two digits are one token,
    the task itself has all these years.
    """
    tokenizer = model.tokenizer
    spelling = spelling_of(tokenizer)
    if spelling.tokens != 10:
        raise ValueError(
            f"tokenizer {tokenizer_name(tokenizer)} writes the two digits of a year as one token, "
            'so one pass says everything: use get_task("greater_than")'
        )
    vocabulary = Vocabulary(TASK.name, tokenizer)
    prompts = draw(vocabulary, spelling, BALANCED, n, np.random.default_rng(seed))
    digits = torch.tensor(spelling.answers)
    pairs = build(TASK, tokenizer, prompts, digits, torch.ones(10, dtype=torch.int64))
    if wants_bos(model.tokenizer, prepend_bos):
        pairs = TASK.with_bos(pairs, tokenizer)
    year = torch.tensor(pairs.table["yy"].tolist())
    right, wrong = _right_and_wrong(model, pairs, pairs.clean, year)
    other_right, other_wrong = _right_and_wrong(model, pairs, pairs.corrupted, year)
    measured = {
        "right": right,
        "wrong": wrong,
        "metric": right - wrong,
        "corrupted_metric": other_right - other_wrong,
    }
    table = pairs.table.drop(columns=["correct", "wrong"])
    table = table.assign(**{name: value.cpu().numpy() for name, value in measured.items()})
    return table.rename_axis("prompt").reset_index()


def _right_and_wrong(
    model: GivesLogits, pairs: PromptPairs, tokens: Int[Tensor, "n pos"], year: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Probability of all years after `year`, and of all up to it."""
    n = len(tokens)
    first = probabilities(*_logits_and(model, tokens, pairs.end, pairs.answers))
    tens, units = (year // 10).to(first.device), (year % 10).to(first.device)
    longer = torch.cat([tokens, tokens[:, :1]], 1)  # room for one more
    behind = pairs.end + 1
    longer[torch.arange(n), behind] = pairs.answers[torch.arange(n), year // 10]
    second = probabilities(*_logits_and(model, longer, behind, pairs.answers))

    digit = torch.arange(10, device=first.device)
    same = first.gather(1, tens[:, None])[:, 0]
    later_unit = same * (second * (digit > units[:, None])).sum(1)
    later = digit > tens[:, None]
    return (first * later).sum(1) + later_unit, (first * ~later).sum(1) - later_unit


def _logits_and(
    model: GivesLogits, tokens: Tensor, positions: Tensor, answers: Tensor
) -> tuple[Tensor, Tensor]:
    logits = model.logits(tokens, positions)
    return logits, answers.to(logits.device)
