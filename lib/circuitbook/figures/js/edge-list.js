// The list beside the drawing: all edges, or what belongs to the node that is selected.

import { notesOf, rolesOf } from "./circuit-data.js";
import { button, html } from "./dom.js";
import { INPUT_NAMES, nodeLabel, spokenName } from "./graph.js";
import { fateSample } from "./legend.js";
import { edgeSample } from "./shapes.js";
import { capitalised, signed, twoDigits } from "./words.js";

/** view.select(node) is called when a name is clicked, view.select(null) for all edges. compared:
 *  see `compare`; null if nothing is. Where circuits are built, view.building.boxOf(edge) gives a box to
 *  check. */
export function drawList(view, shown, compared = null) {
  const edges = compared?.edges ?? shown;
  const byScore = edges.slice().sort((a, b) => Math.abs(b.score) - Math.abs(a.score));
  const { list } = view.parts;
  const drawn = view.state.node === null ? edgesByScore : edgesOfNode;
  list.replaceChildren(...drawn(view, byScore, compared?.words ?? null));
  list.scrollTop = 0;
}

function edgesByScore(view, edges, words) {
  const title = words ? "" : "All edges, by score";
  return sections(view, title, edges, words, (edge) => [edge.from, edge.to]);
}

function edgesOfNode(view, edges, words) {
  const { node } = view.state;
  const names = Object.keys(view.classes);
  const roles = rolesOf(view, node).map((role) => names[role]);
  const all = button("cx-button", "none", "Show all");
  all.addEventListener("click", () => {
    view.select(null);
    view.parts.list.focus({ preventScroll: true });
  });
  const title = capitalised(spokenName(node)) + (roles.length ? `: ${roles.join(", ")}` : "");
  const parts = [html("p", { class: "cx-head" }, title), all];
  if (view.drawing.inside.has(node)) {
    const into = edges.filter((edge) => edge.to === node);
    const out = edges.filter((edge) => edge.from === node);
    parts.push(...sections(view, "In", into, words, (edge) => [edge.from]));
    parts.push(...sections(view, "Out", out, words, (edge) => [edge.to]));
  } else {
    const where = words ? "In neither circuit." : "Not in the circuit at this checkpoint and size.";
    parts.push(html("p", {}, where));
  }
  return [...parts, ...measured(view, node)];
}

/** A title and the edges below it, apart for each of the words for gained, lost and kept if there
 *  are such; ends(edge): the nodes that are named. */
function sections(view, title, edges, words, ends) {
  if (!words) return listSection(view, title, edges, ends);
  return Object.entries(words).flatMap(([fate, word]) => {
    const named = title ? `${title}, ${word}` : capitalised(word);
    const some = edges.filter((edge) => edge.fate === fate);
    return listSection(view, named, some, ends);
  });
}

/** A title and the edges below it. number: what the title says of how many. */
export function listSection(view, title, edges, ends, number = edges.length) {
  if (!edges.length && !number) return [];
  const items = edges.map((edge) => listItem(view, edge, ends(edge)));
  return [html("p", { class: "cx-head" }, `${title} (${number})`), html("ul", {}, ...items)];
}

function listItem(view, edge, ends) {
  const text = html("span");
  ends.forEach((node, i) => {
    if (i) text.append(" \u2192 ");
    text.append(nodeButton(view, node));
  });
  if (edge.kind) text.append(` ${INPUT_NAMES[edge.kind]}`);
  return html(
    "li",
    { "data-edge": edge.name },
    ...(view.building ? [view.building.boxOf(edge)] : []),
    edge.fate ? fateSample(edge.fate) : edgeSample(view.inputs[edge.kind][0], edge.score < 0),
    text,
    html("span", {}, edge.score === null ? "" : signed(edge.score)),
  );
}

function nodeButton(view, node) {
  const name = html("button", { type: "button" }, nodeLabel(node));
  name.addEventListener("click", () => {
    view.drawing.stop = node;
    view.select(node);
    view.drawing.nodes.get(node)?.group.focus({ preventScroll: true }); // it may be in a group
  });
  return name;
}

function measured(view, node) {
  const values = notesOf(view, node);
  if (!values) return [];
  const rows = view.data.columns.flatMap((column, i) =>
    values[i] === null ? [] : [html("dt", {}, column), html("dd", {}, twoDigits(values[i]))],
  );
  return [html("p", { class: "cx-head" }, "Measured at this checkpoint"), html("dl", {}, ...rows)];
}
