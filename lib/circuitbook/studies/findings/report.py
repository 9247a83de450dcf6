"""What the replication report shows: its summary, its table, and the checkpoints left out."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from circuitbook.studies.claims.report import NEEDS_CHECKPOINTS
from circuitbook.wording import in_markdown

MARKS = {"holds": "✓ holds", "does not hold": "✗ does not hold", "can't tell": "? can't tell"}
COUNTED = {"holds": "hold", "does not hold": "do not hold", "can't tell": "cannot be told"}


def summary(claims: pd.DataFrame, suite: str, recipe: str, models: Sequence[str]) -> str:
    """How many claims hold, and how many of the verdicts stand when all are asked at once, in
    Markdown; `claims` as from `claims.report.report`.
    """
    theirs = int((claims["about_pythia"] & ~claims["asked"]).sum())
    about = f" ({theirs} of these are about Pythia's own models)" if theirs else ""
    asked = int(claims["asked"].sum())
    corrected = claims.loc[claims["asked"], "corrected"]
    return (
        f"**Suite {in_markdown(suite)}**, recipe {recipe}, models {in_markdown(*models)}: "
        f"of {len(claims)} claims, {_counts(claims['verdict'])}{about}. {asked} claims have "
        "evidence for or against them here. Asked all at once (Holm's correction, 5 % for one "
        f"wrong verdict or more), of these {_counts(corrected)}."
    )


def _counts(verdicts: pd.Series) -> str:
    counts = verdicts.value_counts()
    return ", ".join(f"{counts.get(verdict, 0)} {verb}" for verdict, verb in COUNTED.items())


def as_html(markdown: str) -> str:
    r"""A paragraph whose only markup is **bold**, in HTML.

    >>> as_html(r"**Suite \<b\>**: a \*\* & b")
    '<p><strong>Suite &lt;b&gt;</strong>: a ** &amp; b</p>'
    """
    text = html.escape(markdown, quote=False)
    bold = re.sub(r"(?<!\\)\*\*(.+?)(?<!\\)\*\*", r"<strong>\1</strong>", text)
    return "<p>" + re.sub(r"\\(&\w+;|[^a-zA-Z0-9\s])", r"\1", bold) + "</p>"


def claims_table(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims as the report shows them: verdicts with a mark, chapters as links in HTML."""
    return pd.DataFrame(
        {
            "claim": claims["claim"],
            "statistic": claims["statistic"],
            "measured [95 %]": claims["interval"].where(claims["asked"], claims["measured"]),
            "bound": claims["bound"],
            "here": claims["verdict"].map(MARKS),
            "asked with all": claims["corrected"].map(MARKS).where(claims["asked"], ""),
            "tested in": claims["chapter"].map(_link),
        }
    )


def words_table(claims: pd.DataFrame) -> pd.DataFrame:
    """Each claim in the paper's words, what must be excluded before we say that it holds, and what
    was measured besides.
    """
    return pd.DataFrame(
        {
            "claim": claims["claim"],
            "the paper": claims["words"] + " (" + claims["source"] + ")",
            "to be excluded": claims["null"],
            "measured besides": claims["measured"].where(claims["asked"], ""),
        }
    )


def real_table(real: pd.DataFrame) -> pd.DataFrame:
    """The claims that a single checkpoint of another model can answer, with its answers."""
    asked = real[real["measured"] != NEEDS_CHECKPOINTS]
    gap = (asked["interval"].ne("") & asked["measured"].ne("")).map({True: ". ", False: ""})
    return pd.DataFrame(
        {
            "claim": asked["claim"],
            "measured [95 %]": asked["interval"] + gap + asked["measured"],
            "bound": asked["bound"],
            "verdict": asked["verdict"].map(MARKS),
        }
    )


def real_summary(real: pd.DataFrame | None, name: str) -> str:
    """How many claims a single checkpoint of another model can answer, and how it answers them."""
    if real is None:
        return f"Of {name} nothing was measured for this edition."
    asked = real[real["measured"] != NEEDS_CHECKPOINTS]
    return (
        f"One checkpoint of {name} can answer {len(asked)} of these claims: "
        f"{_counts(asked['verdict'])}. The others need checkpoints along training."
    )


def _link(chapter: str) -> str:
    """A link to a chapter's page.

    >>> _link("/notebooks/after-formation")
    '<a href="after-formation.html">after formation</a>'
    """
    page = chapter.rsplit("/", 1)[1]
    return f'<a href="{page}.html">{page.replace("-", " ")}</a>'


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
