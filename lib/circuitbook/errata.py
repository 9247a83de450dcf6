"""What goes wrong easily in such an analysis, measured: the slips of the authors' public code, and traps of the method.

Each function does a thing both ways on checkpoints of the suite at hand and returns the difference, one row per case. All go
through the store. That a slip is in the public code does not say that it is in the paper's figures: versions differ.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
import pandas as pd
import torch

from . import attribution, circuits, heads, lexicon, model as model_module, network, patching, selection
from .abilities import TASK_CODE
from .algorithm import Anatomy
from .attribution import attribute
from .formation import CARRIES
from .graph import graph_of
from .heads import HeadScores, copy_suppression, documents, function_tokens, repeat_scores, repeated_sequences
from .lexicon import STORIES, lexicon_for
from .model import Model
from .network import network_of
from .over_training import Found, jaccard
from .patching import Head, metric_of, swap_heads
from .recipes import get_recipe
from .selection import chosen, edge_order
from .stats import interval
from .store import Store, measurement_key
from .suites import Suite
from .tasks import base, get_task

_CODE = (attribution, circuits, heads, lexicon, model_module, network, patching, selection, base)


def _kept(suite: Suite, cases: Sequence[tuple[str, int]], store: Store, kind: str, measure: Callable[[Model], pd.DataFrame], device: str,
          dtype: torch.dtype, code: Sequence = (), **what: object) -> pd.DataFrame:
    """measure(model) at each (model, step), kept in the store, under one another with columns model and step."""
    frames = []
    for name, step in cases:
        checkpoint = suite.checkpoint(name, step)
        key = measurement_key("errata", code=(*_CODE, *code), what=kind, model=name, step=step, weights=checkpoint.weights_hash, dtype=dtype, **what)
        frame = store.table(key, lambda: measure(checkpoint.load(device=device, dtype=dtype)))
        frames.append(frame.assign(model=name, step=step))
    return pd.concat(frames, ignore_index=True)


# ------------------------------------------------------------------ swaps

def published_swap(target: Model, source: Model, which: Sequence[Head]) -> Model:
    """`target`, a GPT-NeoX, with what the stored code of the authors takes from `source` for these heads: columns (not rows) head * d_head ... of the
    fused query-key-value matrix, which are *input* dimensions of every head, the same slice of its bias, and no output."""
    out, theirs = copy.deepcopy(target.network), source.network.base_model.layers
    with torch.no_grad():
        for layer, head in which:
            ours = out.base_model.layers[layer].attention.query_key_value
            part = slice(head * target.shape.d_head, (head + 1) * target.shape.d_head)
            ours.weight[:, part] = theirs[layer].attention.query_key_value.weight[:, part]
            ours.bias[part] = theirs[layer].attention.query_key_value.bias[part]
    return dataclasses.replace(target, network=out)


def swap_effect(suite: Suite, scores: Sequence[HeadScores], store: Store, prompts: int = 100, seed: int = 42, device: str = "cpu",
                dtype: torch.dtype = torch.float32) -> pd.DataFrame:
    """The heads that carry IOI at the last checkpoint (see `formation.CARRIES`) put into every checkpoint that does not do it yet, rightly
    and as published: a row per model and target with own, right, published and source_own (mean logit differences)."""
    rows = []
    for name in dict.fromkeys(one.model for one in scores):
        mine = sorted((one for one in scores if one.model == name), key=lambda one: one.step)
        last = mine[-1]
        carriers = [last.heads[row] for row in (last.score("direct") < -CARRIES).nonzero()[0]] if last.does_ioi else []
        before = [one for one in mine if not one.does_ioi and one.step > 0]
        if not carriers or not before:
            continue
        checkpoint = suite.checkpoint(name, last.step)
        source = cache(partial(checkpoint.load, device=device, dtype=dtype))

        def measure(target: Model) -> pd.DataFrame:
            pairs = get_task("ioi").prompts(target.tokenizer, n=prompts, seed=seed)
            mean = lambda net: float(metric_of(net, pairs).double().mean())
            fused = target.network.config.model_type == "gpt_neox"               # elsewhere there is no such matrix to slice
            return pd.DataFrame([{"own": mean(network_of(target)), "right": mean(swap_heads(network_of(target), network_of(source()), carriers)),
                                  "published": mean(network_of(published_swap(target, source(), carriers))) if fused else float("nan"), "source_own": mean(network_of(source()))}])

        rows.append(_kept(suite, [(name, before[-1].step)], store, "swap", measure, device, dtype, (published_swap, swap_effect), heads=carriers,
                          source=checkpoint.weights_hash, prompts=prompts, seed=seed).assign(heads=", ".join("{}.{}".format(*h) for h in carriers)))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["own", "right", "published", "source_own", "model", "step", "heads"])


# ------------------------------------------------------------------ other draws

def redraws(suite: Suite, cases: Sequence[tuple[str, int]], store: Store, tasks: Sequence[str] = ("greater_than", "sva"), prompts: int = 200,
            seeds: Sequence[int] = range(8), device: str = "cpu", dtype: torch.dtype = torch.float32) -> pd.DataFrame:
    """The same number from other draws of unseeded data: a row per case, what (task, or "induction" with 2 and 32 sequences) and seed, with
    `value`: the mean metric of `prompts` prompts, or the strongest head's induction score."""
    def measure(model: Model) -> pd.DataFrame:
        rows = []
        for seed in seeds:
            for task in tasks:
                pairs = get_task(task).prompts(model.tokenizer, n=prompts, seed=seed)
                rows.append({"what": task, "seed": seed, "value": float(pairs.metric(model.logits(pairs.clean, pairs.end)).double().mean())})
            length = 24 if lexicon_for(model.tokenizer) is STORIES else 100
            for n in (2, 32):
                tokens = repeated_sequences(model, n, length, seed).to(model.device)
                rows.append({"what": f"induction, {n} sequences", "seed": seed,
                             "value": float(repeat_scores(network_of(model), tokens, length)["induction"].mean(1).max())})
        return pd.DataFrame(rows)

    code = (redraws, *(TASK_CODE[task] for task in tasks))
    return _kept(suite, cases, store, "redraws", measure, device, dtype, code, tasks=list(tasks), prompts=prompts, seeds=list(seeds))


