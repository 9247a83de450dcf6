"""Interactive views. Their scripts are one file per site, not one per figure, and no page asks another host for them."""

from __future__ import annotations

import html
import json
import os
import uuid
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING

from IPython.display import HTML

from circuitbook.paths import PACKAGE

if TYPE_CHECKING:
    import pandas as pd
    import torch


def _circuitsvis() -> str:
    return (files("circuitsvis") / "dist" / "cdn" / "iife.js").read_text(encoding="utf8")


def _plotly() -> str:
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf8")


def _explorer() -> str:
    return (PACKAGE / "figures" / "circuit-explorer.js").read_text(encoding="utf8")


# What views draw with: `build.stage` puts these into _static of the book, from the installed packages and from this one.
SCRIPTS = {"circuitsvis.js": _circuitsvis, "plotly.js": _plotly, "circuit-explorer.js": _explorer}


# How an edge is drawn, by the input it goes to: colour (safe for the colour-blind) and name.
INPUTS = {
    "q": ("#0072b2", "into queries"),
    "k": ("#d55e00", "into keys"),
    "v": ("#009e73", "into values"),
    "": ("#666666", "into an MLP or the logits"),
}


_GLOBALS = {
    "circuitsvis.js": "CircuitsVis",
    "plotly.js": "Plotly",
    "circuit-explorer.js": "CircuitExplorer",
}


def view(place: str, label: str, script: str, draw: str, inside: str = "") -> HTML:
    """A div that `draw` (JavaScript) fills once the script is there: the site's in the book; anywhere else, as in Colab,
    the view brings its own."""
    if os.environ.get("CIRCUITBOOK_PAGES"):
        loaded = (
            f"(() => {{ const draw = () => {{ {draw} }}; if (window.{_GLOBALS[script]}) return draw(); "
            f"let script = document.querySelector(\"script[data-view='{script}']\"); "
            'if (!script) { script = document.createElement("script"); '
            f'script.dataset.view = "{script}"; '
            f'script.src = (document.documentElement.dataset.content_root || "../") + "_static/{script}"; '
            'document.head.append(script); } script.addEventListener("load", draw); })()'
        )
    else:
        own = SCRIPTS[script]().replace("</script", "<\\/script")
        loaded = f"{own};\nwindow.{_GLOBALS[script]} = {_GLOBALS[script]};\n{draw}"
    return HTML(
        f'<div id="{place}" class="light-card" role="group" aria-label="{html.escape(label)}" '
        f'style="min-height: 12rem">{inside}</div><script>{loaded}</script>'
    )


def place_of(kind: str, *content: object) -> str:
    return f"{kind}-{uuid.uuid5(uuid.NAMESPACE_OID, repr(content)).hex[:10]}"


def script_json(value: object) -> str:
    """A value as JavaScript that may stand inside a script element."""
    return json.dumps(value, separators=(",", ":")).replace("</", "<\\/")


def attention_heads(tokens: list[str], patterns: torch.Tensor, names: list[str]) -> HTML:
    """circuitsvis' view of attention patterns [head, query, key]: small maps to choose from, the chosen one large."""
    if (
        patterns.ndim != 3
        or patterns.shape[1:] != (len(tokens),) * 2
        or len(names) != len(patterns)
    ):
        raise ValueError(
            f"patterns must be [{len(names)}, {len(tokens)}, {len(tokens)}], one map per name, not "
            f"{list(patterns.shape)}"
        )
    place = place_of("attention", tokens, names, patterns.sum().item())
    props = script_json(
        {
            "tokens": tokens,
            "attention": patterns.double().cpu().numpy().round(4).tolist(),
            "attentionHeadNames": names,
            "maskUpperTri": True,
        }
    )
    return view(
        place,
        f"Attention patterns of heads {', '.join(names)}",
        "circuitsvis.js",
        f'CircuitsVis.render("{place}", CircuitsVis.AttentionHeads, {props});',
    )


