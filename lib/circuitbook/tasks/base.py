"""What every task is made of: pairs of prompts, their answers, and the measures of an answer.

A prompt pair is a clean prompt, a corrupted one of the same length, and two groups of answer
tokens: correct and wrong (one token each for IOI and Gendered Pronoun, many for Greater-Than and
subject-verb agreement). All measures read the logits at END, the last token of the prompt, and
score a corrupted run with the clean labels too, as the paper does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from circuitbook.model.loaded import PREPEND_BOS
from circuitbook.tasks.metrics import METRICS, accuracy, logit_difference, probabilities, rank
from circuitbook.tasks.remembering import remembered

# ------------------------------------------------------------------ prompt pairs


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PromptPairs:
    """`n` clean and corrupted prompts of a task, with answers and metric."""

    task: str
    metric_name: str
    """Of METRICS: the task's own."""
    clean: Int[Tensor, "n pos"]
    """Token ids, right-padded; no begin-of-sequence token, unless `prepend_bos`."""
    corrupted: Int[Tensor, "n pos"]
    """Each row as long as its clean one."""
    end: Int[Tensor, " n"]
    """Index of the last real token, the same in both."""
    answers: Int[Tensor, "n answer"]
    """Token ids."""
    signs: Int[Tensor, "n answer"]
    """+1 for a correct answer, -1 for a wrong one (to the clean prompt)."""
    positions: dict[str, Int[Tensor, " n"]]
    """By name; -1 where a prompt has no such position."""
    table: pd.DataFrame
    """A row for each prompt: clean, corrupted, kind, words, correct, wrong."""
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By list of the lexicon: words that the prompts or answers do without, since the tokenizer
    does not write them as the task needs them (for IOI, people whose name is not one token)."""
    prepend_bos: bool = False
    """Whether the tokenizer's begin-of-sequence token is in front of every prompt."""

    def __len__(self) -> int:
        return len(self.clean)

    def __repr__(self) -> str:
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        lost = ", ".join(
            f"{len(words)} {slot.replace('_', ' ')}" for slot, words in self.left_out.items()
        )
        return (
            f"PromptPairs({self.task}: {len(self)} pairs of {shortest} to {longest} tokens, "
            f"metric {self.metric_name}"
            + (", with begin-of-sequence token" if self.prepend_bos else "")
            + (f"; left out: {lost})" if lost else ")")
        )

    @property
    def lengths(self) -> Int[Tensor, " n"]:
        """Number of real tokens; the rest of a row is padding."""
        return self.end + 1

    def metric(self, logits: Float[Tensor, "n vocab"]) -> Float[Tensor, " n"]:
        """The task's own metric of each prompt; higher is better.

        logits: at END, of the clean run, of the corrupted one, or of any patched one, on any
        device. float32, or float64 for float64 logits.
        """
        self._check(logits)
        return METRICS[self.metric_name](
            logits, self.answers.to(logits.device), self.signs.to(logits.device)
        )

    def measures(self, logits: Float[Tensor, "n vocab"]) -> dict[str, Tensor]:
        """All measures of each prompt, each [n]; `logits` as for `metric`.

        logit_difference        mean logit of the correct answers minus that of the wrong ones
        probability_difference  probability of the correct answers minus that of the wrong ones
                                (sums)
        accuracy                1 if the correct answers together have more probability than the
                                wrong ones, else 0
        rank                    int64: tokens of the vocabulary with a higher logit than the best
                                correct answer; 0 = argmax (a tie counts as 0), so the rank-0 rate
                                is the mean of rank == 0
        answer_mass             probability of all answers, correct and wrong
        correct_mass            probability of the correct answers (for IOI: of the IO name)
        """
        self._check(logits)
        answers, signs = self.answers.to(logits.device), self.signs.to(logits.device)
        of_answers = probabilities(logits, answers)
        return {
            "logit_difference": logit_difference(logits, answers, signs),
            "probability_difference": (of_answers * signs).sum(1),
            "accuracy": accuracy(logits, answers, signs),
            "rank": rank(logits, answers, signs),
            "answer_mass": of_answers.sum(1),
            "correct_mass": (of_answers * (signs > 0)).sum(1),
        }

    def subset(self, index: slice | Sequence[int] | Tensor) -> PromptPairs:
        """Some of the pairs, in the order of `index`: a slice, integers, or booleans [n].

        Rows keep their padding.
        """
        rows = torch.arange(len(self))[index].reshape(-1)
        return replace(
            self,
            clean=self.clean[rows],
            corrupted=self.corrupted[rows],
            end=self.end[rows],
            answers=self.answers[rows],
            signs=self.signs[rows],
            positions={name: places[rows] for name, places in self.positions.items()},
            table=self.table.iloc[rows.tolist()].reset_index(drop=True),
        )

    def with_bos(self, token: int) -> PromptPairs:
        """The same pairs with a begin-of-sequence token in front of every prompt."""
        front = torch.full((len(self), 1), token)
        return replace(
            self,
            clean=torch.cat([front, self.clean], 1),
            corrupted=torch.cat([front, self.corrupted], 1),
            end=self.end + 1,
            positions={
                name: torch.where(places < 0, places, places + 1)
                for name, places in self.positions.items()
            },
            prepend_bos=True,
        )

    def _check(self, logits: Tensor) -> None:
        if logits.ndim != 2 or len(logits) != len(self):
            raise ValueError(
                f"{self.task}: the metric of {len(self)} prompts needs their logits at END, "
                f"[{len(self)}, vocab], but the logits have shape {list(logits.shape)}; "
                "take logits[torch.arange(n), pairs.end]"
            )


