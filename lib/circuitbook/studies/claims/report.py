"""All claims in the order of the paper, and the report that answers them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.stats import Verdict
from circuitbook.studies.claims.algorithm import (
    SHARES,
    heads_change,
    heads_exist,
    moved,
    small_circuits,
)
from circuitbook.studies.claims.evidence import Claim, Evidence
from circuitbook.studies.claims.formation import (
    Test,
    ability,
    component,
    learning_speed,
    successors_fade,
    suppression_helps,
    tokens_of,
)
from circuitbook.studies.claims.stability import (
    fluctuates,
    head_drops,
    larger,
    logit_difference,
    steadier,
)
from circuitbook.studies.head_scores import TITLES


def report(evidence: Evidence) -> list[Claim]:
    """All claims, in the order of the paper.

    Of a suite with a single checkpoint of each model most cannot be told.
    """
    answered = []
    for claim, source, chapter, test in CLAIMS:
        if evidence.along_training or test in AT_ONE_CHECKPOINT:
            verdict, measured = test(evidence)
        else:
            verdict, measured = Verdict.OPEN, NEEDS_CHECKPOINTS
        answered.append(Claim(claim, source, f"/notebooks/{chapter}", str(verdict), measured))
    return answered


def table(claims: Sequence[Claim]) -> pd.DataFrame:
    """A row per claim, columns as the fields of `Claim`."""
    return pd.DataFrame([vars(claim) for claim in claims])


def about_pythia(claims: pd.DataFrame) -> int:
    """How many claims of a `table` could not be told because they are about Pythia's own models or
    tokens, and others were measured.
    """
    theirs = claims["measured"].str.contains("Pythia's|is not among the models")
    return int((theirs & (claims["answer"] == Verdict.OPEN.value)).sum())


NEEDS_CHECKPOINTS = "needs checkpoints"

# the claims that can be asked of one checkpoint
AT_ONE_CHECKPOINT: tuple[Test, ...] = (
    suppression_helps,
    small_circuits,
    heads_exist,
    *SHARES.values(),
)

_NAMES = {"ioi": "IOI", "gendered_pronoun": "Pronoun", "greater_than": "Greater-Than", "sva": "SVA"}


# (what is claimed, where, the chapter that tests it, how it is asked); claims in our words, see
# Tigges et al. 2024
CLAIMS: tuple[tuple[str, str, str, Test], ...] = (
    *(
        (
            f"{_NAMES[task]}: the ability appears after similar numbers of tokens at every size",
            "abstract; Figure 1",
            "abilities",
            ability(task),
        )
        for task in _NAMES
    ),
    (
        "Learning does not go on getting faster with size: the largest models are like the "
        "second smallest",
        "Figure 1",
        "abilities",
        learning_speed,
    ),
    *(
        (
            f"{TITLES[kind].split(' (')[0]} heads form after similar numbers of tokens at every "
            "size",
            "abstract; Figure 2",
            "components",
            component(kind),
        )
        for kind in ("induction", "successor", "copy", "copy_suppression")
    ),
    (
        "Induction heads form near 2 billion tokens",
        "Figure 2",
        "components",
        tokens_of("induction", 1e9, 4e9),
    ),
    (
        "Successor heads form at 2 to 5 billion tokens",
        "Figure 2",
        "components",
        tokens_of("successor", 2e9, 5e9),
    ),
    (
        "Name movers form at 2 to 8 billion tokens",
        "Figure 2",
        "components",
        tokens_of("copy", 2e9, 8e9),
    ),
    (
        "Copy suppression forms at 2 to 8 billion tokens",
        "Figure 2",
        "components",
        tokens_of("copy_suppression", 2e9, 8e9),
    ),
    ("Successor heads are weaker later", "Figure 2", "after-formation", successors_fade),
    (
        "Copy suppression heads help IOI (in GPT-2 they work against it)",
        "section 4.2",
        "algorithm",
        suppression_helps,
    ),
    (
        "At most 5 % of the edges keep 80 % of a task",
        "section 2",
        "circuits-over-training",
        small_circuits,
    ),
    (
        "Heads take up a job and lose it again",
        "abstract; section 4.1",
        "algorithm",
        heads_change,
    ),
    (
        "Name movers, S-inhibition, and induction or duplicate-token heads do IOI",
        "section 4.2",
        "algorithm",
        heads_exist,
    ),
    (
        "Name movers and copy suppression explain more than 70 % of the direct effect at all "
        "checkpoints",
        "Figure 4 B",
        "algorithm",
        SHARES["direct"],
    ),
    (
        "S-inhibition explains more than 50 % of what steers them",
        "Figure 4 C",
        "algorithm",
        SHARES["steering"],
    ),
    (
        "Induction and duplicate-token heads explain more than 50 % of what informs those",
        "Figure 4 D",
        "algorithm",
        SHARES["tertiary"],
    ),
    (
        "The IOI circuit of one checkpoint works at another of the run",
        "ours; after section 4.2",
        "algorithm",
        moved("circuit", "same run"),
    ),
    (
        "The algorithm (the classes, on other heads) of one checkpoint works at another of the run",
        "abstract; ours",
        "algorithm",
        moved("classes", "same run"),
    ),
    (
        "The algorithm of one size works in another",
        "abstract; ours",
        "algorithm",
        moved("classes", "other size"),
    ),
    ("Circuits of larger models are steadier", "Figure 5", "stability", steadier),
    *(
        (
            f"{_NAMES[task]}: the circuit grows with the model",
            "section 4.3",
            "stability",
            larger(task),
        )
        for task in _NAMES
    ),
    (
        "The size of a circuit fluctuates during training",
        "abstract",
        "circuits-over-training",
        fluctuates,
    ),
    (
        "Head 4.6 of pythia-160m loses its job near 30 billion tokens",
        "section 4.1",
        "after-formation",
        head_drops,
    ),
    (
        "IOI logit difference of pythia-160m at the end: 4.13",
        "authors' notebook",
        "abilities",
        logit_difference("pythia-160m", {143000: 4.134}),
    ),
    (
        "IOI logit difference of pythia-410m: 1.81 at step 4,000 and 3.28 at 5,000",
        "authors' notebook",
        "abilities",
        logit_difference("pythia-410m", {4000: 1.81, 5000: 3.28}),
    ),
    (
        "IOI logit difference of pythia-2.8b: 1.89 at step 3,000, 3.5 at 10,000, 3.67 at the end",
        "authors' notebook",
        "abilities",
        logit_difference("pythia-2.8b", {3000: 1.89, 10000: 3.5, 143000: 3.67}),
    ),
)
