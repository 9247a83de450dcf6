"""The gradient of the loss at every edge of the literal twin, by autograd: each edge carries a zero
whose gradient is asked. Uses nothing of the library but names."""

from __future__ import annotations

import torch
from closeness import assert_close


def unchanged(source, target, written):
    return written


def edge_gradients(literal, pairs, i, embeddings, edit=unchanged):
    """{edge: gradient [pos, d]} of prompt i; `edit` as in `Literal.run`, before the zero is added.

    An edge through which nothing comes back has a gradient of zeros.
    """
    zeros = {}

    def carried(source, target, written):
        written = edit(source, target, written)
        zeros[f"{source}->{target}"] = zero = torch.zeros_like(written, requires_grad=True)
        return written + zero

    loss = literal.loss(pairs, i, embeddings, carried)
    gradients = torch.autograd.grad(loss, list(zeros.values()), allow_unused=True)
    return {
        name: torch.zeros_like(zeros[name]) if gradient is None else gradient
        for name, gradient in zip(zeros, gradients, strict=True)
    }


def written_on_both(literal, pairs, i):
    """What each source writes on the clean and on the corrupted prompt i: {name: [pos, d]} each."""
    return [literal.run(literal.embed(tokens[i]))[0] for tokens in (pairs.clean, pairs.corrupted)]


def assert_same_scores(scores, literal):
    """The library's scores are those of a twin, {edge: number}, of all edges."""
    assert set(literal) == set(scores.graph.edge_names)
    got = torch.stack([scores.values[scores.graph.edge(name)] for name in literal])
    want = torch.tensor(list(literal.values()), dtype=torch.float64)
    assert want.abs().max() > 0.01 and (want.abs() > 1e-9).double().mean() > 0.8
    assert_close(got, want, rounds=100, size=want.abs().max())
