"""Exercises of the chapter on what a circuit is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.circuit import circuit_of
from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.model.graph import Graph
from circuitbook.tasks.registry import get_task
from circuitbook.teaching.answers import names
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _model, _random, _register

# ------------------------------------------------------------------ circuits

EDGE_POINTS = 5


def edge_tensors(
    model, pairs, edge: str, t: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the score of one edge is made of: what its source writes on the clean and on the
    corrupted prompts, [n, pos, d] each, and dL/dx at its destination with the embeddings at the
    points t, [point, n, pos, d].

    From transformers' own network, by hooks. Sources: input, heads, MLPs; destinations: MLPs and
    logits.
    """
    net, (source, _, target) = model.hf_model, edge.partition("->")
    body, kept = net.base_model, {}
    layer, head = (
        (int(part.strip("amh")) for part in (source.split(".") + ["0"])[:2])
        if source != "input"
        else (0, 0)
    )
    norm = (
        body.final_layer_norm
        if target == "logits"
        else body.layers[int(target[1:])].post_attention_layernorm
    )

    def writes(tokens: torch.Tensor) -> torch.Tensor:
        if source == "input":
            return body.embed_in(tokens)
        block = body.layers[layer]
        place = block.mlp if source[0] == "m" else block.attention.dense
        hook = place.register_forward_hook(
            lambda _, inputs, output: kept.update(z=inputs[0], out=output)
        )
        net(tokens, use_cache=False)
        hook.remove()
        columns = slice(head * model.shape.d_head, (head + 1) * model.shape.d_head)
        return (
            kept["out"]
            if source[0] == "m"
            else kept["z"][..., columns] @ place.weight[:, columns].T
        )

    def read(_, inputs):
        kept["x"] = inputs[0].detach().requires_grad_()
        # the value is x, the gradient is that of this destination alone
        kept["here"] = inputs[0] + (kept["x"] - kept["x"].detach())
        return (kept["here"],)

    with torch.no_grad():
        clean, corrupted = writes(pairs.clean), writes(pairs.corrupted)
        begin, end = body.embed_in(pairs.clean), body.embed_in(pairs.corrupted)
    gradients = []
    for point in t.tolist():
        hook = norm.register_forward_pre_hook(read)
        logits = net(inputs_embeds=begin + point * (end - begin), use_cache=False).logits
        hook.remove()
        loss = -pairs.metric(logits[torch.arange(len(pairs)), pairs.end]).sum()
        gradients.append(torch.autograd.grad(loss, kept["x"])[0])
    return clean.detach(), corrupted.detach(), torch.stack(gradients)


@cache
def _edge_cases() -> list[Case]:
    cases, model = [], _model("mini-xs")
    pairs = get_task("ioi").prompts(model.tokenizer, n=6, seed=3)
    t = (torch.arange(EDGE_POINTS, dtype=torch.float64) + 0.5) / EDGE_POINTS
    scores = attribute(model, pairs, rule="midpoint", points=EDGE_POINTS)
    largest = [
        edge
        for edge, score in scores.largest(scores.graph.n_edges)
        if not edge.endswith(">") and abs(score) > 1e-6
    ]
    sort_of = (
        lambda edge: edge.split("->")[0][0] + edge.split("->")[1][0]
    )  # "im", from input to an MLP
    for edge in {
        sort_of(edge): edge for edge in reversed(largest)
    }.values():  # the largest of each sort
        cases.append(
            Case(f"{edge} of mini-xs", edge_tensors(model, pairs, edge, t), scores.of(edge))
        )
    return cases


def _products(a, b, g):
    """[point, n, pos, d] of (corrupted - clean) * gradient."""
    return (b - a)[None] * g