def suppression_redraws(suite: Suite, cases: Sequence[tuple[str, int]], store: Store, head: Head, counts: Sequence[int] = (17, 40), draws: int = 4,
                        documents_for_mean: int = 100, positions: int = 61, text: str | None = None, device: str = "cpu",
                        dtype: torch.dtype = torch.float32) -> pd.DataFrame:
    """CSPA of one head on other draws of texts: a row per case, number of texts and draw, with `value`. Empty without a text."""
    def measure(model: Model) -> pd.DataFrame:
        rows = []
        for draw in range(draws):
            docs = documents(model, documents_for_mean, positions, text, seed=draw)
            for count in counts if docs is not None else ():
                kept, ablated = copy_suppression(network_of(model), docs.to(model.device), function_tokens(model.tokenizer), count)
                row = head[0] * model.shape.n_heads + head[1]
                rows.append({"texts": count, "draw": draw, "value": float(1 - kept[row].mean() / ablated[row].mean())})
        return pd.DataFrame(rows, columns=["texts", "draw", "value"])

    return _kept(suite, cases, store, "suppression", measure, device, dtype, (suppression_redraws,), head=list(head), counts=list(counts), draws=draws,
                 documents=documents_for_mean, positions=positions, text=heads.text_hash(text))


def width_by_prompts(anatomies: Sequence[Anatomy], counts: Sequence[int] = (20, 70), draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """How wide the 95 % interval of Figure 4 B is with so many prompts: model, step, prompts, width. Resampled from the prompts there are."""
    rows, rng = [], np.random.default_rng(seed)
    for one in anatomies:
        for count in counts:
            n = len(one.clean)
            weights = rng.multinomial(count, np.full(n, 1 / n), size=draws) / count
            shares = one.share("direct", "all heads", weights)
            if np.isfinite(shares).all():
                low, high = interval(shares)
                rows.append({"model": one.model, "step": one.step, "prompts": count, "width": float(high - low)})
    return pd.DataFrame(rows, columns=["model", "step", "prompts", "width"])


# ------------------------------------------------------------------ scores

def precision(suite: Suite, found: Sequence[Found], store: Store, recipe: str = "robust", device: str = "cpu",
              low: torch.dtype = torch.bfloat16) -> pd.DataFrame:
    """Scores in a narrow dtype against float32, at checkpoints and tasks with a circuit: a row each with `correlation` of the scores of all
    edges, `largest` difference over the largest score, and `edges`, the Jaccard similarity of the circuits of the same size."""
    settings, rows = get_recipe(recipe), []
    for one in (f for f in found if f.circuit.found):
        def measure(model: Model, one: Found = one) -> pd.DataFrame:
            pairs = get_task(one.task).prompts(model.tokenizer, n=settings.prompts[one.task], seed=settings.seed)
            rough = attribute(model, pairs, **settings.attribution).values.float()
            graph, fine = graph_of(model), torch.as_tensor(one.circuit.scores)
            other = chosen(edge_order(rough, graph, settings.selection, settings.absolute), graph, one.circuit.about["size"])
            a, b = fine[graph.mask], rough[graph.mask]
            return pd.DataFrame([{"correlation": float(torch.corrcoef(torch.stack([a, b]))[0, 1]), "largest": float((a - b).abs().max() / a.abs().max()),
                                  "edges": jaccard(one.circuit.mask, other)}])

        frame = _kept(suite, [(one.model, one.step)], store, "precision", measure, device, low, (precision, TASK_CODE[one.task]), task=one.task,
                      recipe=recipe, size=one.circuit.about["size"])
        rows.append(frame.assign(task=one.task))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["correlation", "largest", "edges", "model", "step", "task"])


