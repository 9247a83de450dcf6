"""What is left of IOI when all that the algorithm calls irrelevant is resampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.model.graph import Graph
from circuitbook.recipes import Recipe, get_recipe
from circuitbook.stats import bootstrap_draws, interval
from circuitbook.store.disk import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.head_classes import STAGES, HeadClasses
from circuitbook.studies.masks import measure_masks
from circuitbook.studies.measurement import at_places
from circuitbook.suites.suite import Suite

SCRUB_COLUMNS = [
    *("model", "step", "tokens_seen", "corruption", "scrub", "faithfulness", "low", "high"),
    *("random", "random_low", "random_high"),
]
SCRUBS = {
    "without": "all but the classes",
    "heads": "the classes alone",
    "roles": "the classes, in their roles alone",
}


def scrub_masks(graph: Graph, members: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Circuits {name of `SCRUBS`: bool [src, dst]} that keep what the algorithm names; all else
    carries corrupted outputs.

    members: {stage: bool [head]}. MLPs and the embedding are kept: the algorithm says nothing of
    them. "heads" keeps all edges but those out of heads in no class. "roles" keeps, of a head's
    edges, those the algorithm speaks of: from the stage "direct" to the logits and to MLPs, from
    "steering" to queries of "direct", from "tertiary" to values of "steering". "without" is what
    "heads" takes away: how much is left if the named heads are resampled instead.
    """
    rows = np.array(
        [graph.source(*divmod(i, graph.n_heads)) for i in range(graph.n_layers * graph.n_heads)]
    )
    columns = {
        kind: np.array(
            [graph.destination(*divmod(i, graph.n_heads), kind) for i in range(len(rows))]
        )
        for kind in "qkv"
    }
    anyone = np.any(list(members.values()), axis=0)
    keep, without, roles = (graph.mask.copy() for _ in range(3))
    keep[rows[~anyone]] = False
    without[rows[anyone]] = False
    roles[rows] = False
    mlps = [graph.destination(layer) for layer in range(graph.n_layers)]
    for targets, stage in (
        ([*mlps, graph.n_dst - 1], "direct"),
        (columns["q"][members["direct"]], "steering"),
        (columns["v"][members["steering"]], "tertiary"),
    ):
        roles[np.ix_(rows[members[stage]], targets)] = True
    return {"without": without, "heads": keep, "roles": roles & graph.mask}


def random_members(
    members: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The same sets of heads with the heads' places shuffled: as many of each, overlapping as much,
    but other ones.
    """
    order = rng.permutation(len(next(iter(members.values()))))
    return {stage: found[order] for stage, found in members.items()}


def measure_scrubs(
    suite: Suite,
    head_classes: Sequence[HeadClasses],
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    draws: int = 6,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> pd.DataFrame:
    """What is left of IOI, on prompts that neither classes nor circuits were found on: a row per
    checkpoint with classes, corruption and scrub.

    Columns: model, step, tokens_seen, corruption (where the resampled outputs come from: "swap",
    the task's own, or "abc", prompts with three other names), scrub (see `SCRUBS`), faithfulness
    (normalised) with low and high over prompts; and, for "swap", random: the mean of `draws` random
    sets of heads instead, with the lowest and highest of them.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    graphs = {result.model: result.circuit.graph for result in circuits}
    classified = [classes for classes in head_classes if classes.members("direct").any()]
    places = [(classes.model, classes.step) for classes in classified]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    rows: list[dict] = []
    for classes, here in zip(
        classified, at_places(suite, places, store, what="resampling", **where), strict=True
    ):
        graph, rng = graphs[classes.model], np.random.default_rng(recipe.seed)
        members = {stage: classes.members(stage) for stage in STAGES}
        named = scrub_masks(graph, members)
        others = [scrub_masks(graph, random_members(members, rng)) for _ in range(draws)]
        random = {name: [masks[name] for masks in others] for name in ("heads", "roles")}
        about = {"model": classes.model, "step": classes.step, "tokens_seen": classes.tokens_seen}
        for corruption in ("swap", "abc"):
            with_random = random if corruption == "swap" else {}
            masks = [*named.values(), *(mask for drawn in with_random.values() for mask in drawn)]
            metric = measure_masks(
                here,
                "ioi",
                masks,
                prompts=max(recipe.prompts["ioi"], recipe.heads.prompts),
                seed=recipe.seed,
                corruption=corruption,
            )
            scrubs = _scrub_rows(metric, list(named), list(with_random))
            rows += [about | {"corruption": corruption} | scrub for scrub in scrubs]
    return pd.DataFrame(rows, columns=SCRUB_COLUMNS)


def _scrub_rows(metric: np.ndarray, named: Sequence[str], random: Sequence[str]) -> list[dict]:
    """Rows with faithfulness and interval, from `measure_masks` of the named scrubs and then of the
    random ones.
    """
    clean, corrupted, values = metric[0], metric[1], metric[2:]
    mean = faithfulness(values.mean(1), clean.mean(), corrupted.mean(), "normalised")
    weights = bootstrap_draws(len(clean))
    drawn = dict(zip(random, mean[len(named) :].reshape(max(1, len(random)), -1), strict=False))
    rows = []
    for name, value, kept in zip(named, mean, values, strict=False):
        samples = faithfulness(weights @ kept, weights @ clean, weights @ corrupted, "normalised")
        low, high = interval(samples)
        row = {"scrub": name, "faithfulness": value, "low": float(low), "high": float(high)}
        if len(others := drawn.get(name, ())):
            row |= {
                "random": others.mean(),
                "random_low": others.min(),
                "random_high": others.max(),
            }
        rows.append(row)
    return rows