_register(
    "edge_score",
    "The score of one edge",
    (
        "a_clean [prompt, pos, d]",
        "a_corrupted [prompt, pos, d]",
        "gradients [point, prompt, pos, d]",
    ),
    lambda: _edge_cases(),
    (
        Mistake(
            "Your score has the wrong sign: it is (corrupted - clean) times the gradient of the loss; are clean and corrupted "
            "swapped?",
            lambda a, b, g: -_products(a, b, g).mean((0, 1)).sum(),
        ),
        Mistake(
            "You sum over the prompts: take the mean, or the score grows with their number.",
            lambda a, b, g: _products(a, b, g).mean(0).sum(),
        ),
        Mistake(
            "You sum over the interpolation points: take their mean, since they approximate an integral from 0 to 1.",
            lambda a, b, g: _products(a, b, g).mean(1).sum(),
        ),
        Mistake(
            "You sum over prompts and over points: take the mean of both.",
            lambda a, b, g: _products(a, b, g).sum(),
        ),
        Mistake(
            "You average over the positions: the score is the sum over them.",
            lambda a, b, g: _products(a, b, g).mean((0, 1, 2)).sum(),
        ),
        Mistake(
            "You average over everything, components of the vectors too: the product of two vectors is a sum over "
            "components, and positions are summed.",
            lambda a, b, g: _products(a, b, g).mean(),
        ),
        Mistake(
            "You use the gradient at the first point alone, nearly EAP: average it over all points.",
            lambda a, b, g: _products(a, b, g)[0].mean(0).sum(),
        ),
        Mistake(
            "You use the gradient at the last point alone, near the corrupted prompt: average it over all points.",
            lambda a, b, g: _products(a, b, g)[-1].mean(0).sum(),
        ),
        Mistake(
            "You use the last position alone: sum over all positions.",
            lambda a, b, g: _products(a, b, g)[:, :, -1].mean((0, 1)).sum(),
        ),
        Mistake(
            "You leave out the clean output: the difference of the corrupted and the clean one is wanted.",
            lambda a, b, g: (b[None] * g).mean((0, 1)).sum(),
        ),
        Mistake(
            "You take absolute values before summing: products of both signs belong to one score.",
            lambda a, b, g: _products(a, b, g).abs().mean((0, 1)).sum(),
        ),
    ),
    each=lambda a, b, g: {"prompt": len(a), "point": len(g)},
)


def check_edge_score(function: Callable) -> Feedback:
    """function(a_clean [prompt, pos, d], a_corrupted [prompt, pos, d], gradients [point, prompt,
    pos, d]) -> the EAP-IG score.

    a: what the edge's source writes; gradients: of the loss, with respect to what its destination
    reads, at each point."""
    return CHECKS["edge_score"].of(function)


def _faithfulness_cases() -> list[Case]:
    cases = []
    for about, n, kept, shift in (
        ("six prompts, most is kept", 6, 0.8, -1.0),
        ("four prompts, little is kept", 4, 0.2, -0.5),
        ("three prompts, more than all is kept", 3, 1.2, -0.8),
        ("one prompt", 1, 0.6, 0.3),
    ):
        clean, noise = 3 + _random(n, seed=n), _random(n, seed=n + 20)
        corrupted = shift * clean + 0.3 * noise
        circuit = corrupted + kept * (clean - corrupted) + 0.4 * _random(n, seed=n + 40)
        right = faithfulness(
            *(float(part.mean()) for part in (circuit, clean, corrupted)), "normalised"
        )
        cases.append(Case(about, (circuit, clean, corrupted), right))
    return cases


_register(
    "faithfulness",
    "Normalised faithfulness",
    ("circuit [prompt]", "clean [prompt]", "corrupted [prompt]"),
    _faithfulness_cases,
    (
        Mistake(
            "Your value is the ratio m / b: normalise it, by what is left when everything is corrupted.",
            lambda m, b, c: m.mean() / b.mean(),
        ),
        Mistake(
            "You average a ratio of each prompt: take the means over the prompts first, then one ratio, since a prompt with "
            "a small difference would decide everything.",
            lambda m, b, c: ((m - c) / (b - c)).mean(),
        ),
        Mistake(
            "You give what is lost: are clean and corrupted swapped? The full model gets 1, the corrupted prompts 0.",
            lambda m, b, c: (m - b).mean() / (c - b).mean(),
        ),
        Mistake(
            "You subtract the corrupted metric above the line only: below it, too, or a perfect circuit does not get 1.",
            lambda m, b, c: (m - c).mean() / b.mean(),
        ),
        Mistake(
            "You subtract the corrupted metric below the line only: above it, too, or the empty circuit does not get 0.",
            lambda m, b, c: m.mean() / (b - c).mean(),
        ),
        Mistake(
            "You turned the fraction over: what the circuit keeps stands above the line.",
            lambda m, b, c: (b - c).mean() / (m - c).mean(),
        ),
    ),
    each=lambda circuit, clean, corrupted: {"prompt": len(circuit)},
)


