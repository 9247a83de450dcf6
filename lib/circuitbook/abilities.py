"""What a model can do at each checkpoint: the paper's section 3.1 and Figure 1.

One row per prompt, so that intervals can be had later without the model. Everything goes through the store, one entry
per checkpoint and task; a checkpoint is loaded once, and only if something about it has not been measured yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from . import lexicon, model as model_module
from .lexicon import STORIES, lexicon_for
from .model import Model
from .stats import Emergence, bootstrap_draws, emergence, fold_range, interval
from .store import Store, measurement_key
from .suites import Checkpoint, Suite
from .tasks import TASKS, base, get_task, gendered_pronoun, greater_than, ioi, sva

TASK_CODE = {"ioi": ioi, "gendered_pronoun": gendered_pronoun, "greater_than": greater_than, "sva": sva}
REPETITION = "repetition"            # not a task of the paper: are repeated random sequences predicted?
# What we call an ability at all, in each task's own metric: odds of e to one, a tenth of the probability, a nat.
LEAST = {name: task.least for name, task in TASKS.items()} | {REPETITION: 1.0}


def task_performance(model: Model, task: str, n: int, seed: int = 42, batch_size: int = 256, **options) -> pd.DataFrame:
    """The model's answers to `n` prompts of a task: one row per prompt.

    Columns: prompt (0..n-1), clean (its text), the task's own description of the prompt (kind, words ...), `metric`
    (the task's own), every measure of `PromptPairs.measures`, and `corrupted_metric` (the corrupted prompt scored with
    the clean labels, as in the paper). Logits are those at END, in the model's dtype; sums are float32.
    """
    pairs = get_task(task).prompts(model.tokenizer, n=n, seed=seed, **options)
    columns: dict[str, list] = {}
    for index in torch.arange(len(pairs)).split(batch_size):
        part = pairs.subset(index)
        logits, corrupted = (model.logits(tokens, part.end) for tokens in (part.clean, part.corrupted))
        values = part.measures(logits) | {"metric": part.metric(logits), "corrupted_metric": part.metric(corrupted)}
        for name, value in values.items():
            columns.setdefault(name, []).append(value.float().cpu())
    measured = pd.DataFrame({name: torch.cat(parts).numpy() for name, parts in columns.items()})
    bad = measured["metric"].isna()
    if bad.any():
        raise FloatingPointError(f"{model.checkpoint.model} at step {model.checkpoint.step} gives NaN on "
                                 f"{int(bad.sum())} of {len(bad)} {task} prompts in {model.dtype}; use float32")
    return pd.concat([pairs.table.reset_index(drop=True), measured], axis=1).rename_axis("prompt").reset_index()


def ordinary_tokens(model: Model) -> torch.Tensor:
    """Ids to draw random sequences from, int64 [k]: the paper's 100 to 19,999, or the story language's spaced words."""
    if lexicon_for(model.tokenizer) is STORIES:
        words = model.tokenizer.convert_ids_to_tokens(range(len(model.tokenizer)))
        return torch.tensor([i for i, word in enumerate(words) if word.startswith(" ")])
    return torch.arange(100, min(20_000, model.shape.d_vocab))


def repetition(model: Model, n: int = 64, length: int = 24, seed: int = 42) -> pd.DataFrame:
    """Prediction of random sequences that are said twice (as the authors' code does): what induction heads are for.

    `n` sequences of `length` tokens, uniform over `ordinary_tokens`, each repeated once. One row per sequence: `first`
    and `second`, mean log probability (nats) of the tokens of each half without its first one; `metric` is the gain,
    second - first; `accuracy` the share of argmax hits in the second half.
    """
    pool = ordinary_tokens(model)
    sequence = pool[torch.randint(len(pool), (n, length), generator=torch.Generator().manual_seed(seed))]
    tokens = torch.cat([sequence, sequence], dim=1).to(model.device)            # one line, said twice
    logp = model.logits(tokens)[:, :-1].float().log_softmax(-1)
    hit = logp.gather(2, tokens[:, 1:, None])[..., 0]
    first, second = hit[:, :length - 1].mean(1), hit[:, length:].mean(1)
    right = (logp[:, length:].argmax(-1) == tokens[:, length + 1:]).float().mean(1)
    return pd.DataFrame({"prompt": range(n), "first": first.cpu(), "second": second.cpu(),
                         "metric": (second - first).cpu(), "accuracy": right.cpu()})


def ability_key(checkpoint: Checkpoint, task: str, n: int, seed: int, dtype: torch.dtype, **options) -> str:
    """Name in the store of one checkpoint's answers to one task: all that determines them, and nothing else."""
    code = (TASK_CODE[task], base, task_performance) if task in TASK_CODE else (ordinary_tokens, repetition)
    return measurement_key("abilities", code=(*code, lexicon, model_module), model=checkpoint.model, step=checkpoint.step,
                           weights=checkpoint.weights_hash, task=task, n=n, seed=seed, dtype=dtype, **options)


def measure_abilities(suite: Suite, models: list[str], tasks: list[str], store: Store, steps: dict | None = None,
                      n: int = 200, seed: int = 42, device: str = "cpu", dtype: torch.dtype = torch.float32,
                      progress: bool = True) -> pd.DataFrame:
    """Answers of every model, checkpoint and task: one row per prompt, columns model, step, tokens_seen, task and
    those of `task_performance` or `repetition`.

    `steps`: {model: steps}, default all of the suite. `tasks` may include "repetition". `n` is the number of prompts
    asked for; a task with fewer items gives all it has. Ctrl-C loses at most the checkpoint in hand.
    """
    plan = [(m, s) for m in models for s in (steps or {}).get(m, suite.steps(m))]
    frames = []
    for name, step in tqdm(plan, desc="abilities", unit="checkpoint", disable=not progress):
        checkpoint = suite.checkpoint(name, step)
        load = cache(partial(checkpoint.load, device=device, dtype=dtype))        # once, and only if it is needed
        for task in tasks:
            key = ability_key(checkpoint, task, n, seed, dtype)
            frame = store.table(key, lambda: repetition(load(), seed=seed) if task == REPETITION
                                else task_performance(load(), task, n, seed))
            frames.append(frame.assign(model=name, step=step, tokens_seen=checkpoint.tokens_seen, task=task))
    return pd.concat(frames, ignore_index=True)


def summarise(answers: pd.DataFrame, value: str = "metric", draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean over prompts of a measure at each checkpoint, with a 95 % bootstrap interval.

    Returns columns model, step, tokens_seen, task, mean, low, high, prompts.
    """
    rows = []
    for (name, task, step), part in answers.groupby(["model", "task", "step"], sort=False):
        values = part[value].to_numpy(dtype=float)
        low, high = interval(bootstrap_draws(len(values), draws, seed) @ values)
        rows.append({"model": name, "step": step, "tokens_seen": part["tokens_seen"].iloc[0], "task": task,
                     "mean": values.mean(), "low": low, "high": high, "prompts": len(values)})
    return pd.DataFrame(rows)


def emergences(answers: pd.DataFrame, task: str, share: float, value: str = "metric", **options) -> dict[str, Emergence]:
    """For each model: when its ability at `task` reached `share` of its final value (see `stats.emergence`).

    A model whose final value of the task's own metric is not beyond doubt above `LEAST` has no ability to date.
    """
    least = LEAST.get(task, 0.0) if value == "metric" else 0.0
    found = {}
    for name, part in answers[answers["task"] == task].groupby("model", sort=False):
        table = part.pivot(index="tokens_seen", columns="prompt", values=value).sort_index()
        found[name] = emergence(table.index.to_numpy(), table.to_numpy(), share, least=least, **options)
    return found


@dataclass(frozen=True)
class Sameness:
    """How far apart several emergence points are: slowest over quickest, with its interval, and what follows."""

    fold: float
    low: float
    high: float
    answer: str                  # "yes", "no" or "can't tell"


def same_tokens(found: dict[str, Emergence], bound: float = 2.0, level: float = 0.95) -> Sameness:
    """Do the models reach it after the same number of tokens, that is within a factor of `bound`?

    "no" where the whole interval of the ratio lies above the bound, "yes" where it lies below, else "can't tell".
    The interval resamples prompts; it knows nothing of other seeds. Models that never get there are left out; with
    fewer than two left the answer is "can't tell".
    """
    there = [e for e in found.values() if len(e.samples)]
    if len(there) < 2:
        return Sameness(np.nan, np.nan, np.nan, "can't tell")
    fold = float(fold_range(np.array([e.tokens for e in there])))
    low, high = map(float, interval(fold_range(np.stack([e.samples for e in there])), level))
    return Sameness(fold, low, high, "no" if low > bound else "yes" if high < bound else "can't tell")
