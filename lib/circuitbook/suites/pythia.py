"""Pythia's facts, in one place: sizes, models, steps, shapes.

Biderman et al. 2023; the seeds: van der Wal et al. 2025.
"""

from __future__ import annotations

import re

from circuitbook.model.shape import Shape

PYTHIA_TOKENS_PER_STEP = 2_097_152  # 1024 sequences of 2048 tokens


PYTHIA_SIZES = ("14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")


PYTHIA_MODELS = tuple(f"pythia-{size}" for size in PYTHIA_SIZES)


PYTHIA_VARIANTS = (
    *(f"{model}-deduped" for model in PYTHIA_MODELS),
    *(f"pythia-{size}-seed{seed}" for size in PYTHIA_SIZES[:5] for seed in range(1, 10)),
    # Only the order of the data, only the initial weights, or dropout differ: these exist at 160m
    # alone.
    *(f"pythia-160m-{what}-seed{seed}" for what in ("data", "weight") for seed in (1, 2, 3)),
    *(f"pythia-160m-{what}dropout" for what in ("attn", "hidden", "all")),
)


_EARLY = tuple(2**i for i in range(10))  # 1, 2, 4, ..., 512


PYTHIA_STEPS = (0, *_EARLY, *range(1000, 143_001, 1000))


# The authors' named schedules. "paper" is their exp_plus_detail, in which 15000 occurs twice; here
# once.
PYTHIA_SCHEDULES = {
    "all": PYTHIA_STEPS,
    "linear": tuple(range(1000, 143_001, 1000)),
    "exponential": (*_EARLY, *(round(2**i / 1000) * 1000 for i in range(10, 18))),
    "exp_plus_detail": (
        *_EARLY,
        *range(1000, 15_000, 1000),
        *range(15_000, 65_001, 5000),
        *range(70_000, 140_001, 10_000),
    ),
    "sparse": (
        256,
        512,
        *range(1000, 9001, 1000),
        *range(10_000, 45_001, 5000),
        *range(50_000, 90_001, 10_000),
        100_000,
        120_000,
        140_000,
        143_000,
    ),
}


PYTHIA_SCHEDULES["paper"] = PYTHIA_SCHEDULES["exp_plus_detail"]


def _pythia(layers: int, heads: int, d_model: int, d_vocab: int = 50304) -> Shape:
    return Shape(
        n_layers=layers,
        n_heads=heads,
        d_model=d_model,
        d_head=d_model // heads,
        d_mlp=4 * d_model,
        d_vocab=d_vocab,
        parallel=True,
    )


# The table of Pythia's README; the vocabulary is padded to the sizes of its configurations.
PYTHIA_SHAPES = {
    "14m": _pythia(6, 4, 128),
    "31m": _pythia(6, 8, 256),
    "70m": _pythia(6, 8, 512),
    "160m": _pythia(12, 12, 768),
    "410m": _pythia(24, 16, 1024),
    "1b": _pythia(16, 8, 2048),
    "1.4b": _pythia(24, 16, 2048),
    "2.8b": _pythia(32, 32, 2560),
    "6.9b": _pythia(32, 32, 4096, 50432),
    "12b": _pythia(36, 40, 5120, 50688),
}


PYTHIA_PARAMETERS = {  # nominal: what the names say
    "70m": 70e6,
    "160m": 160e6,
    "410m": 410e6,
    "1b": 1e9,
    "1.4b": 1.4e9,
    "2.8b": 2.8e9,
    "6.9b": 6.9e9,
    "12b": 12e9,
}


# As the authors' correlation has them
MISTYPED_PARAMETERS = PYTHIA_PARAMETERS | {"1.4b": 14e9, "2.8b": 28e9}


def size_of(model: str) -> str | None:
    """The size in a Pythia's name, None for other models.

    >>> size_of("pythia-1.4b-deduped")
    '1.4b'
    """
    named = re.fullmatch(r"pythia-([\d.]+[mb])(-.*)?", model)
    return named[1] if named and named[1] in PYTHIA_SHAPES else None
