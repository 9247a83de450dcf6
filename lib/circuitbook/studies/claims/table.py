"""All claims, in the order of the paper: one record each.

What is in quotation marks is the abstract's (Tigges et al. 2024, NeurIPS); the rest says in our
words what the section or figure says. A claim's samples are resampled on every level there is:
seeds of a size, checkpoints, prompts (or the items of a score); a date is drawn between its two
checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from circuitbook.studies.claims.algorithm import SHARES, heads_exist, moved, small_circuits
from circuitbook.studies.claims.changes import fluctuates, head_drops, heads_change
from circuitbook.studies.claims.formation import (
    Test,
    ability,
    component,
    learning_speed,
    successors_fade,
    suppression_helps,
    tokens_of,
)
from circuitbook.studies.claims.stability import larger, logit_difference, steadier
from circuitbook.studies.head_scores import TITLES
from circuitbook.wording import TASK_SHORT

GROUPS = FORMATION, AFTER, ALGORITHM, CIRCUITS, PYTHIA = (
    "When abilities and heads form",
    "What changes afterwards",
    "The algorithm for IOI",
    "Circuits and their size",
    "Pythia's own numbers",
)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim: what the paper says and where, and how it is asked."""

    key: str
    claim: str
    """In our words, short."""
    words: str
    """The paper's, or what they come to."""
    source: str
    """Where the paper says so."""
    statistic: str
    null: str
    """What is to be excluded: the statistic's side of the bound on which the claim is wrong."""
    bound: str
    group: str
    """Among which claims the report lists it: one of `GROUPS`."""
    chapter: str
    """The page whose figure tests it,"""
    figure: str
    """and that figure's tag there."""
    test: Test
    at_one_checkpoint: bool = False
    """Whether a single checkpoint of each model can answer it."""
    about_pythia: bool = False
    """Whether it is about Pythia's own tokens, heads or numbers."""


_EMERGE = (
    '"task abilities and the functional components that support them emerge consistently at '
    'similar token counts across scale"; all but the smallest model'
)
_REMAINS = (
    '"although such components may be implemented by different attention heads over time, the '
    'overarching algorithm that they implement remains"'
)
_SIZE = (
    '"circuit size correlates with model size and can fluctuate considerably over time even when '
    'the same algorithm is implemented"'
)
_ALIKE: dict[str, Any] = {
    "null": "sizes a factor of two or more apart; no two of them further by chance alone "
    "(simultaneous over all pairs)",
    "bound": "2 (ours)",
}
_GROWS: dict[str, Any] = {
    "null": "no correlation; Fisher's z for so few sizes, and p not below that of all pairings",
    "bound": "above 0",
    "group": CIRCUITS,
}
_MOVED: dict[str, Any] = {
    "statistic": "mean faithfulness over the mean of the target's own circuit; and, in the lowest "
    "tenth of pairs, the way up to it from shuffled heads",
    "null": "less than nearly all; no better than half way from shuffled heads",
    "bound": "above 90%; above 50% (ours)",
    "group": ALGORITHM,
    "chapter": "algorithm",
}
_TASKS = ("ioi", "gendered_pronoun", "greater_than", "sva")


def _abilities() -> list[Claim]:
    return [
        Claim(
            key=f"ability {task}",
            claim=f"{TASK_SHORT[task]} is learned at a similar time at every size",
            words=_EMERGE,
            source="abstract; section 3.1, Figure 1",
            statistic="tokens to half of the final score, slowest over quickest size, without the "
            "smallest",
            group=FORMATION,
            chapter="abilities",
            figure="abilities",
            test=ability(task),
            **_ALIKE,
        )
        for task in _TASKS
    ]


def _components() -> list[Claim]:
    return [
        Claim(
            key=f"component {kind}",
            claim=f"{TITLES[kind].split(' (')[0]} heads form at a similar time at every size",
            words=_EMERGE,
            source="abstract; section 3.2, Figure 2",
            statistic="tokens to half of the largest score, slowest over quickest size, without "
            "the smallest",
            group=FORMATION,
            chapter="components",
            figure="strongest-heads",
            test=component(kind),
            **_ALIKE,
        )
        for kind in ("induction", "successor", "copy", "copy_suppression")
    ]


