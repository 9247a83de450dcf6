// The legend: how edges are drawn, and the classes of heads that the model has at any checkpoint.

import { FATE_STYLES } from "./comparing.js";
import { html, svg } from "./dom.js";
import { MARKS } from "./drawing.js";
import { circle, classShape, edgeSample, pale } from "./shapes.js";

const PORTS = { q: ", at a head's left", k: ", in its middle", v: ", at its right", "": "" };

/** compared: see `compare`; null if nothing is. */
export function drawLegend(view, compared) {
  const { parts, data, state, inputs, classes, does, compact, drawing } = view;
  const words = compared?.words ?? null;
  if (drawing.legend === words) return; // as it stands
  drawing.legend = words;
  const checkpoints = data.roles?.[state.model] ?? [];
  const used = new Set(
    checkpoints.flatMap((nodes) => Object.values(nodes).map(([first]) => first)),
  );
  const heads = Object.entries(classes)
    .map(([name, colour], i) => ({ name, colour, i }))
    .filter(({ i }) => used.has(i))
    .map(({ name, colour, i }) =>
      item(nodeSample(classShape(i), pale(colour)), `${name}: ${does[name]}`),
    );
  if (used.size) heads.push(item(nodeSample(circle(22), "#fff"), "head in no class"));
  const edges = words ? fateItems(words) : edgeItems(inputs);
  parts.legend.replaceChildren(...(compact ? [] : edges), ...heads);
}

function edgeItems(inputs) {
  return [
    ...Object.entries(inputs).map(([kind, [colour, text]]) =>
      item(edgeSample(colour, false), text + PORTS[kind]),
    ),
    item(edgeSample("#333", true), "negative score: it harms"),
    html("li", {}, "width: score, on one scale for all checkpoints"),
  ];
}

function fateItems(words) {
  const edges = Object.entries(words).map(([fate, word]) => item(fateSample(fate), `edge ${word}`));
  const nodes = Object.entries(MARKS).map(([fate, mark]) =>
    item(html("b", { class: `cx-${fate}` }, mark), `node ${words[fate]}`),
  );
  return [...edges, ...nodes, html("li", {}, "width: score, on one scale for both circuits")];
}

/** A piece of an edge that is gained, lost or kept. */
export function fateSample(fate) {
  const [colour, dashes] = FATE_STYLES[fate];
  return edgeSample(colour, false, dashes(3));
}

function item(picture, text) {
  return html("li", {}, picture, text);
}

function nodeSample(d, fill) {
  return svg(
    "svg",
    { viewBox: "-30 -30 60 60", width: 18, height: 18, "aria-hidden": "true" },
    svg("path", { d, fill, stroke: "#333", "stroke-width": 3 }),
  );
}