def check_faithfulness(function: Callable) -> Feedback:
    """function(circuit [prompt], clean [prompt], corrupted [prompt]) -> normalised faithfulness, of
    the three metrics."""
    return CHECKS["faithfulness"].of(function)


def _dead_cases() -> list[Case]:
    graph, cases = Graph(3, 2), []
    circuits = {
        "a circuit in which every edge lives": "input->a0.h1<v> a0.h1->a1.h0<k> input->a1.h0<q> a1.h0->logits input->logits",
        "a head that nobody reads": "input->m0 m0->logits input->a0.h0<q> m0->a1.h1<v>",
        "a head that reads nothing": "input->m0 m0->logits a1.h0->logits a0.h1->m1 m1->logits",
        "chains of dead edges": "input->m0 m0->logits input->a0.h0<v> a0.h0->m1 m1->a2.h0<q> a0.h1->a1.h0<k> a1.h0->m2 "
        "m2->logits",
        "no path at all": "input->a0.h0<q> m1->logits",
    }
    for about, text in circuits.items():
        edges = text.split()
        live = graph.live(circuit_of(graph, edges).mask)
        cases.append(
            Case(about, (edges,), frozenset(graph.edge_name(*edge) for edge in np.argwhere(live)))
        )
    return cases


def _ends(edge: str) -> tuple[str, str]:
    source, target = edge.split("->")
    return source, target.split("<")[0]


def _reached(edges, start, forward: bool) -> set[str]:
    """Nodes that can be reached from `start`, or from which it can."""
    found, before = {start}, set()
    while found != before:
        before = set(found)
        for edge in edges:
            source, target = _ends(edge)
            if (source if forward else target) in found:
                found.add(target if forward else source)
    return found


def _fed(edges) -> list[str]:
    reached = _reached(edges, "input", True)
    return [edge for edge in edges if _ends(edge)[0] in reached]


def _leads(edges) -> list[str]:
    reached = _reached(edges, "logits", False)
    return [edge for edge in edges if _ends(edge)[1] in reached]


def _one_round(edges) -> list[str]:
    sources, targets = {_ends(edge)[0] for edge in edges}, {_ends(edge)[1] for edge in edges}
    return [
        edge
        for edge in edges
        if _ends(edge)[0] in targets | {"input"} and _ends(edge)[1] in sources | {"logits"}
    ]


_register(
    "dead_edges",
    "Dead edges",
    ("edges",),
    _dead_cases,
    (
        Mistake(
            "Nothing is pruned: an edge lives only if it lies on a path from input to logits.",
            lambda edges: edges,
        ),
        Mistake(
            "You prune from below only: what input feeds, but logits never hears of, is dead too.",
            _fed,
        ),
        Mistake(
            "You prune from above only: what leads to logits, but is fed by nothing, is dead too.",
            _leads,
        ),
        Mistake(
            "You prune once: taking an edge out can leave another one dead, so repeat until nothing changes.",
            _one_round,
        ),
        Mistake(
            "You take each input of a head for a node of its own: what reads its queries, keys or values feeds the whole "
            "head, so cut <q>, <k> and <v> off.",
            lambda edges: _leads(_fed([edge for edge in edges if "<" not in edge])),
        ),
        Mistake(
            "You give the dead edges: those that live are wanted.",
            lambda edges: set(edges) - set(_fed(edges)).intersection(_leads(edges)),
        ),
    ),
    read=names,
)


def check_dead_edges(function: Callable) -> Feedback:
    """function(edges) -> the edges on a path from input to logits. edges: a list of names such as
    "a0.h1->a1.h0<q>"."""
    return CHECKS["dead_edges"].of(function)
