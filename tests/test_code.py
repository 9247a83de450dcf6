"""Which code a measurement's key holds: all that runs, every change to it, and nothing of how it is
written.
"""

from __future__ import annotations

import ast
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from circuitbook import get_recipe, load_suite
from circuitbook.heads.names import all_heads
from circuitbook.model.config import read_config
from circuitbook.model.graph import graph_of
from circuitbook.model.loading import read_model
from circuitbook.paths import PACKAGE
from circuitbook.store.code import Closure, code_hash
from circuitbook.studies import (
    abilities,
    answer_readers,
    circuit_tests,
    circuits,
    classifying,
    errata,
    errata_of_scores,
    head_scores,
    masks,
    other_circuits,
    self_repair,
)
from circuitbook.suites.integrity import tensors_hash
from circuitbook.tasks import TASKS, get_task, ioi

MEASURED: dict[str, Callable] = {
    "abilities": abilities.answers_to,
    "repetition": abilities.repetition,
    "circuits": circuits._circuit_arrays,
    "masks": masks.metric_of_masks,
    "held-out masks": circuit_tests.metric_held_out,
    "other circuits": other_circuits.find_others,
    "repeated": head_scores.repeated_part,
    "successor": head_scores.successor_part,
    "copying": head_scores.copying_part,
    "attention": head_scores.attention_part,
    "direct": head_scores.direct_part,
    "suppression": head_scores.suppression_part,
    "inhibition": head_scores.inhibition_part,
    "algorithm": classifying.classify_heads,
    "readers": answer_readers.reader_arrays,
    "repair": self_repair.repair_arrays,
    "swaps": self_repair.swap_table,
    "errata: swaps": errata.swap_means,
    "errata: redraws": errata.redraw_table,
    "errata: suppression": errata.suppression_table,
    "errata: position": errata.position_table,
    "errata: precision": errata_of_scores.precision_table,
    "errata: last batch": errata_of_scores.last_batch_table,
    "integrity": tensors_hash,
    "loading": read_model,
    "ioi": get_task("ioi").make,
    "gendered_pronoun": get_task("gendered_pronoun").make,
    "greater_than": get_task("greater_than").make,
    "sva": get_task("sva").make,
}


# ---- all that runs is in the key


@pytest.fixture(scope="module")
def model():
    return load_suite("mini").checkpoint("mini-xs", 3906).load()


@pytest.fixture(scope="module")
def arguments(model) -> dict[str, dict]:
    """Small arguments for every measured function that takes a model."""
    recipe = get_recipe("robust")
    greater = get_task("greater_than")
    fewer = replace(recipe.heads, sequences=4, prompts=8, documents=6, evaluated=3)
    scores = head_scores.HeadScores("mini-xs", 3906, 1, 4, head_scores.score_heads(model, fewer))
    graph = graph_of(model)
    settings = circuits._settings("ioi", recipe, None) | {"prompts": 6, "resamples": 2}
    few = {"prompts": 6, "seed": 42}
    names = few | {"task": ioi.TASK}
    text = {"texts": 6, "positions": 24, "text": None, "seed": 1}
    size = {"size": 20}
    whole = {"scores": np.random.default_rng(0).random(graph.mask.shape), "mask": graph.mask}
    chosen = {"attribution": recipe.attribution, "selection": "greedy", "absolute": True}
    return {
        "abilities": {"task": get_task("sva"), "n": 8},
        "repetition": {"n": 4},
        "circuits": settings,
        "masks": few | {"task": ioi.TASK, "masks": graph.mask[None], "options": {}},
        "held-out masks": few | {"task": ioi.TASK, "masks": graph.mask[None]},
        "other circuits": few
        | {"task": ioi.TASK, "draws": 1}
        | whole
        | {"attribution": recipe.attribution, "search": recipe.circuit("ioi")},
        "repeated": {
            "sequences": 3,
            "length": 9,
            "story_length": 9,
            "seed": 1,
            "as_published": False,
        },
        "successor": {"norms": True, "as_published": False},
        "copying": names | {"norms": True},
        "attention": names | {"as_published": False},
        "direct": names,
        "suppression": text | {"evaluated": 3, "as_published": False},
        "inhibition": names | {"movers": all_heads(model)[-2:]},
        "algorithm": {
            "scores": scores,
            "mask": graph.mask,
            "settings": recipe.algorithm,
        },
        "readers": few | {"task": greater},
        "repair": few
        | {"carriers": [(1, 1)], "how": "zero", "texts": 3, "length": 24, "text": None},
        "swaps": few | {"tokens_seen": [1, 2], "groups": {"a": [(0, 1)]}, "task": ioi.TASK},
        "errata: swaps": few | {"carriers": [(1, 1)]},
        "errata: redraws": {"tasks": [greater], "prompts": 5, "seeds": [1]},
        "errata: suppression": {
            "head": (1, 1),
            "counts": [3],
            "draws": 1,
            "texts": 5,
            "positions": 24,
            "text": None,
        },
        "errata: position": few,
        "errata: precision": few | whole | chosen | size | {"task": ioi.TASK},
        "errata: last batch": {"prompts": 6, "batch": 4, **size},
    }


