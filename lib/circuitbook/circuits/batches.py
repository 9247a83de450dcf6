"""What attribution, evaluation and patching share: chunks that fit into memory, metrics at END."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitbook.circuits.divergence import DivergencePairs
from circuitbook.model.loaded import Model
from circuitbook.model.log_total import log_total
from circuitbook.model.network import Network
from circuitbook.tasks.base import PromptPairs
from circuitbook.tasks.metrics import of_answers

CPU_MEMORY = 512 << 20  # bytes of activations; more is not faster on a CPU
PADDING = 64  # streams computed in vain for a larger batch: about what a further one costs


# ------------------------------------------------------------------ prompts in chunks


def check_pairs(model: Model, pairs: PromptPairs) -> None:
    """ValueError unless the pairs are for this model's vocabulary, and fit into its context."""
    if len(pairs) == 0:
        raise ValueError(f"{pairs.task}: there are no prompts")
    top = int(max(pairs.clean.max(), pairs.corrupted.max()))
    if top >= model.shape.d_vocab:
        raise ValueError(
            f"{pairs.task}: token {top} is not in the vocabulary of {model.checkpoint.model} "
            f"({model.shape.d_vocab} tokens); make the pairs with model.tokenizer"
        )
    model.check_length(int(pairs.end.max()) + 1, f"{pairs.task}: a prompt")


def first_difference(pairs: PromptPairs) -> Int[Tensor, " n"]:
    """The first position where clean and corrupted differ; END where they never do."""
    differ = pairs.clean != pairs.corrupted
    first = torch.where(differ.any(1), differ.long().argmax(1), pairs.end)
    return torch.minimum(first, pairs.end)


def window(pairs: PromptPairs) -> tuple[int, int]:
    """Positions to compute for a chunk: from the first difference to behind the last END."""
    return int(first_difference(pairs).min()), int(pairs.end.max()) + 1


def chunks_of(
    pairs: PromptPairs,
    points: int,
    row_bytes: Callable[[int, int], int],
    prompt_bytes: Callable[[int], int],
    memory: int,
) -> Iterator[tuple[Int[Tensor, " chunk"], slice]]:
    """Splits the work into chunks that fit into `memory` bytes: (prompt indices, points).

    Prompts that begin to differ, and end, at like positions go together: see `PADDING`.
    row_bytes(positions, length): bytes of one point of one prompt; prompt_bytes(positions): of one
    prompt, besides. ValueError if a single point of a single prompt does not fit.
    """
    first = first_difference(pairs).tolist()
    end = pairs.end.tolist()
    longest = max(end) + 1
    rows: list[int] = []

    def cost(prompts: list[int], versions: int) -> int:
        """Bytes; `prompts` are in order of their first difference."""
        positions = max(end[i] for i in prompts) + 1 - first[prompts[0]]
        each = versions * row_bytes(positions, longest) + prompt_bytes(positions)
        return len(prompts) * each

    def split(prompts: list[int]) -> Iterator[tuple[Tensor, slice]]:
        """Some prompts, with as many of their points at a time as fit."""
        size = points
        while size > 1 and cost(prompts, size) > memory:
            size = -(-size // 2)
        if cost(prompts, size) > memory:
            raise ValueError(
                f"one prompt of {pairs.task} needs about {cost(prompts, size) >> 20} MB of "
                f"activations, and memory={memory >> 20} MB allows less; give more"
            )
        for begin in range(0, points, size):
            yield torch.tensor(prompts), slice(begin, begin + size)

    def padding(prompts: list[int]) -> int:
        """Positions before a prompt's first difference, or behind its END."""
        window = max(end[i] for i in prompts) + 1 - first[prompts[0]]
        return sum(window - (end[i] + 1 - first[i]) for i in prompts)

    for i in sorted(range(len(pairs)), key=lambda i: (first[i], end[i])):
        more = [*rows, i]
        if rows and (cost(more, points) > memory or points * padding(more) > PADDING):
            yield from split(rows)
            rows = []
        rows.append(i)
    yield from split(rows)


def default_memory(device: torch.device) -> int:
    """Bytes of activations at a time: 512 MB on a CPU, half of what is free on a GPU."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else CPU_MEMORY


def at_end(
    x: Float[Tensor, "prompt version pos d_model"], end: Int[Tensor, " prompt"]
) -> Float[Tensor, "prompt version d_model"]:
    """x at each prompt's END, counted from the first position of x."""
    return x[torch.arange(len(end), device=end.device), :, end]


def metric_of_stream(
    network: Network, pairs: PromptPairs, last: Float[Tensor, "prompt version d_model"]
) -> Float[Tensor, "prompt version"]:
    """The task's metric of several versions of each prompt, from their last streams at END.

    Only the answers' rows of the unembedding are used, and, where the metric needs probabilities,
    the vocabulary in parts (`model.log_total`).
    """
    return metric_of_normed(network, pairs, network.norm_final(last))


def metric_of_normed(
    network: Network, pairs: PromptPairs, normed: Float[Tensor, "prompt version d_model"]
) -> Float[Tensor, "prompt version"]:
    """`metric_of_stream` from what the final norm gives."""
    if isinstance(pairs, DivergencePairs):
        return pairs.minus_divergence(network, normed)
    n_prompts, n_versions, _ = normed.shape
    tokens, places = pairs.answers.unique(return_inverse=True)
    logits = network.logits_of_normed(normed, tokens.to(normed.device))
    signs, places = pairs.signs.to(normed.device), places.to(normed.device)
    chosen = logits.gather(2, places[:, None].expand(-1, n_versions, -1))
    metric = of_answers(
        pairs.metric_name,
        chosen.flatten(0, 1),
        signs.repeat_interleave(n_versions, 0),
        lambda: log_total(normed.flatten(0, 1), network.w_unembed, cap=network.cap),
    )
    return metric.unflatten(0, (n_prompts, n_versions))
