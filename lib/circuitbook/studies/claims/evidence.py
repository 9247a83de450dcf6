"""Every claim of the paper, asked of the suite at hand: holds, does not hold, or can't tell, with
the number and its interval. The claims are in `table`, the rule in `deciding`.

    evidence = measure_evidence(load_suite("mini"), ["mini-s", "mini-l"], Store())
    report(evidence)

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
from circuitbook.studies.head_classes import HeadClasses, measure_head_classes
from circuitbook.studies.head_scores import HeadScores, measure_heads
from circuitbook.studies.measurement import places_of
from circuitbook.studies.runs import runs_of
from circuitbook.studies.size import model_size
from circuitbook.studies.transfer import transfer
from circuitbook.suites.pythia import PYTHIA_TOKENS_PER_STEP
from circuitbook.suites.suite import Suite
from circuitbook.tasks.registry import TASKS


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
    transfers: pd.DataFrame
    turnover: pd.DataFrame
    elsewhere: Sequence[HeadClasses] = ()
    """Of runs on another text and task of names, for what the suite's own runs do not have."""

    @property
    def along_training(self) -> bool:
        """Whether some model was measured at more than one checkpoint."""
        return any(steps > 1 for steps in self.answers.groupby("model")["step"].nunique())

    @property
    def runs(self) -> tuple[str, ...]:
        """All runs of all sizes."""
        return tuple(run for size in self.main for run in runs_of(size, self.seeds))

    def of_heads(self, run: str) -> list[HeadScores]:
        """The checkpoints of a run at which heads were measured, ascending."""
        return sorted((at for at in self.heads if at.model == run), key=lambda at: at.step)

    def of_classes(self, run: str) -> list[HeadClasses]:
        """The checkpoints of a run that do IOI, ascending."""
        every = (*self.head_classes, *self.elsewhere)
        able = (at for at in every if at.model == run and "direct" in at.patched)
        return sorted(able, key=lambda at: at.step)

    def of_circuits(self, run: str, task: str) -> list[CircuitResult]:
        """The checkpoints of a run at which the task is done, ascending."""
        done = (
            one
            for one in self.circuits
            if (one.model, one.task) == (run, task) and not one.circuit.not_done
        )
        return sorted(done, key=lambda one: one.step)

    @property
    def about_smallest(self) -> str:
        """What the suite says of its smallest model, as a clause; empty if nothing."""
        note = self.suite.notes.get(self.main[0], "") if len(self.main) > 2 else ""
        return f" ({self.main[0]}: {note})" if note else ""

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
        transfers,
        turnover_study.turnover(circuits, draws=0),
    )