def ran(call: Callable[[], object]) -> set[tuple[str, str]]:
    """(module, qualified name) of all functions of the package that a call runs; functions inside
    others count as these.
    """
    seen = set()

    def note(frame, event, _) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(PACKAGE)):
            return
        inside = Path(code.co_filename).relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(inside[:-1] if inside[-1] == "__init__" else inside)
        name = code.co_qualname.split(".<locals>")[0]
        if not name.startswith("<"):
            seen.add((module, name))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.parametrize("kind", [kind for kind in MEASURED if kind not in TASKS])
def test_all_that_runs_is_reached(kind, model, arguments):
    """A key holds the measured function and the functions among its arguments (a task's `make`)."""
    given = arguments.get(kind, {})
    tasks = [*given.get("tasks", []), *([given["task"]] if "task" in given else [])]
    tasks = [get_task(task) if isinstance(task, str) else task for task in tasks]
    entries = [MEASURED[kind], *(task.make for task in tasks)]
    if kind == "loading":
        checkpoint = model.checkpoint
        folder = checkpoint.fetch()  # what is in its files is in the key
        config = read_config(folder)
        called = ran(lambda: read_model(checkpoint, folder, config, model.device, torch.float32))
    elif kind == "integrity":
        called = ran(lambda: tensors_hash(model.hf_model))
    else:
        models = (model, model) if kind in ("swaps", "errata: swaps") else (model,)
        called = ran(lambda: MEASURED[kind](*models, **arguments[kind]))
    reached = {place for entry in entries for place in Closure(entry).follow()}
    inits = {(m, n) for m, n in called if n.rpartition(".")[2].startswith("__")}
    special = {
        (m, n) for m, n in inits if (m, n.rpartition(".")[0]) in reached
    }  # of a class that counts
    missing = called - reached - special - NOT_COUNTED
    assert called
    assert not missing


# Which of a checkpoint's files is read: it is in the key by content.
NOT_COUNTED = {
    ("circuitbook.suites.suite", "Checkpoint.prefer"),
    ("circuitbook.tasks.base", "Task.__measurement_key__"),
}


# ---- whatever is changed in it


@dataclass(frozen=True)
class Edit:
    """Another source for some modules."""

    what: str
    sources: dict[str, str]


def source_of(module: str) -> str:
    return Path(sys.modules[module].__file__).read_text(encoding="utf8")


def nodes_of(tree: ast.Module, name: str) -> list[ast.AST]:
    """The statements at the top level (or, of "Class.method", in a class) that define a name."""
    first, _, inner = name.partition(".")
    found = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        inside = [n for target in targets if target is not None for n in ast.walk(target)]
        names = [n.id for n in inside if isinstance(n, ast.Name)]
        if getattr(node, "name", None) == first or first in names:
            found.append(node)
    if not inner:
        return found
    return [n for outer in found for n in ast.walk(outer) if getattr(n, "name", None) == inner]


def changed(place: tuple[str, str]) -> Edit | None:
    """The module with this definition changed: a statement more in a function, a field more in a
    class, another value.
    """
    module, name = place
    tree = ast.parse(source_of(module))
    nodes = nodes_of(tree, name)
    if not nodes:
        return None
    node = nodes[-1]
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        node.body.insert(1 if ast.get_docstring(node) else 0, ast.parse("changed = 1").body[0])
    else:
        node.value = ast.parse(f"({ast.unparse(node.value)}, 1)").body[0].value
    return Edit(f"{module}.{name}", {module: ast.unparse(tree)})


def closures() -> Iterator[tuple[str, Closure]]:
    for kind, entry in MEASURED.items():
        closure = Closure(entry)
        closure.follow()
        yield kind, closure


NAMED = [
    ("copying", "circuitbook.heads.copying", "TOP"),
    ("suppression", "circuitbook.heads.copy_suppression", "CANDIDATES"),
    ("suppression", "circuitbook.heads.copy_suppression", "FUNCTION_WORDS"),
    ("successor", "circuitbook.heads.successor", "_ROMAN"),
    ("copying", "circuitbook.heads.copying", "values_without_attention"),
    ("algorithm", "circuitbook.studies.head_scores", "HeadScores.score"),
    ("algorithm", "circuitbook.studies.classifying", "SIGNALS"),
    ("algorithm", "circuitbook.studies.head_scores", "PLACES"),
    ("algorithm", "circuitbook.studies.classifying", "STAGES"),
    ("readers", "circuitbook.studies.answer_readers", "TELLS"),
    ("circuits", "circuitbook.model.graph", "Graph.live"),
    ("circuits", "circuitbook.model.graph", "HEAD_INPUTS"),
    ("circuits", "circuitbook.stats", "bootstrap_draws"),
    ("abilities", "circuitbook.tasks.metrics", "METRICS"),
    ("sva", "circuitbook.tasks.constructions", "CONSTRUCTIONS"),
]


