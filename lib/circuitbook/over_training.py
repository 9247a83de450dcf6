"""Circuits at every checkpoint: the smallest faithful one of each model and task, and what stays of it.

A checkpoint is loaded once for all tasks, and only if something about it has not been measured yet. What is kept is one
entry per checkpoint and task: the scores of all edges, the circuit and its curve, and the circuits that other prompts would
have given.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from . import attribution, circuits, graph, lexicon, model as model_module, network, search, selection as selection_module, stats
from .abilities import TASK_CODE
from .attribution import attribute
from .circuits import Circuit, CorruptedRuns, evaluate_masks
from .graph import Graph
from .model import Model
from .recipes import Recipe, get_recipe
from .search import find_circuit, undone
from .stats import bootstrap_draws
from .store import Key, Store, measurement_key
from .suites import Checkpoint, Suite
from .tasks import base, get_task

_CODE = (attribution, circuits, graph, network, search, selection_module, stats, lexicon, model_module, base)
_MASKS = (attribution, circuits, graph, network, lexicon, model_module, base)      # of these, evaluation needs no search


@dataclass(frozen=True, eq=False)
class Found:
    """What a search gave at one checkpoint for one task. `circuit.found` says whether there is a circuit."""

    model: str
    step: int
    tokens_seen: int
    task: str
    circuit: Circuit
    relative_gap: float                                # completeness gap of the scores; nan where none were needed
    edges_resampled: tuple[np.ndarray, ...] = ()       # see `resampled`, as indices into the flat mask

    @property
    def resampled(self) -> list[np.ndarray]:
        """Circuits of as many edges from scores over resampled prompts, bool [src, dst] each: the noise of the measurement."""
        masks = [np.zeros(self.circuit.mask.size, bool) for _ in self.edges_resampled]
        for mask, edges in zip(masks, self.edges_resampled):
            mask[edges] = True
        return [mask.reshape(self.circuit.mask.shape) for mask in masks]

    @property
    def row(self) -> dict:
        """The numbers of it, for a table."""
        c = self.circuit
        numbers = {"edges": c.n_edges, "nodes": c.n_nodes, "faithfulness": c.faithfulness, "low": c.low, "high": c.high,
                   "share": c.n_edges / c.graph.n_edges, "stays_from": c.about.get("stays_from")}
        if not c.found:
            numbers = dict.fromkeys(numbers, np.nan)
        return {"model": self.model, "step": self.step, "tokens_seen": self.tokens_seen, "task": self.task,
                "found": c.found, **numbers, "clean": c.clean, "corrupted": c.corrupted, "gap": self.relative_gap}


def circuit_at(model: Model, task: str, recipe: Recipe, seed: int | None = None) -> tuple[Circuit, float, list[np.ndarray]]:
    """(circuit, relative completeness gap, resampled circuits) of one model and task by a recipe; no scores where the task is
    not done. `seed`: of the prompts, if not the recipe's."""
    pairs = get_task(task).prompts(model.tokenizer, n=recipe.prompts[task], seed=recipe.seed if seed is None else seed)
    settings = recipe.circuit(task)
    if none := undone(model, pairs, least=settings["least"]):
        return none, float("nan"), []
    scores = attribute(model, pairs, **recipe.attribution, per_prompt=recipe.resamples > 0)
    circuit = find_circuit(model, pairs, scores, **settings)
    others = [] if not (circuit.found and recipe.resamples) else resampled_circuits(
        scores.per_prompt, scores.graph, circuit.about["size"], settings["selection"], settings["absolute"], recipe.resamples)
    return circuit, scores.relative_gap, others


def resampled_circuits(per_prompt: torch.Tensor, graph: Graph, size: int, selection: str, absolute: bool, draws: int,
                       seed: int = 0) -> list[np.ndarray]:
    """Circuits of the first `size` edges by the mean scores over prompts drawn with replacement; bool [src, dst] each.

    per_prompt: scores [n, src, dst], see `attribute`. The size is held, so that what differs is which edges come first.
    """
    out = []
    for weights in bootstrap_draws(len(per_prompt), draws, seed):
        values = torch.einsum("n,nuv->uv", torch.tensor(weights, dtype=per_prompt.dtype), per_prompt)
        out.append(selection_module.chosen(selection_module.edge_order(values, graph, selection, absolute, size), graph, size))
    return out


