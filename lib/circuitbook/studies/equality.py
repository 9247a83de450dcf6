"""Is an architecture read rightly? Small random models of it, and three ways to be wrong.

    for_every_architecture()          # a table, in seconds: all of SAMPLES
    equality_of(random_model(...))    # of a model of your own

Nothing here is kept in the store: it is the code that is measured.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.by_hand import circuits_by_hand
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.model.network import last_stream
from circuitbook.model.progress import no_progress_bars
from circuitbook.model.samples import SAMPLES, random_model
from circuitbook.suites.finding import load_suite
from circuitbook.tasks.base import PromptPairs

POINTS = 200  # midpoints, for the sum of the scores out of `input`
EDGES = 8  # that are patched by hand, evenly spread over all


@dataclass(frozen=True, kw_only=True)
class Equality:
    """How far apart two ways to the same numbers lie; relative to the largest of them."""

    edges: int
    """How many edges the model has."""
    logits: float
    """Ours, from the plain tensors of `model.parts`, and transformers' own."""
    patched: float
    """What patching an edge costs: `evaluate_circuit`, and every edge written out."""
    completeness: float
    """Scores of EAP-IG out of `input`, summed up, and the change of the loss."""


def equality_of(hf_model: Any, seed: int = 0) -> Equality:
    """Of a small transformers model in float64, saved and loaded as any checkpoint is."""
    with tempfile.TemporaryDirectory(prefix="circuitbook-") as place, no_progress_bars():
        folder = Path(place) / "sample" / "step0"
        hf_model.save_pretrained(folder)
        _save_tokenizer(folder, hf_model.config.vocab_size)
        model = load_suite(place).checkpoint("sample", 0).load(dtype=torch.float64)
        return _measured(model, _random_pairs(hf_model.config.vocab_size, seed))


def for_every_architecture() -> pd.DataFrame:
    """`Equality` of a random model of each of `SAMPLES`: a row each, by its name."""
    rows = {name: vars(equality_of(random_model(sample))) for name, sample in SAMPLES.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


@torch.no_grad()
def _measured(model: Model, pairs: PromptPairs) -> Equality:
    network, graph = network_of(model), graph_of(model)
    theirs = model.hf_model(pairs.clean).logits
    ours = network.logits(last_stream(network, network.embed(pairs.clean)[:, None])[:, 0])
    masks = [graph.mask.copy() for _ in range(EDGES)]
    for mask, (src, dst) in zip(masks, graph.edges[:: graph.n_edges // EDGES], strict=False):
        mask[src, dst] = False
    fast = evaluate_masks(model, pairs, masks)
    slow = circuits_by_hand(network, graph, pairs, masks)
    scores = attribute(model, pairs, rule="midpoint", points=POINTS)
    return Equality(
        edges=graph.n_edges,
        logits=_apart(ours, theirs),
        patched=_apart(fast, slow),
        completeness=abs(scores.relative_gap),
    )


def _apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def _random_pairs(vocabulary: int, seed: int, n: int = 2, length: int = 7) -> PromptPairs:
    """Prompts that differ in one token, with two answers."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randint(vocabulary, (n, length), generator=generator)
    corrupted, where = clean.clone(), torch.arange(n)
    corrupted[where, where + 1] = (clean[where, where + 1] + 1) % vocabulary
    end = torch.full((n,), length - 1)
    return PromptPairs(
        task="random",
        metric_name="logit_difference",
        clean=clean,
        corrupted=corrupted,
        end=end,
        answers=torch.stack([torch.randperm(vocabulary, generator=generator)[:2] for _ in where]),
        signs=torch.tensor([[1, -1]]).expand(n, -1).contiguous(),
        positions={"END": end},
        table=pd.DataFrame({"clean": [""] * n, "corrupted": [""] * n}),
    )


def _save_tokenizer(folder: Path, vocabulary: int) -> None:
    words = {f"w{i}": i for i in range(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
