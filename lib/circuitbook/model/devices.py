"""Which devices there are."""

from __future__ import annotations

import torch


def check_device(device: str | torch.device) -> torch.device:
    """The device, if this machine has it; ValueError otherwise."""
    here = ["cpu"]
    if torch.cuda.is_available():
        here += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        here.append("mps")
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError):
        asked = None
    known = {*here, *(name.split(":")[0] for name in here)}
    if asked is None or str(asked) not in known:
        raise ValueError(
            f"device {str(device)!r} is not available here; use one of: {', '.join(here)}"
        )
    return asked
