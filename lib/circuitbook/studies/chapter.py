"""A chapter's parameters, and the measurements that follow from them, each made when it is first
asked for.

    chapter = open_chapter(suite="mini", models=None, tasks=["ioi"], recipe="robust")
    chapter.circuits            # measured now, or read from the store

Chapters share measurements through the store: what one has measured the next one reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from circuitbook.recipes import Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.abilities import REPETITION, measure_abilities
from circuitbook.studies.answer_readers import AnswerReaders, measure_answer_readers
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.class_shares import share_table
from circuitbook.studies.enough import measure_enough
from circuitbook.studies.exact_selections import measure_selections
from circuitbook.studies.found_under import measure_found_under
from circuitbook.studies.head_classes import HeadClasses, measure_head_classes
from circuitbook.studies.head_scores import HeadScores, measure_heads
from circuitbook.studies.held_out import measure_held_out
from circuitbook.studies.known_circuit import measure_known
from circuitbook.studies.measurement import Place, places_of
from circuitbook.studies.methods import measure_methods
from circuitbook.studies.minimal_circuits import MinimalCircuits, measure_minimal
from circuitbook.studies.next_words import measure_next_words
from circuitbook.studies.node_circuits import measure_nodes
from circuitbook.studies.parameters import Selection, select
from circuitbook.studies.positions import measure_positions
from circuitbook.studies.relabelling import Relabelled, measure_relabelled
from circuitbook.studies.resampling import measure_scrubs
from circuitbook.studies.transfer import transfer
from circuitbook.suites import Suite
from circuitbook.suites.names import base_model
from circuitbook.tasks import get_task

OWN_PROMPTS = 24  # of a task of one's own, whose list is short: half for the search, half fresh


@dataclass(frozen=True, eq=False)
class Chapter:
    """What was chosen for a chapter. Names: `models` are all of them, `main` one run of each size,
    small to large.
    """

    chosen: Selection
    recipe: Recipe
    store: Store
    text: str | None = None

    @property
    def suite(self) -> Suite:
        return self.chosen.suite

    @property
    def models(self) -> tuple[str, ...]:
        return self.chosen.models

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.chosen.tasks

    @property
    def steps(self) -> dict[str, tuple[int, ...]]:
        return self.chosen.steps

    @property
    def main(self) -> list[str]:
        """One run of each size; without such, all models."""
        return [name for name in self.models if base_model(name) == name] or list(self.models)

    @property
    def seeds(self) -> list[list[str]]:
        """The runs of each size, the main one, if there is one, first."""
        sizes = dict.fromkeys(map(base_model, self.main))
        return [[name for name in self.models if base_model(name) == size] for size in sizes]

    @property
    def device(self) -> dict:
        """Where things are computed, as keyword arguments: device, dtype."""
        return {"device": self.chosen.device, "dtype": self.chosen.dtype}

    @property
    def where(self) -> dict:
        """At which steps, and where they are computed, as keyword arguments."""
        return {"steps": self.chosen.steps} | self.device

    @property
    def last_steps(self) -> dict[str, tuple[int, ...]]:
        """Of each model its last step, as `variant` takes it."""
        return {name: steps[-1:] for name, steps in self.steps.items()}

    @property
    def places(self) -> list[Place]:
        """(model, step) of all checkpoints."""
        return places_of(self.suite, self.models, self.steps)

    def variant(
        self,
        *,
        models: Sequence[str] | None = None,
        steps: Mapping[str, tuple[int, ...]] | None = None,
        tasks: Sequence[str] | None = None,
        recipe: str | None = None,
        seed: int | None = None,
    ) -> Chapter:
        """The same chapter with other models, steps of each, tasks, recipe, or draw of prompts."""
        chosen = replace(
            self.chosen,
            models=self.models if models is None else tuple(models),
            steps=self.steps if steps is None else dict(steps),
            tasks=self.tasks if tasks is None else tuple(tasks),
        )
        settings = self.recipe
        if recipe:
            settings = replace(get_recipe(recipe), names_task=settings.names_task)
        settings = settings if seed is None else settings.with_seed(seed)
        return replace(self, chosen=chosen, recipe=settings)

    # ---- measurements

    @cached_property
    def abilities(self) -> pd.DataFrame:
        """Answers to every task and to repeated random sequences: see `measure_abilities`."""
        return self._answers([*self.tasks, REPETITION])

    @cached_property
    def answers(self) -> pd.DataFrame:
        """Answers to every task alone: see `measure_abilities`."""
        return self._answers(self.tasks)

    def _answers(self, tasks: Sequence[str]) -> pd.DataFrame:
        n = self.recipe.ability_prompts
        return measure_abilities(self.suite, self.models, tasks, self.store, n=n, **self.where)

    @cached_property
    def next_words(self) -> pd.DataFrame:
        """The most probable next words after some prompts: see `measure_next_words`."""
        return measure_next_words(
            self.suite, self.models, self.tasks, self.store, self.recipe, **self.where
        )

    @cached_property
    def heads(self) -> list[HeadScores]:
        """Scores of all heads: see `measure_heads`."""
        return measure_heads(
            self.suite, self.models, self.store, self.recipe, text=self.text, **self.where
        )

    @cached_property
    def circuits(self) -> list[CircuitResult]:
        """The smallest faithful circuit of every task: see `measure_circuits`."""
        return measure_circuits(
            self.suite, self.models, self.tasks, self.store, self.recipe, **self.where
        )

    @cached_property
    def held_out(self) -> pd.DataFrame:
        """The circuits on prompts that they were not found on: see `measure_held_out`."""
        return measure_held_out(self.suite, self.circuits, self.store, self.recipe, **self.device)

    @cached_property
    def enough(self) -> pd.DataFrame:
        """What the last checkpoints' circuits are enough for: see `measure_enough`."""
        return measure_enough(self.suite, self.circuits, self.store, self.recipe, **self.device)

    @cached_property
    def methods(self) -> pd.DataFrame:
        """Methods that score edges, at the last checkpoints: see `measure_methods`."""
        return measure_methods(self.suite, self.circuits, self.store, self.recipe, **self.device)

    @cached_property
    def node_circuits(self) -> pd.DataFrame:
        """Circuits of nodes beside those of edges, at the last checkpoints: see `measure_nodes`."""
        return measure_nodes(self.suite, self.circuits, self.store, self.recipe, **self.device)

    @cached_property
    def known(self) -> dict[str, dict[str, np.ndarray]]:
        """What methods make of a circuit that is known by construction: see `measure_known`."""
        return measure_known(self.store, self.recipe)

    @cached_property
    def selections(self) -> pd.DataFrame:
        """The exact best edges beside the greedy ones: see `measure_selections`."""
        return measure_selections(self.suite, self.circuits, self.store, self.recipe, **self.device)

    @cached_property
    def minimal(self) -> list[MinimalCircuits]:
        """Minimal circuits from random orders: see `measure_minimal`."""
        return measure_minimal(self.suite, self.circuits, self.store, self.recipe, **self.device)

    @cached_property
    def positions(self) -> pd.DataFrame:
        """Circuits of IOI with positions, at the last checkpoints: see `measure_positions`."""
        return measure_positions(self.suite, self.circuits, self.store, self.recipe, **self.device)

    @cached_property
    def found_under(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What other searches find there, in one run of each size: see `measure_found_under`."""
        main = [result for result in self.circuits if result.model in self.main]
        return measure_found_under(self.suite, main, self.store, self.recipe, **self.device)

    @cached_property
    def head_classes(self) -> list[HeadClasses]:
        """The classes of heads in the IOI algorithm: see `measure_head_classes`."""
        return measure_head_classes(
            self.suite, self.heads, self.circuits, self.store, self.recipe, **self.device
        )

    @cached_property
    def shares(self) -> pd.DataFrame:
        """How much the classes explain: see `share_table`."""
        return share_table(self.head_classes)

    @cached_property
    def transfers(self) -> pd.DataFrame:
        """Circuits put to other checkpoints, seeds and sizes: see `transfer`."""
        return transfer(
            self.suite,
            self.circuits,
            self.store,
            self.recipe,
            self.head_classes,
            self.seeds,
            **self.device,
        )

    @cached_property
    def relabelled(self) -> list[Relabelled]:
        """Seeds' circuits in each other, under other numbers of heads: see `measure_relabelled`."""
        return measure_relabelled(
            self.suite,
            self.circuits,
            self.heads,
            self.store,
            self.recipe,
            self.head_classes,
            self.answer_readers,
            self.seeds,
            **self.device,
        )

    @cached_property
    def scrubs(self) -> pd.DataFrame:
        """What is left of IOI when heads are resampled: see `measure_scrubs`."""
        return measure_scrubs(
            self.suite, self.head_classes, self.circuits, self.store, self.recipe, **self.device
        )

    @cached_property
    def answer_readers(self) -> list[AnswerReaders]:
        """Heads that look at what tells the answer: see `measure_answer_readers`."""
        return measure_answer_readers(
            self.suite, self.circuits, self.store, self.recipe, **self.device
        )


def open_chapter(
    *,
    suite: str,
    models: str | Sequence[str] | None = None,
    steps: str | Sequence[int] | None = None,
    tasks: str | Sequence[str] | None = None,
    recipe: str = "robust",
    prompts: Literal["few"] | int | Mapping[str, int] | None = None,
    text: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    store: str | None = None,
    tokens_per_step: int | None = None,
    prepend_bos: bool = False,
    names_task: str = "ioi",
    needs: Sequence[str] = (),
) -> Chapter:
    """Checks a notebook's parameters (see `select`) and opens its store.

    prompts: how many, {task: how many}, or "few" (see `Recipe.shortened`), in place of the recipe's
    numbers; a task of one's own has OWN_PROMPTS. prepend_bos: see `Suite`. names_task: see
    `Recipe`. needs: tasks that the
    chapter is about. ValueError in one line for a parameter that is wrong.
    """
    for name, value in (("STORE", store), ("TEXT", text)):
        if not isinstance(value, (str, os.PathLike, type(None))):
            raise ValueError(f"{name} is a path, or None, not {value!r}")
    chosen = select(
        suite, models, steps, tasks, device, dtype, tokens_per_step, prepend_bos=prepend_bos
    )
    for task in needs:
        if task not in chosen.tasks:
            raise ValueError(f"TASKS must name {task!r}, which this chapter is about")
    settings = replace(get_recipe(recipe), names_task=get_task(names_task).name)
    if own := [task for task in chosen.tasks if task not in settings.prompts]:
        settings = settings.with_prompts(dict.fromkeys(own, OWN_PROMPTS))
    if prompts == "few":
        settings = settings.shortened()
    elif prompts is not None:
        settings = settings.with_prompts(prompts)
    text = os.path.expanduser(text) if text else None
    return Chapter(chosen, settings, Store(store or None), text)
