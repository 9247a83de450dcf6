"""How much of a circuit turns over, how much of that is noise, and whether circuits grow with the model.

Tigges et al. 2024, section 4.3 and Figure 5: Jaccard similarity of the circuits at neighbouring checkpoints, smoothed by an
exponentially weighted moving average; and the correlation of circuit size with model size. Three things are put beside it:

    ceiling     the similarity of circuits at one checkpoint from other prompts: more cannot be expected of two checkpoints
    floor       that of random circuits: of the same number of edges, grown as the circuit was, or with the same degrees
    spacing     pairs of checkpoints at an equal ratio of tokens, since neighbours that are further apart differ more

Works on what `over_training.measure_circuits` has measured; a similarity is 1 for equal circuits and 0 for disjoint ones.
"""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats
import torch
from scipy.optimize import linear_sum_assignment

from .graph import KINDS, Graph
from .heads import HeadScores
from .model import count_parameters
from .over_training import Found, grouped, jaccard
from .planning import PYTHIA_SHAPES, parameters
from .selection import chosen, edge_order
from .suites import Suite

ALPHA = 0.5                                            # of the moving average (the authors')
# What one is as similar as: see `likeness`.
LIKE = ("other prompts", "next checkpoint", "other seed", "other seed, heads matched", "random, heads matched")


# ------------------------------------------------------------------ similarity

def node_jaccard(a: np.ndarray, b: np.ndarray, graph: Graph) -> float:
    """Shared nodes over nodes in either, `input` and `logits` among them (as the authors count)."""
    return jaccard(graph.nodes_of(a), graph.nodes_of(b))


