"""How checkpoints are called: folders of a run, branches and tags of a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable

# step1000, step-1000, step1000-tokens4B (OLMo), checkpoint-500 (a Trainer's), ckpt_10
STEP_NAME = re.compile(r"(?:step|checkpoint|ckpt)[-_]?(\d+)(?:[-_]tokens\d+B)?")


def by_step(names: Iterable[str], where: object) -> dict[int, str]:
    """by_step({"step512", "main", "step-64"}, "a/b") -> {64: "step-64", 512: "step512"}"""
    names_of_steps: dict[int, str] = {}
    for name in sorted(names):
        match = STEP_NAME.fullmatch(name)
        if match is None:
            continue
        step = int(match[1])
        if (other := names_of_steps.setdefault(step, name)) != name:
            raise ValueError(
                f"{where} has two checkpoints of step {step}, {other} and {name}; copy those that "
                "are meant into a folder <model>/step<N>/ and give that folder"
            )
    return dict(sorted(names_of_steps.items()))
