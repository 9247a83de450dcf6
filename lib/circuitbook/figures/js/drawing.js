// The drawing of a model: all its nodes, and the edges of the circuit between them.
//
// A view that lets its reader build circuits has `building`: {groups: [{node, members}], drawn as one
// box each, flagsOf(node) -> {flag: whether, ...}, classes of its outline}. Then all nodes can be
// reached, and an edge may have a `flag`: "idle" (it carries nothing) or "gone" (taken out).

import { largestScore, modelOf, rolesOf } from "./circuit-data.js";
import { FATE_STYLES } from "./comparing.js";
import { svg } from "./dom.js";
import { INPUT_NAMES, isHead, nodeLabel, spokenName } from "./graph.js";
import { layOut, MARGIN, route } from "./layout.js";
import { box, circle, classShape, pale, textOffset } from "./shapes.js";
import { count, signed, wrapped } from "./words.js";

const HELP =
  "the circuit, input below and logits on top; " +
  "arrow keys move from node to node, Enter selects one, Escape lets go";
const FLAGS = { idle: " (on no path)", gone: " (taken out)" };
const NAME_LENGTH = 9; // letters of a group's name that fit into its box

/** On nodes that only one of two circuits has. */
export const MARKS = { gained: "+", lost: "\u2212" };

/** Draws all nodes of the model that is shown, still without edges, and gives what changes later:
 *  nodes: Map of node -> its elements and place; lines: Map of edge number -> elements; inside: Map
 *  of node -> edges in and out; reached: names of those that can be; stop: the one that the Tab key
 *  comes to. */
export function drawModel(view) {
  const laid = layOut(modelOf(view), view.building?.groups);
  const [edges, nodes, message] = [svg("g"), svg("g"), svg("g", { "aria-hidden": "true" })];
  const picture = svg("svg", {
    viewBox: `0 0 ${laid.width} ${laid.height}`,
    role: "group",
    "aria-label": HELP,
  });
  const narrowest = Math.min(laid.width, Math.max(260, laid.width * 0.62));
  picture.style.minWidth = `${narrowest}px`;
  picture.style.maxWidth = `${laid.width * 1.2}px`;
  view.parts.canvas.style.flexBasis = `${Math.max(350, narrowest)}px`; // a wide one: a row
  picture.append(...layerLines(laid), edges, nodes, message);
  const elements = new Map();
  for (const [node, place] of laid.nodes) {
    const drawn = nodeElements(node, place);
    nodes.append(drawn.group);
    elements.set(node, { ...drawn, ...place });
  }
  view.parts.canvas.replaceChildren(picture);
  return {
    width: laid.width,
    height: laid.height,
    model: view.state.model,
    edges,
    message,
    nodes: elements,
    lines: new Map(),
    inside: new Map(),
    reached: [],
    stop: null,
  };
}

function layerLines({ lines, width, rowHeight }) {
  return lines.flatMap((y, layer) => {
    const below = y + rowHeight / 2;
    return [
      svg("line", { class: "rule", x1: MARGIN - 8, x2: width, y1: below, y2: below }),
      svg("text", { class: "layer", x: 2, y: y + 4 }, `layer ${layer}`),
    ];
  });
}

