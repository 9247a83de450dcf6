"""All claims in the order of the paper, and the report that answers them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.studies.claims.algorithm import _heads_change, _moved, _share, _small_circuits
from circuitbook.studies.claims.evidence import Claim, Evidence
from circuitbook.studies.claims.formation import (
    Test,
    _ability,
    _component,
    _learning_speed,
    _successors_fade,
    _suppression_helps,
    _tokens_of,
)
from circuitbook.studies.claims.stability import (
    _fluctuates,
    _head_drops,
    _larger,
    _logit_difference,
    _steadier,
)
from circuitbook.studies.head_scores import TITLES

ANSWERS = ("holds", "does not hold", "can't tell")


def report(evidence: Evidence) -> list[Claim]:
    """All claims, in the order of the paper."""
    return [
        Claim(claim, source, chapter, *test(evidence)) for claim, source, chapter, test in CLAIMS
    ]


def table(claims: Sequence[Claim]) -> pd.DataFrame:
    return pd.DataFrame([vars(one) for one in claims])


def about_pythia(found: pd.DataFrame) -> int:
    """How many claims of a `table` could not be told because they are about Pythia's own models or
    tokens, and others were measured.
    """
    theirs = found["measured"].str.contains("Pythia's|is not among the models")
    return int((theirs & (found["answer"] == "can't tell")).sum())


_NAMES = {"ioi": "IOI", "gendered_pronoun": "Pronoun", "greater_than": "Greater-Than", "sva": "SVA"}


_CHAPTER = {
    name: f"/notebooks/{name}"
    for name in (
        "abilities",
        "circuits-over-training",
        "components",
        "after-formation",
        "algorithm",
        "stability",
    )
}


# (what is claimed, where, the chapter that tests it, how it is asked); claims in our words, see
# Tigges et al. 2024
CLAIMS: tuple[tuple[str, str, str, Test], ...] = (
    *(
        (
            f"{_NAMES[task]}: the ability appears after similar numbers of tokens at every size",
            "abstract; Figure 1",
            _CHAPTER["abilities"],
            _ability(task),
        )
        for task in _NAMES
    ),
    (
        "Learning does not go on getting faster with size: the largest models are like the second smallest",
        "Figure 1",
        _CHAPTER["abilities"],
        _learning_speed,
    ),
    *(
        (
            f"{TITLES[kind].split(' (')[0]} heads form after similar numbers of tokens at every size",
            "abstract; Figure 2",
            _CHAPTER["components"],
            _component(kind),
        )
        for kind in ("induction", "successor", "copy", "copy_suppression")
    ),
    (
        "Induction heads form near 2 billion tokens",
        "Figure 2",
        _CHAPTER["components"],
        _tokens_of("induction", 1e9, 4e9),
    ),
    (
        "Successor heads form at 2 to 5 billion tokens",
        "Figure 2",
        _CHAPTER["components"],
        _tokens_of("successor", 2e9, 5e9),
    ),
    (
        "Name movers form at 2 to 8 billion tokens",
        "Figure 2",
        _CHAPTER["components"],
        _tokens_of("copy", 2e9, 8e9),
    ),
    (
        "Copy suppression forms at 2 to 8 billion tokens",
        "Figure 2",
        _CHAPTER["components"],
        _tokens_of("copy_suppression", 2e9, 8e9),
    ),
    ("Successor heads are weaker later", "Figure 2", _CHAPTER["after-formation"], _successors_fade),
    (
        "Copy suppression heads help IOI (in GPT-2 they work against it)",
        "section 4.2",
        _CHAPTER["algorithm"],
        _suppression_helps,
    ),
    (
        "At most 5 % of the edges keep 80 % of a task",
        "section 2",
        _CHAPTER["circuits-over-training"],
        _small_circuits,
    ),
    (
        "Heads take up a job and lose it again",
        "abstract; section 4.1",
        _CHAPTER["algorithm"],
        _heads_change,
    ),
    (
        "Name movers and copy suppression explain more than 70 % of the direct effect at all checkpoints",
        "Figure 4 B",
        _CHAPTER["algorithm"],
        _share("direct"),
    ),
    (
        "S-inhibition explains more than 50 % of what steers them",
        "Figure 4 C",
        _CHAPTER["algorithm"],
        _share("steering"),
    ),
    (
        "Induction and duplicate-token heads explain more than 50 % of what informs those",
        "Figure 4 D",
        _CHAPTER["algorithm"],
        _share("tertiary"),
    ),
    (
        "The IOI circuit of one checkpoint works at another of the run",
        "ours; after section 4.2",
        _CHAPTER["algorithm"],
        _moved("circuit", "same run"),
    ),
    (
        "The algorithm (the classes, on other heads) of one checkpoint works at another of the run",
        "abstract; ours",
        _CHAPTER["algorithm"],
        _moved("classes", "same run"),
    ),
    (
        "The algorithm of one size works in another",
        "abstract; ours",
        _CHAPTER["algorithm"],
        _moved("classes", "other size"),
    ),
    ("Circuits of larger models are steadier", "Figure 5", _CHAPTER["stability"], _steadier),
    *(
        (
            f"{_NAMES[task]}: the circuit grows with the model",
            "section 4.3",
            _CHAPTER["stability"],
            _larger(task),
        )
        for task in _NAMES
    ),
    (
        "The size of a circuit fluctuates during training",
        "abstract",
        _CHAPTER["circuits-over-training"],
        _fluctuates,
    ),
    (
        "Head 4.6 of pythia-160m loses its job near 30 billion tokens",
        "section 4.1",
        _CHAPTER["after-formation"],
        _head_drops,
    ),
    (
        "IOI logit difference of pythia-160m at the end: 4.13",
        "authors' notebook",
        _CHAPTER["abilities"],
        _logit_difference("pythia-160m", {143000: 4.134}),
    ),
    (
        "IOI logit difference of pythia-410m: 1.81 at step 4,000 and 3.28 at 5,000",
        "authors' notebook",
        _CHAPTER["abilities"],
        _logit_difference("pythia-410m", {4000: 1.81, 5000: 3.28}),
    ),
    (
        "IOI logit difference of pythia-2.8b: 1.89 at step 3,000, 3.5 at 10,000, 3.67 at the end",
        "authors' notebook",
        _CHAPTER["abilities"],
        _logit_difference("pythia-2.8b", {3000: 1.89, 10000: 3.5, 143000: 3.67}),
    ),
)
