"""Memory, planned before anything is loaded: what a model needs where, and whether it fits.

    plan = plan_memory(PYTHIA_SHAPES["12b"], torch.bfloat16, positions=20, length=21)
    plan.least, plan.fits(80e9)                            # bytes; True

On the device: the weights; the queries, keys and values that are cut out of the fused matrices (`network.network_of`); the scores of
all edges; and for attribution at least one prompt at one interpolation point. More prompts and points at a time are a matter of what
is left (`attribute(memory=...)`), never of whether it works. On the host: the scores of each prompt, which resampling needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch

from .attribution import prompt_bytes, row_bytes
from .graph import Graph
from .model import Shape
from .network import sums_dtype


def _pythia(layers: int, heads: int, d_model: int, d_vocab: int = 50304) -> Shape:
    return Shape(layers, heads, d_model, d_model // heads, 4 * d_model, d_vocab, parallel=True)


# The table of Pythia's README; the vocabulary is padded to the sizes of its configurations.
PYTHIA_SHAPES = {"14m": _pythia(6, 4, 128), "31m": _pythia(6, 8, 256), "70m": _pythia(6, 8, 512), "160m": _pythia(12, 12, 768),
                 "410m": _pythia(24, 16, 1024), "1b": _pythia(16, 8, 2048), "1.4b": _pythia(24, 16, 2048), "2.8b": _pythia(32, 32, 2560),
                 "6.9b": _pythia(32, 32, 4096, 50432), "12b": _pythia(36, 40, 5120, 50688)}
PROMPT = (20, 21)                                          # positions that differ or follow, and tokens, of an IOI prompt at worst
CARDS = {"T4 (16 GB)": 15e9, "A100 (40 GB)": 39e9, "H100 (80 GB)": 79e9}      # what is free on an empty one, about


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes. `one`: the activations and sums of attribution for a single prompt at a single point."""

    parameters: int                                        # a number, not bytes
    weights: int
    split: int
    scores: int
    one: int
    per_prompt: int                                        # on the host, for each prompt

    @property
    def least(self) -> int:
        """What the device must have free."""
        return self.weights + self.split + self.scores + self.one

    def fits(self, free: float) -> bool:
        return self.least <= free

    def prompts_at_once(self, free: float) -> int:
        """How many prompts at one point fit, 0 if none does."""
        return max(0, int((free - self.least + self.one) // self.one))


def parameters(shape: Shape) -> int:
    """Weights of a GPT-NeoX with untied embeddings, biases and two norms a layer."""
    d, layer = shape.d_model, 0
    layer += 3 * d * d + 3 * d + d * d + d                 # attention
    layer += 2 * d * shape.d_mlp + shape.d_mlp + d         # MLP
    layer += 4 * d                                         # two norms
    return 2 * shape.d_vocab * d + shape.n_layers * layer + 2 * d


def plan_memory(shape: Shape, dtype: torch.dtype = torch.float32, positions: int = PROMPT[0], length: int = PROMPT[1],
                number: int | None = None) -> MemoryPlan:
    """The plan for a shape; positions: from the first difference to END, length: all tokens of the longest prompt.

    number: how many weights there are, for a model that is no GPT-NeoX (`model.count_parameters`).
    """
    size, sums = torch.finfo(dtype).bits // 8, torch.finfo(sums_dtype(dtype)).bits // 8
    graph, like = Graph(shape.n_layers, shape.n_heads, shape.parallel), SimpleNamespace(shape=shape, dtype=dtype)
    number, d, inside = number or parameters(shape), shape.d_model, shape.n_heads * shape.d_head
    edges = graph.n_src * graph.n_dst * sums
    return MemoryPlan(number, number * size, shape.n_layers * 3 * inside * (d + 1) * size, edges,
                      row_bytes(like, graph)(positions, length) + prompt_bytes(like, graph)(positions), edges)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device now; None where that cannot be known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf8").splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return None


def refuse_what_cannot_fit(what: str, shape: Shape, dtype: torch.dtype, device: torch.device,
                           number: int | None = None) -> None:
    """ValueError, with the numbers and the way out, if the device cannot hold the weights and one prompt; see `plan_memory`."""
    free, plan = free_memory(device), plan_memory(shape, dtype, number=number)
    if free is None or plan.fits(free):
        return
    half = plan_memory(shape, torch.bfloat16, number=number)
    way = (f'DTYPE = "bfloat16" needs {half.least / 1e9:.1f} GB' if torch.finfo(dtype).bits > 16 and half.fits(free) else
           "take a smaller model, or a device with more memory")
    raise ValueError(f"{what} does not fit on {device}: it needs {plan.least / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')} ({plan.weights / 1e9:.1f} for the weights, "
                     f"{plan.split / 1e9:.1f} for queries, keys and values, {plan.scores / 1e9:.1f} for the scores, {plan.one / 1e9:.1f} for one prompt), and {free / 1e9:.1f} GB are free; {way}")


def memory_table(dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16), cards: dict[str, float] | None = None) -> pd.DataFrame:
    """What Pythia needs, planned: a row per size and dtype with gigabytes, and on each card how many IOI prompts fit at a time (0: none)."""
    rows = []
    for name, shape in PYTHIA_SHAPES.items():
        for dtype in dtypes:
            plan = plan_memory(shape, dtype)
            rows.append({"model": f"pythia-{name}", "dtype": str(dtype).removeprefix("torch."), "weights": plan.weights / 1e9, "q, k, v": plan.split / 1e9,
                         "scores": plan.scores / 1e9, "one prompt": plan.one / 1e9, "in all": plan.least / 1e9,
                         **{card: plan.prompts_at_once(free) for card, free in (cards or CARDS).items()}})
    return pd.DataFrame(rows)
