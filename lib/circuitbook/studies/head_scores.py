"""What attention heads do: scores of every head at every checkpoint (Tigges et al. 2024, sections
3.2 and 4.1).

    previous, duplicate, induction    attention on random sequences that are said twice: to the
                                      token before, to the same token, and to the one that followed
                                      it the first time (Olsson et al. 2022)
    successor                         does it turn Monday into Tuesday (Gould et al. 2023)
    copy, negative_copy               does it raise, or lower, the name that it looks at (Wang et
                                      al. 2023)
    copy_suppression                  how much of its effect on text is: lower what is predicted
                                      already and stood before (CSPA, McDougall et al. 2023)
    to_IO, to_S1, to_S2               attention from END, on IOI (or another task of names)
    direct                            direct effect on it, by path patching; negative helps
    s_inhibition ...                  what it does to where the name movers look, by path patching

Scores come per item (sequence, pair of words, prompt, document), so that intervals can be had later
without the model. Heads are rows: row = layer * n_heads + head. All of one checkpoint are measured
with one loading of it, in several entries of the store, so that an interruption loses only the one
in hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from circuitbook.circuits.batches import check_pairs
from circuitbook.heads.attention import REPEATED, attention_from_end, repeat_scores
from circuitbook.heads.copy_suppression import copy_suppression, function_tokens
from circuitbook.heads.copying import copy_hits
from circuitbook.heads.names import Head, all_heads
from circuitbook.heads.path_patching import baselines, path_patch
from circuitbook.heads.s_inhibition import S_INHIBITION, s_inhibition
from circuitbook.heads.successor import successor_hits, successor_pairs
from circuitbook.model.architectures import network_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import HeadSettings, Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.measurement import Steps, as_array, at_checkpoints, refuse_arrays
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task, ioi
from circuitbook.tasks.lexicon import STORIES, lexicon_for
from circuitbook.tasks.sequences import documents, repeated_sequences, text_file

PLACES = ("IO", "S1", "S2")
SCORE_KINDS = (
    *REPEATED,
    "successor",
    "copy",
    "negative_copy",
    "copy_suppression",
    "to_IO",
    "to_S1",
    "to_S2",
)
TITLES = {
    "previous": "Previous token",
    "duplicate": "Duplicate token",
    "induction": "Induction",
    "successor": "Successor",
    "copy": "Name mover (copy score)",
    "negative_copy": "Negative copy score",
    "copy_suppression": "Copy suppression",
    "to_IO": "Attention to IO",
    "to_S1": "Attention to S1",
    "to_S2": "Attention to S2",
    "direct": "Direct effect on IOI",
}


@dataclass(frozen=True, eq=False)
class HeadScores:
    """All that was measured of one checkpoint's heads; arrays [head, items], see `SCORE_KINDS`."""

    model: str
    step: int
    tokens_seen: int
    n_heads: int  # per layer
    arrays: dict[str, np.ndarray]
    task: Task = ioi.TASK  # of names, that heads were measured on: see `Recipe.names_task`

    @property
    def heads(self) -> list[tuple[int, int]]:
        return [divmod(row, self.n_heads) for row in range(len(self.arrays["previous"]))]

    @property
    def able(self) -> bool:
        """Whether the model does the task of names here at all; before that, shares of its logit
        difference mean nothing.
        """
        return float(self.arrays["clean"].mean()) > self.task.min_metric

    @property
    def movers(self) -> list[tuple[int, int]]:
        """The name movers of this checkpoint, by the recipe's rule."""
        return [self.heads[row] for row in self.arrays["movers"].nonzero()[0]]

    def score(self, kind: str, weights: np.ndarray | None = None) -> np.ndarray:
        """[head]; with `weights` [draws, items] (see `stats.bootstrap_draws`) [draws, head].

        For "direct": the change of the mean logit difference, over the clean one less the corrupted
        one (the authors' e(h)).
        """
        mean = (lambda a: a.mean(-1)) if weights is None else (lambda a: weights @ a.T)
        if kind == "copy_suppression":
            if "cspa_kept" not in self.arrays:
                return np.full(len(self.heads), np.nan)
            kept, ablated = mean(self.arrays["cspa_kept"]), mean(self.arrays["cspa_ablated"])
            return np.where(ablated <= 1e-9, 0.0, 1 - kept / np.maximum(ablated, 1e-9))
        if kind == "direct":
            clean, corrupted = (mean(self.arrays[name][None]) for name in ("clean", "corrupted"))
            return (mean(self.arrays["direct"]) - clean) / (clean - corrupted)
        return mean(self.arrays[kind].astype(float))

    def items(self, kind: str) -> int:
        """On how many prompts, texts or sequences a score was measured."""
        return self.arrays[_array_of(kind)].shape[-1]

    def has(self, kind: str) -> bool:
        """Whether the score was measured."""
        return _array_of(kind) in self.arrays

    def table(self) -> pd.DataFrame:
        """One row per head: model, step, tokens_seen, layer, head, every score, s_inhibition's
        columns (nan without movers).
        """
        frame = pd.DataFrame(
            {
                "model": self.model,
                "step": self.step,
                "tokens_seen": self.tokens_seen,
                "layer": [layer for layer, _ in self.heads],
                "head": [head for _, head in self.heads],
            }
        )
        for kind in (*SCORE_KINDS, "direct"):
            frame[kind] = self.score(kind)
        for i, name in enumerate(S_INHIBITION):
            known = "s_inhibition" in self.arrays
            frame[f"s_inhibition_{name}"] = self.arrays["s_inhibition"][:, i] if known else np.nan
        return frame.assign(mover=self.arrays["movers"].astype(bool))