def last_batch(suite: Suite, found: Sequence[Found], store: Store, prompts: int = 70, batch: int = 32, device: str = "cpu",
               dtype: torch.dtype = torch.float32) -> pd.DataFrame:
    """Batch means summed over batches, as in the authors' code, weigh the prompts of a short last batch more. Of circuits of the size found,
    from IOI scores over `prompts` prompts: `weight` of such a prompt over another's, and `edges`, the Jaccard similarity with equal weights."""
    rows = []
    for one in (f for f in found if f.circuit.found and f.task == "ioi"):
        def measure(model: Model, one: Found = one) -> pd.DataFrame:
            pairs = get_task("ioi").prompts(model.tokenizer, n=prompts)
            scores, graph = attribute(model, pairs, rule="midpoint", points=10, per_prompt=True), graph_of(model)
            size = one.circuit.about["size"]
            weights = torch.tensor([1 / min(batch, prompts - i // batch * batch) for i in range(prompts)], dtype=scores.per_prompt.dtype)
            theirs = torch.einsum("n,nuv->uv", weights, scores.per_prompt)
            masks = [chosen(edge_order(values, graph), graph, size) for values in (scores.values, theirs)]
            return pd.DataFrame([{"weight": float(weights.max() / weights.min()), "edges": jaccard(*masks)}])

        rows.append(_kept(suite, [(one.model, one.step)], store, "last batch", measure, device, dtype, (last_batch, TASK_CODE["ioi"]),
                          prompts=prompts, batch=batch, size=one.circuit.about["size"]))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["weight", "edges", "model", "step"])


def wrong_position(suite: Suite, cases: Sequence[tuple[str, int]], store: Store, prompts: int = 70, seed: int = 42, device: str = "cpu",
                   dtype: torch.dtype = torch.float32) -> pd.DataFrame:
    """Logits read at the last column of right-padded IOI prompts instead of END: `padded` (share of prompts), `right` and `wrong` (mean
    logit difference)."""
    def measure(model: Model) -> pd.DataFrame:
        pairs = get_task("ioi").prompts(model.tokenizer, n=prompts, seed=seed)
        end = torch.full_like(pairs.end, pairs.clean.shape[1] - 1)
        mean = lambda at: float(pairs.metric(model.logits(pairs.clean, at)).double().mean())
        return pd.DataFrame([{"padded": float((pairs.end < end).double().mean()), "right": mean(pairs.end), "wrong": mean(end)}])

    return _kept(suite, cases, store, "position", measure, device, dtype, (wrong_position, TASK_CODE["ioi"]), prompts=prompts, seed=seed)
