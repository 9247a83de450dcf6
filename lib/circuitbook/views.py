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

if TYPE_CHECKING:                                      # the build needs the scripts only, not torch
    import pandas as pd
    import torch

    from .circuits import Circuit


def _circuitsvis() -> str:
    return (files("circuitsvis") / "dist" / "cdn" / "iife.js").read_text(encoding="utf8")


def _plotly() -> str:
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf8")


# What views draw with: `build.stage` puts these into _static of the book, from the installed packages.
SCRIPTS = {"circuitsvis.js": _circuitsvis, "plotly.js": _plotly}
# How an edge is drawn, by the input it goes to: colour (safe for the colour-blind) and name.
INPUTS = {"q": ("#0072b2", "into queries"), "k": ("#d55e00", "into keys"), "v": ("#009e73", "into values"),
          "": ("#666666", "into an MLP or the logits")}
_GLOBALS = {"circuitsvis.js": "CircuitsVis", "plotly.js": "Plotly"}


def _view(place: str, label: str, script: str, draw: str, inside: str = "") -> HTML:
    """A div that `draw` (JavaScript) fills once the script is there: the site's in the book; anywhere else, as in Colab,
    the view brings its own."""
    if os.environ.get("CIRCUITBOOK_PAGES"):
        loaded = (f"(() => {{ const draw = () => {{ {draw} }}; if (window.{_GLOBALS[script]}) return draw(); "
                  f'let script = document.querySelector("script[data-view=\'{script}\']"); '
                  'if (!script) { script = document.createElement("script"); '
                  f'script.dataset.view = "{script}"; '
                  f'script.src = (document.documentElement.dataset.content_root || "../") + "_static/{script}"; '
                  'document.head.append(script); } script.addEventListener("load", draw); })()')
    else:
        own = SCRIPTS[script]().replace("</script", "<\\/script")
        loaded = f"{own};\nwindow.{_GLOBALS[script]} = {_GLOBALS[script]};\n{draw}"
    return HTML(f'<div id="{place}" class="light-card" role="group" aria-label="{html.escape(label)}" '
                f'style="min-height: 12rem">{inside}</div><script>{loaded}</script>')


def _place(kind: str, *content: object) -> str:
    return f"{kind}-{uuid.uuid5(uuid.NAMESPACE_OID, repr(content)).hex[:10]}"


def _json(value: object) -> str:
    return json.dumps(value).replace("</", "<\\/")


def attention_heads(tokens: list[str], patterns: torch.Tensor, names: list[str]) -> HTML:
    """circuitsvis' view of attention patterns [head, query, key]: small maps to choose from, the chosen one large."""
    if patterns.ndim != 3 or patterns.shape[1:] != (len(tokens),) * 2 or len(names) != len(patterns):
        raise ValueError(f"patterns must be [{len(names)}, {len(tokens)}, {len(tokens)}], one map per name, not "
                         f"{list(patterns.shape)}")
    place = _place("attention", tokens, names, patterns.sum().item())
    props = _json({"tokens": tokens, "attention": patterns.double().cpu().numpy().round(4).tolist(),
                   "attentionHeadNames": names, "maskUpperTri": True})
    return _view(place, f"Attention patterns of heads {', '.join(names)}", "circuitsvis.js",
                 f'CircuitsVis.render("{place}", CircuitsVis.AttentionHeads, {props});')


def head_browser(tables: Mapping[str, pd.DataFrame], kinds: Mapping[str, str], start: tuple[str, int, int] | None = None) -> HTML:
    """Choose a model, a layer and a head, and see that head's scores over training.

    tables: per model, columns tokens_seen, layer, head and a score for each of `kinds` ({column: its name in the figure}).
    start: the head that is shown first; else the first one.
    """
    data, axis = {}, {}
    for model, table in tables.items():
        table = table.sort_values("tokens_seen")
        axis[model] = sorted(set(table["tokens_seen"].tolist()))
        data[model] = {f"{layer}.{head}": {kind: [None if v != v else round(float(v), 3) for v in part[kind]] for kind in kinds}
                       for (layer, head), part in table.groupby(["layer", "head"])}
    if not data:
        raise ValueError("the head browser needs the scores of at least one model")
    place = _place("heads", sorted(data), list(kinds), start)
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
    values = {"PLACE": json.dumps(place), "DATA": _json(data), "AXIS": _json(axis), "KINDS": _json(dict(kinds)),
              "FIRST": _json([first[0], str(first[1]), str(first[2])])}
    for name, value in values.items():
        draw = draw.replace(name, value, 1)
    menus = " ".join(f'<label style="margin-right: 1rem">{name} <select name="{name}" style="padding: .15rem .4rem"></select></label>'
                     for name in ("model", "layer", "head"))
    return _view(place, "Scores of one head over training", "plotly.js", draw,
                 f'<div style="color: #000; padding: .4rem 0">{menus}</div><div class="scores" style="height: 350px"></div>'
                 '<p class="words" role="status" style="color: #000; margin: .3rem 0"></p>')


