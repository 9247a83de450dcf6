"""Hand-made circuits over training: which edges are in at which step, for every draw of prompts."""

import numpy as np

from circuitbook.circuits.circuit import Circuit
from circuitbook.model.graph import Graph
from circuitbook.studies.circuits import CircuitResult

GRAPH = Graph(2, 2)


def result(step, edges, draws=(), model="m", task="ioi"):
    """edges: names, or None for no circuit; draws: of resampled prompts."""
    mask = np.zeros(GRAPH.mask.shape, bool)
    for name in edges or ():
        mask[GRAPH.edge(name)] = True
    circuit = Circuit(GRAPH, mask, reason="none" if edges is None else "")
    resampled = tuple(
        np.array([np.ravel_multi_index(GRAPH.edge(name), mask.shape) for name in draw], int)
        for draw in draws
    )
    return CircuitResult(model, step, 1000 * step, task, circuit, 0.0, resampled)
