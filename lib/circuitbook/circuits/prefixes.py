"""Keys and values of the tokens before the first that differs, run once for all prompts.

Chunks of prompts begin at different positions, and prompts share many of their first tokens. A pass
over a handful of tokens costs nearly as much as one over a hundred, since all weights are read, so
it is made once.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from circuitbook.circuits.batches import first_difference
from circuitbook.model.network import Network, Prefix, keys_and_values
from circuitbook.tasks.base import PromptPairs


class Prefixes:
    """What `keys_and_values` gives of the first tokens of these prompts.

    memory: bytes that may be kept; where all together need more, every chunk makes its own.
    """

    def __init__(self, network: Network, pairs: PromptPairs, memory: int) -> None:
        self.network, self.tokens = network, pairs.clean
        self.known: Prefix | None = None
        firsts = pairs.clean[:, : int(first_difference(pairs).max())]
        if firsts.shape[1] == 0:
            return
        firsts, self.which = firsts.unique(dim=0, return_inverse=True)
        each = 2 * len(network.layers) * network.w_embed.shape[1] * network.w_embed.itemsize
        if firsts.numel() * each <= memory:
            with torch.no_grad():
                self.known = keys_and_values(network, firsts.to(network.w_embed.device))

    @torch.no_grad()
    def before(self, rows: Int[Tensor, " prompt"], start: int) -> Prefix:
        """The prefix of `run` for these prompts, of the positions before `start`; empty for 0."""
        if start == 0:
            return []
        if self.known is None:
            tokens = self.tokens[rows, :start].to(self.network.w_embed.device)
            return keys_and_values(self.network, tokens)
        which = self.which[rows].to(self.network.w_embed.device)
        return [(keys[which, :start], values[which, :start]) for keys, values in self.known]
