"""The smallest circuit that keeps the behaviour (Tigges et al. 2024, section 2), and curves of
faithfulness over size.

Faithfulness, with b the full model's metric on the clean prompts, b' on the corrupted ones, m that
of the circuit (means over prompts, all scored with the clean answers):

    ratio        m / b                       the paper's
    normalised   (m - b') / (b - b')         0 for the empty circuit, 1 for the full graph

Where clean and corrupted answers are each other's opposites (IOI), b' is about -b, and a ratio of
.8 is .9 normalised.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from circuitbook.circuits.attribution import Scores
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.corrupted import TOGETHER, CorruptedRuns
from circuitbook.circuits.faithfulness import Curve, check_settings, grid_sizes
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.stats import bootstrap_draws, interval
from circuitbook.tasks.base import PromptPairs


def find_circuit(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    threshold: float = 0.8,
    *,
    search: str = "grid",
    selection: str = "greedy",
    absolute: bool = True,
    form: str = "ratio",
    max_share: float = 1.0,
    min_edges: int = 0,
    min_metric: float = 0.0,
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
    min_metric: a full model whose clean metric is not beyond doubt (95 % interval over prompts)
    above this does not do the
        task; then there is no circuit, and `reason` says so.

    Returns a Circuit with `faithfulness`, its interval over prompts, `clean`, `corrupted` (b and
    b'), and `curve`: a row for each size that was looked at, ascending: size (n), edges and nodes
    (after pruning), metric, ratio, normalised, low and high (of `form`). `about["stays_from"]` is
    the smallest such size from which all larger ones pass too: more than the circuit's own size if
    the curve dips. If nothing passes, `reason` says what came closest.
    """
    check_settings(threshold, search, form, max_share)
    graph, runs = graph_of(model), CorruptedRuns(model, pairs, memory)
    if none := task_not_done(model, pairs, min_metric, runs):
        return replace(none, scores=scores.values.numpy())
    clean, corrupted = (part.double().numpy() for part in runs.baselines())
    limit = min(graph.n_edges, max(int(max_share * graph.n_edges), min_edges, 1))
    about = _about(model, pairs) | {
        "threshold": threshold,
        "form": form,
        "search": search,
        "selection": selection,
        "absolute": absolute,
        "limit": limit,
    }
    known = {
        "scores": scores.values.numpy(),
        "clean": float(clean.mean()),
        "corrupted": float(corrupted.mean()),
        "about": about,
    }
    nothing = np.zeros(graph.mask.shape, bool)

    order = edge_order(scores.values, graph, selection, absolute, limit)
    table = Curve(model, pairs, runs, graph, order, clean, corrupted, form, progress)
    if search == "bisect":
        _bisect(table, limit, threshold)
    elif search == "every":
        table.look(range(1, limit + 1))
    else:
        _grid(table, limit, threshold)
    curve = table.frame()
    passing = curve[curve[form] >= threshold]
    if passing.empty:
        best = curve.loc[curve[form].idxmax()]
        why = f"none of up to {limit} edges keeps {threshold:.0%} (closest: {best[form]:.1%} with {int(best['edges'])} edges)"
        return Circuit(graph, nothing, reason=why, curve=curve, **known)
    first = passing.iloc[0]
    failing = curve.loc[curve[form] < threshold, "size"]
    about["stays_from"] = (
        int(curve.loc[curve["size"] > failing.max(), "size"].min())
        if len(failing) and (curve["size"] > failing.max()).any()
        else (int(first["size"]) if failing.empty else None)
    )
    about["size"] = int(first["size"])
    if first["edges"] == 0:
        why = (
            f"the empty circuit keeps {first[form]:.0%} already, so what the model does here does not hang on what the "
            "corruption changes"
        )
        return Circuit(graph, nothing, reason=why, curve=curve, **known)
    return Circuit(
        graph,
        first_edges(order, graph, int(first["size"])),
        faithfulness=float(first[form]),
        low=float(first["low"]),
        high=float(first["high"]),
        curve=curve,
        **known,
    )


def task_not_done(
    model: Model, pairs: PromptPairs, min_metric: float = 0.0, runs: CorruptedRuns | None = None
) -> Circuit | None:
    """A Circuit that is none, and says why, if the model does not do the task beyond doubt; else
    None.

    Both the clean metric and what corrupting the prompts takes from it must lie above `min_metric`
    and 0: their 95 % bootstrap intervals over prompts. Needs no scores.
    """
    clean, corrupted = (
        part.double().numpy() for part in (runs or CorruptedRuns(model, pairs)).baselines()
    )
    name = pairs.metric_name.replace("_", " ")
    for values, floor, what in (
        (clean, min_metric, f"its {name} is"),
        (clean - corrupted, 0.0, f"corrupting the prompts lowers its {name} by"),
    ):
        low, high = (
            interval(bootstrap_draws(len(values)) @ values)
            if len(values) > 1
            else (values[0], values[0])
        )
        if not low > floor:
            why = f"{what} {values.mean():.3g} [{low:.3g}, {high:.3g}], not beyond doubt above {floor:g}"
            graph = graph_of(model)
            return Circuit(
                graph,
                np.zeros(graph.mask.shape, bool),
                clean=float(clean.mean()),
                corrupted=float(corrupted.mean()),
                about=_about(model, pairs),
                reason=f"the model does not do the task here: {why}",
            )
    return None


def _about(model: Model, pairs: PromptPairs) -> dict:
    return {
        "model": model.checkpoint.model,
        "step": model.checkpoint.step,
        "task": pairs.task,
        "prompts": len(pairs),
        "d_model": model.shape.d_model,
    }


def _bisect(table: Curve, limit: int, threshold: float) -> None:
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        if table.faithfulness(middle) >= threshold:
            high = middle
        else:
            low = middle + 1
    table.look([low])


def _grid(table: Curve, limit: int, threshold: float) -> None:
    sizes = grid_sizes(limit)
    table.look(sizes)
    for _ in range(2):  # the first that passes, and what lies between it and the one below
        known = sorted(table.edges)
        first = next((i for i, n in enumerate(known) if table.faithfulness(n) >= threshold), None)
        if first is None:
            return
        below = known[first - 1] if first else 0
        between = np.arange(below + 1, known[first])
        if len(between) > TOGETHER:
            between = between[np.linspace(0, len(between) - 1, TOGETHER).round().astype(int)]
        table.look(between.tolist())
