"""Circuits of a suite of one's own beside those of another, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from circuitbook.studies.circuits import CircuitResult
from circuitbook.wording import TASK_TITLES, in_markdown


def at_the_last_checkpoints(circuits: Sequence[CircuitResult], tasks: Sequence[str]) -> str:
    """The size of every task's circuit at each model's last checkpoint that was looked at."""
    last = {(at.task, at.model): at for at in sorted(circuits, key=lambda at: at.step)}
    parts = []
    for task in tasks:
        sizes = [_size(last[key]) for key in sorted(last) if key[0] == task]
        parts.append(f"{TASK_TITLES[task]}: {', '.join(sizes)}")
    return (
        f"At the last checkpoint here: {'; '.join(parts)}. The example has more edges to choose "
        "from, since in its sequential blocks the heads of a layer feed that layer's MLP."
    )


def _size(result: CircuitResult) -> str:
    if not result.circuit.found:
        return f"none in {in_markdown(result.model)}"
    edges, of_all = result.circuit.n_edges, result.circuit.graph.n_edges
    return f"{edges} of {of_all} edges in {in_markdown(result.model)}"