def _array_of(kind: str) -> str:
    return "cspa_kept" if kind == "copy_suppression" else kind


# ---- the parts: each is one entry of the store


def _floats(arrays: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: as_array(array.float()) for name, array in arrays.items()}


def repeated_part(
    model: Model, *, sequences: int, length: int, story_length: int, seed: int, as_published: bool
) -> dict[str, np.ndarray]:
    """On repeated random sequences: previous, duplicate, induction, each [head, sequence]."""
    length = story_length if lexicon_for(model.tokenizer) is STORIES else length
    tokens = repeated_sequences(model, sequences, length, seed).to(model.device)
    return _floats(repeat_scores(network_of(model), tokens, length, as_published))


def successor_part(model: Model, *, norms: bool, as_published: bool) -> dict[str, np.ndarray]:
    """{"successor": [head, pair]}."""
    pairs = successor_pairs(model.tokenizer)
    return _floats({"successor": successor_hits(network_of(model), pairs, norms, as_published)})


def copying_part(
    model: Model, *, task: Task, prompts: int, seed: int, norms: bool
) -> dict[str, np.ndarray]:
    """copy and negative_copy, each [head, prompt]."""
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    check_pairs(model, pairs)
    names = torch.stack([pairs.positions[place] for place in PLACES], 1).to(model.device)
    raised, lowered = copy_hits(network_of(model), pairs.clean.to(model.device), names, norms)
    return _floats({"copy": raised, "negative_copy": lowered})


def attention_part(
    model: Model, *, task: Task, prompts: int, seed: int, as_published: bool
) -> dict[str, np.ndarray]:
    """to_IO, to_S1 and to_S2, attention from END, each [head, prompt]."""
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    found = {}
    for place, attention in attention_from_end(network_of(model), pairs, PLACES).items():
        if as_published:  # their index takes a prompt for a head: every head gets a mean of heads
            rows = torch.arange(len(attention)) % attention.shape[1]
            attention = attention.mean(0)[rows][:, None].expand(-1, attention.shape[1])
        found[f"to_{place}"] = attention
    return _floats(found)


def direct_part(model: Model, *, task: Task, prompts: int, seed: int) -> dict[str, np.ndarray]:
    """clean and corrupted logit differences [prompt], direct [head, prompt], and n_heads of a
    layer.
    """
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    clean, corrupted = baselines(model, pairs)
    direct = path_patch(model, pairs, all_heads(model), ["logits"]).metric
    measured = _floats({"clean": clean, "corrupted": corrupted, "direct": direct})
    return measured | {"n_heads": np.array(model.shape.n_heads)}


def suppression_part(
    model: Model,
    *,
    texts: int,
    positions: int,
    evaluated: int,
    text: str | None,
    seed: int,
    as_published: bool,
) -> dict[str, np.ndarray]:
    """cspa_kept and cspa_ablated, each [head, document]; nothing where there is no text to measure
    on.
    """
    tokens = documents(model, texts, positions, text, seed)
    if tokens is None:
        return {}
    function = function_tokens(model.tokenizer)
    kept, ablated = copy_suppression(
        network_of(model), tokens.to(model.device), function, evaluated, as_published=as_published
    )
    return _floats({"cspa_kept": kept, "cspa_ablated": ablated})


