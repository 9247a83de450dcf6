"""Names of models: which are seeds and variants of which."""

from __future__ import annotations

import re


def base_model(name: str) -> str:
    """The model that a seed or variant belongs to.

    >>> base_model("mini-m-seed2"), base_model("pythia-160m-attndropout")
    ('mini-m', 'pythia-160m')
    """
    return re.sub(r"-(deduped|(data-|weight-)?seed\d+|(attn|hidden|all)dropout)$", "", name)
