"""Does IOI stay the same computation while its heads change? The paper's test, and three that could
fail more easily.

The test (Tigges et al. 2024, section 4.2, Figure 4). Heads are put into classes by what they do,
not by where they are, in three stages, each found by path patching from the one before:

    direct      what heads write to the logits: name movers, copy suppression, and their negatives
    steering    what heads do to the queries of those, that is to where they look: S-inhibition
    tertiary    what heads do to the values of S-inhibition heads, that is to what these know:
                induction, duplicate token

At each checkpoint, how much of a stage's effect do its classes explain? If the shares stay while
the heads in the classes change, it is the same algorithm in other places. An effect is the authors'
e(h) = (patched - clean) / (clean - corrupted), of the mean logit difference: 0 where the head does
not matter, -1 where without it the answer is as bad as the corrupted one.

Besides: shares of random heads (`null_shares`); what is left when all that the algorithm calls
irrelevant is resampled (`scrub_masks`). A circuit, or its pattern of classes, put to another
checkpoint: `transfer`. The other tasks: `answer_readers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from circuitbook.circuits.circuit import Circuit
from circuitbook.heads.names import Head
from circuitbook.recipes import AlgorithmSettings, Recipe, get_recipe
from circuitbook.store import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.classifying import (
    SIGNALS,
    STAGES,
    classify_heads,
    found_on_first,
    memberships,
    mostly,
)
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.measurement import at_places
from circuitbook.suites import Suite

# a head that is in several classes is drawn as the first
CLASSES = tuple(name for names in STAGES.values() for name in names)
PANELS = {"direct": "B", "steering": "C", "tertiary": "D"}  # of Figure 4
CLAIMED = {"direct": 0.7, "steering": 0.5, "tertiary": 0.5}  # the paper: above, at all checkpoints
FORMS = {
    "absolute": "absolute effects of heads in the circuit",
    "signed": "signed effects of heads in the circuit",
    "all heads": "absolute effects of all heads",
}


@dataclass(frozen=True, eq=False)
class HeadClasses:
    """The IOI algorithm at one checkpoint. Rows are heads (layer * n_heads + head); see the module
    for stages.

    `patched`: {stage: [head, n]} metric of each prompt with that head patched into the stage's
    receivers; a stage that has no receivers is not there, and `why` says so. `classes`: {class:
    bool [head]}, found on the first `found_on` prompts; effects and shares are measured on those
    behind them, or, if these are all, on the same (`paper`). `in_circuit` bool [head]: sources of
    an edge in the circuit. `signals` [head, 3]: effect on the stage "steering" of each of
    `SIGNALS`, at END; nan without. `drawn`: {class: bool [draw, head]}, who is in a class on
    resampled prompts (see `memberships`).
    """

    model: str
    step: int
    tokens_seen: int
    n_heads: int  # per layer
    clean: np.ndarray  # [n]
    corrupted: np.ndarray
    patched: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]
    in_circuit: np.ndarray
    receivers: dict[str, list[Head]]
    signals: np.ndarray
    min_effect: float  # a stage whose largest effect is below this explains nothing
    why: dict[str, str]
    found_on: int = 0  # prompts, the first ones; 0: all
    drawn: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def heads(self) -> list[Head]:
        return [divmod(row, self.n_heads) for row in range(len(self.in_circuit))]

    @property
    def measured_on(self) -> slice:
        """The prompts that effects and shares are of: those that the classes were not found on."""
        return slice(self.found_on if self.found_on < len(self.clean) else 0, None)

    @property
    def prompts(self) -> int:
        """How many those are."""
        return len(self.clean[self.measured_on])

    def probability(self, name: str) -> np.ndarray:
        """In what share of resamples each head is in a class, float64 [head]."""
        drawn = self.drawn.get(name)
        return (self.classes[name] if drawn is None else drawn.mean(0)).astype(float)

    def effects(self, stage: str, weights: np.ndarray | None = None) -> np.ndarray:
        """e(h), float64 [head], on the prompts of `measured_on`; with `weights` [draws, prompt] of
        those (see `stats.bootstrap_draws`) [draws, head].
        """
        return self._effects(stage, self.measured_on, weights)

    def _effects(self, stage: str, rows: slice, weights: np.ndarray | None = None) -> np.ndarray:
        def mean(metric: np.ndarray) -> np.ndarray:
            metric = metric[..., rows]
            return metric.mean(-1) if weights is None else weights @ metric.T

        clean, corrupted = mean(self.clean[None]), mean(self.corrupted[None])
        return (mean(self.patched[stage]) - clean) / (clean - corrupted)

    def members(self, stage: str) -> np.ndarray:
        """bool [head]: in one of the stage's classes."""
        return self.members_of(*STAGES[stage])

    def members_of(self, *names: str) -> np.ndarray:
        """bool [head]: in one of these classes."""
        return np.any([self.classes[name] for name in names], axis=0)

    def counted(self, stage: str, form: str = "absolute") -> np.ndarray | None:
        """bool [head] whose effects are summed up, or None where there is nothing to share: no
        receivers, no circuit, or no head that matters.
        """
        if stage not in self.patched:
            return None
        nodes = np.ones_like(self.in_circuit) if form == "all heads" else self.in_circuit
        matter = np.abs(self.effects(stage)[nodes])
        return nodes if matter.size and matter.max() > self.min_effect else None

    def share(
        self,
        stage: str,
        form: str = "absolute",
        weights: np.ndarray | None = None,
        members: np.ndarray | None = None,
    ) -> np.ndarray | float:
        """Share of the stage's effect that its classes explain, [] or [draws]; nan where there is
        nothing to share.

        form, see `FORMS`: sum of |e(h)| (or of e(h), "signed") over classified heads, over that of
        all heads that count. The authors' function for it could not be read; "absolute" is our
        reading. `members`: other heads than the classes'.
        """
        if form not in FORMS:
            raise ValueError(f"unknown form of share {form!r}; there are: {', '.join(FORMS)}")
        nodes = self.counted(stage, form)
        if nodes is None:
            return np.nan if weights is None else np.full(len(weights), np.nan)
        effects = self.effects(stage, weights)
        effects = effects if form == "signed" else np.abs(effects)
        inside = nodes & (self.members(stage) if members is None else members)
        with np.errstate(divide="ignore", invalid="ignore"):
            return effects[..., inside].sum(-1) / effects[..., nodes].sum(-1)

    def null_shares(
        self, stage: str, form: str = "absolute", draws: int = 2000, seed: int = 0
    ) -> np.ndarray:
        """The same share, [draws], of as many heads drawn at random among those that count, of each
        sign as many as the classes have. Empty where there is no share.

        A class is partly selected by the sign of the effect (heads that help), so heads drawn
        without regard to it would be too easy to beat. The sign is that on the prompts which the
        classes were found on.
        """
        nodes = self.counted(stage, form)
        if nodes is None:
            return np.empty(0)
        rng, members = np.random.default_rng(seed), self.members(stage)
        helps = self._effects(stage, slice(self.found_on or None)) < 0
        effects = self.effects(stage)
        effects = effects if form == "signed" else np.abs(effects)
        sums = np.zeros(draws)
        for alike in (nodes & helps, nodes & ~helps):
            rows, k = alike.nonzero()[0], int((alike & members).sum())
            picked = rng.permuted(np.tile(np.arange(len(rows)) < k, (draws, 1)), axis=1)
            sums += (picked * effects[rows]).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums / effects[nodes].sum()

    def role(self, row: int) -> str | None:
        """The first class, in the order of `CLASSES`, that this head is in."""
        return next((name for name in CLASSES if self.classes[name][row]), None)

    @cached_property
    def labels(self) -> list[frozenset[str]]:
        """The classes of each head; empty for a head in none."""
        return [
            frozenset(name for name in CLASSES if self.classes[name][row])
            for row in range(len(self.in_circuit))
        ]


