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


def claims_table(
    claims: pd.DataFrame, real: pd.DataFrame | None = None, name: str = ""
) -> pd.DataFrame:
    """The claims as the report shows them: verdicts with a mark, chapters as links in HTML.

    real: the same claims asked of another model, called `name`: a column of its own.
    """
    table = pd.DataFrame(
        {
            "claim": claims["claim"],
            "statistic": claims["statistic"],
            "bound": claims["bound"],
            "measured, with its 95 % interval": _both(claims["interval"], claims["measured"]),
            "here": claims["verdict"].map(MARKS),
            "asked with all others": claims["corrected"].map(MARKS).where(claims["asked"], ""),
        }
    )
    if real is not None:
        answered = real["measured"] != NEEDS_CHECKPOINTS
        answers = real["verdict"].map(MARKS) + ": " + _both(real["interval"], real["measured"])
        table[name] = answers.where(answered, NEEDS_CHECKPOINTS)
    return table.assign(**{"tested in": claims["chapter"].map(_link)})


def _both(intervals: pd.Series, measured: pd.Series) -> pd.Series:
    """The numbers, and in a second sentence what is said besides."""
    gap = (intervals.ne("") & measured.ne("")).map({True: ". ", False: ""})
    return intervals + gap + measured


def words_table(claims: pd.DataFrame) -> pd.DataFrame:
    """Each claim in the paper's words, and what must be excluded before we say that it holds."""
    names = {"claim": "claim", "words": "the paper", "source": "where", "null": "to be excluded"}
    return claims[list(names)].rename(columns=names)


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
