"""The two ways to do everything: `paper` as the authors' code, `robust` as we would defend it.

recipe = get_recipe("robust")
scores = attribute(model, pairs, **recipe.attribution)
circuit = find_circuit(model, pairs, scores, **recipe.circuit(task))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from circuitbook.tasks.registry import get_task


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """Settings of the scores of heads: see `circuitbook.heads`."""

    as_published: bool
    """With the slips of the authors' code: each is named where it is used."""
    norms: bool
    """Successor and copy scores with the model's own LayerNorms."""
    sequences: int
    """How many random sequences, each repeated once, induction and its kin are measured on."""
    length: int
    """Tokens of such a sequence, before it is repeated."""
    story_length: int
    """The same in the mini suite's language, whose texts are short."""
    prompts: int
    """Prompts of IOI for copying, direct effects, attention and S-inhibition."""
    documents: int
    """Documents over which a head's mean output is taken, for copy suppression."""
    evaluated: int
    """Documents, the first of those, on which copy suppression is measured."""
    positions: int
    """Tokens of a document."""
    copy_bar: float
    """A name mover copies more often than this."""
    direct_bar: float
    """A name mover's direct effect is above this share of clean - corrupted."""


@dataclass(frozen=True, kw_only=True)
class AlgorithmSettings:
    """From where on a head is of a class: see `circuitbook.studies.head_classes`.

    Effects are shares of clean - corrupted.
    """

    copy_bar: float
    """Least (negative) copy score of a (negative) name mover."""
    suppression_bar: float
    """Least CSPA of a copy suppression head."""
    direct_bar: float
    """Least direct effect of any of these."""
    through_bar: float
    """Least effect through queries (S-inhibition) or values (tertiary heads)."""
    receivers: str
    """Whose queries S-inhibition goes through: "movers" (the authors' code) or "direct" (Figure 4's
    caption)."""
    signal: str
    """Which corruption must turn the movers away: see `classifying.SIGNALS`; or "apart"."""
    turn_bar: float
    """With "apart": least change of the movers' attention, summed over them."""
    split: bool
    """Whether classes are found on the first half of the prompts, and shares measured on the
    other."""
    resamples: int
    """On how many resamples of prompts, texts and sequences a head's classes are asked; 0: once."""
    needs_edge: bool
    """Whether an S-inhibition head needs an edge of the circuit to such a query."""
    min_effect: float
    """A stage whose largest effect is below this has nothing to explain."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a measurement. Everything random is seeded, in `paper` too."""

    name: str
    """As given to `get_recipe`."""
    prompts: dict[str, int]
    """{task: how many prompts}."""
    method: str
    """Of attribution: "eap-ig" or "eap" (see `attribute`)."""
    rule: str
    """Where the interpolation points lie: "right", "midpoint" or "left"."""
    points: int
    """How many interpolation points there are, or are to begin with."""
    tolerance: float | None
    """The completeness gap until which points are added; None: they are not (see `attribute`)."""
    selection: str
    """How edges are put in order: "greedy" or "top" (see `selection.edge_order`)."""
    absolute: bool
    """In order of absolute scores, not of signed ones."""
    threshold: float
    """The faithfulness that a circuit must reach."""
    form: str
    """The form of faithfulness: "ratio" or "normalised" (see `find_circuit`)."""
    search: str
    """How the smallest size is looked for: "bisect", "grid" or "every"."""
    max_share: float
    """The search ends at this share of all edges,"""
    min_edges: int
    """but not below so many edges."""
    require_ability: bool
    """No circuit where the ability is not beyond doubt above the task's own bar
    (`Task.min_metric`)."""
    heads: HeadSettings
    """Of the scores of heads."""
    algorithm: AlgorithmSettings
    """Of the classes of heads."""
    seed: int = 42
    """Of the prompts, of random sequences and documents."""
    resamples: int = 20
    """Circuits from resampled prompts beside each circuit that is found."""
    ability_prompts: int = 200
    """Prompts of every task on which abilities are measured."""
    names_task: str = "ioi"
    """The task that heads are scored and put into classes on: "ioi", or another with its positions
    and its corruptions ("next_in_list")."""

    def __post_init__(self) -> None:
        for name, n in {**self.prompts, "abilities": self.ability_prompts}.items():
            _check_prompts(name, n)

    @property
    def attribution(self) -> dict[str, Any]:
        """Arguments of `attribute`."""
        return {
            "method": self.method,
            "rule": self.rule,
            "points": self.points,
            "tolerance": self.tolerance,
        }

    def circuit(self, task: str) -> dict[str, Any]:
        """Arguments of `find_circuit` for a task."""
        return {
            "threshold": self.threshold,
            "search": self.search,
            "selection": self.selection,
            "absolute": self.absolute,
            "form": self.form,
            "max_share": self.max_share,
            "min_edges": self.min_edges,
            "min_metric": get_task(task).min_metric if self.require_ability else 0.0,
        }

    def with_prompts(self, prompts: int | Mapping[str, int]) -> Recipe:
        """The same on other numbers of prompts: one for all tasks, or {task: number}.

        Heads are measured on one of the tasks (`names_task`), so on as many prompts as that has.
        """
        if not isinstance(prompts, Mapping):
            prompts = dict.fromkeys(self.prompts, prompts)
        prompts = {get_task(str(task)).name: n for task, n in prompts.items()}
        for task, n in prompts.items():
            _check_prompts(task, n)  # before heads take it
        numbers = self.prompts | dict(prompts)
        of_names = self.names_task
        heads = self.heads
        if of_names in prompts:
            heads = replace(heads, prompts=numbers[of_names])
        return replace(self, prompts=numbers, heads=heads)

    def within(self, max_share: float) -> Recipe:
        """The same, but circuits are looked for up to this share of all edges.

        Large circuits take long to evaluate: nearly every head then has inputs of its own.
        """
        return replace(self, max_share=max_share)

    def shortened(self) -> Recipe:
        """The same on the few prompts and texts that the book spends on a real language model.

        Circuits are looked for up to 5% of the edges, as in the paper. Heads take more prompts of
        IOI than circuits do, since one half is for classes and one for shares.
        """
        few = self.with_prompts(FEW_PROMPTS).within(PAPER_SHARE)
        heads = replace(few.heads, prompts=24, sequences=8, documents=40, evaluated=3)
        return replace(few, heads=heads, ability_prompts=60)

    def with_seed(self, seed: int) -> Recipe:
        """The same on another draw of everything random."""
        return replace(self, seed=seed)


