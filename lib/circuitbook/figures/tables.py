"""Tables in a page: whatever is in their cells and headings is text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML
from pandas.io.formats.style import Styler

from circuitbook.figures.views import escaped


class TextStyler(Styler):
    """pandas' Styler, except that cells and headings are escaped: what is HTML has to be named."""

    def __init__(self, data: pd.DataFrame, **settings: Any):
        super().__init__(data, **settings)
        self.set_table_attributes('class="tex2jax_ignore mathjax_ignore"')  # a dollar is a dollar
        for axis in (0, 1):
            self.format_index(escape="html", axis=axis)
            if any(name is not None for name in self.data.axes[axis].names):
                self.format_index_names(escape="html", axis=axis)

    def format(self, *formats: Any, escape: str | None = "html", **more: Any) -> Styler:
        return super().format(*formats, escape=escape or "html", **more)

    def html(self, columns: Sequence[str]) -> TextStyler:
        """Shows these columns as the HTML that is in them."""
        super().format(str, subset=list(columns), escape=None)
        return self


def styled(table: pd.DataFrame) -> TextStyler:
    """A table to be formatted and shown: `table.style`, with names that are never markup."""
    return TextStyler(table)


def folded(title: str, *tables: pd.DataFrame | Styler, text: str = "") -> HTML:
    """Tables behind a line to click: for numbers that back up a sentence or a figure.

    text: a paragraph below them. A DataFrame is shown without its index; where every table is empty
    there is nothing to unfold.
    """
    stylers = [
        styled(table).hide(axis="index") if isinstance(table, pd.DataFrame) else table
        for table in tables
    ]
    inside = "".join(styler.to_html() for styler in stylers if len(styler.index))
    if not inside:
        return HTML("")
    inside += f"<p>{escaped(text)}</p>" if text else ""
    return HTML(
        f'<details class="folded"><summary>{escaped(title)}</summary>\n{inside}\n</details>'
    )
