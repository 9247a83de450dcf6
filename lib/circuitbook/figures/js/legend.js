// The legend: how edges are drawn, and the classes of heads that the model has at any checkpoint.

import { html, svg } from "./dom.js";
import { circle, classShape, edgeSample, pale } from "./shapes.js";

const PORTS = { q: ", at a head's left", k: ", in its middle", v: ", at its right", "": "" };

export function drawLegend({ parts, data, state, inputs, classes, compact }) {
  const checkpoints = data.roles?.[state.model] ?? [];
  const used = new Set(
    checkpoints.flatMap((nodes) => Object.values(nodes).map(([first]) => first)),
  );
  const heads = Object.entries(classes)
    .map(([name, colour], i) => ({ name, colour, i }))
    .filter(({ i }) => used.has(i))
    .map(({ name, colour, i }) => item(nodeSample(classShape(i), pale(colour)), name));
  if (used.size) heads.push(item(nodeSample(circle(22), "#fff"), "head in no class"));
  parts.legend.replaceChildren(...(compact ? [] : edgeItems(inputs)), ...heads);
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
