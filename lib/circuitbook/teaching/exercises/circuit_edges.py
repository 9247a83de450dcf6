"""The exercise on the score of an edge, of the chapter on what a circuit is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from circuitbook.circuits.attribution import attribute
from circuitbook.model.loaded import Model
from circuitbook.tasks.base import PromptPairs
from circuitbook.tasks.registry import get_task
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _model, _register

EDGE_POINTS = 5


def edge_tensors(
    model: Model, pairs: PromptPairs, edge: str, points: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the score of one edge is made of: what its source writes on the clean and on the
    corrupted prompts, [n, pos, d] each, and dL/dx at its destination with the embeddings at the
    `points`, [point, n, pos, d].

    From transformers' own network, by hooks. Sources: input, heads, MLPs; destinations: MLPs and
    logits.
    """
    network = model.hf_model
    body: Any = network.base_model
    source, _, target = edge.partition("->")
    kept: dict[str, torch.Tensor] = {}
    if target == "logits":
        norm = body.final_layer_norm
    else:
        norm = body.layers[int(target[1:])].post_attention_layernorm

    def writes(tokens: torch.Tensor) -> torch.Tensor:
        if source == "input":
            return body.embed_in(tokens)
        layer, *rest = (int(part.strip("amh")) for part in source.split("."))
        block = body.layers[layer]
        place = block.attention.dense if rest else block.mlp
        hook = place.register_forward_hook(
            lambda _, inputs, output: kept.update(z=inputs[0], out=output)
        )
        network(tokens, use_cache=False)
        hook.remove()
        if not rest:  # an MLP
            return kept["out"]
        columns = slice(rest[0] * model.shape.d_head, (rest[0] + 1) * model.shape.d_head)
        return kept["z"][..., columns] @ place.weight[:, columns].T

    def read(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        kept["x"] = inputs[0].detach().requires_grad_()
        # the value is x, the gradient is that of this destination alone
        kept["here"] = inputs[0] + (kept["x"] - kept["x"].detach())
        return (kept["here"],)

    with torch.no_grad():
        clean, corrupted = writes(pairs.clean), writes(pairs.corrupted)
        begin, end = body.embed_in(pairs.clean), body.embed_in(pairs.corrupted)
    gradients = []
    for point in points.tolist():
        hook = norm.register_forward_pre_hook(read)
        logits = network(inputs_embeds=begin + point * (end - begin), use_cache=False).logits
        hook.remove()
        loss = -pairs.metric(logits[torch.arange(len(pairs)), pairs.end]).sum()
        gradients.append(torch.autograd.grad(loss, kept["x"])[0])
    return clean.detach(), corrupted.detach(), torch.stack(gradients)


@cache
def _edge_cases() -> list[Case]:
    model = _model("mini-xs")
    pairs = get_task("ioi").prompts(model.tokenizer, n=6, seed=3)
    points = (torch.arange(EDGE_POINTS, dtype=torch.float64) + 0.5) / EDGE_POINTS
    scores = attribute(model, pairs, rule="midpoint", points=EDGE_POINTS)
    largest = [
        edge
        for edge, score in scores.largest(scores.graph.n_edges)
        if not edge.endswith(">") and abs(score) > 1e-6
    ]
    largest_of_sort = {_sort_of(edge): edge for edge in reversed(largest)}
    return [
        Case(f"{edge} of mini-xs", edge_tensors(model, pairs, edge, points), scores.of(edge))
        for edge in largest_of_sort.values()
    ]


def _sort_of(edge: str) -> str:
    """_sort_of("input->m0") -> "im", from the input to an MLP"""
    source, target = edge.split("->")
    return source[0] + target[0]


def _of_products(reduce: Callable[[torch.Tensor], torch.Tensor]) -> Callable:
    """A wrong score that is made of the right products, (corrupted - clean) * gradient
    [point, prompt, pos, d]."""

    def score(clean: torch.Tensor, corrupted: torch.Tensor, gradients: torch.Tensor) -> object:
        return reduce((corrupted - clean)[None] * gradients)

    return score


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
            "Your score has the wrong sign: it is (corrupted - clean) times the gradient of the "
            "loss; are clean and corrupted "
            "swapped?",
            _of_products(lambda products: -products.mean((0, 1)).sum()),
        ),
        Mistake(
            "You sum over the prompts: take the mean, or the score grows with their number.",
            _of_products(lambda products: products.mean(0).sum()),
        ),
        Mistake(
            "You sum over the interpolation points: take their mean, since they approximate an "
            "integral from 0 to 1.",
            _of_products(lambda products: products.mean(1).sum()),
        ),
        Mistake(
            "You sum over prompts and over points: take the mean of both.",
            _of_products(lambda products: products.sum()),
        ),
        Mistake(
            "You average over the positions: the score is the sum over them.",
            _of_products(lambda products: products.mean((0, 1, 2)).sum()),
        ),
        Mistake(
            "You average over everything, components of the vectors too: the product of two "
            "vectors is a sum over "
            "components, and positions are summed.",
            _of_products(lambda products: products.mean()),
        ),
        Mistake(
            "You use the gradient at the first point alone, nearly EAP: average it over all "
            "points.",
            _of_products(lambda products: products[0].mean(0).sum()),
        ),
        Mistake(
            "You use the gradient at the last point alone, near the corrupted prompt: average "
            "it over all points.",
            _of_products(lambda products: products[-1].mean(0).sum()),
        ),
        Mistake(
            "You use the last position alone: sum over all positions.",
            _of_products(lambda products: products[:, :, -1].mean((0, 1)).sum()),
        ),
        Mistake(
            "You leave out the clean output: the difference of the corrupted and the clean one "
            "is wanted.",
            lambda clean, corrupted, gradients: (corrupted[None] * gradients).mean((0, 1)).sum(),
        ),
        Mistake(
            "You take absolute values before summing: products of both signs belong to one score.",
            _of_products(lambda products: products.abs().mean((0, 1)).sum()),
        ),
    ),
    each=lambda clean, corrupted, gradients: {"prompt": len(clean), "point": len(gradients)},
)


def check_edge_score(function: Callable) -> Feedback:
    """function(a_clean [prompt, pos, d], a_corrupted [prompt, pos, d], gradients [point, prompt,
    pos, d]) -> the EAP-IG score.

    a: what the edge's source writes; gradients: of the loss, with respect to what its destination
    reads, at each point."""
    return CHECKS["edge_score"].of(function)