def head_browser(
    tables: Mapping[str, pd.DataFrame],
    kinds: Mapping[str, str],
    start: tuple[str, int, int] | None = None,
) -> HTML:
    """Choose a model, a layer and a head, and see that head's scores over training.

    tables: per model, columns tokens_seen, layer, head and a score for each of `kinds` ({column: its name in the figure}).
    start: the head that is shown first; else the first one.
    """
    data, axis = {}, {}
    for model, table in tables.items():
        table = table.sort_values("tokens_seen")
        axis[model] = sorted(set(table["tokens_seen"].tolist()))
        data[model] = {
            f"{layer}.{head}": {
                kind: [None if v != v else round(float(v), 3) for v in part[kind]] for kind in kinds
            }
            for (layer, head), part in table.groupby(["layer", "head"])
        }
    if not data:
        raise ValueError("the head browser needs the scores of at least one model")
    place = place_of("heads", sorted(data), list(kinds), start)
    first = [start[0], start[1], start[2]] if start else [next(iter(data)), 0, 0]
    draw = """
const place = document.getElementById(PLACE), data = DATA, axis = AXIS, kinds = KINDS, first = FIRST;
const [model, layer, head] = ["model", "layer", "head"].map(name => place.querySelector(`select[name=${name}]`));
const figure = place.querySelector(".scores"), words = place.querySelector(".words");
const colours = ["#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000"];
const dashes = ["solid", "dot", "solid", "dash", "solid", "dashdot", "dot"], symbols = ["circle", "square", "diamond", "cross", "x", "triangle-up", "star"];
const fill = (select, values) => { const old = select.value; select.replaceChildren(...values.map(v => new Option(v, v)));
  if (values.includes(old)) select.value = old; };
const part = i => [...new Set(Object.keys(data[model.value]).map(name => name.split(".")[i]))];
const show = () => {
  const scores = data[model.value][`${layer.value}.${head.value}`], x = axis[model.value].map(t => t || axis[model.value][1] / 4);
  const traces = Object.entries(kinds).map(([kind, name], i) => ({x, y: scores[kind], name, mode: "lines+markers",
    customdata: axis[model.value], hovertemplate: "%{y:.2f} after %{customdata:,} tokens",
    line: {color: colours[i], dash: dashes[i]}, marker: {symbol: symbols[i]}}));
  Plotly.react(figure, traces, {height: 350, margin: {l: 45, r: 10, t: 10, b: 45}, paper_bgcolor: "white", plot_bgcolor: "white",
    xaxis: {type: "log", dtick: "D2", title: {text: "tokens seen (leftmost: none)"}}, yaxis: {title: {text: "score"}, range: [-0.05, 1.05]},
    legend: {orientation: "h", y: 1.02, yanchor: "bottom"}}, {responsive: true, displayModeBar: false});
  const best = Object.entries(kinds).map(([kind, name]) => [scores[kind].at(-1), name]).filter(([v]) => v !== null).sort((a, b) => b[0] - a[0])[0];
  words.textContent = `Head ${layer.value}.${head.value} of ${model.value} at the end: highest is ${best[1].toLowerCase()}, ${best[0].toFixed(2)}.`;
};
fill(model, Object.keys(data)); model.value = first[0]; fill(layer, part(0)); layer.value = first[1]; fill(head, part(1)); head.value = first[2];
model.addEventListener("change", () => { fill(layer, part(0)); fill(head, part(1)); show(); });
layer.addEventListener("change", show); head.addEventListener("change", show); show();
"""
    values = {
        "PLACE": json.dumps(place),
        "DATA": script_json(data),
        "AXIS": script_json(axis),
        "KINDS": script_json(dict(kinds)),
        "FIRST": script_json([first[0], str(first[1]), str(first[2])]),
    }
    for name, value in values.items():
        draw = draw.replace(name, value, 1)
    menus = " ".join(
        f'<label style="margin-right: 1rem">{name} <select name="{name}" style="padding: .15rem .4rem"></select></label>'
        for name in ("model", "layer", "head")
    )
    return view(
        place,
        "Scores of one head over training",
        "plotly.js",
        draw,
        f'<div style="color: #000; padding: .4rem 0">{menus}</div><div class="scores" style="height: 350px"></div>'
        '<p class="words" role="status" style="color: #000; margin: .3rem 0"></p>',
    )
