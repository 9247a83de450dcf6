// Beside the drawing: edges with a box each, and the groups.

import { html } from "./dom.js";
import { listSection } from "./edge-list.js";
import { nodeLabel } from "./graph.js";
import { groupText, membersOf } from "./lab-groups.js";

/** All edges of the circuit, or all that the selected node can have, those of the largest score first.
 *  built: see `builtCircuit`. */
export function drawEdgeLists(view, built, groups) {
  const { list } = view.parts;
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const edge = focused?.closest("[data-edge]")?.dataset.edge;
  const top = list.dataset.node === String(view.state.node) ? list.scrollTop : 0;
  list.dataset.node = view.state.node;
  list.replaceChildren(...listsOf(view, built, groups));
  list.scrollTop = top;
  if (edge) list.querySelector(`[data-edge="${edge}"] input`)?.focus({ preventScroll: true });
}

function listsOf(view, { all, now, start }, groups) {
  const edges = [...all.values()].sort((a, b) => size(b) - size(a));
  const { node } = view.state;
  if (node === null) {
    const shown = edges.filter(({ id }) => now.has(id) || start.has(id));
    const inside = shown.filter(({ id }) => now.has(id)).length;
    return shown.length
      ? listSection(view, "Edges, by score", shown, ({ from, to }) => [from, to], inside)
      : [];
  }
  const members = new Set(membersOf(groups, node));
  const many = members.size > 1;
  const part = (title, chosen, ends) => {
    if (!chosen.length) return [];
    const n = chosen.filter(({ id }) => now.has(id)).length;
    const near = chosen.filter((edge) => edge.score !== null || now.has(edge.id));
    const far = chosen.filter((edge) => !near.includes(edge));
    const [heading, items] = listSection(view, title, near, ends, `${n} of ${chosen.length}`);
    return [heading, items, ...(far.length ? [farther(view, title, far, ends, !near.length)] : [])];
  };
  const both = ({ from, to }) => [from, to];
  const into = edges.filter(({ from, to }) => members.has(to) && !members.has(from));
  const out = edges.filter(({ from, to }) => members.has(from) && !members.has(to));
  const within = edges.filter(({ from, to }) => members.has(from) && members.has(to));
  return [
    ...part("In", into, many ? both : ({ from }) => [from]),
    ...part("Out", out, many ? both : ({ to }) => [to]),
    ...part("Within the group", within, both),
  ];
}

/** Those of no score in the page, folded away. */
function farther(view, title, edges, ends, open) {
  const [, items] = listSection(view, title, edges, ends);
  const text = `${edges.length} more, further down in the search's order`;
  const made = html("details", { "data-part": title }, html("summary", {}, text), items);
  made.open = open || view.building.unfolded.has(title);
  made.addEventListener("toggle", () => {
    view.building.unfolded[made.open ? "add" : "delete"](title);
  });
  return made;
}

/** Unknown scores come last. */
function size({ score }) {
  return score === null ? -1 : Math.abs(score);
}

/** The box of an edge; change(id) takes it out or puts it in. */
export function edgeBox(edge, { now }, change) {
  const box = html("input", {
    type: "checkbox",
    "aria-label": `${nodeLabel(edge.from)} to ${nodeLabel(edge.to)} ${edge.kind}`.trim(),
  });
  box.checked = now.has(edge.id);
  box.addEventListener("change", () => change(edge.id));
  return box;
}

/** The groups that there are; act(name, what): "select", "open" (or close) or "ungroup". */
export function drawGroups(place, groups, act) {
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  const [row, what] = [focused?.closest("li")?.dataset.group, focused?.name];
  place.replaceChildren(
    ...groups.map((group) => {
      const { name, nodes, open } = group;
      const texts = { select: groupText(group), open: open ? "Close" : "Open", ungroup: "Ungroup" };
      const buttons = Object.entries(texts).map(([key, text]) => {
        const made = html("button", { type: "button", name: key }, text);
        if (key !== "select") made.setAttribute("aria-label", `${text} group ${name}`);
        made.addEventListener("click", () => act(name, key));
        return made;
      });
      const members = html("span", {}, nodes.map(nodeLabel).join(", "));
      return html("li", { "data-group": name }, ...buttons, members);
    }),
  );
  if (row) place.querySelector(`[data-group="${row}"] [name="${what}"]`)?.focus();
}
