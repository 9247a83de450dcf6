"""Prompts that were made before: making them anew takes as long as measuring a small model.

The checkpoints of a suite share a tokenizer, so the same prompts are asked for again and again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from circuitbook.tasks.base import PromptPairs, Task

KEEP = 32  # the last ones that were asked for

_made: OrderedDict[tuple[Hashable, ...], PromptPairs] = OrderedDict()


def remembered(
    make: Callable[[], PromptPairs],
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    seed: int,
    options: Mapping[str, object],
) -> PromptPairs:
    """What `make` gives, or a copy of what it gave for these arguments."""
    fixed = all(isinstance(value, Hashable) for value in options.values())
    if not hasattr(tokenizer, "backend_tokenizer") or not fixed:
        return make()
    content = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    key = (
        task,
        content,
        tokenizer.init_kwargs.get("lexicon"),
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
        n,
        seed,
        tuple(sorted(options.items())),
    )
    if key not in _made:
        _made[key] = make()
    _made.move_to_end(key)
    while len(_made) > KEEP:
        _made.popitem(last=False)
    return _made[key].subset(slice(None))  # a copy: the caller may change it
