"""What every task is made of: pairs of prompts, their answers, and the measures of an answer.

A prompt pair is a clean prompt, a corrupted one of the same length, and two groups of answer
tokens: correct and wrong (one token each for IOI and Gendered Pronoun, many for Greater-Than and
subject-verb agreement). All measures read the logits at END, the last token of the prompt, and
score a corrupted run with the clean labels too, as the paper does.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from circuitbook.tasks.metrics import METRICS, _accuracy, _probabilities, _rank, logit_difference

# ------------------------------------------------------------------ prompt pairs


@dataclass(frozen=True, eq=False, repr=False)
class PromptPairs:
    """`n` clean and corrupted prompts of a task, with answers and metric."""

    task: str
    metric_name: str  # of METRICS: the task's own
    clean: Tensor  # int64 [n, pos], right-padded; no begin-of-sequence token
    corrupted: Tensor  # int64 [n, pos]; each row as long as its clean one
    end: Tensor  # int64 [n]: index of the last real token, the same in both
    answers: Tensor  # int64 [n, k]: token ids
    signs: Tensor  # int64 [n, k]: +1 correct, -1 wrong (for the clean prompt)
    positions: dict[str, Tensor]  # name -> int64 [n], -1 where a prompt has no such position
    table: pd.DataFrame  # a row per prompt: clean, corrupted, kind, words, correct, wrong

    def __len__(self) -> int:
        return len(self.clean)

    def __repr__(self) -> str:
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        return (
            f"PromptPairs({self.task}: {len(self)} pairs of {shortest} to {longest} tokens, "
            f"metric {self.metric_name})"
        )

    @property
    def lengths(self) -> Tensor:
        """Number of real tokens, int64 [n]; the rest of a row is padding."""
        return self.end + 1

    def metric(self, logits: Tensor) -> Tensor:
        """The task's own metric of each prompt, float32 [n] (float64 for float64 logits); higher is
        better.

        `logits`: [n, vocab] at END, of the clean run, of the corrupted one, or of any patched one,
        on any device.
        """
        self._check(logits)
        return METRICS[self.metric_name](
            logits, self.answers.to(logits.device), self.signs.to(logits.device)
        )

    def measures(self, logits: Tensor) -> dict[str, Tensor]:
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
        probabilities = _probabilities(logits, answers)
        return {
            "logit_difference": logit_difference(logits, answers, signs),
            "probability_difference": (probabilities * signs).sum(1),
            "accuracy": _accuracy(logits, answers, signs),
            "rank": _rank(logits, answers, signs),
            "answer_mass": probabilities.sum(1),
            "correct_mass": (probabilities * (signs > 0)).sum(1),
        }

    def subset(self, index) -> PromptPairs:
        """Some of the pairs, in the order of `index`: a slice, integers, or booleans [n]. Rows keep
        their padding."""
        rows = torch.arange(len(self))[index].reshape(-1)
        return PromptPairs(
            self.task,
            self.metric_name,
            self.clean[rows],
            self.corrupted[rows],
            self.end[rows],
            self.answers[rows],
            self.signs[rows],
            {k: v[rows] for k, v in self.positions.items()},
            self.table.iloc[rows.tolist()].reset_index(drop=True),
        )

    def _check(self, logits: Tensor) -> None:
        if logits.ndim != 2 or len(logits) != len(self):
            raise ValueError(
                f"{self.task}: the metric of {len(self)} prompts needs their logits at END, "
                f"[{len(self)}, vocab], but the logits have shape {list(logits.shape)}; "
                "take logits[torch.arange(n), pairs.end]"
            )


# ------------------------------------------------------------------ tasks


@dataclass(frozen=True)
class Task:
    """A task by name; `make(tokenizer, n, rng, **options)` builds its pairs."""

    name: str
    title: str  # for figures
    metric_name: str
    make: Callable[..., PromptPairs] = field(repr=False)
    min_metric: float = 0.0  # of the metric, above which we call it an ability at all

    def __measurement_key__(self) -> dict[str, object]:
        """In a measurement's key: what determines the prompts and their metric, less the title."""
        return {
            "task": self.name,
            "metric": self.metric_name,
            "min_metric": self.min_metric,
            "make": self.make,
        }

    def prompts(self, tokenizer, n: int, seed: int = 42, **options) -> PromptPairs:
        """`n` prompt pairs for a tokenizer, the same for the same seed on every machine.

        Asking for fewer prompts with the same seed and options gives the first ones of these.
        Gendered Pronoun has a fixed number of items and gives all of them if more are asked for;
        the other tasks always give `n`. `options`: ioi corruption="swap" | "abc" | "order"; sva
        kinds=..., mismatched_only=..., strict=...
        """
        if n < 1:
            raise ValueError(f"{self.name}: {n} prompts were asked for; ask for at least one")
        known = [
            p.name
            for p in inspect.signature(self.make).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        ]
        for option in options:
            if option not in known:
                raise TypeError(
                    f"task {self.name} has no option {option!r}; "
                    f"{'its options are ' + ', '.join(known) if known else 'it has none'}"
                )
        return _remembered(self, tokenizer, n, seed, options)


# The checkpoints of a suite share a tokenizer, and making prompts for each of them anew takes as
# long as measuring a small one.
_known: OrderedDict[tuple, PromptPairs] = OrderedDict()


KEEP = 32


def _remembered(task: Task, tokenizer, n: int, seed: int, options: dict) -> PromptPairs:
    make = lambda: task.make(tokenizer, n, np.random.default_rng(seed), **options)
    if not hasattr(tokenizer, "backend_tokenizer") or not all(
        isinstance(value, Hashable) for value in options.values()
    ):
        return make()
    content = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    key = (
        task,
        content,
        tokenizer.init_kwargs.get("lexicon"),
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
        n,
        seed,
        tuple(sorted(options.items())),
    )
    if key not in _known:
        _known[key] = make()
    _known.move_to_end(key)
    while len(_known) > KEEP:
        _known.popitem(last=False)
    return _known[key].subset(slice(None))  # a copy: the caller may change it
