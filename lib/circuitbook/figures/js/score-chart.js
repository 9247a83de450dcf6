// Scores over training as lines: tokens on a logarithmic axis, with the untrained model left of it.

import { html, svg } from "./dom.js";
import { classShape } from "./shapes.js";
import { shortNumber, twoDigits } from "./words.js";

const [WIDTH, HEIGHT] = [640, 300];
const [LEFT, RIGHT, TOP, BOTTOM] = [40, WIDTH - 12, 10, HEIGHT - 42];
const STYLES = [
  { colour: "#0072b2", dash: null },
  { colour: "#2b8cbe", dash: "2 3" },
  { colour: "#c04c00", dash: null },
  { colour: "#007a5a", dash: "7 3" },
  { colour: "#a8528a", dash: null },
  { colour: "#9a6a00", dash: "7 3 2 3" },
  { colour: "#000000", dash: "1 3" },
];

/** The chart and its legend. lines: [{title, values: one for each of tokens, or null}] */
export function scoreChart(tokens, lines, label) {
  const x = acrossTokens(tokens);
  const y = (score) => BOTTOM - ((score + 0.03) / 1.06) * (BOTTOM - TOP);
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "scores" },
    ...axes(tokens, x, y),
    ...lines.flatMap((line, i) => drawnLine(line, styleOf(i), tokens, x, y)),
  );
  const legend = html("ul", {}, ...lines.map(({ title }, i) => legendItem(title, styleOf(i))));
  return [legend, drawing];
}

function styleOf(i) {
  return { ...STYLES[i % STYLES.length], shape: classShape(i) };
}

/** The place of a number of tokens: x(0) is left of the first one. */
function acrossTokens(tokens) {
  const [first, last] = [tokens.find((seen) => seen > 0) ?? 1, tokens.at(-1) || 1];
  const least = Math.log(tokens[0] ? first : first / 4);
  const span = Math.log(last) - least || 1;
  return (seen) => LEFT + 10 + ((Math.log(seen || first / 4) - least) / span) * (RIGHT - LEFT - 20);
}

function axes(tokens, x, y) {
  const lines = [0, 0.25, 0.5, 0.75, 1].map((score) =>
    svg("path", { d: `M${LEFT} ${y(score)}H${RIGHT}`, stroke: "#d8d8d8" }),
  );
  const scores = [0, 0.5, 1].map((score) => text(LEFT - 6, y(score) + 4, `${score}`, "end"));
  const marks = tickTokens(tokens).map((seen) => [
    svg("path", { d: `M${x(seen)} ${BOTTOM}v5`, stroke: "#555" }),
    text(x(seen), BOTTOM + 18, seen ? shortNumber(seen) : "0"),
  ]);
  const title = text((LEFT + RIGHT) / 2, HEIGHT - 6, "tokens seen");
  return [...lines, ...scores, ...marks.flat(), title];
}

/** 0 if it is there, and powers of ten; 2 and 5 times these where that gives few marks. */
function tickTokens(tokens) {
  const [first, last] = [tokens.find((seen) => seen > 0) ?? 1, tokens.at(-1) || 1];
  const powers = Array.from({ length: 15 }, (_, power) => 10 ** power);
  const within = (marks) => marks.filter((seen) => seen >= first && seen <= last);
  const fine = within(powers.flatMap((power) => [power, 2 * power, 5 * power]));
  return [...(tokens[0] === 0 ? [0] : []), ...(fine.length > 8 ? within(powers) : fine)];
}

function text(x, y, content, anchor = "middle") {
  return svg("text", { x, y, "text-anchor": anchor, "font-size": 13, fill: "#222" }, content);
}

function drawnLine({ title, values }, { colour, dash, shape }, tokens, x, y) {
  const points = values.map((score, i) => (score === null ? null : [x(tokens[i]), y(score)]));
  const d = points.map((point, i) => {
    if (!point) return "";
    const begins = i === 0 || !points[i - 1];
    return `${begins ? "M" : "L"}${point.map((at) => at.toFixed(1)).join(" ")}`;
  });
  const dots = values.flatMap((score, i) => {
    if (score === null) return [];
    const said = `${title}: ${twoDigits(score)} after ${shortNumber(tokens[i])} tokens`;
    return [marker(shape, colour, points[i], svg("title", {}, said))];
  });
  const line = { d: d.join(""), fill: "none", stroke: colour, "stroke-width": 1.8 };
  return [svg("path", { ...line, "stroke-dasharray": dash }), ...dots];
}

function marker(shape, colour, [x, y], ...inside) {
  const transform = `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(.2)`;
  return svg("path", { d: shape, fill: colour, transform }, ...inside);
}

function legendItem(title, { colour, dash, shape }) {
  const line = { d: "M0 7H34", stroke: colour, "stroke-width": 1.8, "stroke-dasharray": dash };
  const sample = { viewBox: "0 0 34 14", width: 34, height: 14, "aria-hidden": "true" };
  return html(
    "li",
    {},
    svg("svg", sample, svg("path", line), marker(shape, colour, [17, 7])),
    ` ${title}`,
  );
}
