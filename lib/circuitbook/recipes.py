"""The two ways to do everything: `paper` as the authors' code, `robust` as we would defend it.

    recipe = get_recipe("robust")
    scores = attribute(model, pairs, **recipe.attribution)
    circuit = find_circuit(model, pairs, scores, **recipe.circuit(task))
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .tasks import get_task


@dataclass(frozen=True)
class Recipe:
    """Settings of a measurement. Everything random is seeded, in `paper` too."""

    name: str
    prompts: dict[str, int]                            # per task
    method: str                                        # attribution: see `attribute`
    rule: str
    points: int
    selection: str                                     # circuits: see `find_circuit`
    absolute: bool
    threshold: float
    form: str
    search: str
    max_share: float
    at_least: int
    must_do: bool                                      # only where the ability is beyond doubt, by the task's own bar
    seed: int = 42
    notes: str = field(default="", compare=False)

    @property
    def attribution(self) -> dict:
        """Arguments of `attribute`."""
        return {"method": self.method, "rule": self.rule, "points": self.points}

    def circuit(self, task: str) -> dict:
        """Arguments of `find_circuit` for a task."""
        return {"threshold": self.threshold, "search": self.search, "selection": self.selection,
                "absolute": self.absolute, "form": self.form, "max_share": self.max_share, "at_least": self.at_least,
                "least": get_task(task).least if self.must_do else 0.0}


RECIPES = {recipe.name: recipe for recipe in (
    # The paper's search ends at 5 % of all edges, which is 179 for its smallest model. Fewer are of no use in a graph that
    # has only some hundred edges, so the bound does not go below that.
    Recipe("paper", {"ioi": 70, "gendered_pronoun": 100, "greater_than": 200, "sva": 200}, "eap-ig", "right", 30,
           "greedy", True, 0.8, "ratio", "bisect", 0.05, 179, must_do=False),
    Recipe("robust", {"ioi": 100, "gendered_pronoun": 100, "greater_than": 100, "sva": 100}, "eap-ig", "midpoint", 10,
           "greedy", True, 0.8, "normalised", "grid", 1.0, 0, must_do=True),
)}


def get_recipe(name: str) -> Recipe:
    """A recipe by name: "paper" or "robust"."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} does not exist; there are: {', '.join(RECIPES)}")
    return RECIPES[name]