def _dates() -> list[Claim]:
    dates = {
        "induction": ("Induction heads form near 2 billion tokens", 1e9, 4e9),
        "successor": ("Successor heads form at 2 to 5 billion tokens", 2e9, 5e9),
        "copy": ("Name movers form at 2 to 8 billion tokens", 2e9, 8e9),
        "copy_suppression": ("Copy suppression forms at 2 to 8 billion tokens", 2e9, 8e9),
    }
    return [
        Claim(
            key=f"tokens {kind}",
            claim=claim,
            words=f"in Pythia: {claim[0].lower()}{claim[1:]}",
            source="section 3.2, Figure 2",
            statistic="tokens to half of the largest score, of each size",
            null="outside of that",
            bound=f"{first / 1e9:g} to {last / 1e9:g} billion",
            group=PYTHIA,
            chapter="components",
            figure="strongest-heads",
            test=tokens_of(kind, first, last),
            about_pythia=True,
        )
        for kind, (claim, first, last) in dates.items()
    ]


_SHARES = {
    "direct": ("Name movers and copy suppression explain more than 70% of the direct effect", "B"),
    "steering": ("S-inhibition explains more than 50% of what steers them", "C"),
    "tertiary": (
        "Induction and duplicate-token heads explain more than 50% of what informs those",
        "D",
    ),
}


def _shares() -> list[Claim]:
    return [
        Claim(
            key=f"share {stage}",
            claim=f"{claim}, at all checkpoints",
            words=f"{claim[0].lower()}{claim[1:]}, in Pythia's IOI circuits at all times shown",
            source=f"section 4.2, Figure 4 {panel}",
            statistic="share of the stage's absolute effects, of every run and checkpoint from the "
            "first that has the stage, where any has",
            null="the share is below",
            bound="70%" if stage == "direct" else "50%",
            group=ALGORITHM,
            chapter="algorithm",
            figure="shares",
            test=SHARES[stage],
            at_one_checkpoint=True,
        )
        for stage, (claim, panel) in _SHARES.items()
    ]


def _growing() -> list[Claim]:
    return [
        Claim(
            key=f"larger {task}",
            claim=f"{TASK_SHORT[task]}: larger models have larger circuits",
            words=_SIZE,
            source="abstract; section 4.3",
            statistic="correlation of the mean number of nodes with the number of parameters, "
            "without the smallest",
            chapter="stability",
            figure="model-sizes",
            test=larger(task),
            **_GROWS,
        )
        for task in _TASKS
    ]


def _printed() -> list[Claim]:
    printed = {
        "pythia-160m": ("4.13 at the end", {143000: 4.134}),
        "pythia-410m": ("1.81 at step 4,000 and 3.28 at 5,000", {4000: 1.81, 5000: 3.28}),
        "pythia-2.8b": (
            "1.89 at step 3,000, 3.5 at 10,000, 3.67 at the end",
            {3000: 1.89, 10000: 3.5, 143000: 3.67},
        ),
    }
    return [
        Claim(
            key=f"printed {model}",
            claim=f"IOI logit difference of {model}: {numbers}",
            words="printed outputs of the authors' code",
            source="authors' notebook",
            statistic="mean logit difference at these steps",
            null="further off than that",
            bound="within 15% (ours)",
            group=PYTHIA,
            chapter="abilities",
            figure="abilities",
            test=logit_difference(model, expected),
            about_pythia=True,
        )
        for model, (numbers, expected) in printed.items()
    ]


