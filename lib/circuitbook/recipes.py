"""The two ways to do everything: `paper` as the authors' code, `robust` as we would defend it.

recipe = get_recipe("robust")
scores = attribute(model, pairs, **recipe.attribution)
circuit = find_circuit(model, pairs, scores, **recipe.circuit(task))
"""

from __future__ import annotations

from dataclasses import dataclass, field

from circuitbook.tasks.registry import get_task


@dataclass(frozen=True)
class HeadSettings:
    """Settings of the scores of heads: see `circuitbook.heads`."""

    as_published: bool  # with the slips of the authors' code: each is named where it is used
    norms: bool  # successor and copy scores with the model's own LayerNorms
    sequences: int  # random ones, said twice
    length: int  # tokens of a sequence,
    story_length: int  # in the mini suite's language, whose texts are short
    prompts: int  # of IOI
    documents: int  # for a head's mean output
    evaluated: int  # documents on which copy suppression is measured
    positions: int  # tokens of a document
    copy_bar: float  # a name mover copies more often than this,
    direct_bar: float  # and its direct effect helps IOI by more than this share of the effect


@dataclass(frozen=True)
class AlgorithmSettings:
    """From where on a head is of a class: see `circuitbook.algorithm`. Effects are shares of clean - corrupted."""

    copy_bar: float  # (negative) copy score of a (negative) name mover
    suppression_bar: float  # CSPA of copy suppression
    direct_bar: float  # least direct effect of either
    through_bar: float  # least effect through queries (S-inhibition) or values (tertiary)
    receivers: str  # whose queries: "movers" (the authors' code) or "direct" (Figure 4's caption)
    signal: str  # which corruption must turn them away, see `algorithm.SIGNALS`
    needs_edge: bool  # S-inhibition needs an edge of the circuit to such a query
    min_effect: float  # a stage whose largest effect is below this has nothing to explain


@dataclass(frozen=True)
class Recipe:
    """Settings of a measurement. Everything random is seeded, in `paper` too."""

    name: str
    prompts: dict[str, int]  # per task
    method: str  # attribution: see `attribute`
    rule: str
    points: int
    selection: str  # circuits: see `find_circuit`
    absolute: bool
    threshold: float
    form: str
    search: str
    max_share: float
    min_edges: int
    require_ability: bool  # only where the ability is beyond doubt, by the task's own bar
    heads: HeadSettings
    algorithm: AlgorithmSettings
    seed: int = 42
    resamples: int = 20  # circuits from resampled prompts beside each one that is found
    notes: str = field(default="", compare=False)

    @property
    def attribution(self) -> dict:
        """Arguments of `attribute`."""
        return {"method": self.method, "rule": self.rule, "points": self.points}

    def circuit(self, task: str) -> dict:
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


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # The paper's search ends at 5 % of all edges, which is 179 for its smallest model. Fewer are of no use in a graph that
        # has only some hundred edges, so the bound does not go below that.
        Recipe(
            "paper",
            {"ioi": 70, "gendered_pronoun": 100, "greater_than": 200, "sva": 200},
            "eap-ig",
            "right",
            30,
            "greedy",
            True,
            0.8,
            "ratio",
            "bisect",
            0.05,
            179,
            require_ability=False,
            heads=HeadSettings(True, False, 2, 100, 24, 70, 100, 17, 61, 0.1, 0.0),
            algorithm=AlgorithmSettings(0.1, 0.1, 0.0, 0.001, "movers", "order", True, 0.0),
        ),
        Recipe(
            "robust",
            {"ioi": 48, "gendered_pronoun": 48, "greater_than": 48, "sva": 48},
            "eap-ig",
            "midpoint",
            10,
            "greedy",
            True,
            0.8,
            "normalised",
            "grid",
            1.0,
            0,
            require_ability=True,
            heads=HeadSettings(False, True, 32, 100, 24, 64, 100, 40, 61, 0.1, 0.01),
            algorithm=AlgorithmSettings(0.1, 0.1, 0.01, 0.01, "direct", "swap", False, 0.01),
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """A recipe by name: "paper" or "robust"."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} does not exist; there are: {', '.join(RECIPES)}")
    return RECIPES[name]