# ------------------------------------------------------------------ tasks


def wants_bos(tokenizer: PreTrainedTokenizerBase, asked: bool | None = None) -> bool:
    """Whether prompts get a begin-of-sequence token: as asked, or as the model was loaded."""
    return bool(tokenizer.init_kwargs.get(PREPEND_BOS)) if asked is None else asked


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task by name."""

    name: str
    title: str
    """For figures."""
    metric_name: str
    make: Callable[..., PromptPairs] = field(repr=False)
    """`make(tokenizer, n, rng, **options)` builds its pairs."""
    min_metric: float = 0.0
    """Of the metric, above which we call it an ability at all."""

    def __measurement_key__(self) -> dict[str, object]:
        """In a measurement's key: what determines the prompts and their metric, less the title."""
        return {
            "task": self.name,
            "metric": self.metric_name,
            "min_metric": self.min_metric,
            "make": self.make,
        }

    def prompts(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        seed: int = 42,
        *,
        prepend_bos: bool | None = None,
        **options: object,
    ) -> PromptPairs:
        """`n` prompt pairs for a tokenizer, the same for the same seed on every machine.

        Asking for fewer prompts with the same seed and options gives the first ones of these.
        Gendered Pronoun has a fixed number of items and gives all of them if more are asked for;
        the other tasks always give `n`. Words that the tokenizer does not write as one token, where
        the task needs one, are left out: see `PromptPairs.left_out`; ValueError if too few remain.
        prepend_bos: with the tokenizer's begin-of-sequence token in front of every prompt, as
        models are used that were trained with one. ValueError if it has none. None: as the model
        was loaded (see `Suite.prepend_bos`); off, as in the paper, unless it was asked for there.
        `options`: ioi corruption="swap" | "abc" | "order" | "token"; sva kinds=...,
        mismatched_only=..., strict=...
        """
        if n < 1:
            raise ValueError(f"{self.name}: {n} prompts were asked for; ask for at least one")
        parameters = inspect.signature(self.make).parameters.values()
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        for option in options:
            if option not in known:
                has = "it has none but prepend_bos"
                if known:
                    has = "its options are " + ", ".join([*known, "prepend_bos"])
                raise TypeError(f"task {self.name} has no option {option!r}; {has}")

        def make() -> PromptPairs:
            return self.make(tokenizer, n, np.random.default_rng(seed), **options)

        pairs = remembered(make, self, tokenizer, n, seed, options)
        return self.with_bos(pairs, tokenizer) if wants_bos(tokenizer, prepend_bos) else pairs

    def with_bos(self, pairs: PromptPairs, tokenizer: PreTrainedTokenizerBase) -> PromptPairs:
        """The same pairs with the begin-of-sequence token in front. ValueError if there is none."""
        if tokenizer.bos_token_id is None:
            raise ValueError(
                f"{self.name}: tokenizer {tokenizer.name_or_path!r} has no begin-of-sequence token "
                "to put in front of prompts; leave prepend_bos out"
            )
        return pairs.with_bos(tokenizer.bos_token_id)