def class_members(classes: HeadClasses) -> dict[str, list[Head]]:
    """{class: its heads}, of the classes that have any."""
    return {
        name: [classes.heads[row] for row in classes.classes[name].nonzero()[0]]
        for name in CLASSES
        if classes.classes[name].any()
    }


def measure_head_classes(
    suite: Suite,
    head_scores: Sequence[HeadScores],
    circuits: Sequence[CircuitResult],
    store: Store,
    recipe: Recipe | str = "robust",
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> list[HeadClasses]:
    """The algorithm at each checkpoint of `head_scores` whose circuit of that task was looked for,
    by the same recipe.

    A checkpoint that does not do it has no classes: a share of no effect means nothing.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    of_names = {
        (result.model, result.step): result.circuit
        for result in circuits
        if result.task == recipe.names_task
    }
    scored = [scores for scores in head_scores if (scores.model, scores.step) in of_names]
    places = [(scores.model, scores.step) for scores in scored]
    where: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    classified = []
    for scores, here in zip(
        scored, at_places(suite, places, store, what="algorithm", **where), strict=True
    ):
        circuit = of_names[scores.model, scores.step]
        arrays: dict[str, np.ndarray] = {}
        if scores.able:
            arrays = here.arrays(
                "algorithm",
                classify_heads,
                scores=scores,
                mask=circuit.mask,
                settings=recipe.algorithm,
                seed=recipe.seed,
            )
        classified.append(_head_classes(scores, circuit, arrays, recipe.algorithm))
    return classified


def _head_classes(
    scores: HeadScores, circuit: Circuit, arrays: dict[str, np.ndarray], settings: AlgorithmSettings
) -> HeadClasses:
    """`HeadClasses` from what `classify_heads` gave; nothing where IOI is not done."""

    def part(prefix: str) -> dict[str, np.ndarray]:
        return {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix)
        }

    size, n = len(scores.heads), len(scores.arrays["clean"])
    drawn = memberships(scores, arrays, settings) if scores.able else {}
    classes = {name: mostly(found) for name, found in drawn.items()}
    classes = classes or {name: np.zeros(size, bool) for name in CLASSES}
    direct = {"direct": scores.arrays["direct"].astype(float)} if scores.able else {}
    patched = direct | part("patched.")
    rows = [circuit.graph.source(*head) for head in scores.heads]
    return HeadClasses(
        model=scores.model,
        step=scores.step,
        tokens_seen=scores.tokens_seen,
        n_heads=scores.n_heads,
        clean=scores.arrays["clean"].astype(float),
        corrupted=scores.arrays["corrupted"].astype(float),
        patched=patched,
        classes=classes,
        in_circuit=np.any(circuit.mask[rows], axis=1),
        receivers={
            kind: [(int(layer), int(head)) for layer, head in heads]
            for kind, heads in part("receivers.").items()
        },
        signals=_signal_effects(scores, part("signal.")),
        min_effect=settings.min_effect,
        why=_why(scores, patched, settings),
        found_on=found_on_first(n, settings),
        drawn=drawn,
    )


def _signal_effects(scores: HeadScores, patched: Mapping[str, np.ndarray]) -> np.ndarray:
    """e(h) of each of `SIGNALS`, [head, 3]; nan where the stage has no receivers."""
    if not patched:
        return np.full((len(scores.heads), len(SIGNALS)), np.nan)
    clean, corrupted = (float(scores.arrays[name].mean()) for name in ("clean", "corrupted"))
    means = np.stack([patched[signal].mean(1) for signal in SIGNALS], 1)
    return (means - clean) / (clean - corrupted)


def _why(scores: HeadScores, patched: Mapping, settings: AlgorithmSettings) -> dict[str, str]:
    if not scores.able:
        return dict.fromkeys(STAGES, f"the model does not do {scores.task.title} here")
    who = (
        "no name mover" if settings.receivers == "movers" else "no head of the classes before helps"
    )
    missing = {"steering": who, "tertiary": "no S-inhibition head"}
    return {stage: why for stage, why in missing.items() if stage not in patched}
