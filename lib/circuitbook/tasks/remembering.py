"""Prompts that were made before: making them anew takes as long as measuring a small model.

The checkpoints of a suite share a tokenizer, so the same prompts are asked for again and again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Pairs(Protocol):
    """What is remembered: prompt pairs, of which `subset` makes a copy."""

    def subset(self, index: Any) -> Any: ...


Made = TypeVar("Made", bound=Pairs)
KEEP = 32  # the last ones that were asked for

_made: OrderedDict[tuple[Hashable, ...], Any] = OrderedDict()


def remembered(
    make: Callable[[], Made],
    task: Hashable,
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    seed: int,
    options: Mapping[str, object],
) -> Made:
    """What `make` gives, or a copy of what it gave for these arguments."""
    fixed = all(isinstance(value, Hashable) for value in options.values())
    if not hasattr(tokenizer, "backend_tokenizer") or not fixed:
        return make()
    content = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    key = (
        task,
        content,
        tokenizer.init_kwargs.get("lexicon"),
        tokenizer.unk_token_id,
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
