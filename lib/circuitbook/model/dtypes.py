"""What dtype sums are taken in."""

from __future__ import annotations

import torch


def sums_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums are taken in: float32, or float64 for a float64 model.

    >>> sums_dtype(torch.bfloat16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32
