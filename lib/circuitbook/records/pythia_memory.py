"""What Pythia needs of a graphics card, planned."""

from __future__ import annotations

import pandas as pd
import torch

from circuitbook.model.memory import plan_memory
from circuitbook.suites.pythia import PYTHIA_SHAPES

CARDS = {
    "T4 (16 GB)": 15e9,
    "A100 (40 GB)": 39e9,
    "H100 (80 GB)": 79e9,
}  # what is free on an empty one, about


def memory_table(
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16),
    cards: dict[str, float] | None = None,
) -> pd.DataFrame:
    """What Pythia needs, planned: a row per size and dtype with gigabytes, and on each card how
    many IOI prompts fit at a time (0: none).
    """
    rows = []
    for name, shape in PYTHIA_SHAPES.items():
        for dtype in dtypes:
            plan = plan_memory(shape, dtype)
            rows.append(
                {
                    "model": f"pythia-{name}",
                    "dtype": str(dtype).removeprefix("torch."),
                    "weights": plan.weights / 1e9,
                    "q, k, v": plan.split / 1e9,
                    "scores": plan.scores / 1e9,
                    "one prompt": (plan.one_prompt + plan.working) / 1e9,
                    "in all": plan.minimum / 1e9,
                    **{card: plan.prompts_at_once(free) for card, free in (cards or CARDS).items()},
                }
            )
    return pd.DataFrame(rows)
