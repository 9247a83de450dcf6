"""What a circuit is enough for: four ablations by three measures.

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
from circuitbook.circuits.corrupted import CorruptedRuns
from circuitbook.circuits.divergence import clean_logits
from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.circuits.measures import MEASURES, measure_circuits
from circuitbook.circuits.optimal import for_prompts, optimal_written
from circuitbook.model.graph import HEAD_INPUTS, Graph
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.stats import bootstrap_draws, interval
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.held_out import next_prompts
from circuitbook.studies.measurement import Measurer, at_places
from circuitbook.suites import Suite
from circuitbook.tasks import PromptPairs, Task, get_task

REFERENCE = 4  # times as many prompts to draw others from, and to take means over
FEWEST = 8  # prompts on which anything is said
COLUMNS = ["model", "step", "task", "under", "edges", "queries", "keys", "ablation"]
COLUMNS += ["faithfulness", "faithfulness_low", "faithfulness_high", "top1", "top1_low"]
COLUMNS += ["top1_high", "kl", "kl_low", "kl_high", "nats", "model_top1", "prompts", "held_out"]


def prompts_of(
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
    found_on, judged, reference, held_out = prompts_of(task, model.tokenizer, prompts, seed)
    if len(judged) < FEWEST:
        return {}
    logits = clean_logits(model, judged)
    measures = {"clean": judged.metric(logits), "clean top1": judged.measures(logits)["rank"] == 0}
    arrays = {name: value.double().cpu().numpy() for name, value in measures.items()}
    arrays["held_out"] = np.array(held_out)
    every = [np.zeros_like(masks[0]), *masks]
    for ablation in ablations:
        if ablation == "optimal":
            parts = []
            for mask in every:
                written = for_prompts(optimal_written(model, found_on, mask), len(judged))
                runs: CorruptedRuns = AblatedRuns(model, judged, written)
                parts.append(measure_circuits(model, judged, [mask], runs, clean=logits))
            found = {name: torch.cat([part[name] for part in parts]) for name in MEASURES}
        else:
            if ablation == "mean":
                runs = AblatedRuns(model, judged, mean_written(model, judged, reference))
            elif ablation == "resample":
                runs = CorruptedRuns(model, resampled(judged, reference, seed))
            else:
                runs = CorruptedRuns(model, judged)
            found = measure_circuits(model, judged, every, runs, clean=logits)
        arrays |= {f"{ablation} {name}": value.double().numpy() for name, value in found.items()}
    return arrays


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
    recipe: Recipe | str = "robust",
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """A row for each model and task with a circuit at its last checkpoint, and each ablation.

    Columns: model, step, task; under ("swap": how it was found), edges, queries and keys (how many
    of the edges end in some); ablation; faithfulness (normalised by the same ablation of
    everything), top1 (how often a right answer is the first of the vocabulary), kl (KL(model ||
    circuit) over that of the empty circuit), each with _low and _high (95% over prompts); nats
    (the KL itself); model_top1; prompts; held_out (whether the circuit was not found on them).
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    last, rows = last_circuits(circuits), []
    what = "what circuits are enough for"
    for result, here in at_last(suite, last, store, device, dtype, progress, what):
        mask = result.circuit.mask
        arrays = measured(here, result, recipe, mask[None], ABLATIONS)
        rows += rows_of(result, "swap", mask, 1, arrays, ABLATIONS)
    return pd.DataFrame(rows, columns=COLUMNS)


def at_last(
    suite: Suite,
    results: Sequence[CircuitResult],
    store: Store,
    device: str,
    dtype: torch.dtype,
    progress: bool,
    what: str,
) -> zip[tuple[CircuitResult, Measurer]]:
    """Each circuit with a `Measurer` where it was found, behind a progress bar named `what`."""
    places = [(result.model, result.step) for result in results]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    return zip(results, at_places(suite, places, store, what=what, **where), strict=True)


def measured(
    here: Measurer,
    result: CircuitResult,
    recipe: Recipe,
    masks: np.ndarray,
    ablations: Sequence[str],
) -> dict[str, np.ndarray]:
    """`measures_of_masks` on the prompts of a recipe, from the store if it is there."""
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


def rows_of(
    result: CircuitResult,
    under: str,
    mask: np.ndarray,
    place: int,
    arrays: dict[str, np.ndarray],
    ablations: Sequence[str],
) -> list[dict]:
    """Rows of `measure_enough`: of the circuit at `place` of `arrays` (see `measures_of_masks`)."""
    if not arrays:
        return []
    about = about_circuit(result, under, mask)
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


def about_circuit(result: CircuitResult, under: str, mask: np.ndarray) -> dict[str, Any]:
    graph = result.circuit.graph
    about = {"model": result.model, "step": result.step, "task": result.task, "under": under}
    inputs = {"queries": into(mask, graph, "q"), "keys": into(mask, graph, "k")}
    return about | {"edges": int(mask.sum())} | inputs
