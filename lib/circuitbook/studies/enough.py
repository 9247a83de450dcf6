"""What a circuit is enough for: four ablations by three measures, and what other searches find.

See `circuits.ablations` for what absent edges carry, and `circuits.measures` for what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from circuitbook.circuits.ablations import (
    ABLATIONS,
    AblatedRuns,
    has_partners,
    mean_written,
    resampled,
)
from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.corrupted import CorruptedRuns
from circuitbook.circuits.divergence import clean_logits, divergence_pairs
from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.circuits.measures import MEASURES, measure_circuits
from circuitbook.circuits.optimal import for_prompts, optimal_written
from circuitbook.circuits.search import find_circuit
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.circuits.similarity import jaccard
from circuitbook.model.graph import HEAD_INPUTS, Graph
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe
from circuitbook.stats import bootstrap_draws, interval
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.held_out import next_prompts
from circuitbook.studies.measurement import Measurer, at_places
from circuitbook.suites import Suite
from circuitbook.tasks import PromptPairs, Task, get_task

REFERENCE = 4  # times as many prompts to draw others from, and to take means over
FEWEST = 8  # prompts on which anything is said
UNDER = ("swap", "resample", "kl", "both")
"""How circuits are found: as the chapter's own; with other prompts; by the divergence; by both."""
BOTH = ("ioi",)  # tasks in which a search by both is made, which costs as much as any other

COLUMNS = ["model", "step", "task", "under", "edges", "queries", "keys", "ablation"]
COLUMNS += ["faithfulness", "faithfulness_low", "faithfulness_high", "top1", "top1_low"]
COLUMNS += ["top1_high", "kl", "kl_low", "kl_high", "nats", "model_top1", "prompts", "held_out"]
FOUND_COLUMNS = ["model", "step", "task", "under", "edges", "own_edges", "queries", "keys"]
FOUND_COLUMNS += ["jaccard", "ceiling", "at_size", "shared"]
ABSENT = ("edges", "queries", "keys", "jaccard", "at_size", "shared")  # nan where none was found


def _prompts(
    task: Task, tokenizer: PreTrainedTokenizerBase, prompts: int, seed: int
) -> tuple[PromptPairs, PromptPairs, PromptPairs, bool]:
    """(those the circuit was found on, those to judge it on, a reference, whether held out).

    Held out are the next prompts of the draw. Where fewer than `FEWEST` are left, the circuit is
    judged on those it was found on. Only prompts with partners in the reference count.
    """
    found_on = task.prompts(tokenizer, n=prompts, seed=seed)
    reference = task.prompts(tokenizer, n=REFERENCE * prompts, seed=seed + 1)
    fresh = next_prompts(task, tokenizer, prompts, seed)
    held_out = fresh is not None and len(fresh) >= FEWEST
    judged = fresh if fresh is not None and held_out else found_on
    return found_on, judged.subset(has_partners(judged, reference)), reference, held_out


def measures_of_masks(
    model: Model,
    *,
    task: Task,
    prompts: int,
    seed: int,
    masks: np.ndarray,
    ablations: Sequence[str],
) -> dict[str, np.ndarray]:
    """{"swap top1": [1 + mask, n], ...} of every ablation and measure; first the empty circuit's.

    masks: bool [mask, src, dst]. Beside it "clean" and "clean top1", [n], of the model, and
    "held_out". Nothing where fewer than `FEWEST` prompts have partners.
    """
    found_on, judged, reference, held_out = _prompts(task, model.tokenizer, prompts, seed)
    if len(judged) < FEWEST:
        return {}
    logits = clean_logits(model, judged)
    first = judged.measures(logits)["rank"] == 0
    arrays = {"clean": judged.metric(logits), "clean top1": first}
    arrays = {name: value.double().cpu().numpy() for name, value in arrays.items()}
    arrays["held_out"] = np.array(held_out)
    every = [np.zeros_like(masks[0]), *masks]
    for ablation in ablations:
        if ablation == "optimal":
            parts = []
            for mask in every:
                written = for_prompts(optimal_written(model, found_on, mask), len(judged))
                runs: CorruptedRuns = AblatedRuns(model, judged, written)
                parts.append(measure_circuits(model, judged, [mask], runs))
            found = {name: torch.cat([part[name] for part in parts]) for name in MEASURES}
        else:
            if ablation == "mean":
                runs = AblatedRuns(model, judged, mean_written(model, judged, reference))
            elif ablation == "resample":
                runs = CorruptedRuns(model, resampled(judged, reference, seed))
            else:
                runs = CorruptedRuns(model, judged)
            found = measure_circuits(model, judged, every, runs)
        arrays |= {f"{ablation} {name}": value.double().numpy() for name, value in found.items()}
    return arrays


