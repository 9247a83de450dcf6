"""Circuits with positions beside circuits without: where in a prompt is each edge needed?

At the last checkpoint of a model that has a circuit for IOI, on prompts of all its templates. The
corrupted prompts are those of "abc", where all three names are others: with "swap" nothing before
the last one is corrupted, and nothing before it could be missing from a circuit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.positions import find_at_positions, position_curve
from circuitbook.circuits.spans import SpanCircuit, Spans, each_position, spans_of, whole_prompts
from circuitbook.model.graph import Graph
from circuitbook.model.loaded import Model
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.enough import FEWEST, at_last, last_circuits
from circuitbook.studies.held_out import next_prompts
from circuitbook.suites import Suite
from circuitbook.tasks import PromptPairs, Task, get_task

TASK, CORRUPTION = "ioi", "abc"
KINDS: dict[str, tuple[Callable[[PromptPairs], Spans], str | None]] = {
    "everywhere": (whole_prompts, None),
    "numbers": (each_position, None),
    "spans": (spans_of, None),
    "between": (spans_of, "gradient"),
}
"""An edge is in at all positions or at none; at some, by their numbers, whatever stands there in
another template; at some spans; and at these with edges between spans. See `circuits.positions`."""
COUNTS = ("edges", "between", "at_positions", "pairs", "normalised")
COLUMNS = ["model", "step", "kind", *COUNTS, "fresh", "seen"]


def circuits_at_positions(
    model: Model, *, task: Task, prompts: int, seed: int, attribution: dict, threshold: float
) -> pd.DataFrame:
    """The smallest circuit of each of `KINDS` that keeps the threshold: a row for each.

    kind; edges, between, at_positions, pairs, normalised: see `position_curve`, on the prompts that
    it was found on; fresh: its faithfulness on the next of the draw; seen: its edges between spans,
    "query's span: input at another" with a semicolon after each. pd.NA where nothing passes, or
    there is no such edge. No rows where fewer than `FEWEST` fresh prompts are left.
    """
    pairs = task.prompts(model.tokenizer, n=prompts, seed=seed, corruption=CORRUPTION)
    fresh = next_prompts(task, model.tokenizer, prompts, seed, corruption=CORRUPTION)
    if fresh is None or len(fresh) < FEWEST:
        return pd.DataFrame(columns=COLUMNS[2:])
    rows = []
    for kind, (spans, between) in KINDS.items():
        scores = attribute(model, pairs, **attribution, spans=spans(pairs), between=between)
        circuit, curve = find_at_positions(model, pairs, scores, threshold=threshold)
        row: dict[str, object] = {"kind": kind, **dict.fromkeys([*COUNTS, "fresh", "seen"], pd.NA)}
        if circuit is not None:
            found = curve[curve["normalised"] >= threshold].iloc[0]
            again = position_curve(model, fresh, scores, [found["size"]], spans=spans(fresh))
            row |= {name: found[name] for name in COUNTS}
            row |= {"fresh": again["normalised"].iloc[0], "seen": _seen(circuit, scores.graph)}
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS[2:]).convert_dtypes()


def _seen(circuit: SpanCircuit, graph: Graph) -> object:
    """The edges between spans, e.g. "END: a2.h3<v> at S2"."""
    if circuit.between is None:
        return pd.NA
    names = circuit.spans.names
    return "; ".join(
        f"{names[to]}: {graph.destination_names[dst]} at {names[at]}"
        for to, at, dst in np.argwhere(circuit.between)
    )


def measure_positions(
    suite: Suite,
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """`circuits_at_positions` at the last checkpoint of each model with a circuit for IOI.

    Columns: `COLUMNS`, a row per model and kind.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    last = [result for result in last_circuits(circuits) if result.task == TASK]
    tables = []
    for result, here in at_last(suite, last, store, device, dtype, progress, "positions"):
        table = here.table(
            "positions",
            circuits_at_positions,
            task=get_task(TASK),
            prompts=recipe.prompts[TASK],
            seed=recipe.seed,
            attribution=recipe.attribution,
            threshold=recipe.threshold,
        )
        tables.append(table.assign(model=result.model, step=result.step))
    return pd.concat(tables)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)
