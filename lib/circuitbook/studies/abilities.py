"""What a model can do at each checkpoint: the paper's section 3.1 and Figure 1.

One row per prompt, so that intervals can be had later without the model. Everything goes through
the store, one entry per checkpoint and task; a checkpoint is loaded once, and only if something
about it has not been measured yet.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from circuitbook.circuits.not_finite import refuse_not_finite
from circuitbook.model.loaded import Model
from circuitbook.stats import (
    Emergence,
    Verdict,
    bootstrap_draws,
    decide,
    emergence,
    interval,
    spread,
)
from circuitbook.store.disk import Store
from circuitbook.studies.measurement import Steps, at_checkpoints
from circuitbook.studies.runs import Estimate, over_runs, runs_of
from circuitbook.suites.suite import Suite
from circuitbook.tasks.base import Task
from circuitbook.tasks.registry import TASKS, get_task
from circuitbook.tasks.sequences import ordinary_tokens

AT_ONCE = 16  # sequences whose logits are there at the same time: real vocabularies are large
REPETITION = "repetition"  # not a task of the paper: are repeated random sequences predicted?


# What we call an ability at all, in each task's own metric: odds of e to one, a tenth of the
# probability, a nat.
MIN_METRIC = {name: task.min_metric for name, task in TASKS.items()} | {REPETITION: 1.0}


def task_performance(
    model: Model, task: str, n: int, seed: int = 42, **options: Any
) -> pd.DataFrame:
    """The model's answers to `n` prompts of a task, by name: see `answers_to`."""
    return answers_to(model, task=get_task(task), n=n, seed=seed, **options)


def answers_to(
    model: Model, *, task: Task, n: int, seed: int = 42, batch_size: int = 256, **options: Any
) -> pd.DataFrame:
    """The model's answers to `n` prompts of a task: one row per prompt.

    Columns: prompt (0..n-1), clean (its text), the task's own description of the prompt (kind,
    words ...), `metric` (the task's own), every measure of `PromptPairs.measures`, and
    `corrupted_metric` (the corrupted prompt scored with the clean labels, as in the paper). Logits
    are those at END, in the model's dtype; sums are float32.
    """
    pairs = task.prompts(model.tokenizer, n=n, seed=seed, **options)
    columns: dict[str, list] = {}
    for index in torch.arange(len(pairs)).split(batch_size):
        part = pairs.subset(index)
        logits, corrupted = (
            model.logits(tokens, part.end) for tokens in (part.clean, part.corrupted)
        )
        values = part.measures(logits) | {
            "metric": part.metric(logits),
            "corrupted_metric": part.metric(corrupted),
        }
        for name, value in values.items():
            columns.setdefault(name, []).append(value.float().cpu())
    measured = pd.DataFrame({name: torch.cat(parts).numpy() for name, parts in columns.items()})
    for name in ("metric", "corrupted_metric"):
        refuse_not_finite(model, pairs, torch.tensor(measured[name].to_numpy()))
    table = pd.concat([pairs.table.reset_index(drop=True), measured], axis=1)
    return table.rename_axis("prompt").reset_index()


def repetition(model: Model, n: int = 64, length: int = 24, seed: int = 42) -> pd.DataFrame:
    """Prediction of random sequences that are said twice (as the authors' code does): what
    induction heads are for.

    `n` sequences of `length` tokens, uniform over `ordinary_tokens`, each repeated once. One row
    per sequence: `first` and `second`, mean log probability (nats) of the tokens of each half
    without its first one; `metric` is the gain, second - first; `accuracy` the share of argmax hits
    in the second half.
    """
    pool = ordinary_tokens(model)
    sequence = pool[
        torch.randint(len(pool), (n, length), generator=torch.Generator().manual_seed(seed))
    ]
    columns: dict[str, list[Tensor]] = {"first": [], "second": [], "accuracy": []}
    for part in sequence.to(model.device).split(AT_ONCE):
        tokens = torch.cat([part, part], dim=1)  # one line, said twice
        logp = model.logits(tokens)[:, :-1].float().log_softmax(-1)
        hit = logp.gather(2, tokens[:, 1:, None])[..., 0]
        right = logp[:, length:].argmax(-1) == tokens[:, length + 1 :]
        columns["first"].append(hit[:, : length - 1].mean(1))
        columns["second"].append(hit[:, length:].mean(1))
        columns["accuracy"].append(right.float().mean(1))
    measured = pd.DataFrame({name: torch.cat(parts).cpu() for name, parts in columns.items()})
    gain = measured["second"] - measured["first"]
    return measured.assign(prompt=range(n), metric=gain)


