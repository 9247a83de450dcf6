"""The circuit explorer: circuits of all models, tasks and checkpoints, to be clicked and played.

Here are its data; `js/explorer.js` draws them. A circuit of n edges is the first n of the search's
order, less those that lie on no path from `input` to `logits`. These circuits are nested, so one
number per edge tells them all: the n at which it enters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.figures.algorithm import CLASS_COLOURS
from circuitbook.figures.scripts import stylesheet
from circuitbook.figures.style import TASK_TITLES
from circuitbook.figures.views import INPUTS, in_the_book, place_of, script_json, view
from circuitbook.model.graph import Graph
from circuitbook.studies.circuits import CircuitResult
from circuitbook.wording import CLASS_DOES

BUDGET = 2_000_000  # bytes of one view's data: a page stays below 3 MB
LAB_PAGE = "lab.html"  # as the chapters' pages, which lie beside it, find it
SMALLEST_END = 60  # the slider of sizes goes at least so far, in edges

Roles = Mapping[tuple[str, int], Mapping[str, Sequence[str]]]
Notes = Mapping[tuple[str, int], pd.DataFrame]


def circuit_explorer(
    results: Sequence[CircuitResult],
    *,
    name: str = "circuits",
    start: tuple[str, str] | None = None,
    roles: Roles | None = None,
    notes: Notes | None = None,
    most: int = 200,
    compact: str = "",
    lab: Mapping[str, Sequence[int]] | None = None,
) -> HTML:
    """Circuits as layers: choose model and task, drag through training and sizes, click a node,
    compare with another checkpoint or with another model of as many layers and heads.

    name     keeps apart the views of a page in its address
    start    model and task that are shown first, at their last checkpoint; else those of the last
             result
    roles    {(model, step): {node: its classes}}; the first decides colour and shape
    notes    {(model, step): frame}: rows are nodes, columns numbers (the same everywhere) that are
             listed when the node is clicked
    most     sizes go up to twice the largest circuit of a model and task, but to no more than this,
             and to less where the page would become too large; the view says where a circuit is
             larger
    compact  for a front page: the address to which it leads for more. Only the training slider, of
             the model and task in `start`; it plays by itself once it is seen, unless the reader
             asked for less motion
    lab      {model: steps} that the lab has (see `checkpoints_in_a_page`): in the book the view
             leads there, with its model, checkpoint, task, size and node

    ValueError if there is no result, none for `start`, or one that comes from no search.
    """
    if not results:
        raise ValueError(
            "the circuit explorer needs at least one search: measure_circuits(...) gave none"
        )
    if start and not _of_model_and_task(results, *start):
        raise ValueError(
            f"nothing was measured of {start[0]} and {start[1]}, with which the explorer should "
            "start"
        )
    model, task = start or (results[-1].model, results[-1].task)
    if compact:
        results = _of_model_and_task(results, model, task)
        roles = roles and {key: classes for key, classes in roles.items() if key[0] == model}
    data = explorer_data(results, roles, notes, most)
    while len(script_json(data)) > BUDGET and most > 10:
        most //= 2
        data = explorer_data(results, roles, notes, most)
    settings = script_json(
        {
            "name": name,
            "start": [model, task],
            "inputs": INPUTS,
            "classes": CLASS_COLOURS if roles else {},
            "does": CLASS_DOES if roles else {},
            "compact": compact,
            "lab": {"page": LAB_PAGE, "models": lab} if lab and in_the_book() else None,
            "data": data,
        }
    )
    return view(
        place_of("explorer", name, settings),
        "Circuit explorer",
        settings,
        ["circuit-drawing.js", "circuit-explorer.js"],
        style=stylesheet("explorer.css"),
    )


def _of_model_and_task(
    results: Iterable[CircuitResult], model: str, task: str
) -> list[CircuitResult]:
    return [result for result in results if (result.model, result.task) == (model, task)]


def explorer_data(
    results: Sequence[CircuitResult],
    roles: Roles | None = None,
    notes: Notes | None = None,
    most: int = 200,
) -> dict[str, Any]:
    """What the explorer draws, as plain values.

    models    {model: {layers, heads, steps, tokens}}, steps and tokens seen of its checkpoints,
              ascending
    tasks     {task: title}
    circuits  {model: {task: [a circuit per checkpoint]}}: None where nothing was measured, {"why":
              reason} where there is no circuit, else see `circuit_data`
    roles     {model: [{node: indices into `CLASS_COLOURS`}]}, one per checkpoint
    notes     {model: [{node: values}]}, named by `columns`
    """
    models = _models(results)
    tasks = {result.task: TASK_TITLES[result.task] for result in results}
    data = {"models": models, "tasks": tasks, "circuits": _circuits(results, models, tasks, most)}
    if roles:
        data["roles"] = _per_checkpoint(
            models, {key: _as_numbers(classes) for key, classes in roles.items()}
        )
    if notes:
        columns = list(next(iter(notes.values())).columns)
        data["notes"] = _per_checkpoint(
            models, {key: _rounded_rows(frame[columns]) for key, frame in notes.items()}
        )
        data["columns"] = columns
    return data


def _models(results: Iterable[CircuitResult]) -> dict[str, dict[str, Any]]:
    """{model: {layers, heads, steps, tokens}}"""
    models: dict[str, dict[str, Any]] = {}
    tokens_at: dict[str, dict[int, int]] = {}
    for result in results:
        graph = result.circuit.graph
        models[result.model] = {"layers": graph.n_layers, "heads": graph.n_heads}
        tokens_at.setdefault(result.model, {})[result.step] = result.tokens_seen
    for name, model in models.items():
        model["steps"] = sorted(tokens_at[name])
        model["tokens"] = [tokens_at[name][step] for step in model["steps"]]
    return models


def _circuits(
    results: Sequence[CircuitResult],
    models: Mapping[str, dict[str, Any]],
    tasks: Iterable[str],
    most: int,
) -> dict[str, dict[str, list[dict[str, Any] | None]]]:
    """{model: {task: [a circuit per checkpoint]}}"""
    ends: dict[tuple[str, str], int] = {}  # one slider for all checkpoints of a model and task
    for result in results:
        key = result.model, result.task
        size = result.circuit.about.get("size", 0)
        ends[key] = max(ends.get(key, SMALLEST_END), 2 * size)
    circuits: dict[str, dict[str, list[dict[str, Any] | None]]] = {
        name: {task: [None] * len(model["steps"]) for task in tasks}
        for name, model in models.items()
    }
    for result in results:
        place = models[result.model]["steps"].index(result.step)
        end = min(most, ends[result.model, result.task])
        circuits[result.model][result.task][place] = circuit_data(result, end)
    return circuits


def _per_checkpoint(
    models: Mapping[str, dict[str, Any]], values: Mapping[tuple[str, int], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """{(model, step): {node: ...}} as {model: [{node: ...}, one per checkpoint]}"""
    return {
        name: [values.get((name, step), {}) for step in model["steps"]]
        for name, model in models.items()
    }


def _as_numbers(classes: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """{node: the places of its classes in CLASS_COLOURS}, without nodes that have none."""
    order = list(CLASS_COLOURS)
    return {node: [order.index(name) for name in names] for node, names in classes.items() if names}


def _rounded_rows(frame: pd.DataFrame) -> dict[str, list[float | None]]:
    """{node: its values}"""
    rows = zip(frame.index, frame.to_numpy(float), strict=True)
    return {
        node: [round(value, 3) if np.isfinite(value) else None for value in values]
        for node, values in rows
    }


def circuit_data(result: CircuitResult, most: int) -> dict[str, Any]:
    """One circuit, with its first `most` edges.

    edges      src * n_dst + dst, in the order in which they enter
    enters     the size at which each does, as the difference from the one before
    scores     of each
    end        the largest size that is here; `size`: the circuit's own
    curve      rows of (edges, faithfulness, low, high) where it was evaluated
    threshold, form    of the search

    ValueError if the circuit is not the first `size` edges by its own scores: then the sizes would
    tell another story.
    """
    circuit = result.circuit
    if not circuit.found:
        return {"why": circuit.reason}
    about, graph = circuit.about, circuit.graph
    described = f"the {result.task} circuit of {result.model} at step {result.step}"
    if circuit.scores is None or circuit.curve is None or "size" not in about:
        raise ValueError(
            f"{described} comes from no search (it lacks scores or about['size']), so its edges "
            "have no order"
        )
    order = edge_order(
        circuit.scores, graph, about["selection"], about["absolute"], max(most, about["size"])
    )
    if not (first_edges(order, graph, about["size"]) == circuit.mask).all():
        raise ValueError(f"{described} is not the first {about['size']} edges by its scores")
    order = order[:most]
    enters = entry_sizes(order, graph)
    kept = np.argsort(enters, kind="stable")
    kept = kept[enters[kept] <= len(order)]
    src, dst = order[kept].T
    curve = circuit.curve.drop_duplicates("edges")[["edges", about["form"], "low", "high"]]
    return {
        "edges": (src * graph.n_dst + dst).tolist(),
        "enters": np.diff(enters[kept], prepend=0).tolist(),
        "scores": [_short(score) for score in circuit.scores[src, dst]],
        "end": len(order),
        "size": about["size"],
        "curve": [
            [int(edges), *(_short(value, 4) for value in values)]
            for edges, *values in curve.itertuples(index=False)
        ],
        "threshold": about["threshold"],
        "form": about["form"],
    }


def entry_sizes(order: np.ndarray, graph: Graph) -> np.ndarray:
    """The smallest n at which each edge is in `first_edges(order, graph, n)`, or beyond the last.

    order: int [edge, (src, dst)]; the result: int [edge], len(order) + 1 where there is no such n.

    An edge is alive from the n on at which it is there itself, its source is reached from `input`
    and its target reaches `logits`: the latest of three, where a node is reached by the earliest of
    its paths, and a path as late as its last edge.
    """
    never = len(order) + 1
    rank = np.full(graph.mask.shape, never)
    rank[tuple(order.T)] = np.arange(1, len(order) + 1)
    fed, read = np.full(graph.n_src + 1, never), np.full(graph.n_src + 1, never)
    fed[0] = read[-1] = 0
    for node, columns in graph.columns_of_nodes:
        fed[node] = np.maximum(rank[:, columns], fed[:-1, None]).min()
    for node, columns in reversed(graph.columns_of_nodes):
        read[:-1] = np.minimum(read[:-1], np.maximum(rank[:, columns], read[node]).min(1))
    src, dst = order.T
    on_a_path: np.ndarray = np.maximum(fed[src], read[graph.node_of[dst]])
    return np.maximum(rank[src, dst], on_a_path)


def _short(value: float, digits: int = 3) -> float | None:
    """A number with so many digits; None for one that is not finite."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
