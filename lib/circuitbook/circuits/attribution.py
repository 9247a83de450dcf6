"""Edge attribution patching with integrated gradients (EAP-IG), exactly, at the price of gradients.

The score of an edge u -> v is (Hanna et al. 2024, as used by Tigges et al. 2024, section 2)

    score(u->v) = 1/m sum_k sum_pos (a_u(corrupted) - a_u(clean)) . dL/dx_v at the input z_k,

with L = -metric, a_u what node u writes into the residual stream, x_v what an input of node v
reads, and z_k the embeddings at m points on the way from clean to corrupted. A positive score
means: corrupting the edge raises the loss, so the edge helps. Plain EAP takes the gradient at the
clean prompt alone.

What makes it cheap and leaves it exact:

1.  a_u does not depend on k, so the gradients are averaged over k before they meet it: one matrix
    product per layer.
2.  No input or output of a head is ever built for each head during the forward pass. From the
    gradient g of a head's query the gradient at its input is n(g) = r (W g - mean - x^ (W g . x^) /
    d), where W is the head's weight with the norm's scale, x^ the normed stream and r = 1/sigma (an
    RMSNorm takes no mean); (W g) . x^ is g times the query itself, and the rest is linear.
3.  Up to the first token that differs, clean and corrupted are the same: keys and values of that
    prefix are computed once, for all points. Behind END nothing is computed, and of the logits only
    those at END.

The scores of all edges out of `input` add up to loss(corrupted) - loss(clean) if the quadrature is
exact, since every path starts there. What is missing is reported as the completeness gap.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from circuitbook.circuits.batches import check_pairs, chunks_of, default_memory, window
from circuitbook.circuits.gradients import _add_chunk, _Sums, _where_not_finite
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.model.memory import prompt_bytes, row_bytes
from circuitbook.tasks.base import PromptPairs

METHODS = ("eap", "eap-ig")


RULES = ("right", "midpoint", "left")


LARGE_GAP = 0.1  # of the mean change of the loss: warn above it


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """Edge scores and how they were obtained. `values` float32 [src, dst], in units of the task's
    metric, 0 off the graph.

    A float64 model gives float64 everywhere. `change` and `from_input` are [n]: of each prompt,
    loss(corrupted) - loss(clean), and the sum of its edges out of `input`, which would be equal if
    the quadrature were exact.
    """

    values: Tensor
    graph: Graph
    method: str
    rule: str
    points: int
    change: Tensor
    from_input: Tensor
    per_prompt: Tensor | None = None  # [n, src, dst], if asked for; its mean over n is `values`
    per_position: Tensor | None = (
        None  # [pos, src, dst], if asked for; its sum over pos is `values`
    )

    @property
    def gap(self) -> float:
        """Sum of the edges out of `input` minus the change of the loss, mean over prompts."""
        return float((self.from_input - self.change).mean())

    @property
    def relative_gap(self) -> float:
        """`gap` as a share of the mean absolute change of the loss; nan where the loss does not
        change at all."""
        change = float(self.change.abs().mean())
        return self.gap / change if change else float("nan")

    def of(self, edge: str) -> float:
        """The score of one edge by name.  scores.of("a0.h1->a3.h5<q>")"""
        return float(self.values[self.graph.edge(edge)])

    def largest(self, n: int = 10) -> list[tuple[str, float]]:
        """The n edges with the largest absolute score, with their scores."""
        values = self.values.numpy()[self.graph.mask]
        order = np.argsort(-np.abs(values), kind="stable")[:n]
        return [(self.graph.edge_name(*self.graph.edges[i]), float(values[i])) for i in order]

    def __repr__(self) -> str:
        how = (
            self.method
            if self.method == "eap"
            else f"{self.method}, {self.points} points, {self.rule} rule"
        )
        return (
            f"Scores({self.graph.n_edges} edges, {len(self.change)} prompts, {how}, "
            f"completeness gap {self.relative_gap:+.2%} of the change)"
        )


def attribute(
    model: Model,
    pairs: PromptPairs,
    method: str = "eap-ig",
    rule: str = "right",
    points: int = 30,
    *,
    per_prompt: bool = False,
    per_position: bool = False,
    memory: int | None = None,
    progress: bool = False,
) -> Scores:
    """Scores of all edges, averaged over the prompts (each counts the same, whatever the batching).

    method: "eap-ig", or "eap" (gradient at the clean prompt; `rule` and `points` mean nothing
    then).
    rule: where the m points lie: "right" k/m (the authors'; k = 1..m), "left" (k-1)/m, "midpoint"
    (k-1/2)/m, with 0 the clean and 1 the corrupted prompt. A few midpoints are as good as many
    points of the other rules.
    per_prompt, per_position: also keep the scores of each prompt (4 n src dst bytes) and of each
    position.
    memory: bytes that activations may take at a time, beside the weights and the result; default
    128 MB on a CPU, half of what is free on a GPU. It decides how many prompts and points are done
    together; a single one must fit.

    Gradients in the model's dtype, sums in float32. Errors: ValueError for bad arguments;
    FloatingPointError that names checkpoint, prompt and layer where something is not finite. Warns
    if the completeness gap of EAP-IG is above a tenth of the change.
    """
    t = interpolation_points(method, rule, points)
    network, graph = network_of(model), graph_of(model)
    check_pairs(model, pairs)
    dtype = sums_dtype(model.dtype)
    memory = memory or default_memory(model.device)
    n, width = pairs.clean.shape
    values = torch.zeros(graph.n_src, graph.n_dst, dtype=dtype, device=model.device)
    change, from_input = torch.zeros(2, n, dtype=dtype)
    by_prompt = torch.zeros(n, *values.shape, dtype=dtype) if per_prompt else None
    by_position = torch.zeros(width, *values.shape, dtype=dtype) if per_position else None

    chunks = list(
        chunks_of(
            pairs,
            len(t),
            row_bytes(model.shape, model.dtype),
            prompt_bytes(model.shape, model.dtype),
            memory,
        )
    )
    bar = tqdm(total=n * len(t), desc="attribution", unit="run", disable=not progress, leave=False)
    for rows, some in chunks:
        part = pairs.subset(rows)
        start, stop = window(part)
        out = _Sums(values, by_prompt, by_position, rows, start)
        _add_chunk(network, graph, part, start, stop, t[some], len(t), out, change, from_input)
        if not bool(
            values.isfinite().all()
            & change[rows].isfinite().all()
            & from_input[rows].isfinite().all()
        ):
            raise FloatingPointError(_where_not_finite(model, network, part, rows, t))
        bar.update(len(rows) * len(t[some]))
    bar.close()
    scores = Scores(
        (values / n).cpu(),
        graph,
        method,
        rule,
        len(t),
        change,
        from_input,
        by_prompt,
        None if by_position is None else by_position / n,
    )
    if method == "eap-ig" and abs(scores.relative_gap) > LARGE_GAP:
        warnings.warn(
            f"{pairs.task} in {model.checkpoint.model} at step {model.checkpoint.step}: the scores miss "
            f"{abs(scores.relative_gap):.0%} of the change of the loss with {len(t)} points, {rule} rule; "
            "more points, or the midpoint rule, come closer",
            stacklevel=2,
        )
    return scores


def interpolation_points(method: str, rule: str, points: int) -> Tensor:
    """Where gradients are taken, float64 [m]: 0 is the clean prompt, 1 the corrupted one."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are: {', '.join(METHODS)}")
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; there are: {', '.join(RULES)}")
    if method == "eap":
        return torch.zeros(1, dtype=torch.float64)
    if points < 1 or points != int(points):
        raise ValueError(f"{points} points are not possible; give a whole number of at least 1")
    shift = {"right": 1.0, "midpoint": 0.5, "left": 0.0}[rule]
    return (torch.arange(int(points), dtype=torch.float64) + shift) / points
