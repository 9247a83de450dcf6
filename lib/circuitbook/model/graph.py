"""The computational graph: nodes and edges as index arrays, with EAP-IG's names.

Nodes are `input` (the embeddings), every attention head `a3.h5`, every MLP `m3` and `logits`. An
edge goes from the output of one node (a source) to an input of a later one (a destination); a head
has three inputs, so that edges into it are written `a0.h1->a3.h5<q>`. Scores and circuits are
matrices [src, dst] over sources and destinations:

    sources       input, then per layer: its heads, its MLP                   1 + L (H + 1)
    destinations  per layer: q of its heads, k, v, its MLP; then logits       L (3 H + 1) + 1

In a parallel block (GPT-NeoX) heads and MLP of a layer read the same stream, so there is no edge
from a head to the MLP of its own layer. Biases belong to no node. The order is that of
hannamw/EAP-IG, whose matrices can be used as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

if TYPE_CHECKING:
    from circuitbook.model.loaded import Model

HEAD_INPUTS = "qkv"


@dataclass(frozen=True)
class Graph:
    """The graph of a model with these many layers and heads."""

    n_layers: int
    n_heads: int
    parallel: bool = True

    @property
    def n_src(self) -> int:
        """How many sources there are."""
        return 1 + self.n_layers * (self.n_heads + 1)

    @property
    def n_dst(self) -> int:
        """How many destinations there are."""
        return self.n_layers * (3 * self.n_heads + 1) + 1

    @property
    def n_edges(self) -> int:
        """How many edges there are: sum over layers l of (3H + 1)(1 + l(H + 1)), + 1 + L(H + 1).

        A sequential block has H more per layer.
        """
        return int(self.reach.sum())

    # ---------------------------------------------------------------- where things are

    def source(self, layer: int, head: int | None = None) -> int:
        """Row of a head, or of the layer's MLP where no head is given.

        >>> Graph(2, 4).source(1, 0)
        6
        """
        return 1 + layer * (self.n_heads + 1) + (self.n_heads if head is None else head)

    def destination(self, layer: int, head: int | None = None, kind: str = "q") -> int:
        """Column of a head's q, k or v input, or of the layer's MLP."""
        slot = 3 * self.n_heads if head is None else HEAD_INPUTS.index(kind) * self.n_heads + head
        return layer * (3 * self.n_heads + 1) + slot

    def heads(self, layer: int) -> slice:
        """Rows of a layer's heads."""
        return slice(self.source(layer, 0), self.source(layer))

    def readers(self, layer: int, kind: str) -> slice:
        """Columns of the q, k or v inputs of a layer's heads."""
        first = self.destination(layer, 0, kind)
        return slice(first, first + self.n_heads)

    @cached_property
    def reach(self) -> np.ndarray:
        """int64 [dst]: a destination reads the sources 0 .. reach - 1."""
        before = 1 + np.arange(self.n_layers) * (self.n_heads + 1)
        mlp = before + (0 if self.parallel else self.n_heads)
        layers = np.concatenate(
            [np.repeat(before[:, None], 3 * self.n_heads, 1), mlp[:, None]], axis=1
        )
        return np.append(layers.ravel(), self.n_src)

    @cached_property
    def mask(self) -> np.ndarray:
        """bool [src, dst]: where there is an edge. Edges are numbered along its rows."""
        return np.arange(self.n_src)[:, None] < self.reach

    @cached_property
    def edges(self) -> np.ndarray:
        """int64 [edge, 2]: source and destination of each edge, in their order."""
        return np.argwhere(self.mask)

    @cached_property
    def node_of(self) -> np.ndarray:
        """int64 [dst]: the node a destination belongs to, as its row; `n_src` stands for logits."""
        heads = np.arange(self.n_heads)
        layer = np.concatenate([heads, heads, heads, [self.n_heads]])
        rows = 1 + np.arange(self.n_layers)[:, None] * (self.n_heads + 1) + layer
        return np.append(rows.ravel(), self.n_src)

    # ---------------------------------------------------------------- names

    @cached_property
    def source_names(self) -> tuple[str, ...]:
        layers = (
            [f"a{layer}.h{head}" for head in range(self.n_heads)] + [f"m{layer}"]
            for layer in range(self.n_layers)
        )
        return ("input", *(name for names in layers for name in names))

    @cached_property
    def destination_names(self) -> tuple[str, ...]:
        names = []
        for layer in range(self.n_layers):
            for kind in HEAD_INPUTS:
                names += [f"a{layer}.h{head}<{kind}>" for head in range(self.n_heads)]
            names.append(f"m{layer}")
        return (*names, "logits")

    @property
    def node_names(self) -> tuple[str, ...]:
        return (*self.source_names, "logits")

    @cached_property
    def edge_names(self) -> tuple[str, ...]:
        return tuple(self.edge_name(src, dst) for src, dst in self.edges)

    def edge_name(self, src: int, dst: int) -> str:
        """The name of an edge, as EAP-IG writes it.

        >>> Graph(2, 4).edge_name(2, 13)
        'a0.h1->a1.h0<q>'
        """
        return f"{self.source_names[src]}->{self.destination_names[dst]}"

    def edge(self, name: str) -> tuple[int, int]:
        """(src, dst) of a name; ValueError if this graph has no such edge.

        >>> Graph(2, 4).edge("a0.h1->a1.h0<q>")
        (2, 13)
        """
        source, _, target = name.partition("->")
        src, dst = self._rows.get(source), self._columns.get(target)
        if src is None or dst is None or not self.mask[src, dst]:
            raise ValueError(
                f"{name!r} is no edge of a graph with {self.n_layers} layers of {self.n_heads} "
                f"heads{_why(source, target, src, dst)}; edges are written like 'a0.h1->a1.h0<q>'"
            )
        return src, dst

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.source_names)}

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.destination_names)}

    # ---------------------------------------------------------------- what is connected

    def live(self, mask: Bool[np.ndarray, "src dst"]) -> Bool[np.ndarray, "src dst"]:
        """The edges of a circuit that lie on a path from `input` to `logits`.

        This is what EAP-IG's pruning of dead nodes leaves. Dead edges change nothing: their source
        runs on corrupted inputs alone, or nobody reads their target. (Where heads share a norm
        behind them, a source with corrupted inputs still changes with the others of its layer.)
        """
        mask = mask & self.mask
        fed = np.zeros(self.n_src + 1, bool)  # reached from `input`
        fed[0] = True
        for node, columns in self.columns_of_nodes:
            fed[node] = (mask[:, columns] & fed[:-1, None]).any()
        read = np.zeros(self.n_src + 1, bool)  # reaches `logits`
        read[-1] = True
        for node, columns in reversed(self.columns_of_nodes):
            if read[node]:
                read[:-1] |= mask[:, columns].any(1)
        return mask & fed[:-1, None] & read[self.node_of][None]

    @cached_property
    def columns_of_nodes(self) -> list[tuple[int, list[int]]]:
        """(node, its columns) in the order of computation: all sources of a node come before it."""
        order = np.argsort(self.node_of, kind="stable")
        nodes, first = np.unique(self.node_of[order], return_index=True)
        columns = [part.tolist() for part in np.split(order, first[1:])]
        return list(zip(nodes.tolist(), columns, strict=True))

    def relabel(
        self, mask: Bool[np.ndarray, "src dst"], orders: Sequence[np.ndarray]
    ) -> Bool[np.ndarray, "src dst"]:
        """The circuit with its heads in other places, edges and all.

        Head i of a layer becomes what head orders[layer][i] was.
        """
        src, dst = np.arange(self.n_src), np.arange(self.n_dst)
        for layer, order in enumerate(orders):
            heads = self.heads(layer)
            src[heads] = src[heads][order]
            for kind in HEAD_INPUTS:
                inputs = self.readers(layer, kind)
                dst[inputs] = dst[inputs][order]
        return mask[np.ix_(src, dst)]

    def nodes_of(self, mask: Bool[np.ndarray, "src dst"]) -> Bool[np.ndarray, " node"]:
        """Which nodes have an edge in the circuit; the last node is logits."""
        inside = np.append(mask.any(1), False)
        inside[self.node_of[mask.any(0)]] = True
        return inside


def _why(source: str, target: str, src: int | None, dst: int | None) -> str:
    """What is wrong with the name of an edge, in brackets."""
    if src is None:
        return f" (it has no node {source!r})" if source else ""
    if dst is not None:
        return f" ({target} does not read {source})"
    if re.fullmatch(r"a\d+\.h\d+", target):
        return f" (say which input: {target}<q>, <k> or <v>)"
    return f" (it has no input {target!r})" if target else ""


def graph_of(model: Model) -> Graph:
    """The graph of a loaded model."""
    return Graph(model.shape.n_layers, model.shape.n_heads, model.shape.parallel)
