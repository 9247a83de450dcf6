"""What a model would say next: its most probable tokens after a prompt, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.measurement import Steps, at_checkpoints
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task


def best_next_words(model: Model, *, task: Task, prompts: int, seed: int, k: int) -> pd.DataFrame:
    """The `k` most probable tokens after each of the first prompts of a task, best first.

    Columns: prompt (its number), clean and corrupted (its texts), of (which of the two is read),
    rank (from 0), word (the token, decoded), probability.
    """
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    rows = []
    for name, tokens in (("clean", pairs.clean), ("corrupted", pairs.corrupted)):
        probabilities = model.logits(tokens, pairs.end).float().softmax(-1).cpu()
        best = probabilities.topk(k)
        for i, texts in enumerate(pairs.table[["clean", "corrupted"]].itertuples(index=False)):
            words = [str(model.tokenizer.decode([token])) for token in best.indices[i].tolist()]
            for rank, (word, p) in enumerate(zip(words, best.values[i].tolist(), strict=True)):
                rows.append((i, *texts, name, rank, word, p))
    columns = ["prompt", "clean", "corrupted", "of", "rank", "word", "probability"]
    return pd.DataFrame(rows, columns=columns)


def measure_next_words(
    suite: Suite,
    models: Sequence[str],
    tasks: Sequence[str],
    store: Store,
    recipe: Recipe | str = "robust",
    steps: Steps | None = None,
    *,
    prompts: int = 2,
    k: int = 5,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """`best_next_words` at every model, checkpoint and task: with columns model, step and task."""
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    what: dict[str, Any] = {"prompts": prompts, "seed": recipe.seed, "k": k}
    frames = []
    for here in at_checkpoints(suite, models, store, what="next words", steps=steps, **where):
        for task in tasks:
            table = here.table("next-words", best_next_words, task=get_task(task), **what)
            place = here.checkpoint
            about = {"model": place.model, "step": place.step, "task": task}
            frames.append(table.assign(**about))
    return pd.concat(frames, ignore_index=True)
