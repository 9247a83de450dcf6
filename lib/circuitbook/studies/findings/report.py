"""What the replication report shows: its summary, its claims, and the checkpoints left out."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from circuitbook.stats import Verdict
from circuitbook.studies.claims.report import NEEDS_CHECKPOINTS
from circuitbook.studies.claims.table import GROUPS
from circuitbook.wording import in_markdown

COUNTED = {  # (one claim does, several do)
    str(Verdict.HOLDS): ("holds", "hold"),
    str(Verdict.FAILS): ("does not hold", "do not hold"),
    str(Verdict.OPEN): ("can't be decided", "can't be decided"),
}


def summary(claims: pd.DataFrame) -> str:
    """How many claims hold, in Markdown; `claims` as from `claims.report.report`."""
    theirs = int((claims["about_pythia"] & ~claims["asked"]).sum())
    about = f" {theirs} of the undecided ones are about Pythia's own models." if theirs else ""
    return (
        f"**Of the {len(claims)} claims that we test, {_counts(claims['verdict'])} here.**{about}"
    )


def conditions(claims: pd.DataFrame, suite: str, recipe: str, models: Sequence[str]) -> str:
    """How many of the verdicts stand when all are tested at once, and what they are about."""
    corrected = claims.loc[claims["asked"], "corrected"]
    return (
        f"{len(corrected)} claims have evidence for or against them here. Tested all at once "
        "(Holm's correction: a chance of 5% at most that any verdict is wrong), of these "
        f"{_counts(corrected)}. Suite {in_markdown(suite)}, recipe {recipe}; models: "
        f"{in_markdown(*models)}."
    )


def _counts(verdicts: pd.Series) -> str:
    counts = verdicts.value_counts()
    first, second, third = (
        f"{number} {verbs[number != 1]}"
        for verdict, verbs in COUNTED.items()
        for number in [int(counts.get(verdict, 0))]
    )
    return f"{first}, {second}, and {third}"


def as_html(markdown: str) -> str:
    r"""A paragraph whose only markup is **bold**, in HTML.

    >>> as_html(r"**Suite \<b\>**: a \*\* & b")
    '<p><strong>Suite &lt;b&gt;</strong>: a ** &amp; b</p>'
    """
    return f"<p>{inline_html(markdown)}</p>"


def inline_html(markdown: str) -> str:
    """The same within a paragraph."""
    text = re.sub(r"(?<=[a-z])'(?=[a-z])", "’", html.escape(markdown, quote=False))
    bold = re.sub(r"(?<!\\)\*\*(.+?)(?<!\\)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\\(&\w+;|[^a-zA-Z0-9\s])", r"\1", bold)


def how_sure(claim: pd.Series, tested: int) -> str:
    """How sure a verdict is, in a sentence. claim: a row of `report`; tested: how many have
    evidence.
    """
    if not claim["asked"]:
        return f"Not tested here: {claim['measured'].split(';')[0]}."
    if claim["verdict"] == Verdict.OPEN.value:
        return f"Not sure: {claim['doubt']}."
    if tested == 1:
        return "Sure."
    if claim["corrected"] == claim["verdict"]:
        return f"Sure, even with all {tested} tested at once."
    return f"Sure alone, not with all {tested} tested at once."


def listed_claims(claims: pd.DataFrame) -> pd.DataFrame:
    """What the page lists of each claim, group by group.

    Columns: group, claim, verdict, asked, sure (`how_sure`), chapter, figure (its anchor in the
    chapter's page), and details, {what: text}.
    """
    tested = int(claims["asked"].sum())
    listed = claims[["group", "claim", "verdict", "asked", "chapter"]].copy()
    listed["sure"] = [how_sure(row, tested) for _, row in claims.iterrows()]
    listed["figure"] = "fig-" + claims["figure"]
    listed["details"] = [_details(row) for _, row in claims.iterrows()]
    order = {group: place for place, group in enumerate(GROUPS)}
    return listed.sort_values("group", key=lambda group: group.map(order), kind="stable")


def _details(claim: pd.Series) -> dict[str, str]:
    asked = claim["asked"]
    details = {
        "The paper": f"{claim['words']} ({claim['source']})",
        "The number": claim["statistic"],
        "Its bound": claim["bound"],
        "To be excluded": claim["null"],
        "Measured, with 95% intervals": claim["interval"] if asked else claim["measured"],
        "Besides": claim["measured"] if asked else "",
        "With all claims tested at once": claim["corrected"] if asked else "",
    }
    return {what: text for what, text in details.items() if text}


def answers_of_one_checkpoint(real: pd.DataFrame) -> pd.DataFrame:
    """The claims that need no checkpoints along training, with the figure of the real model."""
    answers = real[real["measured"] != NEEDS_CHECKPOINTS]
    return answers.assign(chapter="real-model", figure="real-shares")


def real_summary(real: pd.DataFrame | None, name: str) -> str:
    """How many claims a single checkpoint of another model can answer, and how it answers them."""
    if real is None:
        return f"Of {name} nothing was measured for this edition."
    answers = answers_of_one_checkpoint(real)
    return (
        f"One checkpoint of {name} can answer {len(answers)} of these claims: "
        f"{_counts(answers['verdict'])}. The others need checkpoints along training."
    )


def doubles(checked: pd.DataFrame, left_out: Mapping[str, Mapping[int, int]]) -> pd.DataFrame:
    """Checkpoints that have the weights of another step: columns model, step, same_as.

    checked: as from `integrity.check`. left_out: {model: {step: the step whose weights it has}}, of
    those that the parameters' check has left out already.
    """
    columns = ["model", "step", "same_as"]
    rows = [
        (model, step, other) for model, steps in left_out.items() for step, other in steps.items()
    ]
    found = checked.loc[checked["same_as"] >= 0, columns]
    both = pd.concat([found, pd.DataFrame(rows, columns=columns)])
    return both.sort_values(["model", "step"], ignore_index=True)


def all_are_different(checked: pd.DataFrame, suite: str) -> str:
    """What is said where no checkpoint has the weights of another."""
    return (
        f"None: the {len(checked)} checkpoints of suite {in_markdown(suite)} have "
        f"{checked['tensors'].nunique()} different sets of weights."
    )