def circuit_key(checkpoint: Checkpoint, task: str, recipe: Recipe, dtype: torch.dtype, seed: int | None = None) -> Key:
    """Name in the store of one checkpoint's circuit for one task: all that determines it, and nothing else."""
    settings = dataclasses.asdict(recipe) | {"prompts": recipe.prompts[task], "least": recipe.circuit(task)["least"]}
    settings["seed"] = recipe.seed if seed is None else seed
    settings = {name: value for name, value in settings.items() if name not in ("name", "notes", "heads", "algorithm")}
    return measurement_key("circuits", code=(*_CODE, TASK_CODE[task], circuit_at, resampled_circuits), model=checkpoint.model,
                           step=checkpoint.step, weights=checkpoint.weights_hash, task=task, recipe=settings, dtype=dtype)


def measure_circuits(suite: Suite, models: Sequence[str], tasks: Sequence[str], store: Store,
                     recipe: Recipe | str = "robust", steps: dict | None = None, device: str = "cpu",
                     dtype: torch.dtype = torch.float32, progress: bool = True, seed: int | None = None) -> list[Found]:
    """The smallest faithful circuit of every model, checkpoint and task, in that order.

    `steps`: {model: steps}, default all of the suite. `seed`: of the prompts, if not the recipe's. Ctrl-C loses at most the
    circuit in hand.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    plan = [(m, s) for m in models for s in (steps or {}).get(m, suite.steps(m))]
    out = []
    for name, step in tqdm(plan, desc="circuits", unit="checkpoint", disable=not progress):
        checkpoint = suite.checkpoint(name, step)
        load = cache(partial(checkpoint.load, device=device, dtype=dtype))        # once, and only if it is needed
        for task in tasks:
            key = circuit_key(checkpoint, task, recipe, dtype, seed)
            kept = store.arrays(key, lambda: _to_arrays(*circuit_at(load(), task, recipe, seed)))
            out.append(Found(name, step, checkpoint.tokens_seen, task, *_from_arrays(kept)))
    return out


def measure_masks(checkpoint: Checkpoint, task: str, masks: Sequence[np.ndarray], store: Store, prompts: int, seed: int = 42, *,
                  load: Callable[[], Model], dtype: torch.dtype = torch.float32, **options) -> np.ndarray:
    """The task's metric of each prompt at one checkpoint with only these circuits (bool [src, dst]), float64 [2 + mask, n].

    The first two rows are the full model's metric on the clean and on the corrupted prompts. `load` gives the model and is called
    only if this was not measured before; `options` are the task's (ioi: corruption="abc").
    """
    def measured() -> dict[str, np.ndarray]:
        model = load()
        pairs = get_task(task).prompts(model.tokenizer, n=prompts, seed=seed, **options)
        runs = CorruptedRuns(model, pairs)
        rows = [*runs.baselines(), *(evaluate_masks(model, pairs, masks, runs=runs) if len(masks) else [])]
        return {"metric": torch.stack(rows).double().numpy()}

    content = hashlib.sha256(b"".join(np.packbits(mask).tobytes() for mask in masks)).hexdigest()
    key = measurement_key("masks", code=(*_MASKS, TASK_CODE[task], measure_masks), model=checkpoint.model, step=checkpoint.step,
                          weights=checkpoint.weights_hash, task=task, n=prompts, seed=seed, dtype=dtype, masks=content, **options)
    return store.arrays(key, measured)["metric"]


def _to_arrays(circuit: Circuit, gap: float, resampled: Sequence[np.ndarray] = ()) -> dict[str, np.ndarray]:
    known = {name: getattr(circuit, name) for name in ("faithfulness", "low", "high", "clean", "corrupted", "reason", "about")}
    known |= {"gap": gap, "graph": dataclasses.asdict(circuit.graph)}
    known = {name: float(value) if isinstance(value, np.floating) else value for name, value in known.items()}
    arrays = {"mask": circuit.mask, "known": np.frombuffer(json.dumps(known).encode(), dtype=np.uint8)}
    if circuit.scores is not None:
        arrays["scores"] = np.asarray(circuit.scores)
    edges = [mask.ravel().nonzero()[0] for mask in resampled]
    arrays |= {"resampled": np.concatenate([*edges, np.zeros(0, int)]), "resampled_sizes": np.array(list(map(len, edges)), dtype=int)}
    if circuit.curve is not None:
        arrays |= {f"curve.{name}": column.to_numpy() for name, column in circuit.curve.items()}
    return arrays


def _from_arrays(arrays: dict[str, np.ndarray]) -> tuple[Circuit, float, tuple[np.ndarray, ...]]:
    known = json.loads(arrays["known"].tobytes())
    gap, shape = known.pop("gap"), Graph(**known.pop("graph"))
    columns = {name.removeprefix("curve."): array for name, array in arrays.items() if name.startswith("curve.")}
    order = ["size", "edges", "nodes", "metric", "ratio", "normalised", "low", "high"]
    curve = pd.DataFrame(columns)[order] if columns else None
    return Circuit(shape, arrays["mask"].astype(bool), arrays.get("scores"), curve=curve, **known), gap, tuple(
        np.split(arrays["resampled"], np.cumsum(arrays["resampled_sizes"])[:-1]) if len(arrays["resampled_sizes"]) else ())


# ------------------------------------------------------------------ what stays

def table(found: Sequence[Found]) -> pd.DataFrame:
    """One row per model, checkpoint and task: see `Found.row`. Sizes are nan where there is no circuit."""
    return pd.DataFrame([one.row for one in found])


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Shared edges over edges in either, of two circuits bool [src, dst]; 0 if both are empty (as the authors)."""
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 0.0


