"""How checkpoints are called: folders of a run, branches and tags of a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable

# step1000, step-1000, checkpoint-500 (a Trainer's), ckpt_10; step1000-tokens4B (OLMo),
# stage1-step1000-tokens5B (OLMo 2 and 3), stage1-step-40000 (SmolLM3), step-001000-2BT (FineWeb's)
STEP_NAME = re.compile(
    r"(?:stage1-)?(?:step|checkpoint|ckpt)[-_]?(\d+)(?:[-_]tokens(\d+)B|[-_](\d+)BT)?"
)
_FIRST_STAGE = "stage1-"


def by_step(names: Iterable[str], where: object) -> dict[int, str]:
    """by_step({"step512", "main", "step-64"}, "a/b") -> {64: "step-64", 512: "step512"}

    Where some names begin with stage1-, these alone are the run: later stages count their steps
    anew, and what has no stage is something else. ValueError, with `where`, for two checkpoints of
    one step.
    """
    found = [name for name in names if STEP_NAME.fullmatch(name)]
    staged = [name for name in found if name.startswith(_FIRST_STAGE)]
    return numbered(staged or found, STEP_NAME, where)


def numbered(
    names: Iterable[str], pattern: re.Pattern[str], where: object, first: int = 0
) -> dict[int, str]:
    """{step: name} of the names that are the pattern, ascending; its first group is the number.

    first: the step whose number is 0. ValueError, with `where`, for two checkpoints of one step.
    """
    names_of_steps: dict[int, str] = {}
    for name in sorted(names):
        if (match := pattern.fullmatch(name)) is None:
            continue
        step = int(match[1]) + first
        if (other := names_of_steps.setdefault(step, name)) != name:
            raise ValueError(
                f"{where} has two checkpoints of step {step}, {other} and {name}; copy those that "
                "are meant into a folder <model>/step<N>/ and give that folder"
            )
    return dict(sorted(names_of_steps.items()))


def named_tokens_per_step(names: dict[int, str]) -> int | None:
    """How many tokens a step has by the names of the steps, which tell billions: the last one's.

    None where they tell none, or do not agree with the last one to a billion.

    >>> named_tokens_per_step({0: "step0-tokens0B", 8000: "step8000-tokens34B"})
    4250000
    """
    told = {
        step: int(match[2] or match[3])
        for step, name in names.items()
        if (match := STEP_NAME.fullmatch(name)) and (match[2] or match[3])
    }
    last = max(told, default=0)
    if not last or not told[last]:
        return None
    tokens = round(told[last] * 10**9 / last)
    agree = all(abs(step * tokens - told[step] * 10**9) < 10**9 for step in told)
    return tokens if agree and len(told) == len(names) else None
