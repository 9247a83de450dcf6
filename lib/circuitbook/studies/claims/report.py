"""The report: every claim of the table, answered by the evidence at hand."""

from __future__ import annotations

import pandas as pd

from circuitbook.studies.claims.deciding import Answer, corrected
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.claims.table import CLAIMS

NEEDS_CHECKPOINTS = "needs checkpoints"


def report(evidence: Evidence) -> pd.DataFrame:
    """A row per claim, in the order of the paper.

    Columns: those of `Claim` but for how it is tested; asked (whether the evidence says anything),
    interval (the parts with 95% intervals), measured (what else), verdict, doubt (why it is open),
    p, and corrected: the verdict that stands when all that are asked are asked at once. A suite
    with a single checkpoint of each model can answer few of them.
    """
    answers = [
        claim.test(evidence)
        if evidence.along_training or claim.at_one_checkpoint
        else Answer.open(NEEDS_CHECKPOINTS)
        for claim in CLAIMS
    ]
    rows = []
    for claim, answer, stands in zip(CLAIMS, answers, corrected(answers), strict=True):
        rows.append(
            {
                "key": claim.key,
                "claim": claim.claim,
                "words": claim.words,
                "source": claim.source,
                "statistic": claim.statistic,
                "null": claim.null,
                "bound": claim.bound,
                "group": claim.group,
                "chapter": claim.chapter,
                "figure": claim.figure,
                "about_pythia": claim.about_pythia,
                "asked": bool(answer.parts),
                "interval": answer.shown,
                "measured": answer.measured,
                "verdict": str(answer.verdict),
                "doubt": answer.doubt,
                "p": answer.p,
                "corrected": str(stands),
            }
        )
    return pd.DataFrame(rows)
