"""Edge attribution patching with integrated gradients (EAP-IG), exactly, for about the price of the gradients.

The score of an edge u -> v is (Hanna et al. 2024, as used by Tigges et al. 2024, section 2)

    score(u->v) = 1/m sum_k sum_pos (a_u(corrupted) - a_u(clean)) . dL/dx_v at the input z_k,   L = -metric,

with a_u what node u writes into the residual stream, x_v what an input of node v reads, and z_k the embeddings at m
points on the way from clean to corrupted. A positive score means: corrupting the edge raises the loss, so the edge helps.
Plain EAP takes the gradient at the clean prompt alone.

What makes it cheap and leaves it exact:

1.  a_u does not depend on k, so the gradients are averaged over k before they meet it: one matrix product per layer.
2.  No input or output of a head is ever built for each head during the forward pass. From the gradient g of a head's
    query the gradient at its input is n(g) = r (W g - mean - x^ (W g . x^) / d), where W is the head's weight with the
    norm's scale, x^ the normed stream and r = 1/sigma (an RMSNorm takes no mean); (W g) . x^ is g times the query itself,
    and the rest is linear.
3.  Up to the first token that differs, clean and corrupted are the same: keys and values of that prefix are computed
    once, for all points. Behind END nothing is computed, and of the logits only those at END.

The scores of all edges out of `input` add up to loss(corrupted) - loss(clean) if the quadrature is exact, since every
path starts there. What is missing is reported as the completeness gap.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .graph import Graph, graph_of
from .model import Model
from .network import Network, Norm, Run, keys_and_values, network_of, run, sums_dtype
from .tasks.base import PromptPairs

METHODS = ("eap", "eap-ig")
RULES = ("right", "midpoint", "left")
LARGE_GAP = 0.1                                        # of the mean change of the loss: warn above it
CPU_MEMORY = 128 << 20                                 # bytes of activations; more is not faster on a CPU


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """Edge scores and how they were obtained. `values` float32 [src, dst], in units of the task's metric, 0 off the graph.

    A float64 model gives float64 everywhere. `change` and `from_input` are [n]: of each prompt, loss(corrupted) -
    loss(clean), and the sum of its edges out of `input`, which would be equal if the quadrature were exact.
    """

    values: Tensor
    graph: Graph
    method: str
    rule: str
    points: int
    change: Tensor
    from_input: Tensor
    per_prompt: Tensor | None = None                   # [n, src, dst], if asked for; its mean over n is `values`
    per_position: Tensor | None = None                 # [pos, src, dst], if asked for; its sum over pos is `values`

    @property
    def gap(self) -> float:
        """Sum of the edges out of `input` minus the change of the loss, mean over prompts."""
        return float((self.from_input - self.change).mean())

    @property
    def relative_gap(self) -> float:
        """`gap` as a share of the mean absolute change of the loss; nan where the loss does not change at all."""
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
        how = self.method if self.method == "eap" else f"{self.method}, {self.points} points, {self.rule} rule"
        return (f"Scores({self.graph.n_edges} edges, {len(self.change)} prompts, {how}, "
                f"completeness gap {self.relative_gap:+.2%} of the change)")


def attribute(model: Model, pairs: PromptPairs, method: str = "eap-ig", rule: str = "right", points: int = 30, *,
              per_prompt: bool = False, per_position: bool = False, memory: int | None = None,
              progress: bool = False) -> Scores:
    """Scores of all edges, averaged over the prompts (each counts the same, whatever the batching).

    method: "eap-ig", or "eap" (gradient at the clean prompt; `rule` and `points` mean nothing then).
    rule: where the m points lie: "right" k/m (the authors'; k = 1..m), "left" (k-1)/m, "midpoint" (k-1/2)/m, with 0 the
    clean and 1 the corrupted prompt. A few midpoints are as good as many points of the other rules.
    per_prompt, per_position: also keep the scores of each prompt (4 n src dst bytes) and of each position.
    memory: bytes that activations may take at a time, beside the weights and the result; default 128 MB on a CPU, half
    of what is free on a GPU. It decides how many prompts and points are done together; a single one must fit.

    Gradients in the model's dtype, sums in float32. Errors: ValueError for bad arguments; FloatingPointError that names
    checkpoint, prompt and layer where something is not finite. Warns if the completeness gap of EAP-IG is above a tenth of
    the change.
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

    chunks = list(chunks_of(pairs, len(t), row_bytes(model, graph), prompt_bytes(model, graph), memory))
    bar = tqdm(total=n * len(t), desc="attribution", unit="run", disable=not progress, leave=False)
    for rows, some in chunks:
        part = pairs.subset(rows)
        start, stop = window(part)
        out = _Sums(values, by_prompt, by_position, rows, start)
        _add_chunk(network, graph, part, start, stop, t[some], len(t), out, change, from_input)
        if not bool(values.isfinite().all() & change[rows].isfinite().all() & from_input[rows].isfinite().all()):
            raise FloatingPointError(_where_not_finite(model, network, part, rows, t))
        bar.update(len(rows) * len(t[some]))
    bar.close()
    scores = Scores((values / n).cpu(), graph, method, rule, len(t), change, from_input, by_prompt,
                    None if by_position is None else by_position / n)
    if method == "eap-ig" and abs(scores.relative_gap) > LARGE_GAP:
        warnings.warn(f"{pairs.task} in {model.checkpoint.model} at step {model.checkpoint.step}: the scores miss "
                      f"{abs(scores.relative_gap):.0%} of the change of the loss with {len(t)} points, {rule} rule; "
                      "more points, or the midpoint rule, come closer", stacklevel=2)
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


# ------------------------------------------------------------------ prompts in chunks

def check_pairs(model: Model, pairs: PromptPairs) -> None:
    """ValueError unless the pairs are for this model's vocabulary."""
    if len(pairs) == 0:
        raise ValueError(f"{pairs.task}: there are no prompts")
    top = int(max(pairs.clean.max(), pairs.corrupted.max()))
    if top >= model.shape.d_vocab:
        raise ValueError(f"{pairs.task}: token {top} is not in the vocabulary of {model.checkpoint.model} "
                         f"({model.shape.d_vocab} tokens); make the pairs with model.tokenizer")


def first_difference(pairs: PromptPairs) -> Tensor:
    """Of each pair, the first position where clean and corrupted differ (END where they never do), int64 [n]."""
    differ = pairs.clean != pairs.corrupted
    first = torch.where(differ.any(1), differ.long().argmax(1), pairs.end)
    return torch.minimum(first, pairs.end)


def window(pairs: PromptPairs) -> tuple[int, int]:
    """Positions that have to be computed for a chunk: from the first difference up to the last END, exclusive."""
    return int(first_difference(pairs).min()), int(pairs.end.max()) + 1


def chunks_of(pairs: PromptPairs, points: int, row_bytes, prompt_bytes, memory: int) -> Iterator[tuple[Tensor, slice]]:
    """Splits the work: (prompt indices, points). Prompts that begin to differ at like positions go together.

    row_bytes(positions, length): bytes of one point of one prompt; prompt_bytes(positions): of one prompt, besides.
    """
    first = first_difference(pairs)
    order = sorted(range(len(pairs)), key=lambda i: (int(first[i]), int(pairs.end[i])))
    longest = int(pairs.end.max()) + 1
    rows: list[int] = []

    def cost(chosen: list[int], versions: int) -> int:
        start, stop = int(first[chosen[0]]), max(int(pairs.end[i]) for i in chosen) + 1
        return len(chosen) * (versions * row_bytes(stop - start, longest) + prompt_bytes(stop - start))

    def split(chosen: list[int]) -> Iterator[tuple[Tensor, slice]]:
        size = points
        while size > 1 and cost(chosen, size) > memory:
            size = -(-size // 2)
        if cost(chosen, size) > memory:
            raise ValueError(f"one prompt of {pairs.task} needs about {cost(chosen, size) >> 20} MB of activations, and "
                             f"memory={memory >> 20} MB allows less; give more")
        for begin in range(0, points, size):
            yield torch.tensor(chosen), slice(begin, begin + size)

    for i in order:
        if rows and cost([*rows, i], points) > memory:
            yield from split(rows)
            rows = []
        rows.append(i)
    yield from split(rows)


def default_memory(device: torch.device) -> int:
    """Bytes of activations at a time: 128 MB on a CPU, half of what is free on a GPU."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else CPU_MEMORY


def row_bytes(model: Model, graph: Graph):
    """What autograd keeps of one point of one prompt, and the gradients: about 26 streams and 3 patterns a layer."""
    s, size = model.shape, torch.finfo(model.dtype).bits // 8
    streams, hidden = 22 if s.parallel else 24, 3 if s.gated else 1
    each = streams * s.d_model + hidden * s.d_mlp
    return lambda positions, length: size * (positions * s.n_layers * (each + 3 * s.n_heads * length)
                                             + 3 * s.d_vocab)


def prompt_bytes(model: Model, graph: Graph):
    """What one prompt takes in sums: the differences of all sources, and the gradients at a layer's inputs, twice."""
    s, size = model.shape, torch.finfo(sums_dtype(model.dtype)).bits // 8
    return lambda positions: size * positions * s.d_model * (graph.n_src + 3 * (3 * s.n_heads + 1))


# ------------------------------------------------------------------ one chunk

@dataclass(frozen=True)
class _Sums:
    """Where a chunk's scores go: sums over prompts, and whatever else was asked for."""

    values: Tensor
    per_prompt: Tensor | None
    per_position: Tensor | None
    rows: Tensor
    start: int

    def add(self, difference: Tensor, gradient: Tensor, columns: slice) -> None:
        """difference [u, b, s, d] of the sources, gradient [v, b, s, d] at the destinations `columns`."""
        u, b, s, _ = difference.shape
        if self.per_prompt is None and self.per_position is None:
            self.values[:u, columns] += difference.flatten(1) @ gradient.flatten(1).t()
            return
        spelled = {(True, False): "ubsd,vbsd->buv", (False, True): "ubsd,vbsd->suv", (True, True): "ubsd,vbsd->bsuv"}
        found = torch.einsum(spelled[self.per_prompt is not None, self.per_position is not None], difference, gradient)
        if self.per_prompt is not None:
            self.per_prompt[self.rows, :u, columns] += (found.sum(1) if found.ndim == 4 else found).cpu()
        if self.per_position is not None:
            self.per_position[self.start:self.start + s, :u, columns] += (found.sum(0) if found.ndim == 4 else found).cpu()
        self.values[:u, columns] += found.flatten(0, -3).sum(0)


def _add_chunk(network: Network, graph: Graph, pairs: PromptPairs, start: int, stop: int, t: Tensor, m: int, out: _Sums,
               change: Tensor, from_input: Tensor) -> None:
    """Adds the scores of these prompts and points (t, of m in all) to the sums."""
    device, dtype = network.w_embed.device, sums_dtype(network.w_embed.dtype)
    tokens = torch.stack([pairs.clean, pairs.corrupted], 1)[:, :, start:stop].to(device)         # [b, 2, s]
    end = (pairs.end - start).to(device)
    with torch.no_grad():
        prefix = keys_and_values(network, pairs.clean[:, :start].to(device))
        x = network.embed(tokens, start)
        difference, last = _differences(network, graph, x, start, prefix, dtype)
        losses = -pairs_metric(pairs, network.logits(at_end(last, end)))
        change[out.rows] = (losses[:, 1] - losses[:, 0]).to(change)
        clean, step = x[:, :1].to(dtype), difference[0][:, None]                                 # [b, 1, s, d]
        z = (clean + t.to(device, dtype)[:, None, None] * step).to(x.dtype)                      # [b, k, s, d]

    runs, last, last_gradient, gradients, z_gradient = _gradients(network, pairs, z, start, prefix, end)
    from_input[out.rows] += ((z_gradient.to(dtype).sum(1) * difference[0]).sum((1, 2)) / m).to(from_input)
    with torch.no_grad():
        here = torch.arange(len(end), device=device)
        at_logits = torch.zeros_like(difference[:1])                                             # only END is read
        at_logits[0, here, end] = _through_norm(network.norm_final, last.to(dtype), last_gradient.to(dtype)).sum(1) / m
        out.add(difference, at_logits, slice(graph.n_dst - 1, graph.n_dst))
        for layer, (weights, one) in enumerate(zip(network.layers, runs)):
            heads = _head_gradients(weights, one, {kind: gradients[layer][kind].to(dtype) for kind in "qkv"}, m)
            first, mlp = graph.destination(layer, 0), graph.destination(layer)
            out.add(difference[:graph.reach[first]], heads, slice(first, mlp))
            x, g = one.x_mlp.to(dtype), gradients[layer]["mlp"].to(dtype)
            out.add(difference[:graph.reach[mlp]], _through_norm(weights.norm_mlp, x, g).sum(1)[None] / m,
                    slice(mlp, mlp + 1))


def _differences(network: Network, graph: Graph, x: Tensor, start: int, prefix, dtype) -> tuple[Tensor, Tensor]:
    """What every source writes on the corrupted prompt minus on the clean one, [src, b, s, d]; the last stream [b, 2, s, d]."""
    b, _, s, d = x.shape
    difference = torch.empty(graph.n_src, b, s, d, dtype=dtype, device=x.device)
    difference[0] = _second_less_first(x, dtype)
    for layer, (weights, one) in enumerate(zip(network.layers, run(network, x, start, prefix))):
        z = _second_less_first(one.z, dtype)                                                     # [b, s, h, e]
        difference[graph.heads(layer)] = torch.einsum("bshe,hed->hbsd", z, weights.w_out.to(dtype))
        difference[graph.source(layer)] = _second_less_first(one.mlp_out, dtype)
        x = one.out
    return difference, x


def _second_less_first(versions: Tensor, dtype: torch.dtype) -> Tensor:
    return versions[:, 1].to(dtype) - versions[:, 0].to(dtype)


def _gradients(network: Network, pairs: PromptPairs, z: Tensor, start: int, prefix, end: Tensor):
    """Runs from the embeddings z [b, k, s, d] and back: the runs, the last stream at END and the gradient after its norm,
    [b, k, d], per layer the gradients of q, k, v and of the MLP's normed input, and the gradient of z."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        runs = list(run(network, z, start, prefix))
        last = at_end(runs[-1].out, end)                                                         # [b, k, d]
        normed = network.norm_final(last)
        loss = -pairs_metric(pairs, torch.nn.functional.linear(normed, network.w_unembed)).sum()
        inputs = [tensor for one in runs for tensor in (*one.inputs.values(), one.mlp_in)]
        found = torch.autograd.grad(loss, [*inputs, normed, z])
    names = ("q", "k", "v", "mlp")
    gradients = [dict(zip(names, found[4 * i: 4 * i + 4])) for i in range(len(runs))]
    runs = [_without_graph(one) for one in runs]
    return runs, last.detach(), found[-2], gradients, found[-1]


def _without_graph(one: Run) -> Run:
    inputs = {kind: tensor.detach() for kind, tensor in one.inputs.items()}
    return Run(one.x.detach(), one.x_mlp.detach(), inputs, None, None, None, None, None, None)


def at_end(x: Tensor, end: Tensor) -> Tensor:
    """[b, k, s, d] -> [b, k, d] at each prompt's END, counted from the first position of x."""
    return x[torch.arange(len(end), device=end.device), :, end]


def pairs_metric(pairs: PromptPairs, logits: Tensor) -> Tensor:
    """The metric of k versions of each prompt: logits [b, k, vocab] -> [b, k]."""
    b, k, _ = logits.shape
    return pairs.subset(torch.arange(b).repeat_interleave(k)).metric(logits.flatten(0, 1)).unflatten(0, (b, k))


def _through_norm(norm: Norm, x: Tensor, gradient: Tensor) -> Tensor:
    """From the gradient after a norm to the one before it, [..., d]."""
    normed, scale = norm.standardise(x, x.dtype)
    g = gradient * norm.weight.to(x.dtype)
    return scale * (norm.centre(g) - normed * (g * normed).mean(-1, keepdim=True))


def _head_gradients(weights, one: Run, gradients: dict[str, Tensor], m: int) -> Tensor:
    """Gradients at the q, k and v inputs of a layer's heads, mean over the points: [3h, b, s, d] (point 2 above)."""
    norm, dtype = weights.norm_attention, gradients["q"].dtype
    gamma, beta = norm.weight.to(dtype), norm.bias.to(dtype)
    normed, scale = norm.standardise(one.x, dtype)                                               # [b, k, s, d], [..., 1]
    found = []
    for kind in "qkv":
        weight = weights.w_in[kind].to(dtype)                                                    # [h, e, d]
        g = gradients[kind] * scale[..., None] / m                                               # [b, k, s, h, e]
        constant = weight @ beta + weights.b_in[kind].to(dtype)                                  # what the norm's bias gives
        along = (g * (one.inputs[kind].to(dtype) - constant)).sum(-1) / gamma.numel()            # [b, k, s, h]
        at_input = norm.centre(torch.einsum("bshe,hed->hbsd", g.sum(1), weight * gamma))
        at_input -= torch.einsum("bksh,bksd->hbsd", along, normed)
        found.append(at_input)
    return torch.cat(found)


# ------------------------------------------------------------------ what went wrong

@torch.no_grad()
def _where_not_finite(model: Model, network: Network, pairs: PromptPairs, rows: Tensor, t: Tensor) -> str:
    """A sentence that names checkpoint, prompt and layer."""
    where, way_out = f"{model.checkpoint.model} at step {model.checkpoint.step}", "use float32 or bfloat16"
    if model.dtype != torch.float16:
        way_out = "the weights of this checkpoint may be damaged"
    for i, row in enumerate(rows.tolist()):
        one = pairs.subset([i])
        clean, corrupted = (network.embed(tokens.to(model.device)) for tokens in (one.clean, one.corrupted))
        versions = torch.stack([(clean + share * (corrupted - clean)).to(model.dtype) for share in (0, *t.tolist(), 1)], 1)
        prompt = f"prompt {row} of {pairs.task} ({one.table['clean'].iloc[0]!r})"
        if not bool(versions.isfinite().all()):
            return f"{where} has NaN or infinity in the embeddings of {prompt} in {model.dtype}; {way_out}"
        for layer, done in enumerate(run(network, versions)):
            for what, tensor in (("heads", done.z), ("MLP", done.mlp_out), ("residual stream", done.out)):
                if not bool(tensor.isfinite().all()):
                    return f"{where} has NaN or infinity in the {what} of layer {layer} on {prompt} in {model.dtype}; {way_out}"
        last = at_end(done.out, one.end.to(model.device))
        if not bool(pairs_metric(one, network.logits(last)).isfinite().all()):
            return f"{where} has NaN or infinity in the logits, after layer {layer}, on {prompt} in {model.dtype}; {way_out}"
        gradients = _gradients(network, one, versions, 0, [], one.end.to(model.device))[3]
        for layer in reversed(range(len(gradients))):
            if not all(bool(tensor.isfinite().all()) for tensor in gradients[layer].values()):
                return f"{where} has NaN or infinity in the gradients of layer {layer} on {prompt} in {model.dtype}; {way_out}"
    return f"{where} gives scores of {pairs.task} beyond what {sums_dtype(model.dtype)} can hold"