def circuit_under(
    model: Model,
    *,
    task: Task,
    prompts: int,
    seed: int,
    attribution: dict,
    search: dict,
    under: str,
    size: int,
) -> dict[str, np.ndarray]:
    """{"mask", "at_size"}, bool [src, dst]: the circuit of another search; no edges if none passes.

    under: "resample", with the corrupted prompts of that ablation; "kl", with the task's own, but
    KL(model || circuit) as the loss, of which the circuit leaves 1 - threshold of what full
    corruption makes; "both". at_size: the first `size` edges in the new order.
    """
    found_on, _, reference, _ = _prompts(task, model.tokenizer, prompts, seed)
    pairs = found_on
    if under != "kl":
        pairs = resampled(found_on.subset(has_partners(found_on, reference)), reference, seed)
    if under != "resample":
        pairs = divergence_pairs(model, pairs)
        search = search | {"form": "normalised", "min_metric": -np.inf}
    scores = attribute(model, pairs, **attribution)
    circuit = find_circuit(model, pairs, scores, **search)
    if not circuit.found:
        return {"mask": circuit.mask, "at_size": circuit.mask}
    order = edge_order(scores.values, scores.graph, search["selection"], search["absolute"], size)
    return {"mask": circuit.mask, "at_size": first_edges(order, scores.graph, size)}


# ------------------------------------------------------------------ over a suite


def last_circuits(circuits: Sequence[CircuitResult]) -> list[CircuitResult]:
    """Of each model and task the circuit at its last checkpoint, where there is one."""
    last: dict[tuple[str, str], CircuitResult] = {}
    for result in sorted(circuits, key=lambda result: result.step):
        last[result.model, result.task] = result
    places = dict.fromkeys((result.model, result.task) for result in circuits)
    return [last[place] for place in places if last[place].circuit.found]