def circuit_view(circuits: Mapping[str, Circuit], roles: Mapping[str, Mapping[str, str]], notes: Mapping[str, Mapping[str, str]],
                 colours: Mapping[str, str], start: str | None = None, most: int = 300) -> HTML:
    """Circuits as layers from bottom to top, one at a time, with a menu to choose; hovering tells scores.

    circuits: {name in the menu: circuit}. roles: {name: {node: its class}}, coloured by `colours` {class: colour}; nodes
    without one are grey. notes: {name: {node: what hovering says beside}}. Edges are as wide as their absolute score, dashed
    where it is negative; of more than `most` edges those with the largest scores are drawn.
    """
    if not circuits:
        raise ValueError("the circuit view needs at least one circuit")
    data = {name: _layout(circuit, roles.get(name, {}), notes.get(name, {}), most) for name, circuit in circuits.items()}
    place = _place("circuit", *[(name, circuit.edges) for name, circuit in circuits.items()])
    draw = """
const place = document.getElementById(PLACE), data = DATA, colours = COLOURS, inputs = INPUTS;
const choice = place.querySelector("select"), figure = place.querySelector(".drawing"), words = place.querySelector(".words");
const symbols = ["circle", "diamond", "hexagon", "triangle-up", "star", "pentagon", "cross"];
const light = c => "rgb(" + [1, 3, 5].map(i => Math.round(255 - .55 * (255 - parseInt(c.slice(i, i + 2), 16)))) + ")";
const bend = ([x0, y0, x1, y1, b]) => { const xs = [], ys = [], cx = (x0 + x1) / 2 + b * (y1 - y0), cy = (y0 + y1) / 2 - b * (x1 - x0) / 3;
  for (let i = 0; i <= 14; i++) { const t = i / 14, u = 1 - t; xs.push(u * u * x0 + 2 * u * t * cx + t * t * x1); ys.push(u * u * y0 + 2 * u * t * cy + t * t * y1); }
  return [xs, ys]; };
const show = () => {
  const one = data[choice.value], traces = [], dots = {x: [], y: [], text: []}, listed = new Set();
  for (const e of one.edges) {
    const [x, y] = bend(e.at), first = !listed.has(e.kind); listed.add(e.kind);
    traces.push({x, y, mode: "lines", hoverinfo: "skip", name: inputs[e.kind][1], legendgroup: e.kind, showlegend: first,
      line: {color: inputs[e.kind][0], width: e.width, dash: e.score < 0 ? "dash" : "solid"}, opacity: .75});
    for (const i of [4, 7, 10]) { dots.x.push(x[i]); dots.y.push(y[i]); dots.text.push(e.text); }
  }
  traces.push({...dots, mode: "markers", marker: {size: 10, opacity: 0}, hovertemplate: "%{text}<extra></extra>", showlegend: false});
  const groups = ["", ...Object.keys(colours)];
  groups.forEach((role, i) => { const mine = one.nodes.filter(n => n.role === role); if (!mine.length) return;
    traces.push({x: mine.map(n => n.x), y: mine.map(n => n.y), text: mine.map(n => n.label), customdata: mine.map(n => n.note), mode: "markers+text",
      hovertemplate: "%{customdata}<extra></extra>", name: role || "MLPs, ends, heads in no class", textfont: {size: 12, color: "#000"},
      marker: {size: mine.map(n => n.head ? 38 : 40), symbol: mine.map(n => n.head ? (role ? symbols[i - 1] : "circle") : "square"),
        color: role ? light(colours[role]) : "#ececec", opacity: 1, line: {color: "#333", width: 1}}}); });
  const top = one.layers + .6;
  Plotly.react(figure, traces, {height: 190 + 75 * (one.layers + 1), margin: {l: 60, r: 10, t: 10, b: 20}, paper_bgcolor: "white", plot_bgcolor: "white",
    hovermode: "closest", hoverlabel: {align: "left"}, xaxis: {visible: false, range: [-one.width - .7, one.width + .7], fixedrange: true},
    yaxis: {range: [-1.6, top + .3], tickvals: [...Array(one.layers).keys()], ticktext: [...Array(one.layers).keys()].map(i => "layer " + i),
      showgrid: true, gridcolor: "#eee", zeroline: false, fixedrange: true},
    legend: {orientation: "h", y: -0.02, yanchor: "top", itemclick: false, itemdoubleclick: false}}, {responsive: true, displayModeBar: false});
  words.textContent = one.words;
};
choice.replaceChildren(...Object.keys(data).map(name => new Option(name, name))); choice.value = START;
choice.addEventListener("change", show); show();
"""
    inputs = {kind or "other": shown for kind, shown in INPUTS.items()}
    values = {"PLACE": json.dumps(place), "DATA": _json(data), "COLOURS": _json(dict(colours)), "INPUTS": _json(inputs),
              "START": _json(start or next(iter(data)))}
    for name, value in values.items():
        draw = draw.replace(name, value, 1)
    tall = 190 + 75 * (1 + max(one["layers"] for one in data.values()))
    return _view(place, "Circuits drawn layer by layer, with a menu to choose one", "plotly.js", draw,
                 '<div style="color: #000; padding: .4rem 0"><label>circuit <select style="padding: .15rem .4rem"></select></label></div>'
                 f'<div class="drawing" style="min-height: {tall}px"></div>'
                 '<p class="words" role="status" style="color: #000; margin: .3rem 0"></p>')


