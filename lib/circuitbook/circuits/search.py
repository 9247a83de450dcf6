"""The smallest circuit that keeps the behaviour (Tigges et al. 2024, section 2).

Faithfulness, with b the full model's metric on the clean prompts, b' on the corrupted ones, m that
of the circuit (means over prompts, all scored with the clean answers):

    ratio        m / b                       the paper's
    normalised   (m - b') / (b - b')         0 for the empty circuit, 1 for the full graph

Where clean and corrupted answers are each other's opposites (IOI), b' is about -b, and a ratio of
.8 is .9 normalised.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64

from circuitbook.circuits.attribution import Scores
from circuitbook.circuits.circuit import NOT_DONE, Circuit
from circuitbook.circuits.corrupted import TOGETHER, CorruptedRuns
from circuitbook.circuits.faithfulness import Curve, check_settings, grid_sizes
from circuitbook.circuits.not_finite import refuse_not_finite
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.circuits.stable_signs import stable_signs
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.stats import Verdict, bootstrap_draws, decide, interval
from circuitbook.tasks.base import PromptPairs


def find_circuit(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    *,
    threshold: float = 0.8,
    search: str = "grid",
    selection: str = "greedy",
    absolute: bool = True,
    form: str = "ratio",
    max_share: float = 1.0,
    min_edges: int = 0,
    min_metric: float = 0.0,
    stable: float | None = None,
    memory: int | None = None,
    progress: bool = False,
) -> Circuit:
    """The smallest circuit with faithfulness >= `threshold`, among the first n edges of
    `selection.edge_order`, n = 1, 2, ...

    search: how n is looked for, up to `max_share` of all edges (but no fewer than `min_edges`).
        "bisect"  halving, as the paper: quick, but right only if faithfulness rises with n, which
                  it need not
        "grid"    sizes in steps of a factor 1.41 over the whole range; then every size between the
                  first that passes and its neighbour below (or 16 in between, twice, if there are
                  more). Finds a dip, and a smaller circuit that passes, if they are wider than a
                  step
        "every"   all sizes: the truth, for small graphs
    form: "ratio" or "normalised", see above.
    min_metric: a full model whose clean metric is not beyond doubt (95% interval over prompts)
    above this does not do the
        task; then there is no circuit, and `reason` says so.
    stable: edges whose score changes its sign within the interval of this level over resampled
        prompts come after all others (`stable_signs`; needs scores of each prompt).

    Returns a Circuit with `faithfulness`, its interval over prompts, `clean`, `corrupted` (b and
    b'), and `curve`: a row for each size that was looked at, ascending: size (n), edges and nodes
    (after pruning), metric, ratio, normalised, low and high (of `form`). `about["stays_from"]` is
    the smallest such size from which all larger ones pass too: more than the circuit's own size if
    the curve dips. If nothing passes, `reason` says what came closest.
    """
    check_settings(threshold, search, form, max_share)
    graph, runs = graph_of(model), CorruptedRuns(model, pairs, memory)
    if none := task_not_done(model, pairs, min_metric=min_metric, runs=runs):
        return replace(none, scores=scores.values.numpy())
    limit = min(graph.n_edges, max(int(max_share * graph.n_edges), min_edges, 1))
    first = None if stable is None else stable_signs(scores, stable)
    order = edge_order(scores.values, graph, selection, absolute, limit, first)
    curve = Curve(model=model, pairs=pairs, runs=runs, order=order, form=form, progress=progress)
    if search == "bisect":
        _bisect(curve, limit, threshold)
    elif search == "every":
        curve.evaluate(range(1, limit + 1))
    else:
        _grid(curve, limit, threshold)
    settings = {
        "threshold": threshold,
        "form": form,
        "search": search,
        "selection": selection,
        "absolute": absolute,
        "limit": limit,
    } | ({} if stable is None else {"stable": stable})
    found = smallest_that_passes(model, pairs, curve, settings)
    return replace(found, scores=scores.values.numpy())


def smallest_that_passes(
    model: Model, pairs: PromptPairs, curve: Curve, settings: dict[str, Any]
) -> Circuit:
    """Of the sizes on the curve; or no edges, and the reason for none.

    settings: what `Circuit.about` says of the search; of them "form", "threshold" and "limit" count
    here.
    """
    graph, table = curve.runs.graph, curve.frame()
    nothing = Circuit(
        graph,
        np.zeros(graph.mask.shape, bool),
        clean=float(curve.clean.mean()),
        corrupted=float(curve.corrupted.mean()),
        curve=table,
        about=_about(model, pairs) | settings,
    )
    form, threshold = settings["form"], settings["threshold"]
    passing = table[table[form] >= threshold]
    if passing.empty:
        best = table.loc[table[form].idxmax()]
        why = (
            f"none of up to {settings['limit']} edges keeps {threshold:.0%} "
            f"(closest: {best[form]:.1%} with {int(best['edges'])} edges)"
        )
        return replace(nothing, reason=why)
    first = passing.iloc[0]
    about = nothing.about | {
        "stays_from": _stays_from(table["size"], table[form] >= threshold),
        "size": int(first["size"]),
    }
    if first["edges"] == 0:
        why = (
            f"the empty circuit keeps {first[form]:.0%} already, so what the model does here does "
            "not hang on what the corruption changes"
        )
        return replace(nothing, reason=why, about=about)
    return replace(
        nothing,
        mask=first_edges(curve.order, graph, int(first["size"])),
        faithfulness=float(first[form]),
        low=float(first["low"]),
        high=float(first["high"]),
        about=about,
    )


def _stays_from(sizes: pd.Series, passes: pd.Series) -> int | None:
    """The smallest size from which all larger ones pass, if there is any.

    >>> _stays_from(pd.Series([1, 2, 3, 4]), pd.Series([True, False, True, True]))
    3
    """
    last_that_fails = sizes[~passes].max()  # nan if none does
    staying = sizes if passes.all() else sizes[sizes > last_that_fails]
    return None if staying.empty else int(staying.min())


def task_not_done(
    model: Model,
    pairs: PromptPairs,
    *,
    min_metric: float = 0.0,
    runs: CorruptedRuns | None = None,
) -> Circuit | None:
    """None if the model does the task beyond doubt; else a Circuit that is none, and says why.

    Both the clean metric and what corrupting the prompts takes from it must lie above `min_metric`
    and 0: their 95% bootstrap intervals over prompts. Needs no scores.
    """
    baselines = (runs or CorruptedRuns(model, pairs)).baselines()
    refuse_not_finite(model, pairs, torch.stack(baselines))
    clean, corrupted = (metric.double().numpy() for metric in baselines)
    name = pairs.metric_name.replace("_", " ")
    reason = _doubt(clean, min_metric, f"its {name} is") or _doubt(
        clean - corrupted, 0.0, f"corrupting the prompts lowers its {name} by"
    )
    if reason is None:
        return None
    graph = graph_of(model)
    return Circuit(
        graph,
        np.zeros(graph.mask.shape, bool),
        clean=float(clean.mean()),
        corrupted=float(corrupted.mean()),
        about=_about(model, pairs),
        reason=f"{NOT_DONE} here: {reason}",
    )


def _doubt(values: Float64[np.ndarray, " n"], floor: float, what: str) -> str | None:
    """Says so if the interval of the mean over prompts does not lie above the floor."""
    low = high = values[0]
    if len(values) > 1:
        low, high = interval(bootstrap_draws(len(values)) @ values)
    if decide(low, high, floor) is Verdict.HOLDS:
        return None
    return f"{what} {values.mean():.3g} [{low:.3g}, {high:.3g}], not beyond doubt above {floor:g}"


def _about(model: Model, pairs: PromptPairs) -> dict[str, Any]:
    return {
        "model": model.checkpoint.model,
        "step": model.checkpoint.step,
        "task": pairs.task,
        "prompts": len(pairs),
        "d_model": model.shape.d_model,
    }


def _bisect(curve: Curve, limit: int, threshold: float) -> None:
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        if curve.faithfulness(middle) >= threshold:
            high = middle
        else:
            low = middle + 1
    curve.evaluate([low])


def _grid(curve: Curve, limit: int, threshold: float) -> None:
    curve.evaluate(grid_sizes(limit))
    refine(curve, threshold)


def refine(curve: Curve, threshold: float) -> None:
    """Evaluates what lies between the first size that passes and the one below, twice."""
    for _ in range(2):
        known = sorted(curve.counts)
        passing = (i for i, n in enumerate(known) if curve.faithfulness(n) >= threshold)
        first = next(passing, None)
        if first is None:
            return
        below = known[first - 1] if first else 0
        between = np.arange(below + 1, known[first])
        if len(between) > TOGETHER:
            between = between[np.linspace(0, len(between) - 1, TOGETHER).round().astype(int)]
        curve.evaluate(between.tolist())
