"""Heads put into the classes of the IOI algorithm by what they do: the stages of the paper's test
(Tigges et al. 2024, section 4.2, Figure 4), each found by path patching from the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from circuitbook.heads.attention import attention_from_end
from circuitbook.heads.names import Head, all_heads, head_name
from circuitbook.heads.path_patching import path_patch
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import AlgorithmSettings
from circuitbook.stats import bootstrap_draws
from circuitbook.studies.head_scores import PLACES, HeadScores
from circuitbook.tasks import PromptPairs, Task

STAGES = {
    "direct": (
        "name mover",
        "copy suppression",
        "negative name mover",
        "negative copy suppression",
    ),
    "steering": ("S-inhibition",),
    "tertiary": ("induction", "duplicate token"),
}
SIGNALS = {
    "swap": "who the subject is, and where",
    "order": "where the subject stood",
    "token": "who the subject is",
}
COPYING = ("copy", "negative_copy")
APART = "apart"  # place or person, each by itself


@dataclass(frozen=True, eq=False)
class Draws:
    """Resamples of the prompts that classes are found on, and of what scores are measured on."""

    scores: HeadScores
    settings: AlgorithmSettings

    @cached_property
    def weights(self) -> np.ndarray:
        """[draw, n], 0 for prompts that shares are measured on; one draw, all prompts alike, where
        the settings ask for no resamples."""
        n = self.scores.items("direct")
        found_on = found_on_first(n, self.settings)
        weights = np.zeros((max(1, self.settings.resamples), n))
        weights[:, :found_on] = self._of(found_on)
        return weights

    def _of(self, items: int) -> np.ndarray:
        if not self.settings.resamples:
            return np.full((1, items), 1 / items)
        return bootstrap_draws(items, self.settings.resamples)

    def effect(self, patched: np.ndarray) -> np.ndarray:
        """e(h), [draw, head], of a metric [head, n]."""
        arrays = self.scores.arrays
        clean, corrupted = (self.weights @ arrays[name] for name in ("clean", "corrupted"))
        return (self.weights @ patched.T - clean[:, None]) / (clean - corrupted)[:, None]

    def score(self, kind: str) -> np.ndarray:
        """[draw, head]; -inf where it was not measured."""
        if not self.scores.has(kind):
            return np.full((len(self.weights), len(self.scores.heads)), -np.inf)
        return self.scores.score(kind, self._of(self.scores.items(kind)))

    def turned(self, turned: np.ndarray) -> np.ndarray:
        """Mean change of attention [draw, head, 3], see `turned_away`, of [head, 3, n]."""
        return np.einsum("dn,hgn->dhg", self.weights, turned)

    def direct(self) -> dict[str, np.ndarray]:
        """The classes of the stage "direct", {class: bool [draw, head]}, by score and sign of the
        direct effect (negative helps)."""
        settings = self.settings
        effect, bar = self.effect(self.scores.arrays["direct"].astype(float)), settings.direct_bar
        copies, lowers = (self.score(kind) > settings.copy_bar for kind in COPYING)
        suppresses = self.score("copy_suppression") > settings.suppression_bar
        return {
            "name mover": copies & (effect < -bar),
            "copy suppression": suppresses & (effect < -bar),
            "negative name mover": lowers & (np.abs(effect) > bar),
            "negative copy suppression": suppresses & (effect > bar),
        }

    def inhibits(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """S-inhibition, bool [draw, head]: see `classify_heads`."""
        settings = self.settings
        helps = self.effect(arrays["patched.steering"]) < -settings.through_bar
        if settings.signal == APART:
            turned = [self.turned(arrays[f"turned.{signal}"]) for signal in ("order", "token")]
            worse = np.any([turned_away(one, settings.turn_bar) for one in turned], axis=0)
        else:
            worse = turned_away(self.turned(arrays[f"turned.{settings.signal}"]))
            worse &= self.effect(arrays[f"signal.{settings.signal}"]) < 0
        return helps & worse & arrays["allowed"].astype(bool)

    def informs(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Induction and duplicate token, {class: bool [draw, head]}."""
        matters = self.effect(arrays["patched.tertiary"]) < -self.settings.through_bar
        found = {}
        for name, kind in (("induction", "induction"), ("duplicate token", "duplicate")):
            score = self.score(kind)
            found[name] = matters & (score > score.mean(1, keepdims=True))
        return found


def found_on_first(n: int, settings: AlgorithmSettings) -> int:
    """How many of `n` prompts, the first ones, classes are found on."""
    return n // 2 if settings.split else n


def mostly(found: np.ndarray) -> np.ndarray:
    """bool [head]: in more than half of the draws [draw, head]."""
    return found.mean(0) > 0.5


def direct_classes(scores: HeadScores, settings: AlgorithmSettings) -> dict[str, np.ndarray]:
    """The classes of the stage "direct", {class: bool [head]}."""
    return {name: mostly(found) for name, found in Draws(scores, settings).direct().items()}


def memberships(
    scores: HeadScores, arrays: Mapping[str, np.ndarray], settings: AlgorithmSettings
) -> dict[str, np.ndarray]:
    """{class: bool [draw, head]}: who is in a class, on resampled prompts, texts and sequences.

    arrays: as `classify_heads` gives them. Of a later stage, given the heads that the earlier ones
    found: whose queries, and whose values, are not resampled.
    """
    draws = Draws(scores, settings)
    found = draws.direct()
    none = np.zeros_like(found["name mover"])
    steered, informed = "patched.steering" in arrays, "patched.tertiary" in arrays
    found["S-inhibition"] = draws.inhibits(arrays) if steered else none
    of_last = draws.informs(arrays) if informed else dict.fromkeys(STAGES["tertiary"], none)
    return found | of_last


