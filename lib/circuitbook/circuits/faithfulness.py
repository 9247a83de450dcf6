"""How much of the behaviour a circuit keeps, in either form, and curves of it over size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from tqdm.auto import tqdm

from circuitbook.circuits.attribution import Scores
from circuitbook.circuits.corrupted import TOGETHER, CorruptedRuns, at_any_position
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.circuits.spans import SpanCircuit
from circuitbook.circuits.stable_signs import stable_signs
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.stats import bootstrap_draws, interval
from circuitbook.tasks.base import PromptPairs

SEARCHES = ("grid", "bisect", "every")
FORMS = ("ratio", "normalised")
MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of all edges (Mueller et al. 2025)."""
STEP = 2**0.5  # sizes of the grid grow by this factor

Number = TypeVar("Number", float, np.ndarray)


def faithfulness(metric: Number, clean: Number, corrupted: Number, form: str) -> Number:
    """Faithfulness of a circuit in one of `FORMS`; numbers or arrays.

    metric: the circuit's mean metric; clean, corrupted: the full model's on either prompts.

    >>> faithfulness(1.0, 2.0, -2.0, "ratio"), faithfulness(1.0, 2.0, -2.0, "normalised")
    (0.5, 0.75)
    """
    if form not in FORMS:
        raise ValueError(f"unknown form of faithfulness {form!r}; there are: {', '.join(FORMS)}")
    if form == "ratio":
        return metric / clean
    return (metric - corrupted) / (clean - corrupted)


