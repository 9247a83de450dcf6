"""Heads that do the task `next_in_list`: who moves names, who writes against S, who steers.

The classes are those of the library (`classifying`): a name mover copies what it looks at and helps
directly; an S-inhibition head helps through the queries of the name movers (of these alone, as in
the authors' code), and the place or the person that it tells of turns them away from IO, towards
S1. A head writes against S if it helps directly and looks from END at S more than at IO, more than
half of the time in all (`class_shares.function_shares`).

With three or four people, to write against S is not enough: which head carries the choice among the
others is measured on lists of four whose corrupted giver stands across, so that neither giver is an
answer.

Effects are the authors' e(h) = (patched - clean) / (clean - corrupted) of the mean logit difference
(Tigges et al. 2024, section 4.2): negative where a head helps, -1 where without it the answer is
that of the corrupted prompt, in which the one before S gives and S receives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from circuitbook.heads.attention import attention_from_end
from circuitbook.heads.copying import copy_hits
from circuitbook.heads.names import Head, all_heads, head_name
from circuitbook.heads.path_patching import baselines, path_patch
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import HEAD_INPUTS
from circuitbook.model.loaded import Model
from circuitbook.recipes import ROBUST, AlgorithmSettings
from circuitbook.store import Store
from circuitbook.studies.classifying import Draws, mostly
from circuitbook.studies.head_scores import PLACES, HeadScores, name_movers, repeated_part
from circuitbook.studies.measurement import Steps, as_array, at_checkpoints
from circuitbook.suites import Suite
from circuitbook.tasks import next_in_list
from circuitbook.tasks.base import PromptPairs
from circuitbook.tasks.next_in_list import ACROSS, EXCHANGE
from circuitbook.tasks.stories.ordered_lists import SIZES

PROMPTS = 96  # of lists of all sizes
SETTINGS = replace(ROBUST.algorithm, receivers="movers")
LOOKS = 0.5  # a head that looks at names does so with more than this of its attention
SIGNALS = ("order", "token")


@dataclass(frozen=True, eq=False, kw_only=True)
class ListHeads:
    """The heads of one checkpoint on the task; row = layer * n_heads + head.

    arrays: see `list_arrays`.
    """

    model: str
    step: int
    tokens_seen: int
    n_heads: int
    arrays: dict[str, np.ndarray]

    @property
    def scores(self) -> HeadScores:
        """The arrays as the classes' own code takes them."""
        return HeadScores(self.model, self.step, self.tokens_seen, self.n_heads, self.arrays)

    @property
    def able(self) -> bool:
        """Whether IO is preferred to S at all: the mean logit difference is above the task's
        bar."""
        return float(self.arrays["clean"].mean()) > next_in_list.TASK.min_metric

    @cached_property
    def direct(self) -> np.ndarray:
        """e(h) on the way to the logits alone, [head]."""
        return self.scores.score("direct")

    @cached_property
    def choice(self) -> np.ndarray:
        """The same of the choice among those who do not give, [head]."""
        return self.choice_through("direct")

    def choice_through(self, way: str) -> np.ndarray:
        """Effects on that choice, [head]: "direct", or through an input ("q", "k", "v") of the head
        whose direct effect on it is largest."""
        clean, corrupted = (self.arrays[f"choice.{name}"].mean() for name in ("clean", "corrupted"))
        return (self.arrays[f"choice.{way}"].mean(1) - clean) / (clean - corrupted)

    def tag_through(self, way: str) -> np.ndarray:
        """Effects of who has the giver's role, [head], through an input ("q", "k", "v") of the head
        that carries the choice; of prompts with roles alone."""
        clean, corrupted = (self.arrays[f"tag.{name}"].mean() for name in ("clean", "corrupted"))
        return (self.arrays[f"tag.{way}"].mean(1) - clean) / (clean - corrupted)

    @property
    def chooses(self) -> bool:
        """Whether IO is preferred, among those who do not give, by as much as `able` asks for."""
        return float(self.arrays["choice.clean"].mean()) > next_in_list.TASK.min_metric

    @cached_property
    def looks(self) -> np.ndarray:
        """Mean attention from END to IO, S1 and S2 of the clean prompts, [head, 3]."""
        return np.stack([self.scores.score(f"to_{place}") for place in PLACES], 1)

    @cached_property
    def movers(self) -> np.ndarray:
        """bool [head]"""
        return self.arrays["movers"].astype(bool)

    @cached_property
    def against(self) -> np.ndarray:
        """bool [head]: writes against S; none where the model is not `able`."""
        io, subject = self.looks[:, 0], self.looks[:, 1:].sum(1)
        at_names = (io + subject > LOOKS) & (io <= subject)
        return at_names & (self.direct < -SETTINGS.direct_bar) & self.able

    @cached_property
    def inhibits(self) -> np.ndarray:
        """bool [head]: S-inhibition."""
        if "patched.steering" not in self.arrays:
            return np.zeros(len(self.direct), bool)
        return mostly(Draws(self.scores, SETTINGS).inhibits(self.arrays))

    @cached_property
    def steering(self) -> np.ndarray:
        """e(h) through the movers' queries, [head]; 0 without movers."""
        if "patched.steering" not in self.arrays:
            return np.zeros(len(self.direct))
        clean, corrupted = (self.arrays[name].mean() for name in ("clean", "corrupted"))
        return (self.arrays["patched.steering"].mean(1) - clean) / (clean - corrupted)

    def strongest(self, among: np.ndarray, effect: np.ndarray) -> Head | None:
        """Of these heads, the one whose effect helps most."""
        if not among.any():
            return None
        row = int(np.where(among, effect, np.inf).argmin())
        return divmod(row, self.n_heads)

    def row_of(self, head: Head) -> int:
        """layer * n_heads + head"""
        return head[0] * self.n_heads + head[1]


