"""A model of one's own: trained in minutes on part of the story language, in a folder that is a
suite.

    plan = own_plan(steps=700, layers=3, width=64, heads=4)
    suite, name = grow(plan, "_build/grow-your-own")   # goes on where it was stopped

The mini suite's models read the whole mixture and need thousands of steps for IOI. One kind of
passage alone is learned sooner.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from circuitbook.mini.train import TOKENS_PER_STEP, Plan, some_document, train
from circuitbook.model.loaded import Model
from circuitbook.store.files import write_atomically
from circuitbook.suites.finding import load_suite
from circuitbook.suites.sources import finished_steps
from circuitbook.suites.suite import Suite

CHECKPOINTS = 10  # saved along the way, beside step 0


def own_plan(
    steps: int,
    layers: int = 3,
    width: int = 64,
    heads: int = 4,
    lr: float = 8e-3,
    passages: Sequence[str] | None = ("meeting",),
    seed: int = 1,
) -> Plan:
    """A training run with checkpoints at equal distances. The learning rate's cosine is twice as
    long as the run: what forms late needs a rate that is still high."""
    if width % heads or width // heads % 2:
        raise ValueError(
            f"a width of {width} cannot be shared among {heads} heads: "
            "each needs an even number of dimensions"
        )
    if steps < CHECKPOINTS:
        raise ValueError(
            f"{steps} steps are too few for {CHECKPOINTS} checkpoints; take at least {CHECKPOINTS}"
        )
    marks = tuple(sorted({round(steps * i / CHECKPOINTS) for i in range(CHECKPOINTS + 1)}))
    return Plan(
        layers=layers,
        width=width,
        heads=heads,
        lr=lr,
        seed=seed,
        steps=steps,
        decay_steps=2 * steps,
        warmup=50,
        checkpoints=marks,
        passages=None if passages is None else tuple(passages),
    )


def name_of(plan: Plan) -> str:
    """The run's folder: another plan is another run.  name_of(own_plan(700)) -> "own-3x64-700-" and
    six digits"""
    digest = hashlib.sha256(json.dumps(asdict(plan), sort_keys=True).encode()).hexdigest()
    return f"own-{plan.layers}x{plan.width}-{plan.steps}-{digest[:6]}"


def grow(
    plan: Plan,
    folder: str | Path,
    *,
    device: str = "cpu",
    progress: bool = True,
    listener: Callable[[Model], None] = lambda model: None,
) -> tuple[Suite, str]:
    """Trains `plan` in `folder` and gives (the folder as a suite, the model's name). Stopped, the
    next call goes on.

    One thread: the result depends on how many there are. listener: is given every checkpoint once,
    loaded, as soon as it is there.
    """
    folder, name = Path(os.path.expanduser(folder)), name_of(plan)
    heard: set[int] = set()

    def hear(step: int) -> None:
        if step not in heard:
            heard.add(step)
            listener(load_suite(str(folder)).checkpoint(name, step).load())

    if (folder / name).is_dir():
        for step in finished_steps(folder / name):
            hear(step)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(name, plan, folder, folder / ".state", device=device, progress=progress, saved=hear)
    finally:
        torch.set_num_threads(threads)
    write_atomically(
        folder / "suite.json", json.dumps({"tokens_per_step": TOKENS_PER_STEP}).encode()
    )
    return load_suite(str(folder)), name


def losses(folder: str | Path, name: str) -> np.ndarray:
    """The loss of every update, nats per token, [steps]."""
    return np.array(
        json.loads((Path(os.path.expanduser(folder)) / name / "losses.json").read_text())
    )


def sample(plan: Plan, seed: int = 0) -> str:
    """A document such as the run reads."""
    from circuitbook.tasks.stories.documents import document
    from circuitbook.tasks.stories.world import World

    rng = World(f"sample {seed}")
    return document(rng) if plan.passages is None else some_document(rng, plan.passages)
