"""Circuits Across Training and Scale: the library behind the book.

    suite = load_suite("mini")
    model = suite.checkpoint("mini-m", suite.steps("mini-m")[-1]).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=70, seed=42)
    scores = attribute(model, pairs, rule="midpoint", points=10)
    circuit = find_circuit(model, pairs, scores, threshold=0.8)
"""

from importlib import import_module

__version__ = "0.1.0"
_HOME = {"load_suite": "suites", "get_task": "tasks", "get_recipe": "recipes", "attribute": "attribution",
         "find_circuit": "search", "evaluate_circuit": "circuits"}
__all__ = sorted(_HOME)


def __getattr__(name: str):                      # late, so that commands which need no torch do not wait for it
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