def list_arrays(
    model: Model,
    *,
    prompts: int = PROMPTS,
    seed: int = 42,
    settings: AlgorithmSettings = SETTINGS,
    roles: bool = False,
) -> dict[str, np.ndarray]:
    """What `ListHeads` needs of a model; float32.

    rank, difference [size, n]: of IO among all tokens at END, and its logit less S's, of `prompts`
    lists of each of `SIZES`.
    On `prompts` lists of all sizes together: clean, corrupted [n]; direct [head, n] metric,
    patched; copy, negative_copy, to_IO, to_S1, to_S2 [head, n]; movers [head].
    choice.clean, choice.corrupted, choice.direct: the same with corruption "across", and choice.q,
    choice.k, choice.v [head, n], patched into one input of the head whose direct effect on the
    choice is largest.
    previous, duplicate, induction [head, sequence].
    With movers, as in `classify_heads`: patched.steering [head, n], turned.order, turned.token
    [head, 3, n], allowed [head]; and without.IO, without.S1, without.S2 [head, mover, n]: how much
    each mover attends from END to these when that head reaches its queries corrupted.
    With `roles` givers are called by theirs; then also tag.clean, tag.corrupted [n] and tag.q,
    tag.k, tag.v [head, n], the same as of the choice with corruption "exchange", which leaves all
    but the list as it is.
    """
    everyone = all_heads(model)
    asked = partial(next_in_list.TASK.prompts, model.tokenizer, n=prompts, seed=seed, roles=roles)
    arrays: dict[str, np.ndarray] = {}
    by_size = [asked(sizes=(size,)) for size in SIZES]
    answers = [pairs.measures(model.logits(pairs.clean, pairs.end)) for pairs in by_size]
    for name, measure in (("rank", "rank"), ("difference", "logit_difference")):
        arrays[name] = as_array(torch.stack([answer[measure].float() for answer in answers]))

    pairs, across = asked(), asked(corruption="across", sizes=(ACROSS,))
    for prefix, some in (("", pairs), ("choice.", across)):
        clean, corrupted = baselines(model, some)
        arrays |= {f"{prefix}clean": as_array(clean), f"{prefix}corrupted": as_array(corrupted)}
        patched = path_patch(model, some, everyone, ["logits"]).metric
        arrays[f"{prefix}direct"] = as_array(patched)
    chooser = everyone[patched.mean(1).argmin()]  # the one without whom the choice is worst
    for kind in HEAD_INPUTS:
        into = [f"{head_name(chooser)}<{kind}>"]
        arrays[f"choice.{kind}"] = as_array(path_patch(model, across, everyone, into).metric)
    network = network_of(model)
    if roles:
        arrays |= _tags(model, asked(corruption=EXCHANGE), chooser)
    names = torch.stack([pairs.positions[place] for place in PLACES], 1).to(model.device)
    raised, lowered = copy_hits(network, pairs.clean.to(model.device), names)
    arrays |= {"copy": as_array(raised), "negative_copy": as_array(lowered)}
    for place, attention in attention_from_end(network, pairs, PLACES).items():
        arrays[f"to_{place}"] = as_array(attention)
    heads = ROBUST.heads
    arrays |= repeated_part(
        model,
        sequences=heads.sequences,
        length=heads.length,
        story_length=heads.story_length,
        seed=seed,
        as_published=False,
    )
    arrays["n_heads"] = np.array(model.shape.n_heads)
    found = name_movers(arrays, heads)
    arrays["movers"] = found
    if found.any():
        movers = [everyone[row] for row in found.nonzero()[0]]
        arrays |= _steering(model, pairs, movers, {way: asked(corruption=way) for way in SIGNALS})
    return arrays


