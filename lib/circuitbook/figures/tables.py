"""Tables in a page: whatever is in their cells and headings is text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler


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
