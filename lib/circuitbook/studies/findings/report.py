"""What the replication report shows: its summary, its table, and the checkpoints left out."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from circuitbook.studies.claims.report import NEEDS_CHECKPOINTS, about_pythia
from circuitbook.wording import in_markdown

MARKS = {"holds": "✓ holds", "does not hold": "✗ does not hold", "can't tell": "? can't tell"}
COUNTED = {"holds": "hold", "does not hold": "do not hold", "can't tell": "cannot be told"}


def summary(claims: pd.DataFrame, suite: str, recipe: str, models: Sequence[str]) -> str:
    """How many claims hold, in Markdown; `claims` as from `claims.report.table`."""
    answers = claims["answer"].value_counts()
    counts = ", ".join(f"{answers.get(answer, 0)} {verb}" for answer, verb in COUNTED.items())
    theirs = about_pythia(claims)
    about = f" ({theirs} of these are about Pythia's own models)" if theirs else ""
    return (
        f"**Suite {in_markdown(suite)}**, recipe {recipe}, models {in_markdown(*models)}: "
        f"of {len(claims)} claims, {counts}{about}."
    )


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
    """The claims as the report shows them: answers with a mark, chapters as links in HTML.

    real: the same claims asked of another model, called `name`: a column of its own.
    """
    table = pd.DataFrame(
        {
            "claim": claims["claim"],
            "here": claims["answer"].map(MARKS),
            "measured": claims["measured"],
        }
    )
    if real is not None:
        answered = real["measured"] != NEEDS_CHECKPOINTS
        answers = real["answer"].map(MARKS) + ": " + real["measured"]
        table[name] = answers.where(answered, NEEDS_CHECKPOINTS)
    return table.assign(
        **{"tested in": claims["chapter"].map(_link), "in the paper": claims["source"]}
    )


def real_summary(real: pd.DataFrame | None, name: str) -> str:
    """How many claims a single checkpoint of another model can answer, and how it answers them."""
    if real is None:
        return f"Of {name} nothing was measured for this edition."
    asked = real[real["measured"] != NEEDS_CHECKPOINTS]
    answers = asked["answer"].value_counts()
    counts = ", ".join(f"{answers.get(answer, 0)} {verb}" for answer, verb in COUNTED.items())
    return (
        f"One checkpoint of {name} can answer {len(asked)} of these claims: {counts}. The others "
        "need checkpoints along training."
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