def _layout(circuit: Circuit, roles: Mapping[str, str], notes: Mapping[str, str], most: int) -> dict:
    """Nodes and edges of one circuit with their places, as the script draws them."""
    graph, there = circuit.graph, list(circuit.nodes)
    edges = [(src, dst, 1.0 if circuit.scores is None else float(circuit.scores[src, dst])) for src, dst in zip(*circuit.mask.nonzero())]
    largest = max((abs(score) for *_, score in edges), default=1.0) or 1.0
    at, widest = {"input": (0.0, -1.0), "logits": (0.0, float(graph.n_layers))}, 1.0
    for layer in range(graph.n_layers):
        inside = [name for name in there if name.startswith(f"a{layer}.")]
        for i, name in enumerate(inside):
            at[name] = (1.1 * (i - (len(inside) - 1) / 2) - 0.6 + 0.18 * (layer % 2), float(layer))
        at[f"m{layer}"] = (1.1 * len(inside) / 2 + 0.5 + 0.18 * (layer % 2), layer + 0.12)
        widest = max(widest, *(abs(at[name][0]) for name in (*inside, f"m{layer}")))
    nodes = [{"x": at[name][0], "y": at[name][1], "role": roles.get(name, ""), "head": name[0] == "a", "label": _label(name),
              "note": f"<b>{_label(name)}</b>" + (f"<br>{notes[name]}" if name in notes else "")}
             for name in there]
    drawn = []
    for src, dst, score in sorted(edges, key=lambda edge: -abs(edge[2]))[:most]:
        target = graph.destination_names[dst]
        node, kind = (target[:-3], target[-2]) if target.endswith(">") else (target, "")
        a, b = at[graph.source_names[src]], at[node]
        bent = {"q": -0.16, "k": 0.0, "v": 0.16, "": 0.06}[kind]
        drawn.append({"at": [round(float(v), 3) for v in (*a, *b, bent)], "kind": kind or "other", "score": round(score, 5),
                      "width": round(1 + 6 * abs(score) / largest, 2), "text": f"{html.escape(graph.edge_name(src, dst).replace('->', ' → '))}<br>score {score:+.3f}"})
    left_out = f" The {most} with the largest scores are drawn." if len(edges) > most else ""
    kept = "" if circuit.faithfulness is None else f" keep {circuit.faithfulness:.0%} of the behaviour"
    return {"nodes": nodes, "edges": drawn, "layers": graph.n_layers, "width": round(widest, 2),
            "words": f"{circuit.n_edges} edges and {circuit.n_nodes} nodes{kept}.{left_out}"}


def _label(node: str) -> str:
    """_label("a3.h1") -> "3.1", _label("m2") -> "MLP 2" """
    return node[1:].replace(".h", ".") if node[0] == "a" else f"MLP {node[1:]}" if node[0] == "m" else node
