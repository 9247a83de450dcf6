"""Interactive views: a place in the page, its data as JSON after it, and the scripts that draw it.

Text becomes HTML by `escaped` alone, and what is in a view's data is never read as markup. The
scripts are those of `scripts`.
"""

from __future__ import annotations

import html
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from IPython.display import HTML

from circuitbook.figures.scripts import SCRIPTS, brought, global_name, joined, stylesheet

if TYPE_CHECKING:
    import pandas as pd
    import torch

__all__ = [
    "INPUTS",
    "SCRIPTS",
    "attention_heads",
    "beside",
    "head_browser",
    "place_of",
    "script_json",
    "view",
]

# How an edge is drawn, by the input it goes to: colour (safe for the colour-blind) and name.
INPUTS = {
    "q": ("#0072b2", "into queries"),
    "k": ("#d55e00", "into keys"),
    "v": ("#009e73", "into values"),
    "": ("#666666", "into an MLP or the logits"),
}


def view(
    place: str,
    label: str,
    data: str,
    scripts: Sequence[str],
    *,
    later: Sequence[str] = (),
    style: str = "",
    instead: str = "",
) -> HTML:
    """A place in the page that the last of `scripts` draws into, once they are there.

    place     id of the element: unique in the page (see `place_of`)
    label     what is to be seen, for those who do not see it
    data      JSON for the script (see `script_json`)
    scripts   names in SCRIPTS, the view's own last. In the book (CIRCUITBOOK_PAGES) they are the
              site's; anywhere else, as in Colab, the view brings them
    later     others that the view asks the site for when it needs them; anywhere else it brings
              them, too
    style     CSS of the view
    instead   HTML that a page shows without scripts, after a sentence that says so
    """
    names = [global_name(file) for file in scripts]
    own = [] if in_the_book() else [brought(file) for file in (*later, *scripts)]
    sheet = f"<style>{style}</style>" if style else ""
    return HTML(
        f'<div id="{escaped(place)}" class="light-card" role="group" '
        f'aria-label="{escaped(label)}" style="min-height: 12rem">'
        f"<p>This view needs JavaScript.</p>{instead}</div>"
        f'<script type="application/json" data-view="{names[-1]}" '
        f'data-scripts="{" ".join(scripts)}" data-globals="{" ".join(names)}">{data}</script>'
        f"{sheet}<script>{''.join([*own, joined('load-view.js')])}</script>"
    )


def beside(views: Mapping[str, HTML]) -> HTML:
    """Views side by side, each under its name, or one below the other where the page is narrow."""
    columns = "repeat(auto-fit, minmax(min(100%, 21rem), 1fr))"
    cells = "".join(
        f'<div style="min-width: 0"><p><strong>{escaped(name)}</strong></p>{view.data}</div>'
        for name, view in views.items()
    )
    style = f"display: grid; grid-template-columns: {columns}; gap: 1rem"
    return HTML(f'<div style="{style}">{cells}</div>')


def in_the_book() -> bool:
    """Whether the page has a site around it, with scripts and weights beside it."""
    return bool(os.environ.get("CIRCUITBOOK_PAGES"))


def escaped(text: str) -> str:
    """Text as it stands in HTML, in an element or an attribute."""
    return html.escape(text)


def place_of(kind: str, *content: object) -> str:
    """An id, the same for the same content: place_of("heads", "m") -> "heads-ef3f26afc5" """
    return f"{kind}-{uuid.uuid5(uuid.NAMESPACE_OID, repr(content)).hex[:10]}"


def script_json(value: object) -> str:
    """A value as JSON that may stand inside a script element: script_json("<b>") -> '"\\u003cb>"'

    Neither `</script` nor `<!--` can then end the element or change how it ends. ValueError for NaN
    and infinity, which JSON does not have.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def attention_heads(tokens: list[str], patterns: torch.Tensor, names: list[str]) -> HTML:
    """Attention patterns: circuitsvis' maps, and in words what a chosen head looks at.

    tokens: the prompt's, one for each query and key; patterns: [head, query, key]; names: one for
    each head.
    """
    if (
        patterns.ndim != 3
        or patterns.shape[1:] != (len(tokens),) * 2
        or len(names) != len(patterns)
    ):
        raise ValueError(
            f"patterns must be [{len(names)}, {len(tokens)}, {len(tokens)}], one map per name, not "
            f"{list(patterns.shape)}"
        )
    data = {
        "tokens": tokens,
        "attention": patterns.double().cpu().numpy().round(4).tolist(),
        "names": names,
    }
    return view(
        place_of("attention", tokens, names, patterns.sum().item()),
        f"Attention patterns of heads {', '.join(names)}",
        script_json(data),
        ("attention-heads.js",),
        later=("circuitsvis.js",),
        style=stylesheet("heads.css"),
    )


def head_browser(
    tables: Mapping[str, pd.DataFrame],
    kinds: Mapping[str, str],
    start: tuple[str, int, int] | None = None,
) -> HTML:
    """Choose a model, a layer and a head, and see that head's scores over training.

    tables: per model, columns tokens_seen, layer, head and a score for each of `kinds` ({column:
    its name in the figure}). start: model, layer and head that are shown first; else the first one.
    """
    if not tables:
        raise ValueError("the head browser needs the scores of at least one model")
    models = {name: _scores_of_heads(table, list(kinds)) for name, table in tables.items()}
    model, layer, head = start or (next(iter(tables)), 0, 0)
    data = {"models": models, "kinds": dict(kinds), "start": [model, str(layer), str(head)]}
    return view(
        place_of("heads", sorted(tables), list(kinds), start),
        "Scores of one head over training",
        script_json(data),
        ("head-browser.js",),
        style=stylesheet("heads.css"),
    )


def _scores_of_heads(table: pd.DataFrame, kinds: list[str]) -> dict[str, object]:
    """{"tokens": [...], "heads": {"layer.head": {kind: score at each of tokens, None for NaN}}}"""
    table = table.sort_values("tokens_seen")
    heads = {
        f"{layer}.{head}": {kind: _rounded(part[kind]) for kind in kinds}
        for (layer, head), part in table.groupby(["layer", "head"])
    }
    return {"tokens": sorted(set(table["tokens_seen"].tolist())), "heads": heads}


def _rounded(scores: pd.Series) -> list[float | None]:
    return [None if score != score else round(float(score), 3) for score in scores]