def faithfulness_curve(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    sizes: Iterable[int] | None = None,
    *,
    selection: str = "greedy",
    absolute: bool = True,
    form: str = "ratio",
    stable: float | None = None,
    memory: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Faithfulness of the first n edges for each n of `sizes` (default: steps of a factor 1.41 up
    to all edges).

    The rows are those of `find_circuit`'s curve, with size 0 first if asked for; so are selection,
    absolute and stable.
    """
    check_settings(0.0, "grid", form, 1.0)
    graph, runs = graph_of(model), CorruptedRuns(model, pairs, memory)
    wanted = grid_sizes(graph.n_edges) if sizes is None else sorted({int(n) for n in sizes})
    if not wanted or wanted[0] < 0 or wanted[-1] > graph.n_edges:
        raise ValueError(
            f"sizes must lie in 0..{graph.n_edges}, the number of edges; "
            f"got {wanted[:1]} .. {wanted[-1:]}"
        )
    first = None if stable is None else stable_signs(scores, stable)
    order = edge_order(scores.values, graph, selection, absolute, max(wanted), first)
    curve = Curve(model=model, pairs=pairs, runs=runs, order=order, form=form, progress=progress)
    curve.evaluate(wanted)
    return curve.frame()


def mib_metrics(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    *,
    selection: str = "top",
    absolute: bool = True,
    stable: float | None = None,
    memory: int | None = None,
) -> dict[str, float]:
    """The two numbers by which MIB ranks a score matrix (Mueller et al. 2025): {"cpr", "cmd"}.

    f(k) is the normalised faithfulness of the best share k of all edges, at the ten shares .001 ...
    1 of `MIB_SHARES`. cpr, circuit performance ratio, is the area under f: higher is better. cmd,
    circuit-model distance, is the area between
    f and 1: lower is better. Trapezoids over the share of edges, from .001 to 1, as their code.
    """
    graph = graph_of(model)
    curve = faithfulness_curve(
        model,
        pairs,
        scores,
        [int(share * graph.n_edges) for share in MIB_SHARES],
        selection=selection,
        absolute=absolute,
        form="normalised",
        stable=stable,
        memory=memory,
    )
    at = dict(zip(curve["size"], curve["normalised"], strict=True))
    return mib_areas(np.array([at[int(share * graph.n_edges)] for share in MIB_SHARES]))


def mib_areas(f: Float64[np.ndarray, " share"]) -> dict[str, float]:
    """{"cpr", "cmd"} of the normalised faithfulness at `MIB_SHARES`; see `mib_metrics`."""
    return {
        "cpr": float(np.trapezoid(f, MIB_SHARES)),
        "cmd": float(np.trapezoid(np.abs(1 - f), MIB_SHARES)),
    }


def grid_sizes(limit: int) -> list[int]:
    """From 1 to the limit, in steps of a factor of about 1.41.

    >>> grid_sizes(12)
    [1, 2, 3, 4, 6, 8, 11, 12]
    """
    sizes, size = {limit}, 1.0
    while size < limit:
        sizes.add(round(size))
        size *= STEP
    return sorted(sizes)


# ------------------------------------------------------------------ curves over size


@dataclass(eq=False, kw_only=True)
class Curve:
    """What has been evaluated so far. Sizes whose living edges are the same share an evaluation."""

    model: Model
    pairs: PromptPairs
    runs: CorruptedRuns
    order: Int64[np.ndarray, "edge ends"]
    """The circuit of size n is the first n of these, less the dead ones."""
    form: str
    """Of the interval, and of `faithfulness`."""
    progress: bool = False
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Size -> edges and nodes after pruning."""
    metric: dict[int, Float64[np.ndarray, " n"]] = field(default_factory=dict)
    """Edges after pruning -> metric of each prompt; sizes are nested, so the edges tell."""

    def __post_init__(self) -> None:
        clean, corrupted = self.runs.baselines()
        self.clean, self.corrupted = clean.double().numpy(), corrupted.double().numpy()
        self.metric[0] = self.corrupted

    def first(self, n: int) -> np.ndarray | SpanCircuit:
        """The circuit of size n."""
        return first_edges(self.order, self.runs.graph, n)

    def count(self, circuit: np.ndarray | SpanCircuit) -> tuple[int, int]:
        """Its edges and nodes."""
        mask = at_any_position(circuit)
        return int(mask.sum()), int(self.runs.graph.nodes_of(mask).sum())

    def evaluate(self, sizes: Iterable[int]) -> None:
        """Evaluates the sizes that are not known yet, several at a time."""
        waiting: dict[int, np.ndarray | SpanCircuit] = {}
        sizes = [n for n in sizes if n not in self.counts]
        bar = tqdm(
            total=len(sizes), desc="circuits", unit="size", disable=not self.progress, leave=False
        )
        for i, n in enumerate(sizes):
            mask = self.first(n)
            self.counts[n] = edges, _ = self.count(mask)
            if edges not in self.metric:
                waiting[edges] = mask
            if waiting and (len(waiting) >= TOGETHER or i == len(sizes) - 1):
                masks = list(waiting.values())
                metric = evaluate_masks(self.model, self.pairs, masks, runs=self.runs)
                self.metric |= dict(zip(waiting, metric.double().numpy(), strict=True))
                waiting = {}
            bar.update()
        bar.close()

    def faithfulness(self, n: int) -> float:
        """Of the circuit of size n, which is evaluated first where it is not known."""
        self.evaluate([n])
        metric = self.metric[self.counts[n][0]]
        return faithfulness(metric.mean(), self.clean.mean(), self.corrupted.mean(), self.form)

    def frame(self) -> pd.DataFrame:
        """A row for each size, ascending: see `search.find_circuit`."""
        rows = []
        for n, (edges, nodes) in sorted(self.counts.items()):
            metric = self.metric[edges]
            means = metric.mean(), self.clean.mean(), self.corrupted.mean()
            row = {"size": n, "edges": edges, "nodes": nodes, "metric": metric.mean()}
            with np.errstate(divide="ignore", invalid="ignore"):  # a clean metric may be 0
                row |= {form: faithfulness(*means, form) for form in FORMS}
            low, high = self._interval(metric)
            rows.append(row | {"low": low, "high": high})
        return pd.DataFrame(rows)

    def _interval(self, metric: Float64[np.ndarray, " n"]) -> tuple[float, float]:
        """Of the faithfulness, over prompts; nan for a single one."""
        if len(metric) < 2:
            return np.nan, np.nan
        draws = bootstrap_draws(len(metric))
        with np.errstate(divide="ignore", invalid="ignore"):
            samples = faithfulness(
                draws @ metric, draws @ self.clean, draws @ self.corrupted, self.form
            )
        low, high = interval(samples)
        return float(low), float(high)


def check_settings(threshold: float, search: str, form: str, max_share: float) -> None:
    if search not in SEARCHES:
        raise ValueError(f"unknown search {search!r}; there are: {', '.join(SEARCHES)}")
    faithfulness(0.0, 1.0, 0.0, form)  # refuses an unknown form
    if not np.isfinite(threshold):
        raise ValueError(
            f"threshold {threshold} is not a share of the behaviour; the paper's is 0.8"
        )
    if not 0 < max_share <= 1:
        raise ValueError(
            f"max_share {max_share} is not a share of the edges; give a number above 0, up to 1"
        )
