"""Heads by place: (layer, head), and their names in the graph."""

from __future__ import annotations

from circuitbook.model.loaded import Model

Head = tuple[int, int]  # (layer, head)


def all_heads(model: Model) -> list[Head]:
    """Every (layer, head), in the order of the score tables."""
    return [
        (layer, head)
        for layer in range(model.shape.n_layers)
        for head in range(model.shape.n_heads)
    ]


def head_name(head: Head) -> str:
    """The graph's name of a head.

    >>> head_name((3, 1))
    'a3.h1'
    """
    layer, index = head
    return f"a{layer}.h{index}"