@torch.no_grad()
def classify_heads(
    model: Model,
    scores: HeadScores,
    mask: np.ndarray,
    settings: AlgorithmSettings,
    seed: int = 42,
) -> dict[str, np.ndarray]:
    """What `HeadClasses` needs of a checkpoint beyond its head scores, on the same prompts;
    `mask` is its circuit of that task, bool [src, dst].

    Stage "steering": receivers are the queries of all name movers, or ("direct" in the settings, as
    the caption of Figure 4 has it) of all heads of the stage before that help. A head is
    S-inhibition if its effect through them is below -through_bar, if (in `paper`) the circuit has
    an edge from it to such a query, and if a signal, patched at END, turns them away from what
    they should look at (see `turned_away`). In `paper` the signal is the place, and it must lower
    the logit difference too. In `robust` it is the place or the person, each by itself, and the
    attention alone counts: what the head does to the logit difference was asked already.
    Stage "tertiary": receivers are the values of S-inhibition heads that are not copy suppression.
    A head is of a class if its effect is below -through_bar and its induction (duplicate-token)
    score above the mean of all heads.

    All of this on resamples of the first prompts, where the settings ask for it: a head is in a
    class if it is in more than half of them. The arrays hold what `memberships` needs: metrics
    [head, n] patched.* and signal.*, changes of attention turned.* [head, 3, n].
    """
    if settings.signal not in (*SIGNALS, APART):
        known = ", ".join(map(repr, (*SIGNALS, APART)))
        raise ValueError(f"unknown signal {settings.signal!r}; there are: {known}")
    everyone = all_heads(model)
    pairs = scores.task.prompts(model.tokenizer, n=scores.items("direct"), seed=seed)
    draws = Draws(scores, settings)
    classes = {name: mostly(found) for name, found in draws.direct().items()}
    steers = classes["name mover"]
    if settings.receivers == "direct":
        direct = draws.effect(scores.arrays["direct"].astype(float))
        helps = mostly(direct < -settings.direct_bar)
        steers = np.any([classes[name] for name in STAGES["direct"]], axis=0) & helps
    out: dict[str, np.ndarray] = {}
    if not steers.any():
        return out
    steered = [everyone[row] for row in steers.nonzero()[0]]
    receivers = [f"{head_name(head)}<q>" for head in steered]
    out["patched.steering"] = path_patch(model, pairs, everyone, receivers).metric.double().numpy()
    out["receivers.q"] = np.array(steered)
    out |= _signals(model, scores.task, pairs, steered, classes["name mover"][steers], seed)
    out["allowed"] = np.ones(len(everyone), bool)
    if settings.needs_edge:
        graph = graph_of(model)
        columns = [graph.destination(layer, head, "q") for layer, head in steered]
        reaches = [mask[graph.source(*head), columns].any() for head in everyone]
        out["allowed"] = np.array(reaches)

    inhibits = mostly(draws.inhibits(out))
    informs = inhibits & ~(classes["copy suppression"] | classes["negative copy suppression"])
    if informs.any():
        informed = [everyone[row] for row in informs.nonzero()[0]]
        receivers = [f"{head_name(head)}<v>" for head in informed]
        patched = path_patch(model, pairs, everyone, receivers).metric
        out |= {"patched.tertiary": patched.double().numpy(), "receivers.v": np.array(informed)}
    return out


def _signals(
    model: Model,
    task: Task,
    pairs: PromptPairs,
    steered: list[Head],
    movers: np.ndarray,
    seed: int,
) -> dict[str, np.ndarray]:
    """Each of `SIGNALS`, patched at END into the queries of `steered`: {signal.*: [head, n] metric,
    turned.*: [head, 3, n] change of their attention, in the groups of `turned_away`}.

    movers: bool [steered], which of them are name movers.
    """
    out = {}
    rows = [layer * model.shape.n_heads + head for layer, head in steered]
    everywhere = attention_from_end(network_of(model), pairs, PLACES)
    before = torch.stack([everywhere[place][rows] for place in PLACES], 1).double().cpu().numpy()
    for signal in SIGNALS:
        moved = task.prompts(model.tokenizer, n=len(pairs), seed=seed, corruption=signal)
        through = path_patch(
            model,
            moved,
            all_heads(model),
            [f"{head_name(head)}<q>" for head in steered],
            sender_at="END",
            receiver_at="END",
            watch=steered,
            places=PLACES,
        )
        assert through.attention is not None  # heads were watched
        turned = through.attention.double().numpy() - before  # [head, receiver, place, n]
        io, s1, s2 = (turned[:, :, i] for i in range(3))
        groups = (io[:, movers], s1[:, movers], (s1 + s2)[:, ~movers])
        out[f"turned.{signal}"] = np.stack([group.sum(1) for group in groups], 1)
        out[f"signal.{signal}"] = through.metric.double().numpy()
    return out


def turned_away(turned: np.ndarray, bar: float = 0.0) -> np.ndarray:
    """bool [draw, head]: turned [draw, head, 3], the change of the receivers' attention, is for the
    worse, and by more than `bar`.

    Name movers should look at IO: worse is less at IO (the first column, summed over them) and more
    at S1 (the second). The others lower what they look at and should look at the subject: worse is
    less at S1 and S2 together (the third). The group that is turned most decides.
    """
    to_io, to_s1, subject = (turned[..., i] for i in range(3))
    movers = (to_io < -bar) & (to_s1 > 0)
    return np.where(np.abs(to_io) >= np.abs(subject), movers, subject < -bar)
