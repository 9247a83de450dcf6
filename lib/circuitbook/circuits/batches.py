"""What attribution, evaluation and patching share: prompts in chunks that fit into memory, and the
metric at END."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from circuitbook.model.loaded import Model
from circuitbook.tasks.base import PromptPairs

CPU_MEMORY = 128 << 20  # bytes of activations; more is not faster on a CPU


# ------------------------------------------------------------------ prompts in chunks


def check_pairs(model: Model, pairs: PromptPairs) -> None:
    """ValueError unless the pairs are for this model's vocabulary."""
    if len(pairs) == 0:
        raise ValueError(f"{pairs.task}: there are no prompts")
    top = int(max(pairs.clean.max(), pairs.corrupted.max()))
    if top >= model.shape.d_vocab:
        raise ValueError(
            f"{pairs.task}: token {top} is not in the vocabulary of {model.checkpoint.model} "
            f"({model.shape.d_vocab} tokens); make the pairs with model.tokenizer"
        )


def first_difference(pairs: PromptPairs) -> Tensor:
    """Of each pair, the first position where clean and corrupted differ (END where they never do),
    int64 [n]."""
    differ = pairs.clean != pairs.corrupted
    first = torch.where(differ.any(1), differ.long().argmax(1), pairs.end)
    return torch.minimum(first, pairs.end)


def window(pairs: PromptPairs) -> tuple[int, int]:
    """Positions that have to be computed for a chunk: from the first difference up to the last END,
    exclusive."""
    return int(first_difference(pairs).min()), int(pairs.end.max()) + 1


def chunks_of(
    pairs: PromptPairs, points: int, row_bytes, prompt_bytes, memory: int
) -> Iterator[tuple[Tensor, slice]]:
    """Splits the work: (prompt indices, points). Prompts that begin to differ at like positions go
    together.

    row_bytes(positions, length): bytes of one point of one prompt; prompt_bytes(positions): of one
    prompt, besides.
    """
    first = first_difference(pairs)
    order = sorted(range(len(pairs)), key=lambda i: (int(first[i]), int(pairs.end[i])))
    longest = int(pairs.end.max()) + 1
    rows: list[int] = []

    def cost(chosen: list[int], versions: int) -> int:
        start, stop = int(first[chosen[0]]), max(int(pairs.end[i]) for i in chosen) + 1
        return len(chosen) * (
            versions * row_bytes(stop - start, longest) + prompt_bytes(stop - start)
        )

    def split(chosen: list[int]) -> Iterator[tuple[Tensor, slice]]:
        size = points
        while size > 1 and cost(chosen, size) > memory:
            size = -(-size // 2)
        if cost(chosen, size) > memory:
            raise ValueError(
                f"one prompt of {pairs.task} needs about {cost(chosen, size) >> 20} MB of activations, and "
                f"memory={memory >> 20} MB allows less; give more"
            )
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


def at_end(x: Tensor, end: Tensor) -> Tensor:
    """[b, k, s, d] -> [b, k, d] at each prompt's END, counted from the first position of x."""
    return x[torch.arange(len(end), device=end.device), :, end]


def pairs_metric(pairs: PromptPairs, logits: Tensor) -> Tensor:
    """The metric of k versions of each prompt: logits [b, k, vocab] -> [b, k]."""
    b, k, _ = logits.shape
    return (
        pairs.subset(torch.arange(b).repeat_interleave(k))
        .metric(logits.flatten(0, 1))
        .unflatten(0, (b, k))
    )
