"""The training log: loss along the way, and what the saved checkpoints can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from circuitbook.mini.tokenizer import EOS, split
from circuitbook.mini.train import CONTEXT, TOKENS_PER_STEP
from circuitbook.studies.abilities import repetition, task_performance
from circuitbook.suites.suite import Suite
from circuitbook.tasks.registry import TASKS
from circuitbook.tasks.stories.documents import document
from circuitbook.tasks.stories.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LOSS_WINDOW = 32  # updates that one row's training loss is the mean of


def fresh_text(
    tokenizer: PreTrainedTokenizerBase, *, rows: int = 64, seed: int = 7
) -> torch.Tensor:
    """Documents that no training run has seen (their own seed), as token ids int64 [rows, 64]."""
    rng = World(f"circuitbook mini held-out {seed}")
    stream: list[str] = []
    while len(stream) < rows * CONTEXT:
        stream += [EOS, *split(document(rng))]
    return torch.tensor(tokenizer.convert_tokens_to_ids(stream[: rows * CONTEXT])).view(
        rows, CONTEXT
    )


def training_log(
    suite: Suite, name: str, losses: list[float], *, n: int = 200, seed: int = 42
) -> pd.DataFrame:
    """One row per `LOSS_WINDOW` updates and per checkpoint.

    Columns: step; tokens_seen; training_loss (nats per token, mean of the updates since the row
    before); and at checkpoints fresh_loss (documents of another seed) and, on held-out items, the
    mean of every task's own metric with its accuracy, and of the gain in log probability on
    repeated random words.
    """
    steps = set(suite.steps(name))
    marks = sorted(steps | set(range(0, len(losses) + 1, LOSS_WINDOW)))
    rows, before = [], 0
    for step in marks:
        row = {
            "step": step,
            "tokens_seen": step * TOKENS_PER_STEP,
            "training_loss": float(np.mean(losses[before:step])) if step > before else np.nan,
        }
        before = step
        if step in steps:
            model = suite.checkpoint(name, step).load()
            text = fresh_text(model.tokenizer)
            logp = model.logits(text)[:, :-1].float().log_softmax(-1)
            row["fresh_loss"] = -logp.gather(2, text[:, 1:, None]).mean().item()
            for task in TASKS:
                answers = task_performance(model, task, n=n, seed=seed)
                row[task] = answers["metric"].mean()
                row[f"{task}_accuracy"] = answers["accuracy"].mean()
            row["repetition"] = repetition(model, seed=seed)["metric"].mean()
        rows.append(row)
    return pd.DataFrame(rows)
