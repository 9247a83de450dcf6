"""Heads put into the classes of the IOI algorithm by what they do: the stages of the paper's test
(Tigges et al. 2024, section 4.2, Figure 4), each found by path patching from the one before.
"""

from __future__ import annotations

import numpy as np
import torch

from circuitbook.heads.attention import attention_from_end
from circuitbook.heads.names import all_heads, head_name
from circuitbook.heads.path_patching import baselines, path_patch
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.loaded import Model
from circuitbook.recipes import AlgorithmSettings
from circuitbook.studies.head_scores import PLACES, HeadScores
from circuitbook.tasks import PromptPairs, ioi

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


def direct_classes(scores: HeadScores, settings: AlgorithmSettings) -> dict[str, np.ndarray]:
    """The classes of the stage "direct", {class: bool [head]}, by score and sign of the direct
    effect (negative helps).
    """
    effect, bar = scores.score("direct"), settings.direct_bar
    copies, lowers = (scores.score(kind) > settings.copy_bar for kind in ("copy", "negative_copy"))
    suppresses = (
        np.nan_to_num(scores.score("copy_suppression"), nan=-np.inf) > settings.suppression_bar
    )
    return {
        "name mover": copies & (effect < -bar),
        "copy suppression": suppresses & (effect < -bar),
        "negative name mover": lowers & (np.abs(effect) > bar),
        "negative copy suppression": suppresses & (effect > bar),
    }


@torch.no_grad()
def classify_heads(
    model: Model,
    scores: HeadScores,
    mask: np.ndarray,
    settings: AlgorithmSettings,
    n: int,
    seed: int = 42,
) -> dict[str, np.ndarray]:
    """What `HeadClasses` needs of a checkpoint beyond its head scores; `mask` is its IOI circuit,
    bool [src, dst].

    Stage "steering": receivers are the queries of all name movers, or ("direct" in the settings, as
    the caption of Figure 4 has it) of all heads of the stage before that help. A head is
    S-inhibition if its effect through them is below -through_bar, if (in `paper`) the circuit has
    an edge from it to such a query, and if the signal named in the settings, patched at END, lowers
    the logit difference and turns them away from what they should look at (see `turned_away`).
    Stage "tertiary": receivers are the values of S-inhibition heads that are not copy suppression.
    A head is of a class if its effect is below -through_bar and its induction (duplicate-token)
    score above the mean of all heads.
    """
    if settings.signal not in SIGNALS:
        raise ValueError(
            f"unknown signal {settings.signal!r}; there are: {', '.join(map(repr, SIGNALS))}"
        )
    classes = direct_classes(scores, settings)
    everyone = all_heads(model)
    none = np.zeros(len(everyone), bool)
    pairs = ioi.TASK.prompts(model.tokenizer, n=n, seed=seed)
    clean, corrupted = (part.double().mean().item() for part in baselines(model, pairs))

    def effect(metric: torch.Tensor) -> np.ndarray:
        return (metric.double().mean(1).numpy() - clean) / (clean - corrupted)

    out: dict[str, np.ndarray] = {}
    steers = classes["name mover"]
    if settings.receivers == "direct":
        helps = scores.score("direct") < -settings.direct_bar
        steers = np.any([classes[name] for name in STAGES["direct"]], axis=0) & helps
    inhibits = none
    if steers.any():
        rows = steers.nonzero()[0]
        steered = [everyone[row] for row in rows]
        receivers = [f"{head_name(head)}<q>" for head in steered]
        patched = path_patch(model, pairs, everyone, receivers).metric
        before = mean_attention_from_end(model, pairs, rows)  # [receiver, place]
        signals, worse = [], none
        for signal in SIGNALS:
            moved = ioi.TASK.prompts(model.tokenizer, n=n, seed=seed, corruption=signal)
            through = path_patch(
                model,
                moved,
                everyone,
                receivers,
                sender_at="END",
                receiver_at="END",
                watch=steered,
                places=PLACES,
            )
            signals.append(effect(through.metric))
            if signal == settings.signal:
                assert through.attention is not None
                after = through.attention.double().mean(3).numpy()  # [head, receiver, place]
                worse = (signals[-1] < 0) & turned_away(after - before, classes["name mover"][rows])
        inhibits = (effect(patched) < -settings.through_bar) & worse
        if settings.needs_edge:
            graph = graph_of(model)
            columns = [graph.destination(layer, head, "q") for layer, head in steered]
            inhibits &= np.array([mask[graph.source(*head), columns].any() for head in everyone])
        out |= {"patched.steering": patched.double().numpy(), "signals": np.stack(signals, 1)}
        out["receivers.q"] = np.array(steered)
    classes["S-inhibition"] = inhibits

    informs = inhibits & ~(classes["copy suppression"] | classes["negative copy suppression"])
    classes["induction"] = classes["duplicate token"] = none
    if informs.any():
        informed = [everyone[row] for row in informs.nonzero()[0]]
        receivers = [f"{head_name(head)}<v>" for head in informed]
        patched = path_patch(model, pairs, everyone, receivers).metric
        matters = effect(patched) < -settings.through_bar
        for name, kind in (("induction", "induction"), ("duplicate token", "duplicate")):
            score = scores.score(kind)
            classes[name] = matters & (score > score.mean())
        out |= {"patched.tertiary": patched.double().numpy(), "receivers.v": np.array(informed)}
    return out | {f"class.{name}": found for name, found in classes.items()}


def mean_attention_from_end(model: Model, pairs: PromptPairs, rows: np.ndarray) -> np.ndarray:
    """Mean attention from END of these heads to `PLACES`, float64 [head, place]."""
    attention = attention_from_end(network_of(model), pairs, PLACES)
    return (
        torch.stack([attention[place][rows].double().mean(1) for place in PLACES], 1).cpu().numpy()
    )


def turned_away(turned: np.ndarray, movers: np.ndarray) -> np.ndarray:
    """bool [head]: turned [head, receiver, place], the change of the receivers' attention, is for
    the worse.

    Name movers (bool [receiver]) should look at IO: worse is less at IO and more at S1. The others
    lower what they look at and should look at the subject: worse is less at S1 and S2. Summed over
    either group; the group that is turned most decides.
    """
    io, s1, s2 = (turned[:, :, i] for i in range(3))
    to_io, to_s1, subject = io[:, movers].sum(1), s1[:, movers].sum(1), (s1 + s2)[:, ~movers].sum(1)
    return np.where(np.abs(to_io) >= np.abs(subject), (to_io < 0) & (to_s1 > 0), subject < 0)
