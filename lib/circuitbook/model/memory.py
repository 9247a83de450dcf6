"""Memory, planned before anything is loaded: what a model needs where, and whether it fits.

    plan = plan_memory(PYTHIA_SHAPES["12b"], torch.bfloat16, positions=20, length=21)
    plan.minimum, plan.fits(80e9)                            # bytes; True

On the device: the weights; the queries, keys and values that are cut out of the fused matrices
(`network.network_of`); the scores of all edges; and for attribution at least one prompt at one
interpolation point. More prompts and points at a time are a matter of what is left
(`attribute(memory=...)`), never of whether it works. On the host: the scores of each prompt, which
resampling needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import Graph
from circuitbook.model.shape import Shape


def row_bytes(shape: Shape, dtype: torch.dtype) -> Callable[[int, int], int]:
    """What autograd keeps of one point of one prompt, and the gradients: about 26 streams and 3
    patterns a layer."""
    s, size = shape, torch.finfo(dtype).bits // 8
    streams, hidden = 22 if s.parallel else 24, 3 if s.gated else 1
    each = streams * s.d_model + hidden * s.d_mlp
    return lambda positions, length: size * (
        positions * s.n_layers * (each + 3 * s.n_heads * length) + 3 * s.d_vocab
    )


def prompt_bytes(shape: Shape, dtype: torch.dtype) -> Callable[[int], int]:
    """What one prompt takes in sums: the differences of all sources, and the gradients at a layer's
    inputs, twice."""
    s, size = shape, torch.finfo(sums_dtype(dtype)).bits // 8
    n_src = Graph(s.n_layers, s.n_heads, s.parallel).n_src
    return lambda positions: size * positions * s.d_model * (n_src + 3 * (3 * s.n_heads + 1))


PROMPT = (20, 21)  # positions that differ or follow, and tokens, of an IOI prompt at worst


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes. `one_prompt`: the activations and sums of attribution for a single prompt at a single
    point."""

    parameters: int  # a number, not bytes
    weights: int
    split: int
    scores: int
    one_prompt: int
    per_prompt: int  # on the host, for each prompt

    @property
    def minimum(self) -> int:
        """What the device must have free."""
        return self.weights + self.split + self.scores + self.one_prompt

    def fits(self, free: float) -> bool:
        return self.minimum <= free

    def prompts_at_once(self, free: float) -> int:
        """How many prompts at one point fit, 0 if none does."""
        return max(0, int((free - self.minimum + self.one_prompt) // self.one_prompt))


def neox_parameters(shape: Shape) -> int:
    """Weights of a GPT-NeoX with untied embeddings, biases and two norms a layer."""
    d, layer = shape.d_model, 0
    layer += 3 * d * d + 3 * d + d * d + d  # attention
    layer += 2 * d * shape.d_mlp + shape.d_mlp + d  # MLP
    layer += 4 * d  # two norms
    return 2 * shape.d_vocab * d + shape.n_layers * layer + 2 * d


def plan_memory(
    shape: Shape,
    dtype: torch.dtype = torch.float32,
    positions: int = PROMPT[0],
    length: int = PROMPT[1],
    number: int | None = None,
) -> MemoryPlan:
    """The plan for a shape; positions: from the first difference to END, length: all tokens of the
    longest prompt.

    number: how many weights there are, for a model that is no GPT-NeoX (`model.count_parameters`).
    """
    size, sums = torch.finfo(dtype).bits // 8, torch.finfo(sums_dtype(dtype)).bits // 8
    graph = Graph(shape.n_layers, shape.n_heads, shape.parallel)
    number, d, inside = (
        number or neox_parameters(shape),
        shape.d_model,
        shape.n_heads * shape.d_head,
    )
    edges = graph.n_src * graph.n_dst * sums
    return MemoryPlan(
        number,
        number * size,
        shape.n_layers * 3 * inside * (d + 1) * size,
        edges,
        row_bytes(shape, dtype)(positions, length) + prompt_bytes(shape, dtype)(positions),
        edges,
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device now; None where that cannot be known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf8").splitlines()
        return (
            int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
        )
    except (OSError, StopIteration, ValueError):
        return None


def refuse_what_cannot_fit(
    what: str, shape: Shape, dtype: torch.dtype, device: torch.device, number: int | None = None
) -> None:
    """ValueError, with the numbers and the way out, if the device cannot hold the weights and one
    prompt; see `plan_memory`."""
    free, plan = free_memory(device), plan_memory(shape, dtype, number=number)
    if free is None or plan.fits(free):
        return
    half = plan_memory(shape, torch.bfloat16, number=number)
    way = (
        f'DTYPE = "bfloat16" needs {half.minimum / 1e9:.1f} GB'
        if torch.finfo(dtype).bits > 16 and half.fits(free)
        else "take a smaller model, or a device with more memory"
    )
    raise ValueError(
        f"{what} does not fit on {device}: it needs {plan.minimum / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')} ({plan.weights / 1e9:.1f} for the weights, "
        f"{plan.split / 1e9:.1f} for queries, keys and values, {plan.scores / 1e9:.1f} for the scores, {plan.one_prompt / 1e9:.1f} for one prompt), and {free / 1e9:.1f} GB are free; {way}"
    )
