"""What every task is made of: pairs of prompts, their answers, and the measures of an answer.

A prompt pair is a clean prompt, a corrupted one of the same length, and two groups of answer tokens: correct and wrong
(one token each for IOI and Gendered Pronoun, many for Greater-Than and subject-verb agreement). All measures read the
logits at END, the last token of the prompt, and score a corrupted run with the clean labels too, as the paper does.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from string import Formatter

import numpy as np
import pandas as pd
import torch
from torch import Tensor

# ------------------------------------------------------------------ measures: logits [n, vocab] -> [n]
# `answers` int64 [n, k] are token ids, `signs` int64 [n, k] is +1 where the answer is correct and -1 where it is wrong.
# Half-precision logits are summed in float32; gradients flow through the first two.


def _full(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def logit_difference(logits: Tensor, answers: Tensor, signs: Tensor) -> Tensor:
    """Mean logit of the correct answers minus mean logit of the wrong ones, [n].

    With one token in each group this is the usual logit difference. For groups the authors average too (in their code, the
    Greater-Than logit difference); a mean is linear in the residual stream, as the attribution of logits needs, but
    its sign is not the accuracy: implausible answers count as much as plausible ones.
    """
    chosen = _full(logits.gather(1, answers))
    right, wrong = (signs > 0).to(chosen.dtype), (signs < 0).to(chosen.dtype)
    return (chosen * (right / right.sum(1, keepdim=True) - wrong / wrong.sum(1, keepdim=True))).sum(1)


def probability_difference(logits: Tensor, answers: Tensor, signs: Tensor) -> Tensor:
    """Probability of all correct answers minus that of all wrong ones, [n] in [-1, 1] (the authors' metric)."""
    return (_probabilities(logits, answers) * signs).sum(1)


def _probabilities(logits: Tensor, answers: Tensor) -> Tensor:
    """Probability of each answer over the whole vocabulary, [n, k]."""
    logits = _full(logits)
    return (logits.gather(1, answers) - logits.logsumexp(1, keepdim=True)).exp()


def _accuracy(logits: Tensor, answers: Tensor, signs: Tensor) -> Tensor:
    chosen = _full(logits.gather(1, answers))          # in logs: both groups' probabilities may be too small to compare
    right = chosen.masked_fill(signs < 0, -torch.inf).logsumexp(1)
    wrong = chosen.masked_fill(signs > 0, -torch.inf).logsumexp(1)
    return (right > wrong).float()


def _rank(logits: Tensor, answers: Tensor, signs: Tensor) -> Tensor:
    best = logits.gather(1, answers).masked_fill(signs < 0, -torch.inf).amax(1, keepdim=True)
    return (~(logits <= best)).sum(1)                  # "not <=" rather than ">": a NaN must not look like rank 0


METRICS = {"logit_difference": logit_difference, "probability_difference": probability_difference}


# ------------------------------------------------------------------ prompt pairs

@dataclass(frozen=True, eq=False, repr=False)
class PromptPairs:
    """`n` clean and corrupted prompts of a task, with answers and metric."""

    task: str
    metric_name: str                                   # of METRICS: the task's own
    clean: Tensor                                      # int64 [n, pos], right-padded; no begin-of-sequence token
    corrupted: Tensor                                  # int64 [n, pos]; each row as long as its clean one
    end: Tensor                                        # int64 [n]: index of the last real token, the same in both
    answers: Tensor                                    # int64 [n, k]: token ids
    signs: Tensor                                      # int64 [n, k]: +1 correct, -1 wrong (for the clean prompt)
    positions: dict[str, Tensor]                       # name -> int64 [n], -1 where a prompt has no such position
    table: pd.DataFrame                                # a row per prompt: clean, corrupted, kind, words, correct, wrong

    def __len__(self) -> int:
        return len(self.clean)

    def __repr__(self) -> str:
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        return (f"PromptPairs({self.task}: {len(self)} pairs of {shortest} to {longest} tokens, "
                f"metric {self.metric_name})")

    @property
    def lengths(self) -> Tensor:
        """Number of real tokens, int64 [n]; the rest of a row is padding."""
        return self.end + 1

    def metric(self, logits: Tensor) -> Tensor:
        """The task's own metric of each prompt, float32 [n] (float64 for float64 logits); higher is better.

        `logits`: [n, vocab] at END, of the clean run, of the corrupted one, or of any patched one, on any device.
        """
        self._check(logits)
        return METRICS[self.metric_name](logits, self.answers.to(logits.device), self.signs.to(logits.device))

    def measures(self, logits: Tensor) -> dict[str, Tensor]:
        """All measures of each prompt, each [n]; `logits` as for `metric`.

        logit_difference        mean logit of the correct answers minus that of the wrong ones
        probability_difference  probability of the correct answers minus that of the wrong ones (sums)
        accuracy                1 if the correct answers together have more probability than the wrong ones, else 0
        rank                    int64: tokens of the vocabulary with a higher logit than the best correct answer;
                                0 = argmax (a tie counts as 0), so the rank-0 rate is the mean of rank == 0
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
        """Some of the pairs, in the order of `index`: a slice, integers, or booleans [n]. Rows keep their padding."""
        rows = torch.arange(len(self))[index].reshape(-1)
        return PromptPairs(self.task, self.metric_name, self.clean[rows], self.corrupted[rows], self.end[rows],
                           self.answers[rows], self.signs[rows], {k: v[rows] for k, v in self.positions.items()},
                           self.table.iloc[rows.tolist()].reset_index(drop=True))

    def _check(self, logits: Tensor) -> None:
        if logits.ndim != 2 or len(logits) != len(self):
            raise ValueError(f"{self.task}: the metric of {len(self)} prompts needs their logits at END, "
                             f"[{len(self)}, vocab], but the logits have shape {list(logits.shape)}; "
                             "take logits[torch.arange(n), pairs.end]")


# ------------------------------------------------------------------ tasks

@dataclass(frozen=True)
class Task:
    """A task by name; `make(tokenizer, n, rng, **options)` builds its pairs."""

    name: str
    title: str                                         # for figures
    metric_name: str
    make: Callable[..., PromptPairs] = field(repr=False)
    least: float = 0.0                                 # of the metric, above which we call it an ability at all

    def prompts(self, tokenizer, n: int, seed: int = 42, **options) -> PromptPairs:
        """`n` prompt pairs for a tokenizer, the same for the same seed on every machine.

        Asking for fewer prompts with the same seed and options gives the first ones of these. Gendered Pronoun has a
        fixed number of items and gives all of them if more are asked for; the other tasks always give `n`.
        `options`: ioi corruption="swap" | "abc" | "order"; sva kinds=..., mismatched_only=..., strict=...
        """
        if n < 1:
            raise ValueError(f"{self.name}: {n} prompts were asked for; ask for at least one")
        known = [p.name for p in inspect.signature(self.make).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for option in options:
            if option not in known:
                raise TypeError(f"task {self.name} has no option {option!r}; "
                                f"{'its options are ' + ', '.join(known) if known else 'it has none'}")
        return _remembered(self, tokenizer, n, seed, options)


# The checkpoints of a suite share a tokenizer, and making prompts for each of them anew takes as long as measuring a small one.
_known: OrderedDict[tuple, PromptPairs] = OrderedDict()
KEEP = 32


def _remembered(task: Task, tokenizer, n: int, seed: int, options: dict) -> PromptPairs:
    make = lambda: task.make(tokenizer, n, np.random.default_rng(seed), **options)
    if not hasattr(tokenizer, "backend_tokenizer") or not all(isinstance(value, Hashable) for value in options.values()):
        return make()
    content = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    key = (task, content, tokenizer.init_kwargs.get("lexicon"), tokenizer.pad_token_id, tokenizer.eos_token_id, n, seed,
           tuple(sorted(options.items())))
    if key not in _known:
        _known[key] = make()
    _known.move_to_end(key)
    while len(_known) > KEEP:
        _known.popitem(last=False)
    return _known[key].subset(slice(None))             # a copy: the caller may change it


@dataclass(frozen=True)
class Prompt:
    """Texts of a pair before they are tokens."""

    clean: str
    corrupted: str
    marks: dict[str, int | None]                       # position name -> a character of that token in the clean text
    words: dict[str, object]                           # columns of the table


def fill(frame: str, **words: str) -> tuple[str, dict[str, int]]:
    """The text of a frame, and the last character of each of its slots, by which positions are found.

    fill("So {name} is", name="Mary") -> ("So Mary is", {"name": 6})
    """
    text, marks = "", {}
    for literal, slot, _, _ in Formatter().parse(frame):
        text += literal
        if slot is not None:
            text += words[slot]
            marks[slot] = len(text) - 1
    return text, marks


def build(task: Task, tokenizer, prompts: list[Prompt], answers: Tensor, signs: Tensor) -> PromptPairs:
    """Pairs from texts: tokens, padding, positions and table. `answers` and `signs` int64, [n, k] or, for all, [k]."""
    n = len(prompts)
    clean = tokenizer([p.clean for p in prompts], add_special_tokens=False)
    corrupted = tokenizer([p.corrupted for p in prompts], add_special_tokens=False)
    for prompt, ids, other in zip(prompts, clean["input_ids"], corrupted["input_ids"]):
        if len(ids) != len(other):
            raise ValueError(f"{task.name}: {prompt.clean!r} has {len(ids)} tokens and {prompt.corrupted!r} has "
                             f"{len(other)} for tokenizer {_name(tokenizer)}; a pair needs equal lengths")
    _refuse_unknown(task, tokenizer, [p.clean for p in prompts], clean)
    _refuse_unknown(task, tokenizer, [p.corrupted for p in prompts], corrupted)

    end = torch.tensor([len(ids) - 1 for ids in clean["input_ids"]])
    positions = {name: torch.tensor([-1 if p.marks[name] is None else clean.char_to_token(i, p.marks[name])
                                     for i, p in enumerate(prompts)]) for name in prompts[0].marks}
    table = pd.DataFrame([{"clean": p.clean, "corrupted": p.corrupted, **p.words} for p in prompts])
    return PromptPairs(
        task=task.name, metric_name=task.metric_name, clean=_pad(clean["input_ids"], tokenizer),
        corrupted=_pad(corrupted["input_ids"], tokenizer), end=end, answers=answers.expand(n, -1).contiguous(),
        signs=signs.expand(n, -1).contiguous(), positions={**positions, "END": end}, table=table)


def _pad(rows: list[list[int]], tokenizer) -> Tensor:
    special = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    pad = next((token for token in special if token is not None), 0)     # any token will do: nothing reads it
    width = max(map(len, rows))
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


def _refuse_unknown(task: Task, tokenizer, texts: list[str], encoding) -> None:
    for i, ids in enumerate(encoding["input_ids"]):
        if tokenizer.unk_token_id in ids:
            span = encoding.token_to_chars(i, ids.index(tokenizer.unk_token_id))
            raise ValueError(f"{task.name}: tokenizer {_name(tokenizer)} does not know {texts[i][slice(*span)]!r} in "
                             f"{texts[i]!r}; its vocabulary must hold the words of the task's frames and lexicon")


# ------------------------------------------------------------------ words that must be one token

def _name(tokenizer) -> str:
    return repr(tokenizer.name_or_path or type(tokenizer).__name__)


def is_single_token(tokenizer, word: str) -> bool:
    """Whether a word, written with its leading space if it has one, is exactly one known token."""
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    return len(ids) == 1 and ids[0] != tokenizer.unk_token_id


def single_token(tokenizer, word: str) -> int:
    """The id of a word that must be one token.  single_token(pythia_tokenizer, " she") -> 703"""
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        what = "not known" if tokenizer.unk_token_id in ids else f"{len(ids)} tokens, where one is needed,"
        raise ValueError(f"{word!r} is {what} for tokenizer {_name(tokenizer)}; "
                         "the lexicon (circuitbook.lexicon) needs another word for it")
    return ids[0]


def same_length(tokenizer, pair: tuple[str, str]) -> bool:
    """Whether both words of a pair have as many tokens, with a leading space each: they can stand for each other."""
    one, other = tokenizer([" " + word for word in pair], add_special_tokens=False)["input_ids"]
    return len(one) == len(other)
