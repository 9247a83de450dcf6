"""What goes wrong easily in such an analysis, measured: the slips of the authors' public code, and
traps of the method.

Each function does a thing both ways on checkpoints of the suite at hand and returns the difference,
one row per case. All go through the store. That a slip is in the public code does not say that it
is in the paper's figures: versions differ.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from circuitbook.heads.attention import repeat_scores
from circuitbook.heads.copy_suppression import copy_suppression, function_tokens
from circuitbook.heads.names import Head
from circuitbook.heads.swaps import metric_of, swap_heads
from circuitbook.model.architectures import network_of
from circuitbook.model.loaded import Model
from circuitbook.stats import interval
from circuitbook.store import Store
from circuitbook.studies.head_classes import HeadClasses
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.measurement import Measurer, Place, at_places
from circuitbook.studies.self_repair import carriers_of
from circuitbook.suites import Suite
from circuitbook.tasks import Task, get_task, ioi
from circuitbook.tasks.lexicon import STORIES, lexicon_for
from circuitbook.tasks.sequences import documents, repeated_sequences, text_file

SWAP_COLUMNS = ["own", "right", "published", "source_own", "model", "step", "heads"]


# ---- swaps


def _fused_matrices(hf_model: Any) -> list[torch.nn.Linear]:
    """The query-key-value matrix of each layer of a GPT-NeoX."""
    return [layer.attention.query_key_value for layer in hf_model.base_model.layers]


def published_swap(target: Model, source: Model, which: Sequence[Head]) -> Model:
    """`target`, a GPT-NeoX, with what the stored code of the authors takes from `source` for these
    heads: columns (not rows) head * d_head ... of the fused query-key-value matrix, which are
    *input* dimensions of every head, the same slice of its bias, and no output.
    """
    out = copy.deepcopy(target.hf_model)
    ours, theirs = (_fused_matrices(hf_model) for hf_model in (out, source.hf_model))
    with torch.no_grad():
        for layer, head in which:
            part = slice(head * target.shape.d_head, (head + 1) * target.shape.d_head)
            ours[layer].weight[:, part] = theirs[layer].weight[:, part]
            ours[layer].bias[part] = theirs[layer].bias[part]
    return dataclasses.replace(target, hf_model=out)


def swap_means(
    target: Model, source: Model, *, carriers: list[Head], prompts: int, seed: int
) -> pd.DataFrame:
    """Mean IOI logit differences of a target: own, with the carriers of a source put in rightly and
    as published, and of the source. What was published slices a fused matrix; elsewhere there is
    none to slice, and it is absent.
    """
    pairs = ioi.TASK.prompts(target.tokenizer, n=prompts, seed=seed)
    ours, theirs = network_of(target), network_of(source)
    networks = {"own": ours, "right": swap_heads(ours, theirs, carriers), "source_own": theirs}
    if target.hf_model.config.model_type == "gpt_neox":
        networks["published"] = network_of(published_swap(target, source, carriers))
    means = {
        name: float(metric_of(network, pairs).double().mean()) for name, network in networks.items()
    }
    return pd.DataFrame([means])


def swap_effect(
    suite: Suite,
    scores: Sequence[HeadScores],
    store: Store,
    *,
    prompts: int = 100,
    seed: int = 42,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """The heads that carry IOI at the last checkpoint (see `self_repair.CARRIES`) put into the last
    checkpoint that does not do it yet, rightly and as published: a row per model with own, right,
    published and source_own (mean logit differences).
    """
    tables = []
    for name in dict.fromkeys(at.model for at in scores):
        mine = sorted((at for at in scores if at.model == name), key=lambda at: at.step)
        carriers = carriers_of(mine[-1])
        before = [at for at in mine if not at.able and at.step > 0]
        if not carriers or not before:
            continue
        target, source = before[-1].step, mine[-1].step
        both = (suite.checkpoint(name, target), suite.checkpoint(name, source))
        here = Measurer(both, store, device, dtype)
        table = here.table("errata", swap_means, carriers=carriers, prompts=prompts, seed=seed)
        heads = ", ".join(f"{layer}.{head}" for layer, head in carriers)
        tables.append(table.assign(model=name, step=target, heads=heads))
    if not tables:
        return pd.DataFrame(columns=SWAP_COLUMNS)
    return pd.concat(tables, ignore_index=True).reindex(columns=SWAP_COLUMNS)


# ---- other draws


def _at_each(
    suite: Suite,
    cases: Sequence[Place],
    store: Store,
    measure: Callable[..., pd.DataFrame],
    *,
    device: str,
    dtype: torch.dtype,
    **what: object,
) -> pd.DataFrame:
    """measure(model, **what) at each (model, step), with columns model and step."""
    frames = []
    for here in at_places(
        suite, cases, store, what="errata", device=device, dtype=dtype, progress=False
    ):
        frame = here.table("errata", measure, **what)
        frames.append(frame.assign(model=here.checkpoint.model, step=here.checkpoint.step))
    return pd.concat(frames, ignore_index=True)


def redraw_table(
    model: Model, *, tasks: list[Task], prompts: int, seeds: list[int]
) -> pd.DataFrame:
    """what, seed, value: mean metrics and induction scores from other draws, see `redraws`."""
    rows = []
    length = 24 if lexicon_for(model.tokenizer) is STORIES else 100
    for seed in seeds:
        for task in tasks:
            pairs = task.prompts(model.tokenizer, n=prompts, seed=seed)
            metric = pairs.metric(model.logits(pairs.clean, pairs.end)).double().mean()
            rows.append({"what": task.name, "seed": seed, "value": float(metric)})
        for n in (2, 32):
            tokens = repeated_sequences(model, n, length, seed).to(model.device)
            scores = repeat_scores(network_of(model), tokens, length)["induction"].mean(1)
            rows.append(
                {"what": f"induction, {n} sequences", "seed": seed, "value": float(scores.max())}
            )
    return pd.DataFrame(rows)


def redraws(
    suite: Suite,
    cases: Sequence[Place],
    store: Store,
    *,
    tasks: Sequence[str] = ("greater_than", "sva"),
    prompts: int = 200,
    seeds: Sequence[int] = range(8),
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """The same number from other draws of unseeded data: a row per case, what (task, or "induction"
    with 2 and 32 sequences) and seed, with `value`: the mean metric of `prompts` prompts, or the
    strongest head's induction score.
    """
    what: dict[str, Any] = {
        "tasks": [get_task(task) for task in tasks],
        "prompts": prompts,
        "seeds": list(seeds),
    }
    return _at_each(suite, cases, store, redraw_table, device=device, dtype=dtype, **what)


def suppression_table(
    model: Model,
    *,
    head: Head,
    counts: list[int],
    draws: int,
    texts: int,
    positions: int,
    text: str | None,
) -> pd.DataFrame:
    """texts, draw, value: CSPA of one head on other draws of texts, see `suppression_redraws`."""
    rows = []
    row = head[0] * model.shape.n_heads + head[1]
    function = function_tokens(model.tokenizer)
    for draw in range(draws):
        tokens = documents(model, texts, positions, text, seed=draw)
        if tokens is None:
            continue
        for count in counts:
            kept, ablated = copy_suppression(
                network_of(model), tokens.to(model.device), function, count
            )
            value = float(1 - kept[row].mean() / ablated[row].mean())
            rows.append({"texts": count, "draw": draw, "value": value})
    return pd.DataFrame(rows, columns=["texts", "draw", "value"])


def suppression_redraws(
    suite: Suite,
    cases: Sequence[Place],
    store: Store,
    head: Head,
    *,
    counts: Sequence[int] = (17, 40),
    draws: int = 4,
    documents_for_mean: int = 100,
    positions: int = 61,
    text: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """CSPA of one head on other draws of texts: a row per case, number of texts and draw, with
    `value`. Empty without a text.
    """
    what: dict[str, Any] = {
        "head": head,
        "counts": list(counts),
        "draws": draws,
        "texts": documents_for_mean,
    }
    what |= {"positions": positions, "text": text_file(text)}
    return _at_each(suite, cases, store, suppression_table, device=device, dtype=dtype, **what)


def width_by_prompts(
    head_classes: Sequence[HeadClasses],
    counts: Sequence[int] = (20, 70),
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """How wide the 95% interval of Figure 4 B is with so many prompts: model, step, prompts,
    width. Resampled from the prompts there are.
    """
    rows, rng = [], np.random.default_rng(seed)
    for classes in head_classes:
        prompts = classes.prompts
        for count in counts:
            draw = rng.multinomial(count, np.full(prompts, 1 / prompts), size=draws) / count
            shares = np.asarray(classes.share("direct", "all heads", draw))
            if np.isfinite(shares).all():
                low, high = interval(shares)
                rows.append((classes.model, classes.step, count, float(high - low)))
    return pd.DataFrame(rows, columns=["model", "step", "prompts", "width"])


# ---- where the answer is read


def position_table(model: Model, *, prompts: int, seed: int) -> pd.DataFrame:
    """padded, right, wrong: see `wrong_position`."""
    pairs = ioi.TASK.prompts(model.tokenizer, n=prompts, seed=seed)
    last = torch.full_like(pairs.end, pairs.clean.shape[1] - 1)
    right, wrong = (
        float(pairs.metric(model.logits(pairs.clean, position)).double().mean())
        for position in (pairs.end, last)
    )
    padded = float((pairs.end < last).double().mean())
    return pd.DataFrame([{"padded": padded, "right": right, "wrong": wrong}])


def wrong_position(
    suite: Suite,
    cases: Sequence[Place],
    store: Store,
    *,
    prompts: int = 70,
    seed: int = 42,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """Logits read at the last column of right-padded IOI prompts instead of END: `padded` (share of
    prompts), `right` and `wrong` (mean logit difference).
    """
    what: dict[str, Any] = {"prompts": prompts, "seed": seed}
    return _at_each(suite, cases, store, position_table, device=device, dtype=dtype, **what)
