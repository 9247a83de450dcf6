"""Successor scores with a slip of the authors' code, with a choice of theirs, and without either.

The choice: a word is what the first MLP makes of its embedding, without any LayerNorm. The slip: in
bfloat16 the right word often has exactly the logit of a wrong one, and that counts as a hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from circuitbook.heads.successor import SuccessorPairs, successor_hits, successor_pairs
from circuitbook.model.architectures import network_of
from circuitbook.model.loaded import Model
from circuitbook.model.network import Network
from circuitbook.store import Store
from circuitbook.studies.errata_of_scores import in_dtype
from circuitbook.studies.measurement import Place, at_places
from circuitbook.suites import Suite

WAYS = ("ours", "no norms", "strict", "ties")


@torch.no_grad()
def hits_in_own_dtype(
    network: Network, lists: Sequence[SuccessorPairs], ties: bool
) -> Bool[Tensor, "head pair"]:
    """`successor_hits` without LayerNorms, where every product is rounded to the network's dtype,
    the logits among them. ties: an equal logit beside the right one is a hit.
    """
    first, hits = network.layers[0], []
    for layer in network.layers:
        of_layer = []
        for _, pairs, targets in lists:
            pairs, targets = pairs.to(network.w_embed.device), targets.to(network.w_embed.device)
            word = first.mlp.without_norm()(network.words(pairs[:, 0]))
            values = torch.einsum("pd,hed->hpe", word, layer.w_in["v"])
            written = torch.einsum("hpe,hed->hpd", values, layer.w_out)
            logits = torch.einsum("hpd,td->hpt", written, network.w_unembed[targets]).float()
            right = targets == pairs[:, 1:]
            own = logits.masked_fill(~right, -torch.inf).amax(2)
            best_other = logits.masked_fill(right, -torch.inf).amax(2)
            of_layer.append(own >= best_other if ties else own > best_other)
        hits.append(torch.cat(of_layer, 1))
    return torch.cat(hits)


def successor_table(model: Model, *, low: str) -> pd.DataFrame:
    """A row per head with its successor score in each of `WAYS`: ours; without LayerNorms in the
    model's dtype; the same in the narrow dtype `low`, where equal logits are no hits; and are hits.
    """
    lists, network = successor_pairs(model.tokenizer), network_of(model)
    narrow = network_of(in_dtype(model, getattr(torch, low)))
    hits = (
        successor_hits(network, lists),
        successor_hits(network, lists, norms=False),
        hits_in_own_dtype(narrow, lists, ties=False),
        hits_in_own_dtype(narrow, lists, ties=True),
    )
    scores = [way.double().mean(1).cpu().numpy() for way in hits]
    return pd.DataFrame(dict(zip(WAYS, scores, strict=True))).rename_axis("head").reset_index()


def successor_ways(
    suite: Suite,
    cases: Sequence[Place],
    store: Store,
    *,
    low: str = "bfloat16",
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """`successor_table` at each (model, step), with columns model and step."""
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": False}
    frames = []
    for here in at_places(suite, cases, store, what="errata", **where):
        frame = here.table("errata", successor_table, low=low)
        frames.append(frame.assign(model=here.checkpoint.model, step=here.checkpoint.step))
    return pd.concat(frames, ignore_index=True)