def _check_prompts(task: str, n: object) -> None:
    """ValueError unless n is a number of prompts over which an interval can be made."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise ValueError(
            f"{task}: {n!r} prompts were asked for; a whole number from 2 on is needed, since "
            "one makes no interval"
        )


PAPER_SHARE = 0.05  # of all edges: where the paper's search ends

PAPER = Recipe(
    name="paper",
    prompts={"ioi": 70, "gendered_pronoun": 100, "greater_than": 200, "sva": 200},
    method="eap-ig",
    rule="right",
    points=30,
    tolerance=None,
    selection="greedy",
    absolute=True,
    threshold=0.8,
    form="ratio",
    search="bisect",
    # The paper's search ends at 5% of all edges, which is 179 for its smallest model. Fewer are of
    # no use in a graph that has only some hundred edges, so the bound does not go below that.
    max_share=PAPER_SHARE,
    min_edges=179,
    require_ability=False,
    heads=HeadSettings(
        as_published=True,
        norms=False,
        sequences=2,
        length=100,
        story_length=24,
        prompts=70,
        documents=100,
        evaluated=17,
        positions=61,
        copy_bar=0.1,
        direct_bar=0.0,
    ),
    algorithm=AlgorithmSettings(
        copy_bar=0.1,
        suppression_bar=0.1,
        direct_bar=0.0,
        through_bar=0.001,
        receivers="movers",
        signal="order",
        turn_bar=0.0,
        split=False,
        resamples=0,
        needs_edge=True,
        min_effect=0.0,
    ),
)

ROBUST = Recipe(
    name="robust",
    prompts={"ioi": 48, "gendered_pronoun": 48, "greater_than": 48, "sva": 48},
    method="eap-ig",
    rule="midpoint",
    points=5,
    tolerance=0.02,
    selection="greedy",
    absolute=True,
    threshold=0.8,
    form="normalised",
    search="grid",
    max_share=1.0,
    min_edges=0,
    require_ability=True,
    heads=HeadSettings(
        as_published=False,
        norms=True,
        sequences=32,
        length=100,
        story_length=24,
        prompts=64,
        documents=100,
        evaluated=40,
        positions=61,
        copy_bar=0.1,
        direct_bar=0.01,
    ),
    algorithm=AlgorithmSettings(
        copy_bar=0.1,
        suppression_bar=0.1,
        direct_bar=0.01,
        through_bar=0.01,
        receivers="direct",
        signal="apart",
        turn_bar=0.01,
        split=True,
        resamples=200,
        needs_edge=False,
        min_effect=0.01,
    ),
)

# Of a real language model every prompt is dear: what the book's build measures it on. SVA takes
# turns through its 15 kinds of sentence, singular and plural.
FEW_PROMPTS = {"ioi": 16, "gendered_pronoun": 24, "greater_than": 16, "sva": 30}
RECIPES = {recipe.name: recipe for recipe in (PAPER, ROBUST)}


def get_recipe(name: str) -> Recipe:
    """A recipe by name: "paper" or "robust".

    >>> get_recipe("paper").points
    30
    """
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} does not exist; there are: {', '.join(RECIPES)}")
    return RECIPES[name]
