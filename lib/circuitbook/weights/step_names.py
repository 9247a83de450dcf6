"""How checkpoints are called: folders of a run, branches and tags of a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable

# step1000, step-1000, checkpoint-500 (a Trainer's), ckpt_10; step1000-tokens4B (OLMo),
# stage1-step1000-tokens5B (OLMo 2 and 3), stage1-step-40000 (SmolLM3), step-001000-2BT (FineWeb's)
STEP_NAME = re.compile(
    r"(?:stage1-)?(?:step|checkpoint|ckpt)[-_]?(\d+)(?:[-_]tokens\d+B|[-_]\d+BT)?"
)
_FIRST_STAGE = "stage1-"


def by_step(names: Iterable[str], where: object) -> dict[int, str]:
    """by_step({"step512", "main", "step-64"}, "a/b") -> {64: "step-64", 512: "step512"}

    Where some names begin with stage1-, these alone are the run: later stages count their steps
    anew, and what has no stage is something else. ValueError, with `where`, for two checkpoints of
    one step.
    """
    names_of_steps: dict[int, str] = {}
    found = sorted(name for name in names if STEP_NAME.fullmatch(name))
    staged = [name for name in found if name.startswith(_FIRST_STAGE)]
    for name in staged or found:
        match = STEP_NAME.fullmatch(name)
        assert match is not None
        step = int(match[1])
        if (other := names_of_steps.setdefault(step, name)) != name:
            raise ValueError(
                f"{where} has two checkpoints of step {step}, {other} and {name}; copy those that "
                "are meant into a folder <model>/step<N>/ and give that folder"
            )
    return dict(sorted(names_of_steps.items()))
