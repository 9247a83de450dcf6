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
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from circuitbook.circuits.batches import check_pairs, chunks_of, default_memory, window
from circuitbook.circuits.methods import (
    AUTHORS_RULE,
    WITHOUT_POSITIONS,
    AddChunk,
    adder_of,
    points_of,
)
from circuitbook.circuits.not_finite import where_not_finite
from circuitbook.circuits.prefixes import Prefixes
from circuitbook.circuits.quadrature import INTEGRATED, MOST_POINTS, Points, where_losses_change
from circuitbook.circuits.score_sums import Chunk, ScoreSums
from circuitbook.circuits.spans import Spans, each_position
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import Graph, graph_of
from circuitbook.model.loaded import Model
from circuitbook.model.memory import prompt_bytes, row_bytes
from circuitbook.tasks.base import PromptPairs

LARGE_GAP = 0.1  # of the mean change of the loss: warn above it


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Scores:
    """Edge scores and how they were obtained. A float64 model gives float64 everywhere."""

    values: Float[Tensor, "src dst"]
    """In units of the task's metric; 0 off the graph. float32."""
    graph: Graph
    method: str
    rule: str
    points: int
    """How many gradients of each prompt were taken."""
    change: Float[Tensor, " n"]
    """Of each prompt, loss(corrupted) - loss(clean)."""
    from_input: Float[Tensor, " n"]
    """The sum of a prompt's edges out of `input`: `change`, if the quadrature were exact."""
    per_prompt: Float[Tensor, "n src dst"] | None = None
    """If asked for; its mean over n is `values`."""
    per_position: Float[Tensor, "span src dst"] | None = None
    """If asked for; its sum over spans is `values`."""
    between: Float[Tensor, "to at dst"] | None = None
    """If asked for, of the edges between positions: the score of the key or value `dst` at one
    span as queries at another see it (see `circuits.between`); 0 where dst is neither."""
    spans: Spans | None = None
    """Of the last two; None: each position is one."""

    @property
    def gap(self) -> float:
        """Sum of the edges out of `input` minus the change of the loss, mean over prompts."""
        return float((self.from_input - self.change).mean())

    @property
    def relative_gap(self) -> float:
        """`gap` over the mean absolute change of the loss; nan where nothing changes."""
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
        how = self.method
        if self.method in INTEGRATED:
            how += f", {self.points} points, {self.rule} rule"
        return (
            f"Scores({self.graph.n_edges} edges, {len(self.change)} prompts, {how}, "
            f"completeness gap {self.relative_gap:+.2%} of the change)"
        )