@pytest.mark.parametrize(("kind", "module", "name"), NAMED)
def test_a_change_to_what_once_escaped_the_key_changes_it(kind, module, name):
    edit = changed((module, name))
    assert edit is not None
    assert code_hash(MEASURED[kind], edit.sources) != code_hash(MEASURED[kind])


@cache
def places_by_kind() -> dict[str, list[tuple[str, str]]]:
    """Every place that is reached, once: under the first kind that reaches it."""
    first: dict[tuple[str, str], str] = {}
    for kind, closure in closures():
        for place in closure.definitions:
            first.setdefault(place, kind)
    return {kind: [p for p, k in first.items() if k == kind] for kind in MEASURED}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MEASURED)
def test_every_change_to_what_is_reached_changes_the_key(kind):
    """Each constant, function, class and method that is reached, changed one at a time; and, of
    what another kind has tried, a dozen at random.
    """
    entry = MEASURED[kind]
    closure, tried, same = Closure(entry), 0, []
    closure.follow()
    new = places_by_kind()[kind]
    others = sorted(set(closure.definitions) - set(new))
    for place in [*new, *random.Random(kind).sample(others, min(12, len(others)))]:
        if (edit := changed(place)) is None:
            continue
        tried += 1
        if code_hash(entry, edit.sources) == closure.hash:
            same.append(edit.what)
    assert tried and not same
    print(f"{kind}: {tried} changes, each changes the key")


def test_a_constant_changed_in_memory_counts(monkeypatch):
    before = code_hash(head_scores.copying_part)
    monkeypatch.setattr("circuitbook.heads.copying.TOP", 3)
    assert code_hash(head_scores.copying_part) != before
    monkeypatch.undo()
    assert code_hash(head_scores.copying_part) == before


# ---- and nothing of how it is written


def rewritten(module: str, transform: ast.NodeTransformer | None = None) -> str:
    tree = ast.parse(source_of(module))
    return ast.unparse(transform.visit(tree) if transform else tree)


class OtherWords(ast.NodeTransformer):
    """Other docstrings, and other words in errors, warnings and log messages."""

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        if isinstance(node.exc, ast.Call):
            node.exc.args = [ast.Constant("another message")]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        if ast.unparse(node).startswith(("warnings.warn(", "log.")):
            node.value.args[0] = ast.Constant("another message")
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        if ast.get_docstring(node):
            node.body[0] = ast.parse("'another docstring'").body[0]
        return node


@pytest.mark.parametrize("kind", MEASURED)
def test_layout_comments_docstrings_and_words_of_errors_do_not_count(kind):
    closure = Closure(MEASURED[kind])
    closure.follow()
    sources = {module: rewritten(module, OtherWords()) for module in closure.modules()}
    assert any(sources[module] != source_of(module) for module in sources)
    assert code_hash(MEASURED[kind], sources) == closure.hash


def moved(module: str, name: str, to: str = "circuitbook.moved") -> dict[str, str] | None:
    """A definition put into another module and imported from there; None for what is no definition
    of its own.
    """
    tree = ast.parse(source_of(module))
    nodes = nodes_of(tree, name)
    if "." in name or len(nodes) != 1 or nodes[0] not in tree.body:
        return None
    node = nodes[0]
    if isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name):
        return None
    imports = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom, ast.If))]
    others = {n for m in Closure(sys.modules[module]).follow() for n in [m[1]] if m[0] == module}
    others -= {name, *(n for n in others if "." in n)}
    fetched = f"from {module} import {', '.join(sorted(others))}\n" if others else ""
    other = "\n".join(map(ast.unparse, imports)) + "\n" + fetched + ast.unparse(node)
    tree.body[tree.body.index(node)] = ast.parse(f"from {to} import {name}").body[0]
    return {module: ast.unparse(tree), to: other}


@pytest.mark.parametrize("kind", ["circuits", "algorithm", "suppression", "greater_than"])
def test_a_definition_can_be_moved(kind):
    closure = Closure(MEASURED[kind])
    closure.follow()
    places = [p for p in closure.definitions if p != closure._entries[0]]
    tried = 0
    for module, name in random.Random(1).sample(places, min(25, len(places))):
        if (sources := moved(module, name)) is not None:
            tried += 1
            assert code_hash(MEASURED[kind], sources) == closure.hash, (module, name)
    assert tried >= 5
