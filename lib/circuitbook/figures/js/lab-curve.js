// The answer's measure over all checkpoints that are loaded.

import { html, svg } from "./dom.js";
import { shortNumber, signed } from "./words.js";

const [LEFT, RIGHT, TOP, BOTTOM] = [44, 392, 10, 140];
const LINES = {
  own: { label: "sentence", colour: "#0072b2", dash: null },
  second: { label: "other sentence", colour: "#c85800", dash: "5 3" },
  switched: { label: "with what is switched", colour: "#000000", dash: "2 2" },
};

/** points: [{at, own, second, switched}], numbers or null, `at` an index of `tokens`; current: the
 *  checkpoint that is looked at. */
export function drawCurve(parts, { points, tokens, current, name }) {
  const values = points.flatMap((point) => Object.keys(LINES).map((line) => point[line] ?? 0));
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const y = (value) => BOTTOM - ((value - low) / (high - low || 1)) * (BOTTOM - TOP);
  const x = placesOf(tokens);
  const lines = Object.entries(LINES).filter(([line]) =>
    points.some((point) => point[line] !== null),
  );
  parts.curve.replaceChildren(
    ...axes(tokens, x, y, [low, high]),
    svg("path", { class: "lb-now", d: `M${x[current]} ${TOP}V${BOTTOM}` }),
    ...lines.flatMap(([line, style]) => drawn(points, line, style, x, y)),
  );
  parts.curve.setAttribute("aria-label", described(points, tokens, name));
  parts.curveLegend.replaceChildren(...lines.map(([, style]) => legendEntry(style)));
}

/** Where checkpoints stand: a log axis, with the untrained model left of it. */
function placesOf(tokens) {
  if (tokens.length === 1) return [(LEFT + RIGHT) / 2];
  const seen = tokens.map((n) => Math.log(n || tokens[1] / 2));
  const width = seen.at(-1) - seen[0] || 1;
  return seen.map((value) => LEFT + 6 + ((value - seen[0]) / width) * (RIGHT - LEFT - 12));
}

function axes(tokens, x, y, [low, high]) {
  const labels = tokens
    .map((n, i) => [n, i])
    .filter(([, i]) => i % 3 === 0)
    .map(([n, i]) =>
      svg(
        "text",
        { x: x[i].toFixed(1), y: BOTTOM + 14, class: "middle" },
        n ? shortNumber(n) : "0",
      ),
    );
  const marks = [...new Set([low, 0, high])].map((value) =>
    svg("text", { x: LEFT - 4, y: y(value) + 4, class: "end" }, value ? signed(value) : "0"),
  );
  return [
    svg("path", { class: "lb-axis", d: `M${LEFT} ${TOP}V${BOTTOM}M${LEFT} ${y(0)}H${RIGHT}` }),
    ...labels,
    ...marks,
    svg("text", { x: (LEFT + RIGHT) / 2, y: BOTTOM + 28, class: "middle" }, "tokens seen"),
  ];
}

function drawn(points, line, { colour, dash }, x, y) {
  const places = points
    .filter((point) => point[line] !== null)
    .map((point) => [x[point.at].toFixed(1), y(point[line]).toFixed(1)]);
  const path = `M${places.map((place) => place.join(" ")).join("L")}`;
  return [
    svg("path", {
      d: path,
      fill: "none",
      stroke: colour,
      "stroke-width": 2,
      "stroke-dasharray": dash,
    }),
    ...places.map(([cx, cy]) => svg("circle", { cx, cy, r: 2.8, fill: colour })),
  ];
}

function legendEntry({ label, colour, dash }) {
  const sample = svg("path", {
    d: "M0 6H26",
    stroke: colour,
    "stroke-width": 2,
    "stroke-dasharray": dash,
  });
  return html(
    "li",
    {},
    svg("svg", { viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": "true" }, sample),
    label,
  );
}

function described(points, tokens, name) {
  const said = points.map(
    ({ at, own }) => `${signed(own)} after ${shortNumber(tokens[at])} tokens`,
  );
  return `${name}: ${said.join(", ")}`;
}
