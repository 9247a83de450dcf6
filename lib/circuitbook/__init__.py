"""Circuits Across Training and Scale: the library behind the book.

    suite = load_suite("mini")
    model = suite.checkpoint("mini-m", suite.steps("mini-m")[-1]).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=70, seed=42)
    scores = attribute(model, pairs, rule="midpoint", points=5, tolerance=0.02)
    circuit = find_circuit(model, pairs, scores, threshold=0.8)

The packages in the order in which data flows, each knowing only those before it:

    threads, failures  how torch's threads wait; what the command line says of errors
    stats, wording     intervals and verdicts; how numbers and names are written
    store              measurements on disk, under keys of all that determines them
    weights, model     files of a checkpoint, a hub; one loaded checkpoint
    suites, tasks      which models and steps there are; prompts and their answers
    circuits, heads    scores of edges, circuits; what heads do, patching
    recipes, records   the authors' settings and ours; what was measured elsewhere
    studies            the same at every checkpoint, and what a chapter says of it
    figures            pictures and interactive views
    publishing         executing notebooks, building the site
    teaching           exercises and their checks, course versions
    sweep, mini        many machines; the mini suite's training
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from circuitbook.threads import waiting_policy

if TYPE_CHECKING:
    from circuitbook.circuits.attribution import attribute
    from circuitbook.circuits.evaluation import evaluate_circuit
    from circuitbook.circuits.search import find_circuit
    from circuitbook.recipes import get_recipe
    from circuitbook.suites import load_suite
    from circuitbook.tasks import get_task

__all__ = [
    "attribute",
    "evaluate_circuit",
    "find_circuit",
    "get_recipe",
    "get_task",
    "load_suite",
]

if "torch" not in sys.modules:  # it reads this once, when it is loaded
    os.environ.update(waiting_policy(os.environ))

__version__ = "0.1.0"
_HOME = {
    "load_suite": "suites",
    "get_task": "tasks",
    "get_recipe": "recipes",
    "attribute": "circuits.attribution",
    "find_circuit": "circuits.search",
    "evaluate_circuit": "circuits.evaluation",
}


def __getattr__(name: str) -> object:  # late, so that commands which need no torch do not wait
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
