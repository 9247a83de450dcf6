"""The circuit explorer: circuits of all models, tasks and checkpoints in one view, to be clicked, sized and played.

Here are its data; `circuit-explorer.js` draws them. A circuit of n edges is the first n of the search's order, less those
that lie on no path from `input` to `logits`. These circuits are nested, so one number per edge tells them all: the n at
which it enters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML

from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.figures.algorithm import CLASS_COLOURS
from circuitbook.figures.style import TASK_TITLES
from circuitbook.figures.views import INPUTS, place_of, script_json, view
from circuitbook.model.graph import Graph
from circuitbook.studies.circuits import CircuitResult

BUDGET = 2_000_000  # bytes of one view's data: a page stays below 3 MB


Roles = Mapping[tuple[str, int], Mapping[str, Sequence[str]]]


Notes = Mapping[tuple[str, int], pd.DataFrame]


def circuit_explorer(
    found: Sequence[CircuitResult],
    *,
    name: str = "circuits",
    start: tuple[str, str] | None = None,
    roles: Roles | None = None,
    notes: Notes | None = None,
    most: int = 200,
    compact: str = "",
) -> HTML:
    """Circuits as layers from bottom to top: choose model and task, drag through training and through sizes, click a node.

    roles: {(model, step): {node: its classes}}; the first decides colour and shape. notes: {(model, step): frame}, rows are
    nodes, columns numbers (the same everywhere) that are listed when the node is clicked. start: model and task that are
    shown first, at their last checkpoint. most: sizes go up to twice the largest circuit of a model and task, but to no more
    than this, and to less where the page would become too large; the view says where a circuit is larger. `name` keeps apart
    the views of a page in its address. compact: for a front page: the training slider alone, which plays by itself once it is
    seen (unless the reader asked for less motion), of the model and task in `start`, with a link to this address for more.
    """
    if not found:
        raise ValueError(
            "the circuit explorer needs at least one search: measure_circuits(...) gave none"
        )
    if start and not any((one.model, one.task) == tuple(start) for one in found):
        raise ValueError(
            f"nothing was measured of {start[0]} and {start[1]}, with which the explorer should start"
        )
    if compact:
        found = [
            one
            for one in found
            if (one.model, one.task)
            == (tuple(start) if start else (found[-1].model, found[-1].task))
        ]
        roles = roles and {place: of for place, of in roles.items() if place[0] == found[0].model}
    data = explorer_data(found, roles, notes, most)
    while len(packed := script_json(data)) > BUDGET and most > 10:
        most //= 2
        data = explorer_data(found, roles, notes, most)
    shown = start or (found[-1].model, found[-1].task)
    place = place_of("explorer", name, packed)
    call = (
        f"CircuitExplorer.render({script_json(place)}, {{name: {script_json(name)}, start: {script_json(shown)}, "
        f"inputs: {script_json({kind: list(look) for kind, look in INPUTS.items()})}, "
        f"classes: {script_json(CLASS_COLOURS if roles else {})}, compact: {script_json(compact)}, data: {packed}}});"
    )
    return view(
        place,
        "Circuit explorer",
        "circuit-explorer.js",
        call,
        "<p>The circuit explorer needs JavaScript.</p>",
    )


def explorer_data(
    found: Sequence[CircuitResult],
    roles: Roles | None = None,
    notes: Notes | None = None,
    most: int = 200,
) -> dict:
    """What the explorer draws, as plain values.

    models    {model: {layers, heads, steps, tokens}}, steps and tokens seen of its checkpoints, ascending
    tasks     {task: title}
    circuits  {model: {task: [one per checkpoint]}}: None where nothing was measured, {"why": reason} where there is no
              circuit, else see `circuit_data`
    roles     {model: [{node: indices into `CLASS_COLOURS`}]}, one per checkpoint
    notes     {model: [{node: values}]}, named by `columns`
    """
    models: dict[str, dict] = {}
    for one in found:
        graph = one.circuit.graph
        model = models.setdefault(
            one.model, {"layers": graph.n_layers, "heads": graph.n_heads, "at": {}}
        )
        model["at"][one.step] = one.tokens_seen
    for model in models.values():
        at = dict(sorted(model.pop("at").items()))
        model |= {"steps": list(at), "tokens": list(at.values())}
    tasks = {one.task: TASK_TITLES.get(one.task, one.task) for one in found}
    circuits = {
        name: {task: [None] * len(model["steps"]) for task in tasks}
        for name, model in models.items()
    }
    ends: dict[tuple[str, str], int] = {}
    for one in found:  # one slider for all checkpoints of a model and task
        ends[one.model, one.task] = max(
            ends.get((one.model, one.task), 60), 2 * one.circuit.about.get("size", 0)
        )
    for one in found:
        place = models[one.model]["steps"].index(one.step)
        circuits[one.model][one.task][place] = circuit_data(
            one, min(most, ends[one.model, one.task])
        )
    data = {"models": models, "tasks": tasks, "circuits": circuits}
    if roles:
        order = list(CLASS_COLOURS)
        coded = {
            at: {node: [order.index(role) for role in names] for node, names in of.items() if names}
            for at, of in roles.items()
        }
        data["roles"] = {
            name: [coded.get((name, step), {}) for step in model["steps"]]
            for name, model in models.items()
        }
    if notes:
        columns = list(next(iter(notes.values())).columns)
        rounded = lambda row: [round(v, 3) if np.isfinite(v) else None for v in row]
        rows = {
            at: {
                node: rounded(row) for node, row in zip(frame.index, frame[columns].to_numpy(float))
            }
            for at, frame in notes.items()
        }
        data["notes"] = {
            name: [rows.get((name, step), {}) for step in model["steps"]]
            for name, model in models.items()
        }
        data["columns"] = columns
    return data


def circuit_data(one: CircuitResult, most: int) -> dict:
    """One circuit: `edges` (src * n_dst + dst) in the order in which they enter, `enters` (the size at which each does, as
    the difference from the one before), `scores`; `end`, the largest size that is here; `size`, its own; `curve`, rows of
    (edges, faithfulness, low, high) where it was evaluated; `threshold` and `form` of the search.

    ValueError if the circuit is not the first `size` edges by its own scores: then the sizes would tell another story.
    """
    circuit = one.circuit
    if not circuit.found:
        return {"why": circuit.reason}
    about, graph, what = (
        circuit.about,
        circuit.graph,
        f"the {one.task} circuit of {one.model} at step {one.step}",
    )
    if circuit.scores is None or "size" not in about:
        raise ValueError(
            f"{what} comes from no search (it lacks scores or about['size']), so its edges have no order"
        )
    order = edge_order(
        circuit.scores, graph, about["selection"], about["absolute"], max(most, about["size"])
    )
    if not (first_edges(order, graph, about["size"]) == circuit.mask).all():
        raise ValueError(f"{what} is not the first {about['size']} edges by its scores")
    order = order[:most]
    enters = entry_sizes(order, graph)
    kept = np.argsort(enters, kind="stable")
    kept = kept[enters[kept] <= len(order)]
    src, dst = order[kept].T
    curve = circuit.curve.drop_duplicates("edges")
    return {
        "edges": (src * graph.n_dst + dst).tolist(),
        "enters": np.diff(enters[kept], prepend=0).tolist(),
        "scores": [_short(v) for v in circuit.scores[src, dst]],
        "end": len(order),
        "size": about["size"],
        "curve": [
            [int(edges), *(_short(v, 4) for v in row)]
            for edges, *row in curve[["edges", about["form"], "low", "high"]].itertuples(
                index=False
            )
        ],
        "threshold": about["threshold"],
        "form": about["form"],
    }


def entry_sizes(order: np.ndarray, graph: Graph) -> np.ndarray:
    """The smallest n for which each edge of the order is in `chosen(order, graph, n)`; more than len(order) if it never is.

    An edge is alive from the n on at which it is there itself, its source is reached from `input` and its target reaches
    `logits`: the latest of three, where a node is reached by the earliest of its paths, and a path as late as its last edge.
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
    return np.maximum(rank[src, dst], np.maximum(fed[src], read[graph.node_of[dst]]))


def _short(value: float, digits: int = 3) -> float | None:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
