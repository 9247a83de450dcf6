"""How much of the behaviour a circuit keeps, in either form, and curves of it over size."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from circuitbook.circuits.attribution import Scores
from circuitbook.circuits.corrupted import TOGETHER, CorruptedRuns
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.model.graph import Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.stats import bootstrap_draws, interval
from circuitbook.tasks.base import PromptPairs

SEARCHES = ("grid", "bisect", "every")
FORMS = ("ratio", "normalised")


MIB_SHARES = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
)  # of all edges (Mueller et al. 2025)


STEP = 2**0.5  # sizes of the grid grow by this factor


def faithfulness(m, b, corrupted, form: str):
    """Faithfulness of a circuit with (mean) metric m in one of `FORMS`; numbers or arrays."""
    if form not in FORMS:
        raise ValueError(f"unknown form of faithfulness {form!r}; there are: {', '.join(FORMS)}")
    return m / b if form == "ratio" else (m - corrupted) / (b - corrupted)


def faithfulness_curve(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    sizes: Iterable[int] | None = None,
    *,
    selection: str = "greedy",
    absolute: bool = True,
    form: str = "ratio",
    memory: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Faithfulness of the first n edges for each n of `sizes` (default: steps of a factor 1.41 up
    to all edges).

    The rows are those of `find_circuit`'s curve, with size 0 first if asked for.
    """
    check_settings(0.0, "grid", form, 1.0)
    graph, runs = graph_of(model), CorruptedRuns(model, pairs, memory)
    clean, corrupted = (part.double().numpy() for part in runs.baselines())
    wanted = grid_sizes(graph.n_edges) if sizes is None else sorted({int(n) for n in sizes})
    if not wanted or wanted[0] < 0 or wanted[-1] > graph.n_edges:
        raise ValueError(
            f"sizes must lie in 0..{graph.n_edges}, the number of edges; got {wanted[:1]} .. {wanted[-1:]}"
        )
    order = edge_order(scores.values, graph, selection, absolute, max(wanted))
    table = Curve(model, pairs, runs, graph, order, clean, corrupted, form, progress)
    table.look(wanted)
    return table.frame()


def mib_metrics(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    *,
    selection: str = "top",
    absolute: bool = True,
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
        memory=memory,
    )
    at = dict(zip(curve["size"], curve["normalised"]))
    f = np.array([at[int(share * graph.n_edges)] for share in MIB_SHARES])
    return {
        "cpr": float(np.trapezoid(f, MIB_SHARES)),
        "cmd": float(np.trapezoid(np.abs(1 - f), MIB_SHARES)),
    }


def grid_sizes(limit: int) -> list[int]:
    """grid_sizes(12) -> [1, 2, 3, 4, 6, 8, 12]"""
    sizes, size = {limit}, 1.0
    while size < limit:
        sizes.add(round(size))
        size *= STEP
    return sorted(sizes)


# ------------------------------------------------------------------ the searches


class Curve:
    """What has been looked at so far. Sizes whose living edges are the same share one
    evaluation."""

    def __init__(
        self,
        model,
        pairs,
        runs: CorruptedRuns,
        graph: Graph,
        order: np.ndarray,
        clean: np.ndarray,
        corrupted: np.ndarray,
        form: str,
        progress: bool,
    ):
        self.model, self.pairs, self.runs, self.graph, self.order = model, pairs, runs, graph, order
        self.clean, self.corrupted, self.form, self.progress = clean, corrupted, form, progress
        self.edges: dict[int, tuple[int, int]] = {}  # size -> edges and nodes after pruning
        self.metric: dict[int, np.ndarray] = {
            0: corrupted
        }  # edges -> metric [n]; sizes are nested, so edges tell

    def look(self, sizes: Iterable[int]) -> None:
        """Evaluates the sizes that are not known yet, several at a time."""
        new: dict[int, np.ndarray] = {}
        sizes = [n for n in sizes if n not in self.edges]
        bar = tqdm(
            total=len(sizes), desc="circuits", unit="size", disable=not self.progress, leave=False
        )
        for i, n in enumerate(sizes):
            mask = first_edges(self.order, self.graph, n)
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
        return faithfulness(
            self.metric[self.edges[n][0]].mean(),
            self.clean.mean(),
            self.corrupted.mean(),
            self.form,
        )

    def frame(self) -> pd.DataFrame:
        rows = []
        for n, (edges, nodes) in sorted(self.edges.items()):
            values = self.metric[edges]
            row = {"size": n, "edges": edges, "nodes": nodes, "metric": values.mean()}
            row |= {
                form: faithfulness(values.mean(), self.clean.mean(), self.corrupted.mean(), form)
                for form in FORMS
            }
            low = high = np.nan
            if len(values) > 1:
                draws = bootstrap_draws(len(values))
                with np.errstate(divide="ignore", invalid="ignore"):
                    low, high = interval(
                        faithfulness(
                            draws @ values, draws @ self.clean, draws @ self.corrupted, self.form
                        )
                    )
            rows.append(row | {"low": float(low), "high": float(high)})
        return pd.DataFrame(rows)


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