def measure_abilities(
    suite: Suite,
    models: Sequence[str],
    tasks: Sequence[str],
    store: Store,
    steps: Steps | None = None,
    *,
    n: int = 200,
    seed: int = 42,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """Answers of every model, checkpoint and task: one row per prompt, columns model, step,
    tokens_seen, task and those of `answers_to` or `repetition`.

    `steps`: {model: steps}, default all of the suite. `tasks` may include "repetition". `n` is the
    number of prompts asked for; a task with fewer items gives all it has. Ctrl-C loses at most the
    measurement in hand.
    """
    frames = []
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    for here in at_checkpoints(suite, models, store, what="abilities", steps=steps, **where):
        checkpoint = here.checkpoint
        for task in tasks:
            if task == REPETITION:
                frame = here.table("abilities", repetition, seed=seed)
            else:
                frame = here.table("abilities", answers_to, task=get_task(task), n=n, seed=seed)
            about = {
                "model": checkpoint.model,
                "step": checkpoint.step,
                "tokens_seen": checkpoint.tokens_seen,
            }
            frames.append(frame.assign(**about, task=task))
    return pd.concat(frames, ignore_index=True)


def summarise(
    answers: pd.DataFrame, value: str = "metric", draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Mean over prompts of a measure at each checkpoint, with a 95% bootstrap interval.

    Returns columns model, step, tokens_seen, task, mean, low, high, prompts.
    """
    rows = []
    for (model, task, step), part in answers.groupby(["model", "task", "step"], sort=False):
        values = part[value].to_numpy(dtype=float)
        low, high = interval(bootstrap_draws(len(values), draws, seed) @ values)
        row = {"model": model, "step": step, "tokens_seen": part["tokens_seen"].iloc[0]}
        row |= {"task": task, "mean": values.mean(), "low": low, "high": high}
        rows.append(row | {"prompts": len(values)})
    return pd.DataFrame(rows)


def emergences(
    answers: pd.DataFrame, task: str, share: float, value: str = "metric", **options: Any
) -> dict[str, Emergence]:
    """For each model: when its ability at `task` reached `share` of its final value (see
    `stats.emergence`).

    A model whose final value of the task's own metric is not beyond doubt above `MIN_METRIC` has no
    ability to date.
    """
    if value != "metric":
        options["min_value"] = 0.0
    elif task in MIN_METRIC:
        options["min_value"] = MIN_METRIC[task]
    else:  # one's own
        options["min_value"] = TASKS[task].min_metric if task in TASKS else 0.0
    onsets: dict[str, Emergence] = {}
    for model, part in answers[answers["task"] == task].groupby("model", sort=False):
        table = part.pivot(index="tokens_seen", columns="prompt", values=value).sort_index()
        tokens = table.index.to_numpy()
        gaps = zlib.crc32(f"{model} {task}".encode())
        onsets[model] = emergence(tokens, table.to_numpy(), share, gap_seed=gaps, **options)
    return onsets


@dataclass(frozen=True)
class OnsetComparison:
    """How far apart several emergence points are: slowest over quickest, with its interval, and
    what follows of the claim that they are alike.
    """

    ratio: float
    low: float
    high: float
    verdict: Verdict

    @property
    def answer(self) -> str:
        """ "yes", they are alike; "no"; or "can't tell"."""
        words = {Verdict.HOLDS: "yes", Verdict.FAILS: "no"}
        return words.get(self.verdict, str(self.verdict))


def compare_onsets(
    onsets: Mapping[str, Emergence],
    bound: float = 2.0,
    level: float = 0.95,
    *,
    sizes: Sequence[str] | None = None,
    seeds: Sequence[Sequence[str]] = (),
) -> OnsetComparison:
    """Do the models reach it after the same number of tokens, that is within a factor of `bound`?

    They do where the whole interval of the ratio lies below the bound, and do not where it lies
    above; else we can't tell. The interval resamples prompts, and draws each date between its two
    checkpoints. `sizes`: the models that are compared, default all; `seeds`: groups of runs of one
    size among the onsets, which are resampled too (see `runs.over_runs`).

    A size at which it is not there at the end is later than that: the ratio is then that much at
    least. Where it may be there, or was not measured, in one of them, or with fewer than two dates,
    we can't tell.
    """
    names = list(onsets) if sizes is None else [name for name in sizes if name in onsets]
    found = slowest_over_quickest(onsets, names, seeds)
    if found is None:
        return OnsetComparison(np.nan, np.nan, np.nan, Verdict.OPEN)
    low, high = (float(end) for end in interval(found.samples, level))
    return OnsetComparison(found.value, low, high, decide(-high, -low, -bound))


def slowest_over_quickest(
    onsets: Mapping[str, Emergence], sizes: Sequence[str], seeds: Sequence[Sequence[str]] = ()
) -> Estimate | None:
    """The ratio of `compare_onsets` and samples of it, or None with fewer than two dates.

    Where a size has none, because it is not there at the end or is not known to be, the ratio may
    be anything above: the upper half of the samples is infinite.
    """
    dates, later = dates_of_sizes(onsets, sizes, seeds)
    if len(dates) < 2 or len(later) == len(dates):
        return None
    samples = np.stack([date.samples for date in dates.values()])
    ratio, ratios = spread(np.array([date.value for date in dates.values()]), samples)
    ratios = np.exp(ratios)
    if later or len(dates) < len(sizes):
        ratios[len(ratios) // 2 :] = np.inf
    return Estimate(float(np.exp(ratio)), ratios)


def dates_of_sizes(
    onsets: Mapping[str, Emergence], sizes: Sequence[str], seeds: Sequence[Sequence[str]]
) -> tuple[dict[str, Estimate], set[str]]:
    """Natural logarithms of the tokens at which each size reached it, as far as they are known; and
    the sizes at which it is known not to be there by the last checkpoint, whose date that is then.

    A size of which a run may have it or may not, or was not measured, has no date.
    """
    groups = {size: [run for run in runs_of(size, seeds) if run in onsets] for size in sizes}
    draws = min((len(onset.samples) for onset in onsets.values() if len(onset.samples)), default=1)
    logs = {}
    for name, onset in onsets.items():
        if len(onset.samples):
            tokens = np.maximum(onset.samples[:draws], 1.0)
            logs[name] = Estimate(float(np.log(max(onset.tokens, 1.0))), np.log(tokens))
        elif not np.isnan(onset.absent_until):
            logs[name] = Estimate.exact(float(np.log(max(onset.absent_until, 1.0))), draws)
    known = [size for size, runs in groups.items() if all(run in logs for run in runs)]
    later = {size for size in known if any(not len(onsets[run].samples) for run in groups[size])}
    return over_runs(logs, known, seeds), later
