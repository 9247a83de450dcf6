"""The smallest circuit that keeps the behaviour (Tigges et al. 2024, section 2), and curves of faithfulness over size.

Faithfulness, with b the full model's metric on the clean prompts, b' on the corrupted ones, m that of the circuit (means
over prompts, all scored with the clean answers):

    ratio        m / b                       the paper's
    normalised   (m - b') / (b - b')         0 for the empty circuit, 1 for the full graph

Where clean and corrupted answers are each other's opposites (IOI), b' is about -b, and a ratio of .8 is .9 normalised.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .attribution import Scores
from .circuits import TOGETHER, Circuit, CorruptedRuns, evaluate_masks
from .graph import Graph, graph_of
from .model import Model
from .selection import chosen, edge_order
from .stats import bootstrap_draws, interval
from .tasks.base import PromptPairs

SEARCHES = ("grid", "bisect", "every")
FORMS = ("ratio", "normalised")
MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)       # of all edges (Mueller et al. 2025)
STEP = 2**0.5                                          # sizes of the grid grow by this factor


def faithfulness(m, b, corrupted, form: str):
    """Faithfulness of a circuit with (mean) metric m in one of `FORMS`; numbers or arrays."""
    if form not in FORMS:
        raise ValueError(f"unknown form of faithfulness {form!r}; there are: {', '.join(FORMS)}")
    return m / b if form == "ratio" else (m - corrupted) / (b - corrupted)


def find_circuit(model: Model, pairs: PromptPairs, scores: Scores, threshold: float = 0.8, *, search: str = "grid",
                 selection: str = "greedy", absolute: bool = True, form: str = "ratio", max_share: float = 1.0,
                 at_least: int = 0, least: float = 0.0, memory: int | None = None, progress: bool = False) -> Circuit:
    """The smallest circuit with faithfulness >= `threshold`, among the first n edges of `selection.edge_order`, n = 1, 2, ...

    search: how n is looked for, up to `max_share` of all edges (but no fewer than `at_least`).
        "bisect"  halving, as the paper: quick, but right only if faithfulness rises with n, which it need not
        "grid"    sizes in steps of a factor 1.41 over the whole range; then every size between the first that passes and
                  its neighbour below (or 16 in between, twice, if there are more). Finds a dip, and a smaller circuit
                  that passes, if they are wider than a step
        "every"   all sizes: the truth, for small graphs
    form: "ratio" or "normalised", see above.
    least: a full model whose clean metric is not beyond doubt (95 % interval over prompts) above this does not do the
        task; then there is no circuit, and `reason` says so.

    Returns a Circuit with `faithfulness`, its interval over prompts, `clean`, `corrupted` (b and b'), and `curve`: a row
    for each size that was looked at, ascending: size (n), edges and nodes (after pruning), metric, ratio, normalised, low
    and high (of `form`). `about["stays_from"]` is the smallest such size from which all larger ones pass too: more than
    the circuit's own size if the curve dips. If nothing passes, `reason` says what came closest.
    """
    _check(threshold, search, form, max_share)
    graph, runs = graph_of(model), CorruptedRuns(model, pairs, memory)
    if none := undone(model, pairs, least, runs):
        return replace(none, scores=scores.values.numpy())
    clean, corrupted = (part.double().numpy() for part in runs.baselines())
    limit = min(graph.n_edges, max(int(max_share * graph.n_edges), at_least, 1))
    about = _about(model, pairs) | {"threshold": threshold, "form": form, "search": search, "selection": selection,
                                    "absolute": absolute, "limit": limit}
    known = {"scores": scores.values.numpy(), "clean": float(clean.mean()), "corrupted": float(corrupted.mean()),
             "about": about}
    nothing = np.zeros(graph.mask.shape, bool)

    order = edge_order(scores.values, graph, selection, absolute, limit)
    table = _Curve(model, pairs, runs, graph, order, clean, corrupted, form, progress)
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
    about["stays_from"] = int(curve.loc[curve["size"] > failing.max(), "size"].min()) if len(failing) and (
        curve["size"] > failing.max()).any() else (int(first["size"]) if failing.empty else None)
    about["size"] = int(first["size"])
    if first["edges"] == 0:
        why = (f"the empty circuit keeps {first[form]:.0%} already, so what the model does here does not hang on what the "
               "corruption changes")
        return Circuit(graph, nothing, reason=why, curve=curve, **known)
    return Circuit(graph, chosen(order, graph, int(first["size"])), faithfulness=float(first[form]), low=float(first["low"]),
                   high=float(first["high"]), curve=curve, **known)


def undone(model: Model, pairs: PromptPairs, least: float = 0.0, runs: CorruptedRuns | None = None) -> Circuit | None:
    """A Circuit that is none, and says why, if the model does not do the task beyond doubt; else None.

    Both the clean metric and what corrupting the prompts takes from it must lie above `least` and 0: their 95 % bootstrap
    intervals over prompts. Needs no scores.
    """
    clean, corrupted = (part.double().numpy() for part in (runs or CorruptedRuns(model, pairs)).baselines())
    name = pairs.metric_name.replace("_", " ")
    for values, floor, what in ((clean, least, f"its {name} is"),
                                (clean - corrupted, 0.0, f"corrupting the prompts lowers its {name} by")):
        low, high = interval(bootstrap_draws(len(values)) @ values) if len(values) > 1 else (values[0], values[0])
        if not low > floor:
            why = f"{what} {values.mean():.3g} [{low:.3g}, {high:.3g}], not beyond doubt above {floor:g}"
            graph = graph_of(model)
            return Circuit(graph, np.zeros(graph.mask.shape, bool), clean=float(clean.mean()),
                           corrupted=float(corrupted.mean()), about=_about(model, pairs),
                           reason=f"the model does not do the task here: {why}")
    return None


def _about(model: Model, pairs: PromptPairs) -> dict:
    return {"model": model.checkpoint.model, "step": model.checkpoint.step, "task": pairs.task, "prompts": len(pairs),
            "d_model": model.shape.d_model}


def faithfulness_curve(model: Model, pairs: PromptPairs, scores: Scores, sizes: Iterable[int] | None = None, *,
                       selection: str = "greedy", absolute: bool = True, form: str = "ratio",
                       memory: int | None = None, progress: bool = False) -> pd.DataFrame:
    """Faithfulness of the first n edges for each n of `sizes` (default: steps of a factor 1.41 up to all edges).

    The rows are those of `find_circuit`'s curve, with size 0 first if asked for.
    """
    _check(0.0, "grid", form, 1.0)
    graph, runs = graph_of(model), CorruptedRuns(model, pairs, memory)
    clean, corrupted = (part.double().numpy() for part in runs.baselines())
    wanted = grid_sizes(graph.n_edges) if sizes is None else sorted({int(n) for n in sizes})
    if not wanted or wanted[0] < 0 or wanted[-1] > graph.n_edges:
        raise ValueError(f"sizes must lie in 0..{graph.n_edges}, the number of edges; got {wanted[:1]} .. {wanted[-1:]}")
    order = edge_order(scores.values, graph, selection, absolute, max(wanted))
    table = _Curve(model, pairs, runs, graph, order, clean, corrupted, form, progress)
    table.look(wanted)
    return table.frame()


def mib_metrics(model: Model, pairs: PromptPairs, scores: Scores, *, selection: str = "top", absolute: bool = True,
                memory: int | None = None) -> dict[str, float]:
    """The two numbers by which MIB ranks a score matrix (Mueller et al. 2025): {"cpr", "cmd"}.

    f(k) is the normalised faithfulness of the best share k of all edges, at the ten shares .001 ... 1 of `MIB_SHARES`.
    cpr, circuit performance ratio, is the area under f: higher is better. cmd, circuit-model distance, is the area between
    f and 1: lower is better. Trapezoids over the share of edges, from .001 to 1, as their code.
    """
    graph = graph_of(model)
    curve = faithfulness_curve(model, pairs, scores, [int(share * graph.n_edges) for share in MIB_SHARES],
                               selection=selection, absolute=absolute, form="normalised", memory=memory)
    at = dict(zip(curve["size"], curve["normalised"]))
    f = np.array([at[int(share * graph.n_edges)] for share in MIB_SHARES])
    return {"cpr": float(np.trapezoid(f, MIB_SHARES)), "cmd": float(np.trapezoid(np.abs(1 - f), MIB_SHARES))}


def grid_sizes(limit: int) -> list[int]:
    """grid_sizes(12) -> [1, 2, 3, 4, 6, 8, 12]"""
    sizes, size = {limit}, 1.0
    while size < limit:
        sizes.add(round(size))
        size *= STEP
    return sorted(sizes)


# ------------------------------------------------------------------ the searches

class _Curve:
    """What has been looked at so far. Sizes whose living edges are the same share one evaluation."""

    def __init__(self, model, pairs, runs: CorruptedRuns, graph: Graph, order: np.ndarray, clean: np.ndarray,
                 corrupted: np.ndarray, form: str, progress: bool):
        self.model, self.pairs, self.runs, self.graph, self.order = model, pairs, runs, graph, order
        self.clean, self.corrupted, self.form, self.progress = clean, corrupted, form, progress
        self.edges: dict[int, tuple[int, int]] = {}              # size -> edges and nodes after pruning
        self.metric: dict[int, np.ndarray] = {0: corrupted}      # edges -> metric [n]; sizes are nested, so edges tell

    def look(self, sizes: Iterable[int]) -> None:
        """Evaluates the sizes that are not known yet, several at a time."""
        new: dict[int, np.ndarray] = {}
        sizes = [n for n in sizes if n not in self.edges]
        bar = tqdm(total=len(sizes), desc="circuits", unit="size", disable=not self.progress, leave=False)
        for i, n in enumerate(sizes):
            mask = chosen(self.order, self.graph, n)
            count = int(mask.sum())
            self.edges[n] = count, int(self.graph.nodes_of(mask).sum())
            if count not in self.metric:
                new[count] = mask
            if new and (len(new) >= TOGETHER or i == len(sizes) - 1):
                found = evaluate_masks(self.model, self.pairs, list(new.values()), runs=self.runs)
                self.metric |= dict(zip(new, found.double().numpy()))
                new = {}
            bar.update()
        bar.close()

    def faithfulness(self, n: int) -> float:
        self.look([n])
        return faithfulness(self.metric[self.edges[n][0]].mean(), self.clean.mean(), self.corrupted.mean(), self.form)

    def frame(self) -> pd.DataFrame:
        rows = []
        for n, (edges, nodes) in sorted(self.edges.items()):
            values = self.metric[edges]
            row = {"size": n, "edges": edges, "nodes": nodes, "metric": values.mean()}
            row |= {form: faithfulness(values.mean(), self.clean.mean(), self.corrupted.mean(), form) for form in FORMS}
            low = high = np.nan
            if len(values) > 1:
                draws = bootstrap_draws(len(values))
                with np.errstate(divide="ignore", invalid="ignore"):
                    low, high = interval(faithfulness(draws @ values, draws @ self.clean, draws @ self.corrupted, self.form))
            rows.append(row | {"low": float(low), "high": float(high)})
        return pd.DataFrame(rows)


def _bisect(table: _Curve, limit: int, threshold: float) -> None:
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        if table.faithfulness(middle) >= threshold:
            high = middle
        else:
            low = middle + 1
    table.look([low])


def _grid(table: _Curve, limit: int, threshold: float) -> None:
    sizes = grid_sizes(limit)
    table.look(sizes)
    for _ in range(2):                                 # the first that passes, and what lies between it and the one below
        known = sorted(table.edges)
        first = next((i for i, n in enumerate(known) if table.faithfulness(n) >= threshold), None)
        if first is None:
            return
        below = known[first - 1] if first else 0
        between = np.arange(below + 1, known[first])
        if len(between) > TOGETHER:
            between = between[np.linspace(0, len(between) - 1, TOGETHER).round().astype(int)]
        table.look(between.tolist())


def _check(threshold: float, search: str, form: str, max_share: float) -> None:
    if search not in SEARCHES:
        raise ValueError(f"unknown search {search!r}; there are: {', '.join(SEARCHES)}")
    faithfulness(0.0, 1.0, 0.0, form)                  # refuses an unknown form
    if not np.isfinite(threshold):
        raise ValueError(f"threshold {threshold} is not a share of the behaviour; the paper's is 0.8")
    if not 0 < max_share <= 1:
        raise ValueError(f"max_share {max_share} is not a share of the edges; give a number above 0, up to 1")
