"""Claims with their verdicts, in groups: tables that can be filtered where there are scripts."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from IPython.display import HTML

from circuitbook.figures.scripts import joined, stylesheet
from circuitbook.figures.views import escaped
from circuitbook.stats import Verdict
from circuitbook.wording import counted

MARKS = {str(Verdict.HOLDS): "✓", str(Verdict.FAILS): "✗", str(Verdict.OPEN): "?"}


def verdict_tables(claims: pd.DataFrame) -> HTML:
    """A table for each group of claims: the verdict in colour, with a mark and in words; the claim;
    how sure we are; a link to its figure; and the rest folded.

    claims: as from `findings.report.listed_claims`; chapters are pages beside this one.
    """
    tables = [
        _table(str(group), of_group) for group, of_group in claims.groupby("group", sort=False)
    ]
    order = escaped("|".join(MARKS))
    return HTML(
        f'<div class="verdicts tex2jax_ignore mathjax_ignore" data-verdicts="{order}">'
        f'<div class="groups">{"".join(tables)}</div></div>'
        f"<style>{stylesheet('verdicts.css')}</style>"
        f"<script>{joined('verdict-filter.js')}</script>"
    )


def _table(group: str, claims: pd.DataFrame) -> str:
    """Folded where none of its claims is tested."""
    table = (
        f"<table><caption>{escaped(group)}</caption>"
        '<thead><tr><th scope="col">verdict</th><th scope="col">claim</th></tr></thead>'
        f"<tbody>{''.join(_rows(claims))}</tbody></table>"
    )
    if claims["asked"].any():
        return table
    what = f"{group}: {counted(len(claims), 'claim')}, not tested here"
    return f'<details class="group"><summary>{escaped(what)}</summary>{table}</details>'


def _rows(claims: pd.DataFrame) -> Iterator[str]:
    for _, claim in claims.iterrows():
        verdict, chapter = claim["verdict"], claim["chapter"]
        place, name = f"{chapter}.html#{claim['figure']}", chapter.replace("-", " ")
        kind = verdict.replace(" ", "-").replace("'", "")
        details = "".join(
            f"<dt>{escaped(what)}</dt><dd>{escaped(text)}</dd>"
            for what, text in claim["details"].items()
        )
        yield (
            f'<tr data-verdict="{escaped(verdict)}">'
            f'<td><span class="verdict {kind}">{MARKS[verdict]} {escaped(verdict)}</span></td>'
            f"<td><strong>{escaped(claim['claim'])}</strong>"
            f'<span class="sure">{escaped(claim["sure"])} '
            f'<a href="{place}" aria-label="Figure in {escaped(name)}">Figure</a></span> '
            f"<details><summary>Numbers</summary><dl>{details}</dl></details></td></tr>"
        )
