"""Self-repair and swaps over training: what the story of Figure 3 needs besides scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from circuitbook.heads.ablation import ablate, repair_over_text
from circuitbook.heads.names import Head
from circuitbook.heads.swaps import metric_of, swap_heads
from circuitbook.model.architectures import network_of
from circuitbook.model.loaded import Model
from circuitbook.store import Store
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.measurement import Measurer, at_places
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task, ioi
from circuitbook.tasks.sequences import documents, text_file

CARRIES = 0.05  # a head carries IOI if it makes this share of the whole effect directly


@dataclass(frozen=True, eq=False)
class Repaired:
    """Self-repair at one checkpoint; see `measure_repair`."""

    model: str
    step: int
    tokens_seen: int
    carriers: list[Head]
    ioi: dict[str, np.ndarray]
    """Of `Ablated`: before, after, expected [n], direct_before, direct_after [L, H, n]; by_heads,
    by_mlps and by_norm [n], which add up to after - expected."""
    text: dict[str, np.ndarray]
    """Of `repair_over_text`: direct, total [L * H]; by_heads, by_mlps and by_norm [L * H], which
    add up to direct - total."""


def carriers_of(scores: HeadScores) -> list[Head]:
    """Heads whose direct effect is beyond `CARRIES` of the whole effect; none at a checkpoint that
    does not do IOI.
    """
    if not scores.able:
        return []
    return [scores.heads[row] for row in (scores.score("direct") < -CARRIES).nonzero()[0]]


def repair_arrays(
    model: Model,
    *,
    carriers: list[Head],
    how: str,
    prompts: int,
    texts: int,
    length: int,
    seed: int,
    text: str | None,
) -> dict[str, np.ndarray]:
    """What `Repaired` keeps: "ioi.before", ... of the carriers taken out, "text.direct", ... of
    each head over texts.
    """
    arrays: dict[str, np.ndarray] = {}
    if carriers:
        done = ablate(model, ioi.TASK.prompts(model.tokenizer, n=prompts, seed=seed), carriers, how)
        kept = {
            "before": done.before,
            "after": done.after,
            "expected": done.expected,
            "direct_before": done.direct_before,
            "direct_after": done.direct_after,
            "by_heads": done.by_heads,
            "by_mlps": done.by_mlps.sum(0),
            "by_norm": done.by_norm,
        }
        arrays |= {f"ioi.{name}": values.float().numpy() for name, values in kept.items()}
    tokens = documents(model, texts, length, text, seed)
    if tokens is not None:
        repaired = repair_over_text(model, tokens)
        arrays |= {f"text.{name}": values.float().numpy() for name, values in repaired.items()}
    return arrays | {"empty": np.zeros(0)}


def measure_repair(
    suite: Suite,
    scores: Sequence[HeadScores],
    store: Store,
    how: str = "resample",
    *,
    prompts: int = 100,
    texts: int = 20,
    length: int = 61,
    seed: int = 42,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    text: str | None = None,
    progress: bool = True,
) -> list[Repaired]:
    """At each checkpoint of `scores`: the heads that carry IOI are taken out; and each head, over a
    text sample.
    """
    what: dict[str, Any] = {
        "how": how,
        "prompts": prompts,
        "texts": texts,
        "length": length,
        "seed": seed,
    }
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    places = [(at.model, at.step) for at in scores]
    results = []
    for at, here in zip(
        scores, at_places(suite, places, store, what="self-repair", **where), strict=True
    ):
        carriers = carriers_of(at)
        arrays = here.arrays(
            "repair", repair_arrays, carriers=carriers, text=text_file(text), **what
        )
        on_ioi, on_text = (_with_prefix(arrays, prefix) for prefix in ("ioi.", "text."))
        results.append(Repaired(at.model, at.step, at.tokens_seen, carriers, on_ioi, on_text))
    return results


def _with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def swap_table(
    *models: Model,
    tokens_seen: list[int],
    groups: dict[str, list[Head]],
    task: Task,
    prompts: int,
    seed: int,
) -> pd.DataFrame:
    """Heads of later models put into earlier ones: see `measure_swaps`."""
    networks = [network_of(model) for model in models]
    pairs = task.prompts(models[0].tokenizer, n=prompts, seed=seed)
    own = [float(metric_of(network, pairs).double().mean()) for network in networks]
    rows = []
    for i, target in enumerate(
        tqdm(networks, desc="swaps", unit="checkpoint", leave=False, disable=None)
    ):
        for j, source in list(enumerate(networks))[i + 1 :]:
            for name, group in groups.items():
                metric = metric_of(swap_heads(target, source, group), pairs)
                row = {"group": name, "target": tokens_seen[i], "source": tokens_seen[j]}
                row |= {
                    "metric": float(metric.double().mean()),
                    "own": own[i],
                    "source_own": own[j],
                }
                rows.append(row)
    return pd.DataFrame(rows)


def measure_swaps(
    suite: Suite,
    model: str,
    groups: dict[str, Sequence[Head]],
    store: Store,
    steps: Sequence[int] | None = None,
    *,
    task: str = "ioi",
    prompts: int = 100,
    seed: int = 42,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """Heads of later checkpoints put into earlier ones: a row per group, target and source, with
    the task's mean metric.

    Columns: group, target, source (tokens seen), metric (of the patchwork), own (of the target as
    it was), source_own. All checkpoints are held in memory at once.
    """
    checkpoints = tuple(suite.checkpoint(model, step) for step in steps or suite.steps(model))
    here = Measurer(checkpoints, store, device, dtype)
    return here.table(
        "swaps",
        swap_table,
        tokens_seen=[one.tokens_seen for one in checkpoints],
        groups={name: list(group) for name, group in groups.items()},
        task=get_task(task),
        prompts=prompts,
        seed=seed,
    )
