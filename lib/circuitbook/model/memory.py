"""Memory, planned before anything is loaded: what a model needs where, and whether it fits.

    plan = plan_memory(PYTHIA_SHAPES["12b"], torch.bfloat16, positions=20, length=21)
    plan.minimum, plan.fits(80e9)                            # bytes; True

On the device: the weights; the queries, keys and values that are cut out of the fused matrices
(`architectures.network_of`); the scores of all edges; and for attribution at least one prompt at
one interpolation point, with what the work itself takes besides. More prompts and points at a time
are a matter of what is left (`attribute(memory=...)`), never of whether it works. On the host: the
scores of each prompt, which resampling needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import Graph
from circuitbook.model.shape import Shape

PROMPT = (20, 21)  # positions that differ or follow, and tokens, of an IOI prompt at worst

# What the libraries keep on a GPU besides: cuBLAS' workspace, and what the allocator cannot use.
# With shapes from Pythia-70m to 12b, on one H200, the peak for one prompt lay 60 to 216 MB above
# what is planned without `working`, and never above the plan with it.
WORKSPACE = {"cuda": 144 << 20}


OF_HEADS = 10  # streams that are as wide as all heads together: queries, keys, values, z, gradients
PATTERNS = ("eap-qk", "atp*")  # methods that compute the pattern of every edge anew,
SOURCES = 64  # of so many sources at a time


def row_bytes(
    shape: Shape, dtype: torch.dtype, method: str = "eap-ig"
) -> Callable[[int, int], int]:
    """What autograd keeps of one point of one prompt, and the gradients.

    About 26 streams and 3 patterns a layer, 4 where scores are capped; as a function of the
    positions that are computed and of the prompt's length in tokens. method: of `attribute`.
    """
    size, of_sums = _bytes(dtype), _bytes(sums_dtype(dtype))
    streams, hidden = 22 if shape.parallel else 24, 3 if shape.gated else 1
    streams += {"eap-ig-activations": 2, "eap-qk": 1, "atp*": 3}.get(method, 0)
    each = (streams - OF_HEADS) * shape.d_model + hidden * shape.d_mlp
    each += OF_HEADS * shape.n_heads * shape.d_head
    patterns = 4 if shape.capped else 3
    n_src, n_dst = _sides(shape)

    def of_row(positions: int, length: int) -> int:
        of_layers = shape.n_layers * (each + patterns * shape.n_heads * length)
        row = size * positions * of_layers
        if method in PATTERNS:  # of one head for all sources, and the scores of the prompt
            of_source = positions * (4 * length + 5 * shape.d_head)
            row += of_sums * (min(n_src, SOURCES) * of_source + n_src * n_dst)
        if method == "ifr":  # which has no gradients, but all positions
            row += of_sums * (length * (shape.d_model * (n_src + 4) + 3 * n_src) + n_src * n_dst)
        return row

    return of_row


def prompt_bytes(shape: Shape, dtype: torch.dtype, method: str = "eap-ig") -> Callable[[int], int]:
    """What one prompt takes in sums, as a function of the positions that are computed.

    The differences of all sources, and the gradients at a layer's inputs, twice. With patterns that
    are computed anew some sources' streams besides, through a norm; with activations what all nodes
    write on both prompts. method: of `attribute`.
    """
    n_src, _ = _sides(shape)
    streams = n_src + 3 * (3 * shape.n_heads + 1)
    streams += 3 * min(n_src, SOURCES) if method in PATTERNS else 0
    streams += 4 * shape.n_layers if method == "eap-ig-activations" else 0
    size = _bytes(sums_dtype(dtype))

    def of_prompt(positions: int) -> int:
        return size * positions * shape.d_model * streams

    return of_prompt


def _sides(shape: Shape) -> tuple[int, int]:
    """How many sources and destinations there are."""
    graph = Graph(shape.n_layers, shape.n_heads, shape.parallel)
    return graph.n_src, graph.n_dst


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What a model and one prompt need; bytes."""

    parameters: int
    """How many weights there are: a number, not bytes."""
    weights: int
    split: int
    """Queries, keys and values, cut out of the fused matrices."""
    scores: int
    """Of all edges."""
    one_prompt: int
    """Activations and sums of attribution for a single prompt at a single point."""
    working: int
    """What does not grow with the prompts: copies of a layer's weights in the dtype of the sums,
    the logits of one prompt, where a metric needs them all (of more, `log_total.LOGIT_BYTES`
    at a time), and what libraries keep on a GPU."""
    per_prompt: int
    """On the host, for each prompt whose scores are kept."""

    @property
    def minimum(self) -> int:
        """What the device must have free."""
        return self.weights + self.split + self.scores + self.working + self.one_prompt

    def fits(self, free: float) -> bool:
        """Whether the model and one prompt fit into so many bytes."""
        return self.minimum <= free

    def prompts_at_once(self, free: float) -> int:
        """How many prompts at one point fit, 0 if none does."""
        return max(0, int((free - self.minimum + self.one_prompt) // self.one_prompt))


def neox_parameters(shape: Shape) -> int:
    """Weights of a GPT-NeoX with untied embeddings, biases and two norms a layer."""
    d = shape.d_model
    attention = 3 * d * d + 3 * d + d * d + d
    mlp = 2 * d * shape.d_mlp + shape.d_mlp + d
    norms = 4 * d
    return 2 * shape.d_vocab * d + shape.n_layers * (attention + mlp + norms) + 2 * d


def plan_memory(
    shape: Shape,
    dtype: torch.dtype = torch.float32,
    positions: int = PROMPT[0],
    length: int = PROMPT[1],
    number: int | None = None,
    *,
    device: str = "cuda",
    method: str = "eap-ig",
) -> MemoryPlan:
    """The plan for a shape.

    positions: from the first difference to END; length: all tokens of the longest prompt.
    number: how many weights there are, for a model that is no GPT-NeoX (`shape.count_parameters`).
    device: the type, "cuda" or another. method: of `attribute`.
    """
    size, of_sums = _bytes(dtype), _bytes(sums_dtype(dtype))
    n_src, n_dst = _sides(shape)
    parameters = number or neox_parameters(shape)
    heads = shape.n_heads * shape.d_head
    edges = n_src * n_dst * of_sums
    activations = row_bytes(shape, dtype, method)(positions, length)
    return MemoryPlan(
        parameters=parameters,
        weights=parameters * size,
        split=shape.n_layers * 3 * heads * (shape.d_model + 1) * size,
        scores=edges,
        one_prompt=activations + prompt_bytes(shape, dtype, method)(positions),
        working=3 * shape.d_model**2 * of_sums
        + 3 * shape.d_vocab * size
        + WORKSPACE.get(device, 0),
        per_prompt=edges,
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device now; None where that cannot be known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf8").splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable"))
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return None


def refuse_what_cannot_fit(
    what: str, shape: Shape, dtype: torch.dtype, device: torch.device, number: int | None = None
) -> None:
    """ValueError if the device cannot hold the weights and one prompt: the numbers, the way out."""
    free, plan = free_memory(device), plan_memory(shape, dtype, number=number, device=device.type)
    if free is None or plan.fits(free):
        return
    half = plan_memory(shape, torch.bfloat16, number=number, device=device.type)
    way = "take a smaller model, or a device with more memory"
    if torch.finfo(dtype).bits > 16 and half.fits(free):
        way = f'DTYPE = "bfloat16" needs {half.minimum / 1e9:.1f} GB'
    raise ValueError(
        f"{what} does not fit on {device}: it needs {plan.minimum / 1e9:.1f} GB in "
        f"{str(dtype).removeprefix('torch.')} ({plan.weights / 1e9:.1f} for the weights, "
        f"{plan.split / 1e9:.1f} for queries, keys and values, {plan.scores / 1e9:.1f} for the "
        f"scores, {(plan.one_prompt + plan.working) / 1e9:.1f} for one prompt), and "
        f"{free / 1e9:.1f} GB are free; {way}"
    )


def _bytes(dtype: torch.dtype) -> int:
    return torch.finfo(dtype).bits // 8
