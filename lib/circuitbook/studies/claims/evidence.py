"""Every claim of the paper, asked of the suite at hand: holds, does not hold, or can't tell, with
the number and its interval.

    evidence = measure_evidence(load_suite("mini"), ["mini-s", "mini-l"], Store())
    table(report(evidence))

Rules are the same for every suite, so that the report fills itself in when somebody runs Pythia.
Where a claim is about Pythia's own tokens or heads and the suite is another, the answer is "can't
tell", whatever was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store.disk import Store
from circuitbook.studies import turnover as turnover_study
from circuitbook.studies.abilities import REPETITION, measure_abilities
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.class_shares import share_table
from circuitbook.studies.head_classes import HeadClasses, measure_head_classes
from circuitbook.studies.head_scores import HeadScores, measure_heads
from circuitbook.studies.measurement import places_of
from circuitbook.studies.size import model_size
from circuitbook.studies.transfer import transfer
from circuitbook.suites.pythia import PYTHIA_TOKENS_PER_STEP
from circuitbook.suites.suite import Suite
from circuitbook.tasks.registry import TASKS


@dataclass(frozen=True)
class Claim:
    """One row of the report. `chapter`: the document whose figure tests it; `source`: where the
    paper says so.
    """

    claim: str
    source: str
    chapter: str
    answer: str
    measured: str


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the report needs, for the models of a suite. `main`: one run of each size, small to
    large; `seeds`: groups of one shape.
    """

    suite: Suite
    main: tuple[str, ...]
    seeds: tuple[tuple[str, ...], ...]
    sizes: Mapping[str, float]
    answers: pd.DataFrame  # of `abilities.measure_abilities`
    heads: Sequence[HeadScores]
    circuits: Sequence[CircuitResult]
    head_classes: Sequence[HeadClasses]
    shares: pd.DataFrame
    transfers: pd.DataFrame
    turnover: pd.DataFrame

    @property
    def along_training(self) -> bool:
        """Whether some model was measured at more than one checkpoint."""
        return any(steps > 1 for steps in self.answers.groupby("model")["step"].nunique())

    @property
    def is_pythia(self) -> bool:
        return self.suite.tokens_per_step == PYTHIA_TOKENS_PER_STEP and all(
            m.startswith("pythia") for m in self.main
        )


def measure_evidence(
    suite: Suite,
    main: Sequence[str],
    store: Store,
    recipe: Recipe | str = "robust",
    seeds: Sequence[Sequence[str]] = (),
    tasks: Sequence[str] = tuple(TASKS),
    steps: dict | None = None,
    text: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> Evidence:
    """Measures what is not in the store yet. `main`: one run of each size, small to large; `seeds`:
    groups of runs of one size (those in `main` may be among them).
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    models = tuple(dict.fromkeys([*main, *(name for group in seeds for name in group)]))
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    places = places_of(suite, models, steps)
    several = len(places) > len(models)  # what only claims about training need
    answers = measure_abilities(
        suite,
        list(models),
        [*tasks, *([REPETITION] if several else [])],
        store,
        steps,
        n=recipe.ability_prompts,
        **where,
    )
    heads = measure_heads(suite, models, store, recipe, steps, text=text, **where)
    circuits = measure_circuits(suite, models, tasks, store, recipe, steps, **where)
    head_classes = measure_head_classes(suite, heads, circuits, store, recipe, **where)
    transfers = transfer(suite, circuits, store, recipe, head_classes, seeds, **where)
    return Evidence(
        suite,
        tuple(main),
        tuple(map(tuple, seeds)),
        {name: model_size(suite, name) for name in main},
        answers,
        heads,
        circuits,
        head_classes,
        share_table(head_classes),
        transfers,
        turnover_study.turnover(circuits, draws=0),
    )