def weighted_jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of minima over sum of maxima of two circuits' absolute scores [src, dst], each made to sum to 1 over its circuit; 0
    off the circuit. (The authors' appendix.) 0 if either is all zero."""
    a, b = (np.abs(np.asarray(part, dtype=float)) for part in (a, b))
    if not a.any() or not b.any():
        return 0.0
    a, b = a / a.sum(), b / b.sum()
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def ewma(values: Sequence[float], alpha: float = ALPHA, start: float | None = None) -> np.ndarray:
    """s_0 = x_0, s_t = alpha x_t + (1 - alpha) s_{t-1}; from `start` if given (the authors' change rate starts from 0)."""
    series = pd.Series([*([] if start is None else [start]), *values], dtype=float)
    return series.ewm(alpha=alpha, adjust=False).mean().to_numpy()[0 if start is None else 1:]


def relabelled_jaccard(a: np.ndarray, b: np.ndarray, graph: Graph, tries: int = 8, seed: int = 0) -> float:
    """The largest Jaccard similarity of edges when the heads of each layer of `b` may change places.

    Two seeds have no reason to give a job to heads of the same number; this forgives that, and nothing else. Layers are matched
    in turn (Hungarian method) until nothing improves, from several starting points: a lower bound, mostly the optimum.
    """
    rng, best = np.random.default_rng(seed), jaccard(a, b)
    for attempt in range(tries):
        orders = [rng.permutation(graph.n_heads) if attempt else np.arange(graph.n_heads) for _ in range(graph.n_layers)]
        moved, value = graph.relabel(b, orders), -1.0
        while (now := jaccard(a, moved)) > value:
            value = now
            for layer in range(graph.n_layers):
                gain = np.zeros((graph.n_heads, graph.n_heads))                # [place, head that may take it], shared edges
                gain += a[graph.heads(layer)].astype(float) @ moved[graph.heads(layer)].T
                for kind in KINDS:
                    columns = graph.readers(layer, kind)
                    gain += a[:, columns].T.astype(float) @ moved[:, columns]
                order = linear_sum_assignment(-gain)[1]
                moved = graph.relabel(moved, [order if at == layer else np.arange(graph.n_heads) for at in range(graph.n_layers)])
        best = max(best, value)
    return best


# ------------------------------------------------------------------ random circuits

def random_circuit(graph: Graph, edges: int, rng: np.random.Generator) -> np.ndarray:
    """A circuit of (at least, as dead edges allow) so many living edges, grown greedily from the logits by random scores."""
    wish = rng.random(graph.mask.shape)
    limit = min(graph.n_edges, 8 * edges + 64)
    while True:
        order = edge_order(wish, graph, limit=limit)
        low, high = 1, len(order)                      # living edges only become more: halve
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if chosen(order, graph, middle).sum() >= edges else (middle + 1, high)
        mask = chosen(order, graph, low)
        if mask.sum() >= edges or limit == graph.n_edges:
            return mask
        limit = min(graph.n_edges, 4 * limit)


def rewired_circuit(mask: np.ndarray, graph: Graph, rng: np.random.Generator, swaps: int = 10) -> np.ndarray:
    """The circuit with edges swapped at random, `swaps` times each: u->v, x->y become u->y, x->v where the graph has these.

    Every source keeps the number of its edges and every input the number of its own (Maslov and Sneppen 2002), so all edges
    stay alive.
    """
    mask = mask.copy()
    edges = np.argwhere(mask)
    for i, j in rng.integers(len(edges), size=(swaps * len(edges), 2)):
        (u, v), (x, y) = edges[i], edges[j]
        if u != x and v != y and graph.mask[u, y] and graph.mask[x, v] and not mask[u, y] and not mask[x, v]:
            mask[u, v] = mask[x, y] = False
            mask[u, y] = mask[x, v] = True
            edges[i], edges[j] = (u, y), (x, v)
    return mask


# ------------------------------------------------------------------ over training

def pairs(found: Sequence[Found], ratio: float | None = None, tolerance: float = 0.1) -> list[tuple[Found, Found]]:
    """Checkpoints to compare, of one model and task in order: neighbours (the paper's), or for each one the earlier one whose
    tokens are fewer by `ratio`, to within `tolerance` of it (none if there is none)."""
    there = [one for one in found if one.circuit.found]
    if ratio is None:
        return list(zip(there, there[1:]))
    out = []
    for after in there:
        before = [one for one in there if 0 < one.tokens_seen < after.tokens_seen]
        if before:
            best = min(before, key=lambda one: abs(np.log(after.tokens_seen / one.tokens_seen / ratio)))
            if abs(after.tokens_seen / best.tokens_seen / ratio - 1) <= tolerance:
                out.append((best, after))
    return out


def turnover(found: Sequence[Found], ratio: float | None = None, tolerance: float = 0.1, draws: int = 8, seed: int = 0) -> pd.DataFrame:
    """How similar the circuits of pairs of checkpoints are (see `pairs`), one row each.

    Columns: model, task, step and step_before, tokens_seen and tokens_before; edges and nodes (Jaccard), weighted, and
    `edges_ewma`, `nodes_ewma`, `weighted_ewma` along the curve; for edges and nodes the `_ceiling` (mean over both checkpoints of
    the similarity of two circuits from resampled prompts; nan where none were kept), the `_floor` (random circuits grown to the
    same numbers of edges) and the `_degree` floor (both circuits rewired). Of either, `draws` (with 0, nan). `left`: what the
    similarity of edges is between `edges_floor` (0) and ceiling (1). A small circuit has few others of its degrees, so that its
    degree floor says that, and little else.
    """
    rows, noise, random = [], {}, {}

    def measures(graph: Graph, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array([jaccard(a, b), node_jaccard(a, b, graph)])

    def ceiling(one: Found) -> np.ndarray:
        key = (one.model, one.task, one.step)
        if key not in noise:
            masks = one.resampled
            values = [measures(one.circuit.graph, a, b) for a, b in itertools.combinations(masks, 2)]
            noise[key] = np.mean(values, axis=0) if values else np.full(2, np.nan)
        return noise[key]

    def nulls(one: Found) -> tuple[list, list]:
        key = (one.model, one.task, one.step)
        if key not in random:
            rng, graph = np.random.default_rng([seed, zlib.crc32(repr(key).encode())]), one.circuit.graph
            random[key] = ([random_circuit(graph, one.circuit.n_edges, rng) for _ in range(draws)],
                           [rewired_circuit(one.circuit.mask, graph, rng) for _ in range(draws)])
        return random[key]

    for (model, task), group in grouped(found).items():
        mine = []
        for before, after in pairs(group, ratio, tolerance):
            a, b, graph = before.circuit, after.circuit, after.circuit.graph
            row = {"model": model, "task": task, "step": after.step, "step_before": before.step, "tokens_seen": after.tokens_seen,
                   "tokens_before": before.tokens_seen}
            same, top = measures(graph, a.mask, b.mask), (ceiling(before) + ceiling(after)) / 2
            low, degree = ((np.mean([measures(graph, x, y) for x, y in zip(*both)], axis=0) for both in zip(nulls(before), nulls(after)))
                           if draws else [np.full(2, np.nan)] * 2)
            for i, what in enumerate(("edges", "nodes")):
                row |= {what: same[i], f"{what}_ceiling": top[i], f"{what}_floor": low[i], f"{what}_degree": degree[i]}
            scores = [np.where(c.mask, 1.0 if c.scores is None else c.scores, 0.0) for c in (a, b)]
            row["weighted"] = weighted_jaccard(*scores)
            row["left"] = (row["edges"] - row["edges_floor"]) / (row["edges_ceiling"] - row["edges_floor"])
            mine.append(row)
        if mine:
            frame = pd.DataFrame(mine)
            rows.append(frame.assign(**{f"{what}_ewma": ewma(frame[what]) for what in ("edges", "nodes", "weighted")}))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=_TURNOVER).astype(dict.fromkeys(_TURNOVER[2:], float))


_TURNOVER = ["model", "task", "step", "step_before", "tokens_seen", "tokens_before", "edges", "edges_ceiling", "edges_floor",
             "edges_degree", "nodes", "nodes_ceiling", "nodes_floor", "nodes_degree", "weighted", "left", "edges_ewma", "nodes_ewma",
             "weighted_ewma"]


def by_ratio(found: Sequence[Found]) -> pd.DataFrame:
    """Every two checkpoints of a model and task that have circuits: model, task, ratio (of their tokens), edges (Jaccard)."""
    rows = []
    for (model, task), group in grouped(found).items():
        for before, after in itertools.combinations([one for one in group if one.tokens_seen], 2):
            rows.append({"model": model, "task": task, "ratio": after.tokens_seen / before.tokens_seen,
                         "edges": jaccard(before.circuit.mask, after.circuit.mask)})
    return pd.DataFrame(rows, columns=["model", "task", "ratio", "edges"])


def to_reference(found: Sequence[Found], step: int | None = None) -> pd.DataFrame:
    """Similarity of every circuit to that of one checkpoint (None: the last that has one): a row each, with model, task, step,
    tokens_seen, reference (step), edges, nodes, weighted. Models without a circuit at `step` are left out."""
    rows = []
    for (model, task), group in grouped(found).items():
        reference = group[-1] if step is None else next((one for one in group if one.step == step), None)
        if reference is None:
            continue
        graph, scored = reference.circuit.graph, lambda one: np.where(one.circuit.mask, one.circuit.scores, 0.0)
        for one in group:
            rows.append({"model": model, "task": task, "step": one.step, "tokens_seen": one.tokens_seen, "reference": reference.step,
                         "edges": jaccard(one.circuit.mask, reference.circuit.mask),
                         "nodes": node_jaccard(one.circuit.mask, reference.circuit.mask, graph),
                         "weighted": weighted_jaccard(scored(one), scored(reference))})
    return pd.DataFrame(rows, columns=["model", "task", "step", "tokens_seen", "reference", "edges", "nodes", "weighted"])


def two_draws(found: Sequence[Found], again: Sequence[Found]) -> pd.DataFrame:
    """The same searches on two draws of prompts: model, task, step, edges (Jaccard), nodes, size and size_again, and `expected`,
    the similarity of edges that resampling the prompts of the first draw predicts at a held size."""
    other = {(one.model, one.task, one.step): one for one in again}
    rows = []
    for one in found:
        two = other.get((one.model, one.task, one.step))
        if two is None or not (one.circuit.found and two.circuit.found):
            continue
        a, b = one.circuit.mask, two.circuit.mask
        expected = [jaccard(x, y) for x, y in itertools.combinations(one.resampled, 2)]
        rows.append({"model": one.model, "task": one.task, "step": one.step, "edges": jaccard(a, b), "nodes": node_jaccard(a, b, one.circuit.graph),
                     "size": int(a.sum()), "size_again": int(b.sum()), "expected": np.mean(expected) if expected else np.nan})
    return pd.DataFrame(rows, columns=["model", "task", "step", "edges", "nodes", "size", "size_again", "expected"])


def likeness(found: Sequence[Found], seeds: Sequence[Sequence[str]], table: pd.DataFrame, draws: int = 8, seed: int = 0) -> pd.DataFrame:
    """Seeds against checkpoints: how similar circuits are to what (see `LIKE`), a row per task, `like`, and pair.

    Columns: task, like, model, other, edges (Jaccard). "other prompts" and "next checkpoint" are those of `table` (see
    `turnover`), for the models in groups of `seeds`; seeds are compared at their last checkpoints, by the heads' numbers and with
    the heads of each layer matched as well as they can be; random circuits of the same sizes are matched in the same way.
    """
    rows, rng = [], np.random.default_rng(seed)
    groups = [list(names) for names in seeds if len(names) > 1]
    members = {name for names in groups for name in names}
    for _, row in table[table["model"].isin(members)].iterrows():
        for like, value in ((LIKE[0], row["edges_ceiling"]), (LIKE[1], row["edges"])):
            rows.append({"task": row["task"], "like": like, "model": row["model"], "other": row["model"], "edges": value})
    last = {key: group[-1].circuit for key, group in grouped(found).items()}
    for task in dict.fromkeys(one.task for one in found):
        for a, b in (pair for names in groups for pair in itertools.combinations(names, 2)):
            if (a, task) not in last or (b, task) not in last:
                continue
            one, two, graph = last[a, task], last[b, task], last[a, task].graph
            random = [relabelled_jaccard(random_circuit(graph, one.n_edges, rng), random_circuit(graph, two.n_edges, rng), graph, seed=k)
                      for k in range(draws)]
            for like, value in zip(LIKE[2:], (jaccard(one.mask, two.mask), relabelled_jaccard(one.mask, two.mask, graph), np.mean(random))):
                rows.append({"task": task, "like": like, "model": a, "other": b, "edges": value})
    return pd.DataFrame(rows, columns=["task", "like", "model", "other", "edges"])


def same_heads(found: Sequence[HeadScores], bars: Mapping[str, float], seeds: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Which heads are of a kind, in the seeds of a size: a row per kind, `like` and pair of checkpoints or seeds.

    bars: {kind: score from which a head is of it}. Columns: kind, like ("next checkpoint" or "other seed", at the last checkpoint),
    model, other, heads (Jaccard of the sets of heads; rows with two empty sets are left out), and how many there are in each.
    """
    rows = []
    groups = [list(names) for names in seeds if len(names) > 1]
    of = {name: sorted((one for one in found if one.model == name), key=lambda one: one.step) for names in groups for name in names}
    neighbours = [(a, b, LIKE[1]) for mine in of.values() for a, b in zip(mine, mine[1:])]
    others = [(of[a][-1], of[b][-1], LIKE[2]) for names in groups for a, b in itertools.combinations(names, 2) if of[a] and of[b]]
    for kind, bar in bars.items():
        for a, b, like in [*neighbours, *others]:
            one, two = a.score(kind) >= bar, b.score(kind) >= bar
            if one.any() or two.any():
                rows.append({"kind": kind, "like": like, "model": a.model, "other": b.model, "heads": jaccard(one, two),
                             "count": int(one.sum()), "count_other": int(two.sum())})
    return pd.DataFrame(rows, columns=["kind", "like", "model", "other", "heads", "count", "count_other"])


# ------------------------------------------------------------------ size

@dataclass(frozen=True)
class Correlation:
    """Of circuit size with model size over n models. low, high: 95 % (Fisher's z), nan below four models; p: two-sided, from
    all n! pairings, so that it cannot be smaller than 2 / n!."""

    n: int
    pearson: float
    low: float
    high: float
    p: float
    pearson_log: float                                 # with log10 of the model size
    spearman: float


def correlation(sizes: Sequence[float], counts: Sequence[float]) -> Correlation:
    """Pearson and Spearman correlation of counts with sizes; nan with fewer than three models or where nothing varies."""
    x, y = np.asarray(sizes, dtype=float), np.asarray(counts, dtype=float)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} model sizes cannot be correlated with {len(y)} circuit sizes")
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(len(x), *[np.nan] * 6)
    found = scipy.stats.pearsonr(x, y)
    low, high = found.confidence_interval() if len(x) > 3 else (np.nan, np.nan)
    if len(x) <= 7:
        every = np.array([np.corrcoef(x, y[list(order)])[0, 1] for order in itertools.permutations(range(len(x)))])
        p = min(1.0, 2 * min((every >= found.statistic - 1e-12).mean(), (every <= found.statistic + 1e-12).mean()))
    else:
        p = float(found.pvalue)
    return Correlation(len(x), float(found.statistic), float(low), float(high), float(p), float(scipy.stats.pearsonr(np.log10(x), y).statistic),
                       float(scipy.stats.spearmanr(x, y).statistic))


PYTHIA_SIZES = {"70m": 70e6, "160m": 160e6, "410m": 410e6, "1b": 1e9, "1.4b": 1.4e9, "2.8b": 2.8e9, "6.9b": 6.9e9, "12b": 12e9}
TYPED_SIZES = PYTHIA_SIZES | {"1.4b": 14e9, "2.8b": 28e9}         # as the authors' correlation has them


def model_size(suite: Suite, model: str) -> float:
    """Parameters of a model: Pythia's by name (nominal ones from 70m on), else counted from its configuration; weights are not read."""
    named = re.fullmatch(r"pythia-([\d.]+[mb])(-.*)?", model)
    if named and named[1] in PYTHIA_SIZES:
        return PYTHIA_SIZES[named[1]]
    if named and named[1] in PYTHIA_SHAPES:
        return float(parameters(PYTHIA_SHAPES[named[1]]))
    folder = Path(suite.checkpoint(model, suite.steps(model)[-1]).fetch())
    return float(count_parameters(json.loads((folder / "config.json").read_text(encoding="utf8"))))


def size_table(table: pd.DataFrame, sizes: Mapping[str, float], what: str = "nodes") -> pd.DataFrame:
    """`correlation` per task of the mean circuit size over checkpoints with a circuit (`table` as `over_training.table` makes it)
    with the model's: columns task, models (n) and those of Correlation."""
    rows = []
    for task, part in table[table["found"] & table["model"].isin(sizes)].groupby("task", sort=False):
        mean = part.groupby("model", sort=False)[what].mean()
        rows.append({"task": task, **vars(correlation([sizes[name] for name in mean.index], mean))})
    return pd.DataFrame(rows, columns=["task", *Correlation.__dataclass_fields__])