def attribute(
    model: Model,
    pairs: PromptPairs,
    *,
    method: str = "eap-ig",
    rule: str | None = None,
    points: int = 30,
    tolerance: float | None = None,
    per_prompt: bool = False,
    per_position: bool = False,
    spans: Spans | None = None,
    between: str | None = None,
    memory: int | None = None,
    progress: bool = False,
) -> Scores:
    """Scores of all edges, averaged over the prompts (each counts the same, whatever the batching).

    method: "eap-ig", or another of `circuits.methods`, most of which take gradients at the clean
    prompt alone; `rule` and `points` then mean nothing.
    rule: where the m points lie: "right" k/m (k = 1..m), "left" (k-1)/m, "midpoint" (k-1/2)/m, with
    0 the clean and 1 the corrupted prompt; None: as the method's authors have it, "right" for
    "eap-ig". A few midpoints are as good as many points of the other rules.
    tolerance: with midpoints, and None for none. Where the completeness gap, or what it would be by
    chance (see `gap_with_noise`), is above this share of the mean absolute change of the loss,
    twice as many points are taken instead, where the loss of each prompt was seen to change (see
    `circuits.quadrature`), and so on.
    per_prompt, per_position: also keep the scores of each prompt (4 n src dst bytes) and of each
    position.
    spans: keep those of each span of these (`spans_of(pairs)`), not of each position.
    between: also keep those of edges between positions, or spans; of "eap", "eap-ig" and
    "clean-corrupted". By the "gradient" alone, or with attention's "pattern" computed anew for keys
    (see `circuits.between`; of "eap" that is PEAP's).
    memory: bytes that activations may take at a time, beside the weights and the result; default
    512 MB on a CPU, half of what is free on a GPU. It decides how many prompts and points are done
    together; a single one must fit.

    Gradients in the model's dtype, sums in float32. Errors: ValueError for bad arguments;
    FloatingPointError that names checkpoint, prompt and layer where something is not finite. Warns
    if the completeness gap of EAP-IG is above a tenth of the change, or above the tolerance after
    as many points as are allowed (`quadrature.MOST_POINTS`).
    """
    rule = rule or AUTHORS_RULE.get(method, "right")
    now = points_of(method, rule, points, len(pairs), model.shape.n_layers)
    if tolerance is not None and (method, rule) != ("eap-ig", "midpoint"):
        raise ValueError('a tolerance needs method="eap-ig" and rule="midpoint"')
    per_position = per_position or between is not None or spans is not None
    if per_position and method in WITHOUT_POSITIONS:
        raise ValueError(
            f'method="{method}" has no scores per position: {WITHOUT_POSITIONS[method]}; '
            'take "eap", or ask for no positions'
        )
    network, graph = network_of(model), graph_of(model)
    check_pairs(model, pairs)
    if spans is not None:
        spans.check(pairs)
    keep = {
        "per_prompt": per_prompt,
        "per_position": per_position,
        "between": between is not None,
    }
    memory = memory or default_memory(model.device)
    prefixes = Prefixes(network, pairs, memory // 8)
    add = adder_of(method, network, points, between)
    known: list[tuple[Tensor, Tensor]] = []  # points [n, m] and the losses there, of each round
    taken = 0
    with tqdm(desc="attribution", unit="run", disable=not progress, leave=False) as bar:
        while True:
            sums = _no_sums_yet(model, graph, pairs, now.m, spans, **keep)
            bar.total = (bar.total or 0) + now.t.numel()
            _add_points(sums, model, graph, pairs, prefixes, method, add, now, memory, bar)
            taken += now.m
            enough = tolerance is None or gap_with_noise(sums) <= tolerance
            if enough or taken + 2 * now.m > MOST_POINTS:
                break
            known = known or [(torch.tensor([0.0, 1.0]).expand(len(pairs), 2), sums.ends)]
            known.append((now.t, sums.losses))
            t, losses = (
                torch.cat([part.double() for part in parts], 1)
                for parts in zip(*known, strict=True)
            )
            now = where_losses_change(t, losses, 2 * now.m)
    n = len(pairs)
    scores = Scores(
        values=(sums.values / n).cpu(),
        graph=graph,
        method=method,
        rule=rule,
        points=0 if method == "ifr" else taken,
        change=sums.change,
        from_input=sums.from_input,
        per_prompt=sums.per_prompt,
        per_position=None if sums.per_position is None else sums.per_position / n,
        between=None if sums.between is None else sums.between / n,
        spans=spans,
    )
    bar_of_gap = LARGE_GAP if tolerance is None else tolerance
    if method == "eap-ig" and abs(scores.relative_gap) > bar_of_gap:
        _warn_of_gap(model, pairs, scores)
    return scores


def gap_with_noise(sums: ScoreSums | Scores) -> float:
    """The completeness gap, over the mean absolute change of the loss, as far as it can be trusted.

    The gaps of single prompts may cancel by luck. So it is the absolute mean of these or, if that
    is larger, the standard error which they would give the mean if each were off by chance alone.
    """
    gaps, change = sums.from_input - sums.change, float(sums.change.abs().mean())
    noise = float(gaps.square().mean().sqrt()) / len(gaps) ** 0.5
    return max(abs(float(gaps.mean())), noise) / change if change else 0.0


def _add_points(
    sums: ScoreSums,
    model: Model,
    graph: Graph,
    pairs: PromptPairs,
    prefixes: Prefixes,
    method: str,
    add: AddChunk,
    points: Points,
    memory: int,
    bar: tqdm,
) -> None:
    """Adds the scores at these points, prompts and points in chunks that fit into `memory`."""
    chunks = chunks_of(
        pairs,
        points.m,
        row_bytes(model.shape, model.dtype, method),
        prompt_bytes(model.shape, model.dtype, method),
        memory,
    )
    for rows, of_points in chunks:
        part = pairs.subset(rows)
        start, stop = window(part)
        chunk = Chunk(
            pairs=part,
            rows=rows,
            prefix=prefixes.before(rows, start),
            start=start,
            stop=stop,
            versions=of_points,
            points=points.t[rows, of_points],
            weights=points.weights[rows, of_points],
        )
        add(sums, prefixes.network, graph, chunk)
        if not _all_finite(sums, rows):
            at = points.t[rows]
            raise FloatingPointError(where_not_finite(model, prefixes.network, part, rows, at))
        bar.update(chunk.points.numel())


def _no_sums_yet(
    model: Model,
    graph: Graph,
    pairs: PromptPairs,
    m: int,
    spans: Spans | None,
    *,
    per_prompt: bool,
    per_position: bool,
    between: bool,
) -> ScoreSums:
    """Zeros; those of prompts and positions, which may be many, on the host."""
    spans = spans or each_position(pairs)
    n, width = len(pairs), len(spans)
    edges, dtype = graph.mask.shape, sums_dtype(model.dtype)
    return ScoreSums(
        values=torch.zeros(*edges, dtype=dtype, device=model.device),
        ends=torch.zeros(n, 2, dtype=dtype),
        losses=torch.zeros(n, m, dtype=dtype),
        from_input=torch.zeros(n, dtype=dtype),
        per_prompt=torch.zeros(n, *edges, dtype=dtype) if per_prompt else None,
        per_position=torch.zeros(width, *edges, dtype=dtype) if per_position else None,
        between=torch.zeros(width, width, graph.n_dst, dtype=dtype) if between else None,
        spans=spans,
    )


def _all_finite(sums: ScoreSums, rows: Tensor) -> bool:
    return bool(
        sums.values.isfinite().all()
        & sums.ends[rows].isfinite().all()
        & sums.from_input[rows].isfinite().all()
    )


def _warn_of_gap(model: Model, pairs: PromptPairs, scores: Scores) -> None:
    checkpoint = f"{model.checkpoint.model} at step {model.checkpoint.step}"
    warnings.warn(
        f"{pairs.task} in {checkpoint}: the scores miss {abs(scores.relative_gap):.0%} of the "
        f"change of the loss with {scores.points} points, {scores.rule} rule; "
        "more points, or the midpoint rule, come closer",
        stacklevel=3,
    )