CLAIMS: tuple[Claim, ...] = (
    *_abilities(),
    Claim(
        key="learning speed",
        claim="The largest model learns IOI less than twice as fast as the second smallest",
        words="the IOI curves of the largest models look like that of the second smallest: larger "
        "models do not go on learning faster",
        source="section 3.1, Figure 1",
        statistic="tokens to half of IOI, second smallest over largest size",
        null="a factor of two or more, either way",
        bound="1/2 to 2 (ours)",
        group=FORMATION,
        chapter="abilities",
        figure="abilities",
        test=learning_speed,
    ),
    *_components(),
    *_dates(),
    Claim(
        key="successors fade",
        claim="Successor heads weaken later in training",
        words="successor heads form early, and are weaker later in training",
        source="section 3.2, Figure 2",
        statistic="the strongest head's mean score in the later half of the checkpoints since it "
        "formed, over that in the earlier half, of each size",
        null="as strong as before: a largest score would be too large by chance, two means are not",
        bound="below 90% (ours)",
        group=AFTER,
        chapter="after-formation",
        figure="head-lines",
        test=successors_fade,
    ),
    Claim(
        key="suppression helps",
        claim="Copy suppression heads help IOI (in GPT-2 they work against it)",
        words="unlike in GPT-2, Pythia's copy suppression heads contribute positively to IOI",
        source="section 4.2",
        statistic="mean direct effect of such heads, as a share of the logit difference, of each "
        "size",
        null="no effect, or a harmful one",
        bound="above 0",
        group=ALGORITHM,
        chapter="algorithm",
        figure="shares",
        test=suppression_helps,
        at_one_checkpoint=True,
    ),
    Claim(
        key="small circuits",
        claim="At most 5% of the edges keep 80% of a task",
        words="circuits that keep at least 80% of the performance are found among at most 5% of "
        "the edges",
        source="section 2",
        statistic="share of the edges that suffices in nine of ten searches (tasks, checkpoints), "
        "of each size",
        null="more are needed, also on other prompts",
        bound="below 5%",
        group=CIRCUITS,
        chapter="circuits-over-training",
        figure="circuit-sizes",
        test=small_circuits,
        at_one_checkpoint=True,
    ),
    Claim(
        key="heads change",
        claim="Heads take up a job and lose it again",
        words=_REMAINS,
        source="abstract; section 4.1",
        statistic="how far the clearest case passes the bar of its kind and later falls below it, "
        "over the bar, of each size; chosen on half of the items, measured on the other half",
        null="no head is above and later below",
        bound="above 0",
        group=AFTER,
        chapter="after-formation",
        figure="head-lines",
        test=heads_change,
    ),
    Claim(
        key="heads exist",
        claim="Name movers, S-inhibition, and induction or duplicate-token heads do IOI",
        words='"both these algorithms and the types of components involved therein tend to '
        'replicate across model scale"',
        source="abstract; section 4.2",
        statistic="the largest effect of a head of each step at the last checkpoint, of each size; "
        "0 without one",
        null="no such head does anything",
        bound="above 1% of the effect (ours)",
        group=ALGORITHM,
        chapter="algorithm",
        figure="shares",
        test=heads_exist,
        at_one_checkpoint=True,
    ),
    *_shares(),
    Claim(
        key="circuit moves",
        claim="An IOI circuit works at other checkpoints of its run",
        words="ours; what a circuit that stays would do",
        source="after section 4.2",
        figure="transfers",
        test=moved("circuit", "same run"),
        **_MOVED,
    ),
    Claim(
        key="algorithm moves",
        claim="The IOI algorithm works at other checkpoints, on other heads",
        words=_REMAINS,
        source="abstract",
        figure="transfers",
        test=moved("classes", "same run"),
        **_MOVED,
    ),
    Claim(
        key="algorithm crosses sizes",
        claim="The algorithm of one size works at another size",
        words='"both these algorithms and the types of components involved therein tend to '
        'replicate across model scale"',
        source="abstract",
        figure="across-sizes",
        test=moved("classes", "other size"),
        **_MOVED,
    ),
    Claim(
        key="steadier",
        claim="Circuits of larger models are steadier",
        words="circuits of larger models are more similar from checkpoint to checkpoint",
        source="section 4.3, Figure 5",
        statistic="correlation of the mean similarity of neighbouring checkpoints with the number "
        "of parameters, without the smallest",
        chapter="stability",
        figure="bounds",
        test=steadier,
        **_GROWS,
    ),
    *_growing(),
    Claim(
        key="fluctuates",
        claim="The size of a circuit fluctuates during training",
        words=_SIZE,
        source="abstract",
        statistic="deviation of the number of edges about its trend, as a share of it, less what "
        "other prompts do, of each size",
        null="the size changes no more than that",
        bound="above 20% (ours)",
        group=AFTER,
        chapter="circuits-over-training",
        figure="circuit-sizes",
        test=fluctuates,
    ),
    Claim(
        key="head drops",
        claim="Head 4.6 of pythia-160m loses its job near 30 billion tokens",
        words="head (4, 6) of Pythia-160m suddenly loses its function near 30 billion tokens, and "
        "others take over",
        source="section 4.1",
        statistic="how far its induction or copy score is above the bar until 20 billion tokens, "
        "and from 40 billion on below half of that; the smaller, over the bar",
        null="it never had the job, or keeps half of it",
        bound="above 0",
        group=PYTHIA,
        chapter="after-formation",
        figure="head-lines",
        test=head_drops,
        about_pythia=True,
    ),
    *_printed(),
)
