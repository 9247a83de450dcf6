"""Circuits that are given, not searched for: how well a checkpoint does a task with only their
edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from circuitbook.circuits.corrupted import CorruptedRuns
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.model.loaded import Model
from circuitbook.studies.held_out import next_prompts
from circuitbook.studies.measurement import Measurer
from circuitbook.tasks import Task, get_task


def metric_of_masks(
    model: Model, *, task: Task, masks: np.ndarray, prompts: int, seed: int, options: dict
) -> dict[str, np.ndarray]:
    """{"metric": float64 [2 + mask, n]}: see `measure_masks`; masks bool [mask, src, dst]."""
    pairs = next_prompts(task, model.tokenizer, prompts, seed, **options)
    if pairs is None:
        pairs = task.prompts(model.tokenizer, n=prompts, seed=seed, **options)
    runs = CorruptedRuns(model, pairs)
    metrics = list(runs.baselines())
    if len(masks):
        metrics += list(evaluate_masks(model, pairs, list(masks), runs=runs))
    return {"metric": torch.stack(metrics).double().numpy()}


def measure_masks(
    here: Measurer,
    task: str,
    masks: Sequence[np.ndarray],
    *,
    prompts: int,
    seed: int = 42,
    **options: object,
) -> np.ndarray:
    """The task's metric of each prompt at one checkpoint with only these circuits' edges, float64
    [2 + mask, n].

    On prompts that no circuit was found on: those behind the first `prompts` of a draw, see
    `next_prompts`; on the first ones where a task has no others. masks: bool [src, dst] each. The
    first two rows are the full model's metric on the clean and on the corrupted prompts. `options`
    are the task's (ioi: corruption="abc").
    """
    stacked = np.array(masks, dtype=bool)
    what = {
        "task": get_task(task),
        "masks": stacked,
        "prompts": prompts,
        "seed": seed,
        "options": options,
    }
    return here.arrays("masks", metric_of_masks, **what)["metric"]