def inhibition_part(
    model: Model, *, task: Task, prompts: int, seed: int, movers: list[Head]
) -> dict[str, np.ndarray]:
    """{"s_inhibition": [head, 5]}; nothing where there is no name mover."""
    if not movers:
        return {}
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
    return {"s_inhibition": s_inhibition(model, pairs, movers, seed, task).astype(np.float32)}


def _parts(
    settings: HeadSettings, task: Task, seed: int, text: str | None
) -> dict[str, tuple[Callable, dict]]:
    """{kind in the store: (function, its arguments)} of all but the last part, which needs the
    others.
    """
    s, names = settings, {"task": task, "prompts": settings.prompts, "seed": seed}
    lengths = {"sequences": s.sequences, "length": s.length, "story_length": s.story_length}
    texts = {
        "texts": s.documents,
        "positions": s.positions,
        "evaluated": s.evaluated,
        "text": text_file(text),
    }
    published = {"as_published": s.as_published}
    return {
        "heads-repeated": (repeated_part, lengths | published | {"seed": seed}),
        "heads-successor": (successor_part, published | {"norms": s.norms}),
        "heads-copying": (copying_part, names | {"norms": s.norms}),
        "heads-attention": (attention_part, names | published),
        "heads-direct": (direct_part, names),
        "heads-suppression": (suppression_part, texts | published | {"seed": seed}),
    }


def name_movers(
    arrays: dict[str, np.ndarray], settings: HeadSettings, task: Task = ioi.TASK
) -> np.ndarray:
    """bool [head]: copies names more often than `copy_bar`, and helps the task directly by more
    than `direct_bar`.
    """
    scores = HeadScores("", 0, 0, int(arrays["n_heads"]), arrays, task)
    with np.errstate(all="ignore"):
        direct = scores.score("direct")
    found = (scores.score("copy") > settings.copy_bar) & (direct < -settings.direct_bar)
    return found if scores.able or settings.as_published else np.zeros_like(found)


def _assembled(
    settings: HeadSettings,
    task: Task,
    seed: int,
    text: str | None,
    measure: Callable[..., dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint, every part by `measure(kind, function, **arguments)`."""
    arrays: dict[str, np.ndarray] = {}
    for kind, (function, arguments) in _parts(settings, task, seed, text).items():
        arrays |= measure(kind, function, **arguments)
    arrays["movers"] = name_movers(arrays, settings, task)
    movers = [divmod(int(row), int(arrays["n_heads"])) for row in arrays["movers"].nonzero()[0]]
    arguments = {"task": task, "prompts": settings.prompts, "seed": seed, "movers": movers}
    return arrays | measure("heads-inhibition", inhibition_part, **arguments)


def score_heads(
    model: Model,
    settings: HeadSettings,
    seed: int = 42,
    text: str | None = None,
    task: Task = ioi.TASK,
) -> dict[str, np.ndarray]:
    """All scores of one model's heads, without a store: see `HeadScores.arrays`."""

    def measured(kind: str, function: Callable, **what: Any) -> dict[str, np.ndarray]:
        arrays = function(model, **what)
        refuse_arrays([model], kind, arrays, what)
        return arrays

    return _assembled(settings, task, seed, text, measured)


def measure_heads(
    suite: Suite,
    models: Sequence[str],
    store: Store,
    recipe: Recipe | str = "robust",
    steps: Steps | None = None,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    text: str | None = None,
    progress: bool = True,
) -> list[HeadScores]:
    """The scores of all heads of every model and checkpoint, in that order.

    `steps`: {model: steps}, default all of the suite. `text`: see `documents`. Ctrl-C loses at most
    one kind of score of the checkpoint in hand.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    results, task = [], get_task(recipe.names_task)
    for here in at_checkpoints(suite, models, store, what="heads", steps=steps, **where):
        arrays = _assembled(recipe.heads, task, recipe.seed, text, here.arrays)
        n_heads, place = int(arrays.pop("n_heads")), here.checkpoint
        tokens = cast(int, place.tokens_seen)  # None only if the suite does not say
        results.append(HeadScores(place.model, place.step, tokens, n_heads, arrays, task))
    return results