def measure_enough(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """A row for each model and task with a circuit at its last checkpoint, and each ablation.

    Columns: model, step, task; under ("swap": how it was found), edges, queries and keys (how many
    of the edges end in some); ablation; faithfulness (normalised by the same ablation of
    everything), top1 (how often a right answer is the first of the vocabulary), kl (KL(model ||
    circuit) over that of the empty circuit), each with _low and _high (95 % over prompts); nats
    (the KL itself); model_top1; prompts; held_out (whether the circuit was not found on them).
    """
    last, rows = last_circuits(circuits), []
    for result, here in _at(suite, last, store, device, dtype, progress, "what it is enough for"):
        mask = result.circuit.mask
        arrays = _measured(here, result, recipe, mask[None], ABLATIONS)
        rows += _rows(result, "swap", mask, 1, arrays, ABLATIONS)
    return pd.DataFrame(rows, columns=COLUMNS)


def measure_found_under(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Circuits of other searches at the last checkpoints: (how alike, how they do).

    First a row for each model, task and other search of `UNDER`: edges, own_edges (of the chapter's
    circuit), queries, keys, jaccard (with that circuit), ceiling (of two circuits from resampled
    prompts, as alike as one search makes them), at_size (the Jaccard of as many edges), shared (the
    share of the own circuit's edges that are in it); nan where there is none. Then the rows of
    `measure_enough` of these circuits, for "swap" and "resample".
    """
    last, ablations = last_circuits(circuits), ABLATIONS[:2]
    alike, rows = [], []
    for result, here in _at(suite, last, store, device, dtype, progress, "other searches"):
        masks: dict[str, np.ndarray] = {}
        for under in UNDER[1:] if result.task in BOTH else UNDER[1:3]:
            found = here.arrays(
                "found-under",
                circuit_under,
                task=get_task(result.task),
                prompts=recipe.prompts[result.task],
                seed=recipe.seed,
                attribution=recipe.attribution,
                search=recipe.circuit(result.task),
                under=under,
                size=int(result.circuit.about["size"]),
            )
            masks[under] = found["mask"].astype(bool)
            alike.append(_alike(result, under, masks[under], found["at_size"].astype(bool)))
        passing = {under: mask for under, mask in masks.items() if mask.any()}
        if not passing:
            continue
        arrays = _measured(here, result, recipe, np.array(list(passing.values())), ablations)
        for place, (under, mask) in enumerate(passing.items(), 1):
            rows += _rows(result, under, mask, place, arrays, ablations)
    return pd.DataFrame(alike, columns=FOUND_COLUMNS), pd.DataFrame(rows, columns=COLUMNS)


def _at(
    suite: Suite,
    results: Sequence[CircuitResult],
    store: Store,
    device: str,
    dtype: torch.dtype,
    progress: bool,
    what: str,
) -> zip[tuple[CircuitResult, Measurer]]:
    places = [(result.model, result.step) for result in results]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    return zip(results, at_places(suite, places, store, what=what, **where), strict=True)


def _measured(
    here: Measurer,
    result: CircuitResult,
    recipe: Recipe,
    masks: np.ndarray,
    ablations: Sequence[str],
) -> dict[str, np.ndarray]:
    return here.arrays(
        "enough",
        measures_of_masks,
        task=get_task(result.task),
        prompts=recipe.prompts[result.task],
        seed=recipe.seed,
        masks=masks,
        ablations=list(ablations),
    )


def into(mask: np.ndarray, graph: Graph, kind: str) -> int:
    """How many edges of a circuit end in an input of heads, "q", "k" or "v"."""
    if kind not in HEAD_INPUTS:
        raise ValueError(f"heads have no input {kind!r}; there are: q, k, v")
    return sum(int(mask[:, graph.readers(layer, kind)].sum()) for layer in range(graph.n_layers))


def _rows(
    result: CircuitResult,
    under: str,
    mask: np.ndarray,
    place: int,
    arrays: dict[str, np.ndarray],
    ablations: Sequence[str],
) -> list[dict]:
    if not arrays:
        return []
    about = _about(result, under, mask)
    about |= {"prompts": len(arrays["clean"]), "held_out": bool(arrays["held_out"])}
    about["model_top1"] = arrays["clean top1"].mean()
    weights = bootstrap_draws(len(arrays["clean"]))
    rows = []
    for ablation in ablations:
        metric, top1, kl = (arrays[f"{ablation} {name}"] for name in MEASURES)
        row = {"ablation": ablation, "nats": kl[place].mean()}
        for name, of in {
            "faithfulness": lambda w, m=metric: faithfulness(
                w @ m[place], w @ arrays["clean"], w @ m[0], "normalised"
            ),
            "top1": lambda w, t=top1: w @ t[place],
            "kl": lambda w, k=kl: (w @ k[place]) / (w @ k[0]),
        }.items():
            low, high = interval(of(weights))
            row |= {name: float(of(np.full(weights.shape[1], 1 / weights.shape[1])))}
            row |= {f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(about | row)
    return rows


def _about(result: CircuitResult, under: str, mask: np.ndarray) -> dict[str, Any]:
    graph = result.circuit.graph
    about = {"model": result.model, "step": result.step, "task": result.task, "under": under}
    inputs = {"queries": into(mask, graph, "q"), "keys": into(mask, graph, "k")}
    return about | {"edges": int(mask.sum())} | inputs


def _alike(
    result: CircuitResult, under: str, mask: np.ndarray, at_size: np.ndarray
) -> dict[str, Any]:
    own = result.circuit.mask
    others = result.resampled
    ceilings = [jaccard(a, b) for i, a in enumerate(others) for b in others[:i]]
    row = _about(result, under, mask) | {"own_edges": int(own.sum())}
    row |= {"ceiling": float(np.mean(ceilings)) if ceilings else np.nan}
    if not mask.any():
        return row | dict.fromkeys(ABSENT, np.nan)
    shared = float((own & mask).sum() / own.sum())
    return row | {"jaccard": jaccard(own, mask), "at_size": jaccard(own, at_size), "shared": shared}