def survival(found: Sequence[Found]) -> pd.DataFrame:
    """How circuits of one model and task hang together over training; one row per checkpoint with a circuit.

    Columns: model, task, step, tokens_seen, before (tokens of the checkpoint before with a circuit, nan at the first),
    kept (share of its edges that are still there), jaccard with it; of_last and jaccard_last: share of the last circuit's
    edges that are there already, and the Jaccard similarity with it.
    """
    rows = []
    for (model, task), group in grouped(found).items():
        last, previous = group[-1], None
        for one in group:
            mask = one.circuit.mask
            row = {"model": model, "task": task, "step": one.step, "tokens_seen": one.tokens_seen,
                   "before": np.nan, "kept": np.nan, "jaccard": np.nan,
                   "of_last": (mask & last.circuit.mask).sum() / last.circuit.n_edges,
                   "jaccard_last": jaccard(mask, last.circuit.mask)}
            if previous is not None:
                row |= {"before": previous.tokens_seen, "jaccard": jaccard(mask, previous.circuit.mask),
                        "kept": (mask & previous.circuit.mask).sum() / previous.circuit.n_edges}
            rows.append(row)
            previous = one
    return pd.DataFrame(rows, columns=["model", "task", "step", "tokens_seen", "before", "kept", "jaccard", "of_last",
                                       "jaccard_last"])


def edge_history(found: Sequence[Found], model: str, task: str) -> pd.DataFrame:
    """Edges that were ever in the circuit of one model and task: index edge name, columns tokens seen, bool.

    In the order in which they come in, then of how long they stay. Checkpoints without a circuit are columns of False.
    """
    of = [one for one in found if (one.model, one.task) == (model, task)]
    if not of:
        raise ValueError(f"there is nothing measured of {model} and {task}")
    ever = np.argwhere(np.any([one.circuit.mask for one in of], axis=0))
    present = np.array([one.circuit.mask[tuple(ever.T)] for one in of]).T.reshape(len(ever), len(of))
    order = sorted(range(len(ever)), key=lambda i: (int(present[i].argmax()), -int(present[i].sum()), i))
    names = [of[0].circuit.graph.edge_name(*ever[i]) for i in order]
    return pd.DataFrame(present[order], index=names, columns=[one.tokens_seen for one in of])


def grouped(found: Sequence[Found]) -> dict[tuple[str, str], list[Found]]:
    """What has a circuit, by model and task, in the order of training."""
    groups: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        if one.circuit.found:
            groups.setdefault((one.model, one.task), []).append(one)
    return groups
