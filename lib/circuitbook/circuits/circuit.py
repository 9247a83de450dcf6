"""A circuit: some edges of a graph, and what is known about them.

Tigges et al. 2024, section 2.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from circuitbook.model.graph import Graph
from circuitbook.store.files import write_atomically

NOT_DONE = "the model does not do the task"  # how the reason begins then
_KEPT = ("faithfulness", "low", "high", "clean", "corrupted", "reason", "about")  # in a file


@dataclass(frozen=True, eq=False, repr=False)
class Circuit:
    """Some edges of a graph, and what is known about them; a search fills in what it found."""

    graph: Graph
    mask: Bool[np.ndarray, "src dst"]
    scores: Float[np.ndarray, "src dst"] | None = None
    """That it was chosen by."""
    _: KW_ONLY
    faithfulness: float | None = None
    """In the form that was asked for; None where there is no circuit."""
    low: float | None = None
    """The interval of the faithfulness over prompts."""
    high: float | None = None
    clean: float | None = None
    """The full model's mean metric on the clean prompts,"""
    corrupted: float | None = None
    """and on the corrupted ones."""
    curve: pd.DataFrame | None = None
    """A row for each size that was evaluated (see `search.find_circuit`)."""
    reason: str = ""
    """Why there is no circuit; then there are no edges."""
    about: dict[str, Any] = field(default_factory=dict)
    """Model, step, task, settings: whatever belongs to it."""

    @property
    def not_done(self) -> bool:
        """Whether there is no circuit because the model does not do the task."""
        return self.reason.startswith(NOT_DONE)

    @property
    def found(self) -> bool:
        """Whether there is a circuit."""
        return not self.reason

    @property
    def n_edges(self) -> int:
        return int(self.mask.sum())

    @property
    def n_nodes(self) -> int:
        """Nodes with an edge; `input` and `logits` count, as in the authors' tables."""
        return int(self.graph.nodes_of(self.mask).sum())

    @cached_property
    def edges(self) -> tuple[str, ...]:
        """Names of the edges."""
        return tuple(self.graph.edge_name(src, dst) for src, dst in np.argwhere(self.mask))

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, `input` and `logits` among them."""
        return tuple(np.array(self.graph.node_names)[self.graph.nodes_of(self.mask)].tolist())

    def __repr__(self) -> str:
        if not self.found:
            return f"no circuit: {self.reason}"
        how = "" if self.faithfulness is None else f", faithfulness {self.faithfulness:.3f}"
        return f"Circuit({self.n_edges} of {self.graph.n_edges} edges, {self.n_nodes} nodes{how})"

    # ---------------------------------------------------------------- files

    def save(self, path: str | Path) -> Path:
        """Writes the JSON that hannamw/EAP-IG and MIB read, and what else is known beside it.

        What is not a number, as the interval over one prompt, is null there.
        """
        graph, inside = self.graph, self.graph.nodes_of(self.mask)
        scores = np.zeros(self.mask.shape) if self.scores is None else self.scores
        record = {
            "cfg": {
                "n_layers": graph.n_layers,
                "n_heads": graph.n_heads,
                "d_model": self.about.get("d_model", 0),
                "parallel_attn_mlp": graph.parallel,
            },
            "nodes": {
                name: {"in_graph": bool(is_in)}
                for name, is_in in zip(graph.node_names, inside, strict=True)
            },
            "edges": {
                graph.edge_name(src, dst): {
                    "score": float(scores[src, dst]),
                    "in_graph": bool(self.mask[src, dst]),
                }
                for src, dst in graph.edges
            },
            "circuitbook": {name: getattr(self, name) for name in _KEPT}
            | {
                "scored": self.scores is not None,
                "curve": None if self.curve is None else self.curve.to_dict("list"),
            },
        }
        text = json.dumps(_finite(record), allow_nan=False)
        write_atomically(Path(path), text.encode())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Circuit:
        """Reads what `save` wrote, or a circuit of EAP-IG or MIB; ValueError for anything else."""
        try:
            record = json.loads(Path(path).read_text(encoding="utf8"))
            config, listed, more = record["cfg"], record["edges"], record.get("circuitbook", {})
            graph = Graph(config["n_layers"], config["n_heads"], bool(config["parallel_attn_mlp"]))
            mask, scores = np.zeros(graph.mask.shape, bool), np.zeros(graph.mask.shape)
            for name, edge in listed.items():
                at = graph.edge(name)
                mask[at], scores[at] = edge["in_graph"], edge["score"]
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{path} is not a circuit as circuitbook, EAP-IG or MIB write it: {error}"
            ) from error
        curve = more.pop("curve", None)
        scored = more.pop("scored", True)
        if more.get("faithfulness") is not None:  # over one prompt there is no interval
            more |= {end: math.nan for end in ("low", "high") if more.get(end) is None}
        return cls(
            graph,
            mask,
            scores=scores if scored else None,
            curve=None if curve is None else _table(curve),
            **more,
        )


def circuit_of(graph: Graph, edges: Sequence[str]) -> Circuit:
    """A circuit from the names of its edges, dead ones included."""
    mask = np.zeros(graph.mask.shape, bool)
    for name in edges:
        mask[graph.edge(name)] = True
    return Circuit(graph, mask)


def _finite(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not have: None instead."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(columns: dict[str, list]) -> pd.DataFrame:
    """A table from a file: None is NaN again."""
    return pd.DataFrame(
        {
            name: np.array(column, float) if None in column else column
            for name, column in columns.items()
        }
    )