function nodeElements(node, { x, y, w, h }) {
  const title = svg("title");
  const shape = svg("path", { class: "shape" });
  const name = nodeLabel(node);
  const short = name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH - 1)}\u2026` : name;
  const text = svg("text", { y: 4 }, short);
  const mark = svg("text", { class: "mark", x: w, y: 5 - h });
  const attributes = {
    class: "node",
    transform: `translate(${x} ${y})`,
    "data-node": node,
    role: "button",
  };
  return { title, shape, text, mark, group: svg("g", attributes, title, shape, text, mark) };
}

/** shown: edges, the first in order on top; with a `fate` if they are compared with those of the
 *  view `other`. */
export function drawEdges(view, shown, other = view) {
  const { lines, edges } = view.drawing;
  const widest = Math.max(largestScore(view), largestScore(other));
  const stay = new Set(shown.map((edge) => edge.id));
  for (const [id, line] of lines) {
    if (stay.has(id)) continue;
    line.group.remove();
    lines.delete(id);
  }
  for (const edge of shown) {
    if (!lines.has(edge.id)) lines.set(edge.id, edgeElements(view, edge));
  }
  const groups = shown.map((edge) => lines.get(edge.id).group);
  edges.append(...groups.reverse()); // the first in order on top
  if (!view.stillness.matches) edges.getBoundingClientRect(); // so that new ones grow from nothing
  for (const edge of shown) drawEdge(view, edge, lines.get(edge.id), widest);
}

/** The elements of an edge, still of no width. */
function edgeElements({ drawing }, edge) {
  const d = route(drawing.nodes.get(edge.from), drawing.nodes.get(edge.to), edge.kind);
  const title = svg("title");
  const path = svg("path", { class: "edge", d, "stroke-width": 0 });
  const hit = svg("path", { class: "hit", d }, title); // wider than the line, for the pointer
  return { path, title, group: svg("g", { "data-edge": edge.name }, path, hit) };
}

function drawEdge({ inputs, state }, edge, { path, title, group }, widest) {
  const width = edge.flag === "gone" ? 1.5 : 1 + (6 * Math.abs(edge.score)) / widest;
  const touched = state.node === null || edge.from === state.node || edge.to === state.node;
  const [colour, dashes] = FATE_STYLES[edge.fate] ?? [inputs[edge.kind][0], dashesOfSign];
  path.setAttribute("stroke", colour);
  path.setAttribute("stroke-width", width.toFixed(2));
  path.style.strokeWidth = `${width.toFixed(2)}px`;
  path.setAttribute("stroke-dasharray", dashes(width, edge.score));
  const classes = [edge.flag, touched ? null : "dim"];
  group.setAttribute("class", classes.filter(Boolean).join(" "));
  title.textContent = edgeTitle(edge);
}

function dashesOfSign(width, score) {
  return score < 0 ? `${4 + width} ${2 + width}` : "none";
}

/** A bundle has `n` edges; its score is their sum. */
function edgeTitle({ from, to, kind, score, fate, before, flag, n = 1 }) {
  const input = kind && ` (${INPUT_NAMES[kind]})`;
  const number = score === null ? "" : `: ${signed(score)}`;
  const other = fate === "kept" ? `, there ${signed(before)}` : "";
  const more = (n > 1 ? `, ${n} edges` : "") + (FLAGS[flag] ?? "");
  return `${nodeLabel(from)} \u2192 ${nodeLabel(to)}${input}${number}${other}${more}`;
}

/** compared: see `compare`; null if nothing is. */
export function drawNodes(view, shown, compared = null) {
  const { drawing, state } = view;
  const neighbours = new Set([state.node]);
  drawing.inside = new Map();
  for (const edge of shown) {
    if (edge.flag === "gone") continue;
    tally(drawing.inside, edge.from).out++;
    tally(drawing.inside, edge.to).in++;
    if (edge.from === state.node) neighbours.add(edge.to);
    if (edge.to === state.node) neighbours.add(edge.from);
  }
  drawing.reached = [...(view.building ? drawing.nodes : drawing.inside).keys()];
  if (!drawing.reached.includes(drawing.stop)) drawing.stop = firstStop(drawing, state.node);
  for (const [node, elements] of drawing.nodes) {
    const dim = state.node !== null && !neighbours.has(node);
    drawNode(view, node, elements, dim, compared && fateOf(node, compared));
  }
}

/** "gained" or "lost", and the word for it, of a node that only one of two circuits has. */
function fateOf(node, { came, went, words }) {
  if (came.has(node)) return ["gained", words.gained];
  return went.has(node) ? ["lost", words.lost] : null;
}

function tally(inside, node) {
  if (!inside.has(node)) inside.set(node, { in: 0, out: 0 });
  return inside.get(node);
}

function firstStop({ reached, nodes }, selected) {
  if (reached.includes(selected)) return selected;
  return [...nodes.keys()].find((node) => reached.includes(node)) ?? null;
}

function drawNode(view, node, { group, shape, text, title, mark, w, h }, dim, fate) {
  const { drawing, state, classes } = view;
  const edges = drawing.inside.get(node);
  const roles = rolesOf(view, node);
  const names = Object.keys(classes);
  const spoken = [spokenName(node), ...roles.map((role) => names[role])];
  const described = [...spoken, ...(fate ? [fate[1]] : [])].join(", ");
  const more = view.building?.flagsOf(node) ?? {};
  const flags = { ghost: !edges, selected: node === state.node, dim, ...more };
  if (fate) flags[fate[0]] = true;
  mark.textContent = fate ? MARKS[fate[0]] : "";
  const outline = outlineOf(node, edges, roles, w, h);
  group.setAttribute(
    "class",
    ["node", ...Object.keys(flags).filter((flag) => flags[flag])].join(" "),
  );
  shape.setAttribute("d", outline);
  const colour = classes[node[0] === "@" ? nodeLabel(node) : names[roles[0]]];
  shape.setAttribute("fill", fillOf(node, edges, colour));
  text.setAttribute("y", textOffset(outline));
  const said = Object.keys(more).filter((flag) => more[flag]);
  const where = edges ? `${count(edges.in, "edge")} in, ${edges.out} out` : "not in the circuit";
  title.textContent = [`${described}: ${where}`, ...said].join(", ");
  if (edges || view.building) {
    group.setAttribute("tabindex", node === drawing.stop ? 0 : -1);
    group.setAttribute("aria-pressed", node === state.node);
    group.setAttribute("aria-label", title.textContent);
    group.removeAttribute("aria-hidden");
  } else {
    for (const name of ["tabindex", "aria-pressed", "aria-label"]) group.removeAttribute(name);
    group.setAttribute("aria-hidden", "true");
  }
}

function outlineOf(node, edges, roles, w, h) {
  if (!isHead(node)) return box(w, h);
  if (!edges) return circle(12);
  return roles.length ? classShape(roles[0]) : circle(19);
}

function fillOf(node, edges, classColour) {
  if (!edges) return "#fff";
  if (classColour) return pale(classColour);
  return isHead(node) ? "#fff" : "#ececec";
}

/** A message in the middle of the drawing; none if there are no paragraphs. */
export function drawMessage({ drawing: { message, width, height } }, paragraphs) {
  const lines = paragraphs.flatMap((text) => wrapped(text, Math.floor(width / 7.2)));
  const y = height / 2 - 9 * lines.length;
  const ground = svg("rect", {
    x: 6,
    y: y - 20,
    width: width - 12,
    height: 18 * lines.length + 16,
    fill: "#fff",
    stroke: "#bbb",
    rx: 5,
  });
  const texts = lines.map((line, i) =>
    svg("text", { class: "absent", x: width / 2, y: y + 18 * i }, line),
  );
  message.replaceChildren(...(lines.length ? [ground, ...texts] : []));
}