def _tags(model: Model, pairs: PromptPairs, chooser: Head) -> dict[str, np.ndarray]:
    """What tells the chooser who has the role that is called."""
    clean, corrupted = baselines(model, pairs)
    arrays = {"tag.clean": as_array(clean), "tag.corrupted": as_array(corrupted)}
    for kind in HEAD_INPUTS:
        into = [f"{head_name(chooser)}<{kind}>"]
        arrays[f"tag.{kind}"] = as_array(path_patch(model, pairs, all_heads(model), into).metric)
    return arrays


def _steering(
    model: Model,
    pairs: PromptPairs,
    movers: Sequence[Head],
    moved: Mapping[str, PromptPairs],
) -> dict[str, np.ndarray]:
    """What every head does to the queries of the movers; moved: the prompts of each of
    `SIGNALS`."""
    everyone, queries = all_heads(model), [f"{head_name(head)}<q>" for head in movers]
    rows = [layer * model.shape.n_heads + head for layer, head in movers]
    looks = attention_from_end(network_of(model), pairs, PLACES)
    before = torch.stack([looks[place][rows] for place in PLACES], 1).double().cpu().numpy()
    watched: dict[str, Any] = {"watch": movers, "places": PLACES}
    through = path_patch(model, pairs, everyone, queries, **watched)
    assert through.attention is not None  # movers were watched
    arrays = {"patched.steering": as_array(through.metric)}
    for i, place in enumerate(PLACES):
        arrays[f"without.{place}"] = as_array(through.attention[:, :, i])
    for signal, others in moved.items():
        turned = path_patch(
            model, others, everyone, queries, sender_at="END", receiver_at="END", **watched
        ).attention
        assert turned is not None
        change = turned.double().numpy() - before  # [head, mover, place, n]
        io, s1 = change[:, :, 0].sum(1), change[:, :, 1].sum(1)
        # The third group, of receivers that are no movers, has nobody in it
        arrays[f"turned.{signal}"] = np.stack([io, s1, np.zeros_like(io)], 1).astype(np.float32)
    arrays["allowed"] = np.ones(len(everyone), bool)
    return arrays


def measure_list_heads(
    suite: Suite,
    models: Sequence[str],
    store: Store,
    *,
    steps: Steps | None = None,
    device: str = "cpu",
    progress: bool = True,
    roles: bool = False,
) -> list[ListHeads]:
    """`list_arrays` of every model and checkpoint, in that order; what is in the store is read."""
    asked = {"roles": True} if roles else {}  # without it, as what was measured before
    measured = []
    for here in at_checkpoints(
        suite, models, store, what="lists", steps=steps, device=device, progress=progress
    ):
        arrays = here.arrays(
            "list-heads", list_arrays, prompts=PROMPTS, seed=ROBUST.seed, settings=SETTINGS, **asked
        )
        place = here.checkpoint
        measured.append(
            ListHeads(
                model=place.model,
                step=place.step,
                tokens_seen=place.tokens_seen or 0,
                n_heads=int(arrays["n_heads"]),
                arrays=arrays,
            )
        )
    return measured
